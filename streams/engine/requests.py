"""One partition of the table `requests`: request id -> packed state, and how long a finished one is remembered.

A finished request is remembered for idempotent acceptance, and to recognise records that are delivered again. It may be
forgotten when it is old enough (or there are too many) *and settled*: every record that was read before it ended is
below a committed watermark, so none of them can come again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from aiokafka import TopicPartition

from streams.codec.state import PACKED_BYTES, ended_at_ms, is_over
from streams.engine.packed import PackedStates


class Requests:
    """States by request id. Finished ones are kept apart, in the order in which they ended."""

    def __init__(self) -> None:
        self.waiting = PackedStates()
        """Waiting for a retry, or for their delay."""
        self.journaled: dict[bytes, bytes] = {}
        """Under way, and written down with all that is needed to run them again (`codec.journal`)."""
        self.ended: dict[bytes, bytes] = {}
        self._ended_count = 0
        self._evicted_count = 0
        self._settled_count = 0
        """So many of all that ever ended here are settled."""
        self._marker: tuple[int, dict[TopicPartition, int]] | None = None
        """So many had ended when reading stood at these offsets."""
        self.is_unsure = False
        """It is not known for sure how far earlier owners have read."""

    def restore(self, table: Mapping[bytes, bytes], reading_at: Mapping[TopicPartition, int]) -> None:
        """Fill from *table* in the order of its last changes; *reading_at*: no record beyond was ever read."""
        waiting: dict[bytes, bytes] = {}
        for key, packed in table.items():
            if is_over(packed):
                self.ended[key] = packed
            elif len(packed) == PACKED_BYTES:
                waiting[key] = packed
            else:
                self.journaled[key] = packed
        self.waiting = PackedStates(waiting)
        self._ended_count = len(self.ended)
        self._marker = (self._ended_count, dict(reading_at))
        self.is_unsure = True

    def read_at_most(self, source: TopicPartition, offset: int) -> None:
        """No earlier owner has read beyond *offset* of *source*."""
        if self.is_unsure and self._marker is not None:
            _, offsets = self._marker
            offsets[source] = min(offsets[source], offset)

    def get(self, key: bytes) -> bytes | None:
        return self.ended.get(key) or self.waiting.get(key) or self.journaled.get(key)

    def put(self, key: bytes, packed: bytes, over: bool) -> None:
        """Set the state of *key*; *over*: its invocation has ended."""
        if over:
            self.waiting.discard(key)
            self.journaled.pop(key, None)
            self.ended[key] = packed
            self._ended_count += 1
        elif len(packed) == PACKED_BYTES:
            self.journaled.pop(key, None)
            self.waiting.put(key, packed)
        else:
            self.waiting.discard(key)
            self.journaled[key] = packed

    @property
    def open_count(self) -> int:
        """Requests that have not ended."""
        return len(self.waiting) + len(self.journaled)

    def is_open(self, key: bytes) -> bool:
        return key in self.journaled or self.waiting.get(key) is not None

    def evict(
        self,
        ended_before_ms: int,
        ended_max: int,
        reading_at: Mapping[TopicPartition, int],
        committed: Mapping[TopicPartition, int],
    ) -> list[bytes]:
        """Forget what is settled and ended before *ended_before_ms*, or is more than *ended_max*; returns the keys."""
        self._settle(reading_at, committed)
        keys: list[bytes] = []
        for key, packed in islice(self.ended.items(), self._settled_count - self._evicted_count):
            if len(self.ended) - len(keys) <= ended_max and (ended_at_ms(packed) or 0) >= ended_before_ms:
                break
            keys.append(key)
        for key in keys:
            del self.ended[key]
        self._evicted_count += len(keys)
        return keys

    def _settle(self, reading_at: Mapping[TopicPartition, int], committed: Mapping[TopicPartition, int]) -> None:
        if self._marker is not None:
            ended_count, offsets = self._marker
            if any(committed[source] < offset for source, offset in offsets.items()):
                return
            self._settled_count = ended_count
            self.is_unsure = False
        self._marker = (self._ended_count, dict(reading_at))

    def __len__(self) -> int:
        return self.open_count + len(self.ended)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every request and its state; the finished ones last, in the order in which they ended."""
        yield from self.waiting.items()
        yield from self.journaled.items()
        yield from self.ended.items()
