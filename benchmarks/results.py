"""What was measured, and the file that remembers it: `results.csv`, one line a measurement, never rewritten."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.statistics import Spread, spread

FIGURES = (
    "requests",
    "per_s",
    "cpu_us",
    "cpu_percent",
    "core_wait_percent",
    "wall_s",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "max_ms",
    "rss_mb",
    "rss_growth_mb",
    "first_invocation_s",
    "late_p50_ms",
    "late_p99_ms",
    "kills",
    "lost",
    "duplicates",
)
"""Every figure there is, and its column. Units are last. cpu_us is for one request; core_wait_percent is the part of
the time in which a worker's main thread was ready to run and others had the cores."""
_ABOUT = ("date", "commit", "cores", "cpu", "memory_mb", "load", "python", "kafka", "versions")
COLUMNS = (*_ABOUT, "run", "workload", "contender", "repeat", *FIGURES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement of a contender."""

    workload: str
    contender: str
    repeat: int
    """From 1."""
    figures: Mapping[str, float]
    latencies_s: tuple[float, ...] = field(default=(), repr=False)
    """For the plot only."""


class Samples(list[Sample]):
    """All measurements of a run."""

    def spread(self, workload: str, contender: str, figure: str) -> Spread | None:
        """Median and range of a figure; None when it was not measured."""
        values = [
            sample.figures[figure]
            for sample in self
            if sample.workload == workload and sample.contender == contender and figure in sample.figures
        ]
        return spread(values) if values else None

    def median(self, workload: str, contender: str, figure: str) -> float | None:
        """The median alone."""
        found = self.spread(workload, contender, figure)
        return found.median if found else None


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and with what a run was made: what each of its lines begins with."""

    fields: Mapping[str, str]

    @classmethod
    def here(cls, kafka: str, packages: Iterable[str]) -> Machine:
        """This machine, now. *load* is how many processes were running or waiting before the run began."""
        versions = [f"{name} {found}" for name in sorted(set(packages)) if (found := _version(name))]
        values = (
            datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), _commit(), str(os.cpu_count()), _cpu_model(),
            str(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20), f"{os.getloadavg()[0]:.1f}",
            platform.python_version(), kafka, "; ".join(versions),
        )  # fmt: skip
        return cls(dict(zip(_ABOUT, values, strict=True)))


def append(file: Path, machine: Machine, run: str, samples: Iterable[Sample]) -> None:
    """Add *samples* to *file*, which is begun if it is not there."""
    is_new = not file.exists()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", newline="") as opened:
        writer = csv.DictWriter(opened, COLUMNS, restval="", lineterminator="\n")
        if is_new:
            writer.writeheader()
        for sample in samples:
            figures = {name: _number(value) for name, value in sample.figures.items()}
            about = {"run": run, "workload": sample.workload, "contender": sample.contender, "repeat": sample.repeat}
            writer.writerow({**machine.fields, **about, **figures})


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    """The commit that is measured, with a plus sign when the sources differ from it."""
    folder = Path(__file__).parent
    commit = _git("rev-parse", "--short=12", "HEAD", folder=folder)
    changed = _git("status", "--porcelain", "--", "../streams", "../schemas", "*.py", folder=folder)
    return (commit or "unknown") + ("+" if changed else "")


def _git(*arguments: str, folder: Path) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
