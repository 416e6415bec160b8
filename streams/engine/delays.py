"""Retry tiers wait at their head.

Every record of a tier waits the same time, so the first of a partition is the first due. Records that are not due stay
in a queue here (bounded: beyond that the partition is paused and waits in Kafka); a timer stands at the head.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from aiokafka import TopicPartition

from streams.codec.errors import InputRejected
from streams.codec.retry import wake_at_ms
from streams.engine.partition import Batch, Partition, SourceRecord

Deliver: TypeAlias = Callable[[Batch], Awaitable[None]]

_RECORD_BYTES = 2500
"""What a retry record takes in memory besides its event (measured): it has a dozen headers."""


class TierQueue:
    """The waiting records of one tier of one partition number."""

    def __init__(
        self,
        partition: Partition,
        source: TopicPartition,
        hold_max: int,
        hold_bytes_max: int,
        deliver: Deliver,
        set_paused: Callable[[TopicPartition, bool], None],
    ) -> None:
        self.partition = partition
        self.source = source
        self.hold_max = hold_max
        self.hold_bytes_max = hold_bytes_max
        self._deliver = deliver
        self._set_paused = set_paused
        self._era = partition.owner.era
        self._held: deque[SourceRecord] = deque()
        self._bytes = 0
        self._end = partition.delivered[source]
        self._lock = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False

    def __len__(self) -> int:
        return len(self._held)

    def of(self, key: bytes) -> list[SourceRecord]:
        """Those that belong to request *key*."""
        return [record for record in self._held if record.key == key]

    def waits_until_ms(self) -> int:
        """When the first of them is due; 0 without any."""
        return _wake_at_ms(self._held[0]) if self._held else 0

    async def add(self, records: Sequence[SourceRecord], end: int) -> None:
        """Hold *records*, which were read up to offset *end*; deliver what is due."""
        self._held.extend(records)
        self._bytes += sum(map(_size, records))
        self._end = end
        if (len(self._held) > self.hold_max or self._bytes > self.hold_bytes_max) and not self._paused:
            self._paused = True
            self._set_paused(self.source, True)
        await self.deliver_due()

    async def deliver_due(self) -> None:
        """Deliver the due head and set the timer at the next one."""
        async with self._lock:  # the timer and the reader must not overtake each other
            if self._is_void():
                return  # not delivered: it is fetched again by whoever owns it now
            due = self._take_due()
            end = self._held[0].offset if self._held else self._end
            if end != self.partition.delivered[self.source]:
                await self._deliver(Batch(self.partition, self.source, due, end))
            if not self._is_void():
                self._set_timer()
                if self._paused and self._has_room():
                    self._paused = False
                    self._set_paused(self.source, False)

    def close(self) -> None:
        """Forget what is held; it was not delivered and is fetched again."""
        self._held.clear()
        self._bytes = 0
        if self._timer is not None:
            self._timer.cancel()

    def _has_room(self) -> bool:
        return len(self._held) <= self.hold_max // 2 and self._bytes <= self.hold_bytes_max // 2

    def _is_void(self) -> bool:
        return self.partition.closed or self._era != self.partition.owner.era

    def _take_due(self) -> list[SourceRecord]:
        now_ms = self.partition.owner.now_ms()
        due: list[SourceRecord] = []
        while self._held and _wake_at_ms(self._held[0]) <= now_ms:
            due.append(self._held.popleft())
        self._bytes -= sum(map(_size, due))
        return due

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            wait_ms = _wake_at_ms(self._held[0]) - self.partition.owner.now_ms()
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wait_ms / 1000), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.partition.spawn(self.deliver_due())


def _size(record: SourceRecord) -> int:
    return _RECORD_BYTES + (len(record.value) if record.value is not None else 0)


def _wake_at_ms(record: SourceRecord) -> int:
    """When *record* leaves its tier; at once if it does not say: what is wrong with it is found out when it is read."""
    try:
        return wake_at_ms(record.headers)
    except InputRejected:
        return 0
