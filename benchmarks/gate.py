"""The semantics gate: workers are killed with -9 under load and started again; what is missing afterwards was lost."""

from __future__ import annotations

import random
import time
from typing import NamedTuple

from benchmarks.contenders import Contender
from benchmarks.measure import START_S, MeasurementFailed, Session, Site, session
from benchmarks.workloads import WORKLOADS

PROGRESS_MIN = 50
"""A worker is not killed again before so many outcomes were seen since its start."""
PAUSE_S = (0.2, 2.0)
"""And not before a time in this range after that."""
DRAIN_S = 0.5
"""What the dead worker has done is seen in this time, and not taken for its successor's."""


class Verdict(NamedTuple):
    """What became of a contender's requests."""

    kills: int
    requests: int
    """Acknowledged by the carrier."""
    lost: int
    """Of those, without an outcome when none had come for the contender's `stall_s`."""
    duplicates: int
    """Outcomes beyond the first."""

    @property
    def passes(self) -> bool:
        return self.lost == 0


def judge(kills: int, sent: int, failed: int, seen: set[int], duplicates: int) -> Verdict:
    """*sent* requests are numbered from 0; *failed* of them were refused by the carrier, and nobody knows which."""
    return Verdict(kills, sent - failed, max(0, sent - failed - len(seen)), duplicates)


def pass_through(site: Site, contender: Contender, kills: int, rate: float) -> Verdict:
    """Kill *contender* so often, with W1's function and settings, under *rate* requests a second."""
    chance = random.Random(site.seed)
    with session(site, contender, WORKLOADS["W1"]) as opened:
        opened.start()
        with opened.loading(None, rate) as load:
            for _ in range(kills):
                _progress(opened)
                _look_on(opened, chance.uniform(*PAUSE_S))
                opened.workers[0].kill()
                _look_on(opened, DRAIN_S)
                opened.restart()
            assert load.stdin is not None
            load.stdin.write("\n")
            load.stdin.flush()
            load.wait()
        try:
            opened.wait(opened.sent - opened.failed, contender.stall_s)
        except MeasurementFailed:
            pass  # they are missing, which is the result
        _look_on(opened, 2.0)
        return judge(kills, opened.sent, opened.failed, set(opened.eyes.seen), opened.eyes.duplicates)


def _progress(opened: Session) -> None:
    wanted, end = len(opened.eyes.seen) + PROGRESS_MIN, time.monotonic() + START_S
    while len(opened.eyes.seen) < wanted:
        opened.eyes.look(0.05)
        if time.monotonic() > end:
            raise MeasurementFailed(f"it does not come back after a kill:\n{opened.said()}")


def _look_on(opened: Session, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        opened.eyes.look(min(0.05, left))
