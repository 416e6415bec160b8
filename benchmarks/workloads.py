"""What is measured: the workloads by name, and how much of each is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["backlog", "latency", "recovery", "parked", "idle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One thing to measure."""

    name: str
    does: str
    """In a phrase, for tables."""
    kind: Kind = "backlog"
    function: str = "work"
    """Which of `benchmarks.functions` runs."""
    event_bytes: int = 200
    requests: int = 100_000
    """Of a backlog, for a contender whose pace is 1; state entries or parked retries otherwise."""
    requests_quick: int = 20_000
    per_second_max: float | None = None
    """No contender can do more, however fast it is: the functions take their time."""
    rate: float | None = None
    """Requests a second of an open loop; None with kind "latency": half of what this contender did in W1."""
    seconds: float = 20.0
    seconds_quick: float = 6.0
    partitions: int = 8
    workers: int = 1
    has_outcome: bool = True
    """False: nothing is written, and the end is seen by the committed offsets."""


def _latency(name: str, does: str, rate: float | None, partitions: int = 8) -> Workload:
    return Workload(name=name, does=does, kind="latency", rate=rate, partitions=partitions)


_ALL = (
    Workload(name="W0", does="no-op, no outcome", function="noop", has_outcome=False),
    Workload(name="W1", does="200 B, async function, outcome"),
    Workload(name="W2", does="as W1, 1 % fail once", function="flaky"),
    Workload(
        name="W3", does="100 ms async, 500 in flight", function="slow",
        requests=20_000, requests_quick=5_000, per_second_max=5_000,
    ),
    Workload(
        name="W4", does="10 ms blocking, 32 threads", function="blocking",
        requests=12_000, requests_quick=4_000, per_second_max=3_200,
    ),
    Workload(name="W5", does="64 KB events", event_bytes=64 * 1024, requests=8_000, requests_quick=2_000),
    _latency("W6-100", "latency at 100/s", 100),
    _latency("W6-1000", "latency at 1,000/s", 1_000),
    _latency("W6-half", "latency at half of W1's rate", None),
    _latency("W6-1000-p4", "latency at 1,000/s, 4 partitions", 1_000, partitions=4),
    _latency("W6-1000-p32", "latency at 1,000/s, 32 partitions", 1_000, partitions=32),
    Workload(
        name="W7", does="read state entries back", kind="recovery", requests=1_000_000, requests_quick=200_000
    ),
    Workload(name="W8", does="parked retries", kind="parked", requests=1_000_000, requests_quick=50_000),
    Workload(name="W9-2", does="as W1, 2 workers", workers=2),
    Workload(name="W9-4", does="as W1, 4 workers", workers=4),
    Workload(name="idle", does="nothing to do", kind="idle", seconds=30.0, seconds_quick=10.0),
)  # fmt: skip
WORKLOADS = {workload.name: workload for workload in _ALL}
"""W9 with one worker is W1."""


def chosen(names: str | None) -> list[Workload]:
    """The workloads of a comma-separated list; "W6" stands for all that begin so. None: all.

    Raises ValueError naming what there is no such workload.
    """
    if names is None:
        return list(_ALL)
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if not any(_is_meant(workload.name, name) for workload in _ALL):
            raise ValueError(f"there is no workload {name!r}; there are {', '.join(WORKLOADS)}")
    return [workload for workload in _ALL if any(_is_meant(workload.name, name) for name in wanted)]


def _is_meant(workload: str, name: str) -> bool:
    return workload.lower() == name.lower() or workload.lower().startswith(f"{name.lower()}-")
