"""Retries wait at the head of their tier: a bounded part of them here, the rest in Kafka."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition

from streams.engine.delays import TierQueue
from streams.engine.engine import CLOCKS_DIFFER_MS, _bound_reading
from streams.engine.partition import Batch

from .support import START_MS, TOPICS, Bench, Record

TIER = TopicPartition(TOPICS.sources[1], 0)
HOLD_MAX = 10
HOLD_BYTES_MAX = 100_000


class Tier:
    """A queue, what it has delivered, and whether its partition is paused."""

    def __init__(self) -> None:
        self.bench = Bench(None)  # type: ignore[arg-type]  # nothing runs
        self.delivered: list[int] = []
        self.has_delivered = asyncio.Event()
        self.paused = False
        self.queue = TierQueue(
            self.bench.partition, TIER, HOLD_MAX, HOLD_BYTES_MAX, self._deliver, lambda _, paused: self._set(paused)
        )
        self._next = 0

    async def _deliver(self, batch: Batch) -> None:
        self.delivered += [record.offset for record in batch.records]
        self.has_delivered.set()

    def _set(self, paused: bool) -> None:
        assert paused != self.paused
        self.paused = paused

    async def add(self, count: int, value: bytes = b"{}") -> None:
        """Read *count* records: one is due every second."""
        offsets = range(self._next, self._next + count)
        self._next += count
        wakes = [("wake-at", b"%d" % (START_MS + 1000 * (offset + 1))) for offset in offsets]
        records = [Record(TIER.topic, offset, value, [wake]) for offset, wake in zip(offsets, wakes, strict=True)]
        await self.queue.add(records, self._next)

    async def pass_s(self, seconds: float) -> None:
        self.bench.owner.time_ms += round(1000 * seconds)
        await self.queue.deliver_due()


@pytest.fixture
async def tier() -> Tier:
    return Tier()


async def test_what_is_due_is_delivered_in_order_and_the_rest_waits(tier: Tier) -> None:
    await tier.add(5)
    assert tier.delivered == []
    await tier.pass_s(3)
    assert tier.delivered == [0, 1, 2]
    assert len(tier.queue) == 2


async def test_a_full_tier_is_paused_until_half_of_it_has_left(tier: Tier) -> None:
    await tier.add(HOLD_MAX)
    assert not tier.paused
    await tier.add(1)
    assert tier.paused
    await tier.pass_s(HOLD_MAX // 2)
    assert tier.paused
    await tier.pass_s(1)
    assert not tier.paused


async def test_a_tier_of_large_events_is_full_sooner(tier: Tier) -> None:
    await tier.add(2, b"x" * (HOLD_BYTES_MAX // 2))
    assert tier.paused


async def test_the_headers_of_small_events_count(tier: Tier) -> None:
    """A retry record has a dozen of them, which take more memory than most events."""
    tier.queue.hold_max = 1_000_000
    await tier.add(HOLD_BYTES_MAX // 2_000, b"")
    assert tier.paused


async def test_a_timer_stands_at_the_head(tier: Tier) -> None:
    await tier.add(1)
    tier.bench.owner.time_ms = START_MS + 1000
    await tier.queue.deliver_due()
    tier.bench.owner.time_ms = START_MS + 2000 - 1  # a millisecond before it is due
    await tier.add(1)
    assert tier.delivered == [0]
    tier.bench.owner.time_ms += 1
    tier.has_delivered.clear()
    await tier.has_delivered.wait()
    assert tier.delivered == [0, 1]


@pytest.mark.parametrize(("later_ms", "offset"), [(0, 4), (1, 0)])
async def test_nobody_has_read_a_tier_beyond_what_was_due(tier: Tier, later_ms: int, offset: int) -> None:
    """A million wait for half an hour: what has ended since a takeover is forgotten all the same."""
    partition = tier.bench.partition
    partition.requests.restore({}, {TIER: 4})
    partition.acquired_at_ms = START_MS + 1000 - CLOCKS_DIFFER_MS - later_ms
    await tier.add(4)

    _bound_reading(tier.queue)

    assert partition.requests._marker == (0, {TIER: offset})
