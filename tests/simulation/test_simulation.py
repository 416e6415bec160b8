"""Hundreds of worlds, each from a seed, and none of them may break a promise.

- `STREAMS_SIMULATION_SEEDS=5000 pytest tests/simulation` runs so many of them.
- `STREAMS_SIMULATION_SEED=42 pytest -s tests/simulation/test_simulation.py` runs one and prints what happens in it.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from .world import Report, World

SEEDS = int(os.environ.get("STREAMS_SIMULATION_SEEDS", "40"))
SEED = os.environ.get("STREAMS_SIMULATION_SEED", "")
AT_ONCE = 20
TRACE_LINES_MAX = 300


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    """A world is garbage as a whole; looking for some of it in between takes a third of the time."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.skipif(bool(SEED), reason="only one seed is to be run")
@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_no_world_breaks_a_promise(first: int) -> None:
    for seed in range(first, min(first + AT_ONCE, SEEDS)):
        report = World(seed).run()
        if report.violations:
            pytest.fail(_told(report), pytrace=False)


@pytest.mark.skipif(not SEED, reason="no seed is given")
def test_replay() -> None:
    """The world of one seed, told line by line."""
    report = World(int(SEED)).run()
    print("\n".join(report.lines()))
    if report.violations:
        pytest.fail(_told(report), pytrace=False)


def test_a_seed_is_a_world_down_to_the_last_line() -> None:
    assert World(4).run().trace == World(4).run().trace


def test_worlds_differ() -> None:
    assert World(4).run().trace != World(5).run().trace


def test_hours_pass_in_no_time() -> None:
    """Some worlds last longer than any test may: waiting costs nothing."""
    reports = [World(seed).run() for seed in range(10)]

    assert max(report.trace[-1][0] for report in reports) > 3600


def _told(report: Report) -> str:
    """Why the world of *report* is not in order, and how to see it again."""
    violations = [f"  {violation.law} {violation.request_id}: {violation.fault}" for violation in report.violations]
    lines = list(report.lines({violation.request_id for violation in report.violations}))
    return "\n".join(
        (
            f"seed {report.seed} breaks {len(violations)} promises:",
            *violations[:20],
            "what happened to them, and to the processes (the end of it):",
            *lines[-TRACE_LINES_MAX:],
            "run it again with all lines:",
            f"  STREAMS_SIMULATION_SEED={report.seed} pytest -s tests/simulation/test_simulation.py -k replay",
        )
    )
