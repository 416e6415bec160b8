"""Pictures of a run: throughput, processor time for each request, and how latencies are spread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")  # no display is needed

import matplotlib.pyplot as plt  # only now is the backend chosen
from matplotlib.axes import Axes

from benchmarks.contenders import CONTENDERS, STREAMS
from benchmarks.gate import Verdict
from benchmarks.results import Samples
from benchmarks.statistics import percentile
from benchmarks.tables import is_in_main, number

LATENCY_MIN_MS = 0.1
"""Where the axis begins; less is drawn there."""
OURS, THEIRS, APART = "#0b7285", "#868e96", "#dee2e6"
_PERCENTS = [*range(1, 100), 99.5, 99.9]
_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}


def draw(folder: Path, samples: Samples, gate: Mapping[str, Verdict], caption: str) -> list[Path]:
    """Write what can be drawn of *samples* to *folder*, as PNG. Returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with plt.rc_context(_STYLE):
        for figure, unit, title in (
            ("per_s", "requests a second, more is better", "throughput"),
            ("cpu_us", "µs of CPU a request, less is better", "cpu"),
        ):
            if any(sample.workload == "W1" for sample in samples):
                files.append(_bars(folder / f"{title}.png", samples, gate, figure, unit, caption))
        for workload in ("W6-100", "W6-1000"):
            if any(sample.workload == workload and sample.latencies_s for sample in samples):
                files.append(_latencies(folder / f"latency-{workload[3:]}.png", samples, gate, workload, caption))
    return files


def _bars(file: Path, samples: Samples, gate: Mapping[str, Verdict], figure: str, unit: str, caption: str) -> Path:
    """W1, a bar for each contender, on a logarithmic scale: they are orders of magnitude apart."""
    names = list(dict.fromkeys(sample.contender for sample in samples if sample.workload == "W1"))
    spreads = {name: found for name in names if (found := samples.spread("W1", name, figure)) is not None}
    less_is_better = figure != "per_s"
    order = sorted(spreads, key=lambda name: spreads[name].median, reverse=not less_is_better)
    order = [n for n in order if is_in_main(CONTENDERS[n], gate)] + [
        n for n in order if not is_in_main(CONTENDERS[n], gate)
    ]
    _, axes = plt.subplots(figsize=(8, 0.42 * len(order) + 1.5))
    for place, name in enumerate(order):
        found, in_main = spreads[name], is_in_main(CONTENDERS[name], gate)
        color = OURS if name == STREAMS else THEIRS if in_main else APART
        reach = [[found.median - found.low], [found.high - found.median]] if found.repeats > 1 else None
        axes.barh(place, found.median, color=color, xerr=reach, ecolor="#343a40", capsize=3)
        axes.text(found.high * 1.07, place, number(found.median), va="center")
    axes.set_yticks(range(len(order)), [_label(name, gate) for name in order])
    axes.invert_yaxis()
    axes.set_xscale("log")
    least = min(found.low for found in spreads.values())
    axes.set_xlim(10 ** math.floor(math.log10(least)), 2.5 * max(found.high for found in spreads.values()))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel(unit)
    axes.set_title("W1: 200-byte event, async function, outcome; one worker process", loc="left", fontsize=11)
    return _save(file, caption)


def _label(name: str, gate: Mapping[str, Verdict]) -> str:
    contender, verdict = CONTENDERS[name], gate.get(name)
    promise = "no promise" if contender.promise == "none" else contender.promise
    if verdict is not None and not verdict.passes:
        promise = "loses on a crash"
    return f"{name}\n({'by hand, ' if contender.by_hand else ''}{promise})"


def _latencies(file: Path, samples: Samples, gate: Mapping[str, Verdict], workload: str, caption: str) -> Path:
    """The share of requests that took no longer, repeats together."""
    _, axes = plt.subplots(figsize=(10, 4.2))
    names = list(dict.fromkeys(sample.contender for sample in samples if sample.workload == workload))
    others = map(plt.get_cmap("tab10"), range(10))
    for name in names:
        taken = sorted(
            1000 * value
            for sample in samples
            if sample.workload == workload and sample.contender == name
            for value in sample.latencies_s
        )
        if taken:
            _curve(axes, name, taken, None if name == STREAMS else next(others), is_in_main(CONTENDERS[name], gate))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 25, 50, 75, 95, 99])
    axes.grid(axis="y", color="#e9ecef")
    axes.set_xlabel("ms from the producer's acknowledgement to the outcome seen, less is better")
    axes.set_ylabel("% of requests within")
    rate = f"{int(workload[3:]):,}"
    axes.set_title(f"Latency at {rate} requests a second, open loop", loc="left", fontsize=11)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    return _save(file, caption)


def _curve(axes: Axes, name: str, taken: Sequence[float], color: Any, in_main: bool) -> None:
    values = [max(LATENCY_MIN_MS, percentile(taken, percent)) for percent in _PERCENTS]
    p50, p99 = (max(0.0, percentile(taken, percent)) for percent in (50, 99))
    axes.plot(
        values,
        _PERCENTS,
        color=color or OURS,
        linewidth=2.6 if color is None else 1.3,
        linestyle="-" if in_main else ":",
        label=f"{name}: p50 {number(p50)}, p99 {number(p99)}" + ("" if in_main else " (may lose)"),
    )


def _save(file: Path, caption: str) -> Path:
    plt.figtext(0.01, 0.005, caption, fontsize=7, color="#868e96")
    plt.tight_layout(rect=(0, 0.03, 1, 1))
    plt.savefig(file, dpi=120, metadata={"Software": None})
    plt.close()
    return file
