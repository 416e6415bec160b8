"""Hours of load, and what they do to memory and files."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from itertools import compress
from pathlib import Path
from statistics import median
from typing import NamedTuple

from streams.doctor.inputs import mixed
from streams.doctor.scenarios.planning import chance, named
from streams.doctor.scenarios.workers import running
from streams.doctor.trial import Scenario, Size, Strike, Trial
from streams.laws import Violation

SURVIVOR = 0
"""This worker is never killed: its memory and its files are measured."""
SAMPLE_S = 10.0
WARM_UP = 0.25
"""So much of the time does not count: caches fill, and what is remembered of finished requests comes to its bound."""
RSS_SLOPE_MAX_MB_H = 1.0
FD_SLOPE_MAX_H = 1.0
"""Files open and close with connections; a leak of one a minute would be 60."""
SLOPE_COUNTS_AFTER_S = 3600.0
"""In less time what the garbage collector happens to leave is more than such slopes; then whole MB and files count."""
RSS_GROWTH_MAX_MB = 10.0
FD_GROWTH_MAX = 10
KILL_EVERY_S = 60.0


class Sample(NamedTuple):
    """What the survivor holds."""

    at_s: float
    rss_mb: float
    files: int


def plan_soak(seed: int, size: Size) -> tuple[Strike, ...]:
    """A kill every minute, of anyone but the survivor."""
    random = chance("soak", seed)
    every = round(KILL_EVERY_S * size.per_second)
    return tuple(
        Strike(after, "kill -9", random.randrange(1, size.workers), random.choice((0.0, random.uniform(0, 10))))
        for after in range(every, size.invocations, every)
    )


async def soak(trial: Trial, plan: tuple[Strike, ...]) -> None:
    samples: list[Sample] = []
    measuring = asyncio.create_task(_measure(trial, samples))
    try:
        for strike in plan:
            await trial.load.reached(strike.after)
            await running(trial, strike.slot)
            trial.crew.kill(strike.slot, back_after_s=strike.lasts_s)
            trial.struck()
            await trial.judge_ended()
        await trial.load.reached(trial.size.invocations)
    finally:
        measuring.cancel()
    if trial.crew.slots[SURVIVOR].starts > 1:
        trial.figures.blame(Violation("survivor", "", "the worker that nobody killed ended: its memory says nothing"))
    growth = growth_of(samples)
    if growth is not None:
        trial.notes = f"RSS {growth.rss_mb_h:+.1f} MB/h, open files {growth.files_h:+.1f}/h in {growth.took_s:.0f} s"
        trial.figures.blame(*faults(growth))


class Growth(NamedTuple):
    """What a worker holds more and more of, after warming up."""

    took_s: float
    rss_mb_h: float
    files_h: float
    rss_mb: float
    """The last third of the time against the first."""
    files: float


def growth_of(samples: list[Sample]) -> Growth | None:
    """None when there is too little to say anything."""
    counted = samples[round(len(samples) * WARM_UP) :]
    third = len(counted) // 3
    if not third:
        return None
    hours = [sample.at_s / 3600 for sample in counted]
    slopes = (slope(hours, [sample[index] for sample in counted]) for index in (1, 2))
    first, last = counted[:third], counted[-third:]
    steps = (median(sample[index] for sample in last) - median(sample[index] for sample in first) for index in (1, 2))
    return Growth(counted[-1].at_s - counted[0].at_s, *slopes, *steps)


def faults(growth: Growth) -> list[Violation]:
    """What grows that should not."""
    if growth.took_s >= SLOPE_COUNTS_AFTER_S:
        grows = growth.rss_mb_h > RSS_SLOPE_MAX_MB_H, growth.files_h > FD_SLOPE_MAX_H
    else:
        grows = growth.rss_mb > RSS_GROWTH_MAX_MB, growth.files > FD_GROWTH_MAX
    found = (
        Violation("memory", "", f"a worker's RSS grows by {growth.rss_mb_h:.1f} MB/h"),
        Violation("files", "", f"a worker's open files grow by {growth.files_h:.1f}/h"),
    )
    return list(compress(found, grows))


def slope(xs: list[float], ys: list[float]) -> float:
    """The slope of the straight line that fits best."""
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    across = sum((x - middle_x) ** 2 for x in xs)
    return sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / across if across else 0.0


def sample(process: Path) -> Sample:
    """What the process with this folder in `/proc` holds now."""
    pages = int((process / "statm").read_text().split()[1])
    return Sample(
        time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE") / 1e6, sum(1 for _ in (process / "fd").iterdir())
    )


async def _measure(trial: Trial, samples: list[Sample]) -> None:
    while True:
        pid = trial.crew.slots[SURVIVOR].pid
        if pid is not None and sys.platform == "linux":
            samples.append(sample(Path(f"/proc/{pid}")))
        await asyncio.sleep(SAMPLE_S)


SOAK = Scenario(
    name="soak",
    does="two hours at 500/s, a kill every minute, and the memory and open files of one that survives",
    short=None,
    full=Size(invocations=2 * 3600 * 500, workers=3, per_second=500),
    plan=plan_soak,
    act=soak,
    inputs=mixed,
    names=named,
    settings={"STREAMS_HOLD_S": "1", "STREAMS_TERMINAL_MAX": "5000"},
)
