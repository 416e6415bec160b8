"""Reading a partition's state back from the changelog, in batches.

The end is a *position*, the high watermark when recovery began, not a record: transaction markers, aborted records and
compaction gaps at the tail never arrive as records. The high watermark is read uncommitted because the commit marker of
the previous owner's last transaction may reach the changelog after its offsets were readable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult

from streams.cluster import answered
from streams.codec.positions import TopicId
from streams.engine import fetched, wire
from streams.engine.crashpoints import reach
from streams.engine.transaction import Waiting

_FETCH_BYTES = 1 << 20
_FETCH_WAIT_MS = 5
"""The broker answers one fetch after the other: one that waits at the end of a partition holds up the next one's."""
_READ_UNCOMMITTED, _READ_COMMITTED = 0, 1


class StateReader:
    """A consumer for one recovery: offsets of the sources, then the changelog."""

    def __init__(self, kafka: Mapping[str, Any], topics: Collection[str]) -> None:
        fetched.install()
        self._topics = list(topics)
        self._consumer: Any = AIOKafkaConsumer(
            **kafka,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
        )

    async def __aenter__(self) -> StateReader:
        await self._consumer.start()
        await self._consumer._client.set_topics(self._topics)  # else a 0.1 s back-off for every unknown topic
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def bounds(self, sources: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """(first offset, high watermark) of each source."""
        first = await self._consumer.beginning_offsets(list(sources))
        last = await self._high_watermarks(sources)
        return {source: (first[source], last[source]) for source in sources}

    async def topic_ids(self) -> dict[str, TopicId]:
        """The ids of the topics, as far as the cluster knows them."""
        client = self._consumer._client
        request = wire.Metadata([(0, 0, topic, {}) for topic in self._topics], False, False)
        response = await answered(client, lambda: client.send(client.get_random_node(), request))
        return {name: TopicId(high, low) for code, name, high, low, *_ in response.topics if code == 0}

    async def _high_watermarks(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        fetcher = self._consumer._fetcher
        fetcher._isolation_level = _READ_UNCOMMITTED  # aiokafka would answer the last stable offset
        try:
            return dict(await self._consumer.end_offsets(list(partitions)))
        finally:
            fetcher._isolation_level = _READ_COMMITTED

    async def tables(
        self, changelogs: Sequence[TopicPartition], waiting: Waiting
    ) -> AsyncIterator[tuple[TopicPartition, dict[bytes, bytes], int]]:
        """What each changelog partition holds, and how many records were read for it.

        One after the other, so that only one of them is in memory as a dict. *waiting* is called while nothing
        arrives: an open transaction of a dead worker holds the readers back.
        """
        ends = await self._high_watermarks(changelogs)
        for changelog in changelogs:
            table: dict[bytes, bytes] = {}
            count = await self._read(changelog, ends[changelog], table, waiting) if ends[changelog] else 0
            yield changelog, table, count

    async def _read(self, changelog: TopicPartition, end: int, table: dict[bytes, bytes], waiting: Waiting) -> int:
        self._consumer.assign([changelog])
        fetcher = self._consumer._fetcher
        count, progress = 0, time.monotonic()
        while await self._consumer.position(changelog) < end:
            result = fetcher._records.pop(changelog, None)
            if result is None:
                await asyncio.wait([fetcher._create_fetch_waiter()], timeout=0.05)
                await waiting(time.monotonic() - progress)
                continue
            read = _apply(table, _records(result))
            fetcher._notify(fetcher._wait_consume_future)
            if read:
                count, progress = count + read, time.monotonic()
                reach("during-recovery")
        return count


def _records(result: Any) -> Iterator[Any]:
    """The records of a fetch as they come out of its batches: aiokafka's own kind of them takes half of the time."""
    if type(result) is not FetchResult:
        result.check_raise()
    records = result._partition_records
    records._consumer_record = lambda partition, record: record
    yield from records._records_iterator
    result._update_position()


def _apply(table: dict[bytes, bytes], records: Iterable[Any]) -> int:
    count = 0
    for record in records:
        key, value = record.key, record.value
        table.pop(key, None)  # keys stay in the order of their last change
        if value is not None:
            table[key] = value
        count += 1
    return count
