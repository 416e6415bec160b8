"""aiokafka by hand, without any promise: offsets are committed by time, whatever became of the sends.

Settings: polls of up to 2,000 records, linger 5 ms, batches of 256 KiB, sends that nobody waits for one by one;
auto-commit every 0.5 s; otherwise aiokafka's defaults (acks=1). A crash loses what was committed and not yet sent.
"""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.contenders.place import Place
from benchmarks.functions import outcome

POLL_MAX = 2_000
IN_FLIGHT = 500
THREADS = 32


async def run_all(place: Place, records: list[Any]) -> list[object]:
    """Run the function for each record, at once if it takes time."""
    function = place.run()
    events = [orjson.loads(record.value) for record in records]
    if not inspect.iscoroutinefunction(function):
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(None, function, event) for event in events))
    if place.function == "slow":
        return await asyncio.gather(*map(function, events))
    return [await function(event) for event in events]


async def main() -> None:
    place = Place.from_env()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    consumer: Any = AIOKafkaConsumer(
        place.input,
        bootstrap_servers=place.broker,
        group_id=place.group,
        group_instance_id="worker-0",
        auto_offset_reset="earliest",
        auto_commit_interval_ms=500,
    )
    producer: Any = AIOKafkaProducer(bootstrap_servers=place.broker, linger_ms=5, max_batch_size=256 << 10)
    await consumer.start()
    await producer.start()
    poll_max = POLL_MAX if place.function != "slow" else IN_FLIGHT
    while True:
        polled = await consumer.getmany(timeout_ms=1000, max_records=poll_max)
        records = [record for partition in polled.values() for record in partition]
        results = await run_all(place, records)
        if place.has_outcome:
            for record, result in zip(records, results, strict=True):
                value = outcome(record.key.decode(), record.value, result)
                await producer.send(place.output, value, record.key, partition=record.partition)


if __name__ == "__main__":
    asyncio.run(main())
