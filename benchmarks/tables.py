"""What a run came to, as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.bars import Judged
from benchmarks.contenders import CONTENDERS, STREAMS, Contender
from benchmarks.gate import Verdict
from benchmarks.results import Samples
from benchmarks.statistics import Spread
from benchmarks.workloads import WORKLOADS, Workload

_HEADS = {
    "backlog": ("requests/s", "range", "CPU µs/request", "range", "MB"),
    "latency": ("p50 ms", "p95", "p99", "range of p99", "% of a core", "at /s"),
    "recovery": ("entries/s", "range", "MB"),
    "parked": ("MB more", "late p50 ms", "late p99", "% of a core"),
    "idle": ("% of a core", "MB", "first invocation s"),
}
_FIGURES = {
    "backlog": ("per_s", "per_s ±", "cpu_us", "cpu_us ±", "rss_mb"),
    "latency": ("p50_ms", "p95_ms", "p99_ms", "p99_ms ±", "cpu_percent", "per_s"),
    "recovery": ("per_s", "per_s ±", "rss_mb"),
    "parked": ("rss_growth_mb", "late_p50_ms", "late_p99_ms", "cpu_percent"),
    "idle": ("cpu_percent", "rss_mb", "first_invocation_s"),
}
CORE_WAIT_PERCENT_MAX = 10.0
"""More, and a run on this machine has to be repeated when it is quiet."""
_BETTER_FIRST = {"backlog": "per_s", "latency": "p50_ms"}


def number(value: float) -> str:
    """Three significant figures, thousands with commas."""
    if abs(value) >= 100:
        digits = 3 - len(str(int(abs(value))))
        return f"{round(value, min(0, digits)):,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _cell(samples: Samples, workload: str, contender: str, figure: str) -> str:
    name, _, is_range = figure.partition(" ")
    found = samples.spread(workload, contender, name)
    if found is None:
        return ""
    return _range(found) if is_range else number(found.median)


def _range(found: Spread) -> str:
    return f"{number(found.low)}-{number(found.high)}" if found.repeats > 1 else ""


def results(samples: Samples, gate: Mapping[str, Verdict]) -> str:
    """All workloads, each with those who keep their promise; ceilings and losers are listed apart."""
    parts = []
    for workload in WORKLOADS.values():
        names = list(dict.fromkeys(sample.contender for sample in samples if sample.workload == workload.name))
        if not names:
            continue
        main = [name for name in names if is_in_main(CONTENDERS[name], gate)]
        apart = [name for name in names if name not in main]
        parts.append(_table(workload, samples, main, apart, gate))
    return "\n\n".join(parts)


def is_in_main(contender: Contender, gate: Mapping[str, Verdict]) -> bool:
    """It promises something, and the gate did not find otherwise."""
    verdict = gate.get(contender.name)
    return contender.promise != "none" and (verdict is None or verdict.passes)


def _table(
    workload: Workload, samples: Samples, main: Sequence[str], apart: Sequence[str], gate: Mapping[str, Verdict]
) -> str:
    order = _BETTER_FIRST.get(workload.kind)

    def rank(name: str) -> float:
        value = samples.median(workload.name, name, order) if order else None
        return 0.0 if value is None else (value if order == "p50_ms" else -value)

    rows = [["", *_HEADS[workload.kind]]]
    for name in (*sorted(main, key=rank), *sorted(apart, key=rank)):
        notes = ["by hand"] * CONTENDERS[name].by_hand + ([] if name in main else [_apart(CONTENDERS[name], gate)])
        note = f"  [{'; '.join(notes)}]" if notes else ""
        cells = [_cell(samples, workload.name, name, figure) for figure in _FIGURES[workload.kind]]
        rows.append([("  " if name != STREAMS else "▸ ") + name + note, *cells])
    return f"{workload.name}  {workload.does}\n{columns(rows)}"


def _apart(contender: Contender, gate: Mapping[str, Verdict]) -> str:
    verdict = gate.get(contender.name)
    if verdict is not None and not verdict.passes:
        return f"loses on a crash: {verdict.lost:,}"
    return "no promise"


def busy(samples: Samples) -> str | None:
    """A warning when our worker often had no core; None when it had one whenever it was ready to run."""
    waits = [samples.median(name, STREAMS, "core_wait_percent") for name in WORKLOADS]
    worst = max((wait for wait in waits if wait is not None), default=0.0)
    if worst < CORE_WAIT_PERCENT_MAX:
        return None
    return (
        f"The machine was busy: up to {worst:.0f} % of the time (median of a workload) the streams worker was ready to "
        "run and had no core.\nThroughput and latency say little then; CPU per request says more."
    )


def verdicts(gate: Mapping[str, Verdict]) -> str:
    """What the gate found."""
    rows = [["", "promises", "kills", "requests", "lost", "duplicates", ""]]
    for name, verdict in gate.items():
        contender = CONTENDERS[name]
        says = "loses on a crash" if not verdict.passes else ("lost nothing this time" if _is_free(contender) else "")
        counts = (verdict.kills, verdict.requests, verdict.lost, verdict.duplicates)
        rows.append([f"  {name}", contender.promise, *(f"{count:,}" for count in counts), says])
    return "Semantics gate: kill -9 under load, outcomes counted read committed\n" + columns(rows)


def _is_free(contender: Contender) -> bool:
    return contender.promise == "none"


def bars(judged: Sequence[Judged]) -> str:
    """Every bar with what was measured."""
    rows = [["", "measured", "bar", "", "stretch", ""]]
    for one in judged:
        sign = "≥" if one.bar.at_least else "≤"
        measured = "-" if one.value is None else f"{number(one.value)} {one.bar.unit}"
        row = [f"  {one.bar.measure}", measured]
        for limit in (one.bar.bar, one.bar.stretch):
            word = {None: "", True: "pass", False: "FAIL"}[one.meets(limit)]
            row += ["" if limit is None else f"{sign} {number(limit)}", word]
        rows.append(row)
    return "Bars (medians of this run)\n" + columns(rows)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """*rows* in aligned columns: the first flush left, numbers flush right."""
    by_column = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in by_column]
    right = [all(map(_is_number, column[1:])) for column in by_column]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    )


def _is_number(cell: str) -> bool:
    return cell in ("", "-") or cell[0].isdigit()
