"""The bars: ratios and limits that a run has to meet, computed from the run itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.contenders import STREAMS
from benchmarks.results import Samples

Value = Callable[[Samples], float | None]


@dataclass(frozen=True, slots=True)
class Bar:
    """A measure, what it has to be, and what would be splendid."""

    measure: str
    unit: str
    value: Value
    bar: float | None
    stretch: float | None
    at_least: bool
    """Whether more is better."""


class Judged(NamedTuple):
    """A bar against a run."""

    bar: Bar
    value: float | None
    """None: the run did not measure it."""

    def meets(self, limit: float | None) -> bool | None:
        """None: there is nothing to compare."""
        if limit is None or self.value is None:
            return None
        return self.value >= limit if self.bar.at_least else self.value <= limit


def _figure(workload: str, figure: str) -> Value:
    return lambda samples: samples.median(workload, STREAMS, figure)


def _ratio(one: tuple[str, str, str], other: tuple[str, str, str]) -> Value:
    """Of the medians of two (workload, contender, figure)."""

    def ratio(samples: Samples) -> float | None:
        above, below = samples.median(*one), samples.median(*other)
        return above / below if above is not None and below else None

    return ratio


def _beside(contender: str) -> Value:
    return _ratio(("W1", STREAMS, "per_s"), ("W1", contender, "per_s"))


BARS = (
    Bar("W1 beside stock Faust", "fold", _beside("faust"), 12, None, True),
    Bar("W1 beside FastStream (ACK)", "fold", _beside("faststream"), 20, None, True),
    Bar("W1 beside aiokafka without a promise", "fold", _beside("aiokafka"), None, 1.0, True),
    Bar("W1 CPU a request", "µs", _figure("W1", "cpu_us"), 45, 30, False),
    Bar("W2 beside W1", "fold", _ratio(("W2", STREAMS, "per_s"), ("W1", STREAMS, "per_s")), 0.9, None, True),
    Bar("W6 at 100/s, p50", "ms", _figure("W6-100", "p50_ms"), 10, 6, False),
    Bar("W6 at 100/s, p99", "ms", _figure("W6-100", "p99_ms"), 40, 20, False),
    Bar("W6 at 100/s, of a core", "%", _figure("W6-100", "cpu_percent"), 25, 12, False),
    Bar("W6 at 1,000/s, p50", "ms", _figure("W6-1000", "p50_ms"), 25, 12, False),
    Bar("W6 at 1,000/s, p99", "ms", _figure("W6-1000", "p99_ms"), 100, None, False),
    Bar("W6 at 1,000/s, of a core", "%", _figure("W6-1000", "cpu_percent"), 50, 30, False),
    Bar(
        "W6 p50 with 32 partitions beside 4",
        "fold",
        _ratio(("W6-1000-p32", STREAMS, "p50_ms"), ("W6-1000-p4", STREAMS, "p50_ms")),
        2.5,
        1.3,
        False,
    ),
    Bar("W7 state entries read back", "/s", _figure("W7", "per_s"), 250_000, 400_000, True),
    Bar("W8 memory of the parked", "MB", _figure("W8", "rss_growth_mb"), 300, 100, False),
    Bar("W8 lateness, p99", "ms", _figure("W8", "late_p99_ms"), 100, None, False),
    Bar("idle, of a core", "%", _figure("idle", "cpu_percent"), 3, 1, False),
    Bar("idle memory", "MB", _figure("idle", "rss_mb"), 120, 90, False),
    Bar("start to first invocation", "s", _figure("idle", "first_invocation_s"), 3, None, False),
)


def judge(samples: Samples) -> list[Judged]:
    """Every bar against what was measured."""
    return [Judged(bar, bar.value(samples)) for bar in BARS]
