"""A processor on partitions whose effects stay in memory: everything but Kafka is real."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import TopicPartition

from streams.codec.avro import Codec, load_schemas
from streams.codec.commands import cancel_headers
from streams.codec.envelope import Invocation
from streams.codec.facts import read_facts
from streams.codec.retry import Origin
from streams.core.facts import Fact
from streams.core.model import Delivery, Function, Outcome, PythonTarget, Refusal, Service
from streams.engine.careful import Careful
from streams.engine.effects import Effects
from streams.engine.partition import Batch, Partition
from streams.engine.processor import Processor
from streams.engine.transaction import Output, Position
from streams.functions import Functions
from streams.invokers import Call
from streams.providers import PROVIDERS
from streams.topics import Topics

TOPICS = Topics()
CODEC = Codec(load_schemas())
START_MS = 1_790_000_000_000

Handler = Callable[[Call], Awaitable[Outcome]]
Sender = Callable[[Delivery, Service], Awaitable[Refusal | None]]


async def no_service(delivery: Delivery, service: Service) -> Refusal | None:
    raise AssertionError(f"nothing was to go to {service}")


@dataclass
class Record:
    """A Kafka record as it would be read."""

    topic: str
    offset: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    partition: int = 0
    timestamp: int = START_MS
    key: bytes | None = None


@dataclass
class FakeOwner:
    """A worker that only remembers."""

    era: int = 1
    has_drained: bool = False
    time_ms: int = START_MS
    changes: int = 0
    paused: bool = False
    failures: list[BaseException] = field(default_factory=list)
    partitions: list[Partition] = field(default_factory=list)
    in_memory: list[Record] = field(default_factory=list)
    """What the tiers hold."""

    def now_ms(self) -> int:
        return self.time_ms

    def changed(self, partition: Partition) -> None:
        self.changes += 1

    def pause(self, partition: Partition) -> None:
        self.paused = True

    def resume(self, partition: Partition) -> None:
        self.paused = False

    def held(self, partition: Partition, key: bytes) -> list[Record]:
        return [record for record in self.in_memory if record.key == key]

    def under_way(self) -> int:
        return sum(len(partition.running) for partition in self.partitions)

    async def written(self, partition: Partition) -> None:
        """At once: nothing is committed here."""

    def die(self, reason: str) -> None:
        raise AssertionError(reason)

    def task_failed(self, error: BaseException) -> None:
        self.failures.append(error)


class FakeInvokers:
    """Runs what the test says; the contract of the real ones is tested in `tests/invokers`."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    def prepare(self, function: Function, provider: Any) -> Handler:
        return self.handler

    def release(self, run: Handler) -> None:
        """It holds nothing."""


def function(name: str = "f", provider: str = "aws", **changes: Any) -> Function:
    cloud = PROVIDERS[provider]
    made = Function(
        name=name,
        qualifier=cloud.latest,
        provider=provider,
        resource=cloud.resource(name, cloud.latest),
        executed_version=cloud.latest,
        target=PythonTarget("m", "f", "inline"),
        timeout_ms=60_000,
        policy=cloud.policy(None, None),
    )
    return replace(made, **changes)


