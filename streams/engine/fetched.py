"""What aiokafka makes of fetched bytes, mended in three ways.

- Brokers and other clients let record headers through whose names are not UTF-8. aiokafka cannot read a record with
  such a name, nor anything after it: one record of one producer would block its partition for ever. Here its bytes that
  are no text become U+FFFD, and as no name of ours has that, it is a header that means nothing to us.
- Compaction takes transactions' markers away and may leave their batches, empty, for what they say of their producer.
  aiokafka cannot read them, nor anything after: nobody could take a partition over any more.
- A record is an object with what we need of it: without a dict and four more fields it takes 1 us less to make, of 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_LENGTH = slice(8, 12)
_BEFORE_LENGTH_ENDS = 12


def install() -> None:
    """From now on this is what aiokafka's consumers do."""
    fetcher.MemoryRecords = LenientRecords  # type: ignore[attr-defined]  # imported there, not exported
    fetcher.PartitionRecords = _PartitionRecords  # type: ignore[misc]


class Record:
    """A record as it was read."""

    __slots__ = ("headers", "key", "offset", "partition", "timestamp", "topic", "value")

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[tuple[str, bytes | None], ...],
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.timestamp = timestamp
        self.key = key
        self.value = value
        self.headers = headers


class _PartitionRecords(fetcher.PartitionRecords):
    """The records of a partition; keys and values are bytes to us."""

    def _contains_abort_marker(self, next_batch: Any) -> bool:
        """Whether it says that a transaction was aborted. A marker that is gone had nothing left to say."""
        marker = next(next_batch, None)
        return marker is not None and ControlRecord.parse(marker.key) == ABORT_MARKER

    def _consumer_record(self, tp: TopicPartition, record: Any) -> Record:
        headers = tuple(record.headers)
        return Record(tp.topic, tp.partition, record.offset, record.timestamp, record.key, record.value, headers)


class LenientRecords:
    """What a fetch brought of one partition, batch by batch (aiokafka's `MemoryRecords`)."""

    def __init__(self, data: bytes) -> None:
        self._records: Any = MemoryRecords(data)
        self._left = memoryview(data)
        self.has_next = self._records.has_next
        self.size_in_bytes = self._records.size_in_bytes

    def next_batch(self) -> Any:
        """The next batch, or None."""
        batch = self._records.next_batch()
        size = _BEFORE_LENGTH_ENDS + int.from_bytes(self._left[_LENGTH], "big")
        data, self._left = self._left[:size], self._left[size:]
        return None if batch is None else _LenientBatch(batch, data)


class _LenientBatch:
    """A batch that aiokafka reads as usual, until it meets a name it cannot read."""

    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        """The marker in a control batch, which aiokafka takes like this."""
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        count = 0
        try:
            for record in self._batch:
                count += 1
                yield record
        except UnicodeDecodeError:
            yield from islice(_leniently(self._data), count, None)


def _leniently(data: memoryview) -> Any:
    """The same batch for aiokafka's implementation in Python, which decodes slices of its buffer."""
    batch: Any = _DefaultRecordBatchPy(data)
    batch._maybe_uncompress()
    batch._buffer = _Buffer(batch._buffer)
    return batch


class _Buffer(bytearray):
    """Bytes whose slices decode to something, whatever is in them."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Buffer(found) if isinstance(at, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)
