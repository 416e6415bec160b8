"""Sees outcomes as they arrive: which are still missing, and how long a fault keeps a partition silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from streams.cluster import Topic
from streams.commands.reading import Reader, Record, partitions_of
from streams.settings import Settings

STALLED_S = 180.0
"""What has not ended when nothing has ended for so long is lost."""


@dataclass(slots=True)
class Silence:
    """What a fault did to the partitions."""

    began: float
    """`time.monotonic`."""
    began_ms: float
    """Epoch milliseconds. What was written before, and is seen later, says nothing."""
    broken: dict[int, float] = field(default_factory=dict)
    """By partition, when the first outcome came after that."""

    def worst_s(self) -> float | None:
        """How long the last partition took to come back; None when nothing came at all."""
        return max(0.0, max(self.broken.values()) - self.began) if self.broken else None


class Watch:
    """Follows records and dead letters, read committed."""

    def __init__(self, settings: Settings, existing: dict[str, Topic], progress: Callable[[int], None]) -> None:
        self.ended: set[str] = set()
        """Request ids with an outcome."""
        self.latest_ms = 0
        """When the latest of them was written (epoch milliseconds)."""
        self.silences: list[Silence] = []
        self._settings = settings
        self._partitions = partitions_of((*settings.topics.records, settings.topics.dlq), existing)
        self._numbers = existing[settings.topics.dlq].partitions
        self._progress = progress
        self._moved_at = time.monotonic()
        self._moved = asyncio.Event()
        self._unbroken: list[Silence] = []
        self._heard: set[int] = set()
        """Partitions that have had an outcome."""

    def struck(self) -> None:
        """Something was broken just now."""
        silence = Silence(time.monotonic(), time.time() * 1000)
        self.silences.append(silence)
        self._unbroken.append(silence)

    def healed(self) -> None:
        """What was broken last works again from now on, and could not before."""
        self.silences[-1].began = time.monotonic()

    def worst_silence_s(self) -> float | None:
        """How long the worst fault kept a partition silent."""
        return max((worst for silence in self.silences if (worst := silence.worst_s()) is not None), default=None)

    async def run(self) -> None:
        """Follow, for ever."""
        async with Reader(self._settings, self._partitions) as reader:
            async for records in reader.follow(dict.fromkeys(self._partitions, 0)):
                self._see(records)

    def _see(self, records: Iterable[Record]) -> None:
        now, before = time.monotonic(), len(self.ended)
        for record in records:
            self.ended.add((record.key or b"").decode(errors="replace"))
            self._heard.add(record.partition)
            self.latest_ms = max(self.latest_ms, record.timestamp)
            for silence in self._unbroken:
                if record.timestamp > silence.began_ms:
                    silence.broken.setdefault(record.partition, now)
        self._unbroken = [silence for silence in self._unbroken if len(silence.broken) < self._numbers]
        if len(self.ended) > before:
            self._moved_at = now
            self._progress(len(self.ended) - before)
        self._moved.set()

    @property
    def is_back(self) -> bool:
        """Whether every partition has had an outcome since the last fault."""
        return not self._unbroken

    async def until(self, condition: Callable[[], bool], within_s: float) -> bool:
        """Wait until what was seen makes *condition* true; False when it has not *within_s*."""
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self._moved.clear()
            await self._moved.wait()
        return True

    async def everywhere(self, within_s: float) -> bool:
        """Wait until every partition has had an outcome, ever; False when one has not *within_s*."""
        return await self.until(lambda: len(self._heard) == self._numbers, within_s)

    async def all_ended(self, expected: Callable[[], Iterable[str]]) -> bool:
        """Wait until all that is *expected* has ended; False when nothing more seems to come."""
        self._moved_at = time.monotonic()  # there may have been no broker until now
        while not self.ended.issuperset(expected()):
            if time.monotonic() - self._moved_at > STALLED_S:
                return False
            self._moved.clear()
            await self._moved.wait()
        return True
