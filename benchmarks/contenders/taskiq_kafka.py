"""taskiq on our Kafka, through taskiq-aio-kafka; the outcome is a record, sent by the task and waited for.

Settings: one worker process, up to 500 tasks at once, parameters not parsed again (--no-parse), messages in batches of
256 KiB with linger 5 ms. Its Kafka broker cannot acknowledge: the consumer commits by time (every 5 s), so nothing is
promised after a crash, whatever --ack-type says.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.partitioner import DefaultPartitioner
from kafka.admin import NewTopic
from taskiq import TaskiqEvents, TaskiqState
from taskiq_aio_kafka import AioKafkaBroker

from benchmarks.contenders.place import Place
from benchmarks.functions import outcome

PLACE = Place.from_env()
RUN = PLACE.run()
IN_FLIGHT = 500

broker = AioKafkaBroker(PLACE.broker, kafka_topic=NewTopic(PLACE.input, PLACE.partitions, 1))
# Its own defaults for these two are kafka-python's, which aiokafka cannot use.
broker.configure_producer(linger_ms=5, max_batch_size=256 << 10, partitioner=DefaultPartitioner())
broker.configure_consumer(
    group_id=PLACE.group,
    auto_offset_reset="earliest",
    enable_auto_commit=True,
    partition_assignment_strategy=(RoundRobinPartitionAssignor,),
)
producer: Any = None


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def start(_state: TaskiqState) -> None:
    global producer
    producer = AIOKafkaProducer(bootstrap_servers=PLACE.broker, acks="all", linger_ms=5, max_batch_size=256 << 10)
    await producer.start()


@broker.task(task_name="invoke")
async def invoke(request_id: str, event: str) -> None:
    result = await RUN(orjson.loads(event))
    partition = int(request_id[1:]) % PLACE.partitions
    value = outcome(request_id, event.encode(), result)
    await producer.send_and_wait(PLACE.output, value, request_id.encode(), partition=partition)


class Sender:
    """Puts tasks on the topic."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(broker.startup())

    def send(self, batch: Sequence[tuple[str, bytes]]) -> None:
        async def all_of_it() -> None:
            await asyncio.gather(*(invoke.kiq(request_id, event.decode()) for request_id, event in batch))

        self._runner.run(all_of_it())


if __name__ == "__main__":
    from taskiq.cli.worker.cmd import WorkerCMD

    quiet = ["--log-level", "ERROR", "--no-parse", "--workers", "1", "--max-async-tasks", str(IN_FLIGHT)]
    sys.exit(WorkerCMD().exec(["benchmarks.contenders.taskiq_kafka:broker", *quiet, "--max-prefetch", str(IN_FLIGHT)]))
