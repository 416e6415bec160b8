"""Retry tiers: topics in which every record waits the same time, so that the first in is the first due.

The delays are exactly those the providers use (AWS 1 s ... 300 s doubling, 60 s, 120 s; Alibaba 500 ms doubling without
cap). Any other delay is made of several: the largest tier that fits, then the largest that fits the rest.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tier:
    """A retry topic, named by the delay of its records before the time scale is applied."""

    delay_ms: int

    @property
    def topic(self) -> str:
        """Topic name without the configured prefix: ``retry.500ms``, ``retry.60s``."""
        return f"retry.{self.delay_ms}ms" if self.delay_ms % 1000 else f"retry.{self.delay_ms // 1000}s"


_DOUBLING_S = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_DELAYS_MS = sorted({500, *(s * 1000 for s in (*_DOUBLING_S, 60, 120, 300, 1800))})

TIERS = tuple(Tier(delay_ms) for delay_ms in _DELAYS_MS)
"""Shortest first."""


def tier_for(remaining_ms: float) -> Tier:
    """Where to wait next when *remaining_ms* are left (unscaled): the largest tier that fits, else the shortest."""
    return TIERS[max(0, bisect_right(_DELAYS_MS, remaining_ms) - 1)]


def wake_at_ms(now_ms: int, due_at_ms: int, time_scale: float) -> tuple[Tier, int]:
    """Where to wait at *now_ms* for *due_at_ms*, and when to leave that tier (never after *due_at_ms*)."""
    tier = tier_for((due_at_ms - now_ms) / time_scale)
    return tier, min(due_at_ms, now_ms + max(1, round(tier.delay_ms * time_scale)))
