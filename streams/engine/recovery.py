"""Reading a partition's state back from the changelog, in batches.

The end is a *position*, the high watermark when recovery began, not a record: transaction markers, aborted records and
compaction gaps at the tail never arrive as records. The high watermark is read uncommitted because the commit marker of
the previous owner's last transaction may reach the changelog after its offsets were readable.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.engine.crashpoints import reach
from streams.engine.transaction import Waiting

_FETCH_BYTES = 4 << 20
_READ_UNCOMMITTED, _READ_COMMITTED = 0, 1


class StateReader:
    """A consumer for one recovery: offsets of the sources, then the changelog."""

    def __init__(self, kafka: Mapping[str, Any], topics: Collection[str]) -> None:
        self._topics = list(topics)
        self._consumer: Any = AIOKafkaConsumer(
            **kafka,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=50,
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

    async def _high_watermarks(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        fetcher = self._consumer._fetcher
        fetcher._isolation_level = _READ_UNCOMMITTED  # aiokafka would answer the last stable offset
        try:
            return dict(await self._consumer.end_offsets(list(partitions)))
        finally:
            fetcher._isolation_level = _READ_COMMITTED

    async def read(self, tables: Mapping[TopicPartition, dict[bytes, bytes]], waiting: Waiting) -> int:
        """Fill each dict with what its changelog partition holds. Returns how many records were read.

        *waiting* is called while nothing arrives: an open transaction of a dead worker holds the readers back.
        """
        left = {partition: end for partition, end in (await self._high_watermarks(list(tables))).items() if end}
        self._consumer.assign(list(tables))
        count, progress = 0, time.monotonic()
        while left:
            for partition, records in (await self._consumer.getmany(timeout_ms=50)).items():
                _apply(tables[partition], records)
                count += len(records)
                progress = time.monotonic()
                reach("during-recovery")
            for partition in list(left):
                if await self._consumer.position(partition) >= left[partition]:
                    del left[partition]
            if left:
                await waiting(time.monotonic() - progress)
        return count


def _apply(table: dict[bytes, bytes], records: Sequence[Any]) -> None:
    for record in records:
        table.pop(record.key, None)  # keys stay in the order of their last change
        if record.value is not None:
            table[record.key] = record.value
