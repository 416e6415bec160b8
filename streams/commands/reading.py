"""Reading our topics from outside, read committed: a range of offsets, or from some offset on for ever.

The end of a range is a *position*: transaction markers, aborted records and compaction gaps never arrive as records.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from streams.cluster import Topic
from streams.codec.avro import Codec, load_schemas
from streams.codec.errors import SchemaNeeded
from streams.codec.registry import Registry
from streams.errors import BrokerError
from streams.settings import Settings

STALLED_S = 15.0
"""A range that does not come nearer to its end for so long is given up."""
TICK_S = 0.2
"""`Reader.follow` yields at least so often, with or without records."""

Record: TypeAlias = ConsumerRecord[bytes | None, bytes | None]
Offsets: TypeAlias = dict[TopicPartition, int]


def partitions_of(topics: Iterable[str], existing: Mapping[str, Topic]) -> list[TopicPartition]:
    """All partitions of *topics*."""
    return [TopicPartition(topic, number) for topic in topics for number in range(existing[topic].partitions)]


class Reader:
    """Reads *partitions*; use it as ``async with``."""

    def __init__(self, settings: Settings, partitions: list[TopicPartition]) -> None:
        self.partitions = partitions
        self.passed = 0
        """How many offsets the latest `range` has passed."""
        self._consumer: Any = AIOKafkaConsumer(
            **settings.kafka(),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=1 << 20,
            fetch_max_wait_ms=100,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._consumer.start()
            # else a 0.1 s back-off for every topic of which the offsets are asked
            await self._consumer._client.set_topics({partition.topic for partition in self.partitions})
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def bounds(self) -> tuple[Offsets, Offsets]:
        """The first and the end offset of every partition; what open transactions wrote is beyond the end."""
        first = await self._consumer.beginning_offsets(self.partitions)
        return first, await self._consumer.end_offsets(self.partitions)

    async def range(
        self, start: Mapping[TopicPartition, int], end: Mapping[TopicPartition, int]
    ) -> AsyncIterator[list[Record]]:
        """Everything from *start* up to *end*, in the order of each partition. Raises `BrokerError` if it stalls."""
        position = {partition: start[partition] for partition in start if start[partition] < end[partition]}
        self.passed, progress = 0, time.monotonic()
        self._seek(position)
        while position:
            batches = await self._consumer.getmany(timeout_ms=int(TICK_S * 1000))
            for partition, records in batches.items():
                yield [record for record in records if record.offset < end[partition]]
            for partition, before in list(position.items()):
                now = min(await self._consumer.position(partition), end[partition])
                if now > before:
                    self.passed, progress = self.passed + now - before, time.monotonic()
                    position[partition] = now
                if now == end[partition]:
                    del position[partition]
                    self._consumer.pause(partition)
            if time.monotonic() - progress > STALLED_S:
                raise BrokerError(f"Kafka has sent nothing for {STALLED_S:.0f} s; is the broker in trouble?")

    async def follow(self, start: Mapping[TopicPartition, int]) -> AsyncIterator[list[Record]]:
        """Everything from *start* on, for ever; an empty list every `TICK_S` while there is nothing."""
        self._seek(start)
        while True:
            batches = await self._consumer.getmany(timeout_ms=int(TICK_S * 1000))
            yield [record for records in batches.values() for record in records]

    def _seek(self, start: Mapping[TopicPartition, int]) -> None:
        if start:
            self._consumer.assign(list(start))
        for partition, offset in start.items():
            self._consumer.seek(partition, offset)


class Decoder:
    """Decodes Avro, with the schema registry's schemas if there is one; use it as ``async with``."""

    def __init__(self, settings: Settings) -> None:
        self._registry = Registry(settings.schema_registry) if settings.schema_registry else None
        self._codec = Codec(load_schemas(), lookup=self._registry.fetched if self._registry else None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._registry is not None:
            await self._registry.close()

    async def decode(self, data: bytes) -> tuple[str, dict[str, Any]]:
        """The name of the record's schema, and the record. Raises AvroError."""
        try:
            return self._codec.decode(data)
        except SchemaNeeded as needed:
            assert self._registry is not None, "no lookup, no need"
            await self._registry.schema(needed.schema_id)
            return self._codec.decode(data)
