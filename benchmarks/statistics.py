"""Percentiles, and medians with their range."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of values in ascending order, of which there is at least one."""
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


class Spread(NamedTuple):
    """What repeats of one figure came to."""

    median: float
    low: float
    high: float
    repeats: int


def spread(values: Sequence[float]) -> Spread:
    """Median and range of at least one value."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the maximum of latencies, in milliseconds.

    One below 0 counts as 0: its outcome was seen before its acknowledgement had reached the producer.
    """
    ordered = sorted(max(0.0, 1000 * value) for value in seconds)
    figures = {f"p{percent}_ms": percentile(ordered, percent) for percent in (50, 95, 99)}
    return figures | {"max_ms": ordered[-1]}