class Bench:
    """One partition of one worker."""

    def __init__(self, handler: Handler, *functions: Function, long_max: int = 1_000) -> None:
        self.owner = FakeOwner()
        self.service: Sender = no_service
        self.processor = Processor(
            Functions(functions or (function(),)),
            FakeInvokers(handler),  # type: ignore[arg-type]
            None,
            Effects(
                CODEC, TOPICS, 1.0, lambda topic, key: TopicPartition(topic, 0), dict.fromkeys(TOPICS.all, 1 << 24)
            ),
            long_max,
            self.send,
        )
        self.partition = self.new_partition()

    async def send(self, delivery: Delivery, service: Service) -> Refusal | None:
        """What a service says to *delivery*."""
        return await self.service(delivery, service)

    def new_partition(self) -> Partition:
        """A partition as it is right after its acquisition, with nothing read before."""
        partition = Partition(self.owner, 0, TOPICS.sources, TOPICS.changelog, 2_000)
        for source in partition.sources:
            partition.accepted[source] = partition.delivered[source] = partition.fetched[source] = 0
            partition.stable[source] = Position(-1, "")
        self.owner.partitions = [partition]
        return partition

    def produce(self, *values: bytes | None, **headers: str) -> None:
        """Deliver records of `invocations`."""
        given = [(name.replace("_", "-"), text.encode()) for name, text in headers.items()]
        source = self.partition.sources[0]
        start = self.partition.delivered[source]
        records = [Record(source.topic, start + i, value, given) for i, value in enumerate(values)]
        self.processor.invocations(Batch(self.partition, source, records, start + len(records)))

    def cancel(self, request_id: str, invocation: Invocation | None = None, offset: int | None = None) -> None:
        """Deliver a command of somebody who knows the *invocation*, or only its id, and maybe where it was produced."""
        value = invocation.event if invocation is not None else None
        origin = Origin(TOPICS.invocations, 0, offset, START_MS, None, ()) if offset is not None else None
        self.command(request_id.encode(), value, cancel_headers(invocation, origin))

    def command(self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> None:
        """Deliver a record of `commands`."""
        source = self.partition.sources[1]
        start = self.partition.delivered[source]
        record = Record(source.topic, start, value, headers, key=key)
        self.processor.commands(Batch(self.partition, source, [record], start + 1))

    def hold(self, topic: str) -> None:
        """What was written to a retry tier is read, and waits there in memory."""
        written = self.written(topic)
        self.owner.in_memory += [
            Record(topic, i, value, headers, key=key) for i, (key, value, headers) in enumerate(written)
        ]

    def deliver(self) -> None:
        """Deliver everything that was written to `deliveries`."""
        self.processor.deliver(self._written_batch(TOPICS.deliveries))

    def wake(self, topic: str) -> None:
        """Deliver everything that was written to a retry tier as if it were due."""
        self.processor.retries(self._written_batch(topic))

    def _written_batch(self, topic: str) -> Batch:
        source = TopicPartition(topic, 0)
        start = self.partition.delivered[source]
        written = self.partition.outputs.pop(source, [])
        records = [Record(topic, start + i, value, headers, key=key) for i, (key, value, headers) in enumerate(written)]
        return Batch(self.partition, source, records, start + len(records))

    def written(self, topic: str) -> list[Output]:
        return self.partition.outputs[TopicPartition(topic, 0)]

    def records(self, topic: str) -> list[dict[str, Any]]:
        """Decoded values of *topic*."""
        return [CODEC.decode(value)[1] for _, value, _ in self.written(topic) if value is not None]

    def facts(self) -> list[Fact]:
        return [fact for datum in self.records(TOPICS.facts) for fact in read_facts(datum).facts]

    def commit(self) -> None:
        """All that is finished now is committed."""
        self.partition.committed(
            self.partition.puts, self.partition.uncommitted_count, self.partition.uncommitted_bytes
        )

    async def settled(self) -> None:
        """Let every task run until all wait for something."""
        for _ in range(20):
            await asyncio.sleep(0)

    def die_and_take_over(self) -> None:
        """The worker dies; the next one reads the table and goes on. What was not journaled is lost with it."""
        changelog: dict[bytes, bytes] = {}
        for key, value, _ in self.written(TOPICS.changelog):
            assert key is not None
            changelog.pop(key, None)
            if value is not None:
                changelog[key] = value
        outputs = self.partition.outputs
        self.partition.drop()
        self.processor.careful = Careful(self.processor)
        self.partition = self.new_partition()
        self.partition.outputs = outputs
        self.partition.requests.restore(changelog, {})
        self.partition.known = len(self.partition.requests)
        self.processor.careful.rearm(self.partition)
