"""What `streams doctor` prints: a table, a line of JSON for each scenario, and what is wrong."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import click
import orjson

from streams import __version__
from streams.commands.base import columns
from streams.doctor.trial import Result

VIOLATIONS_SHOWN = 5
VIOLATIONS_IN_JSON = 100

HEAD = [
    "scenario",
    "invocations",
    "kills",
    "exits",
    "executions",
    "extra executions",
    "lost",
    "duplicate outcomes",
    "time to resume",
    "first outcome",
    "verdict",
]


class Options(NamedTuple):
    """How a run was asked for; enough to ask for it again."""

    seed: int
    full: bool
    scale: float

    def command(self, scenario: str) -> str:
        """What repeats the decisions of *scenario*."""
        return (
            f"streams doctor --scenario {scenario} --seed {self.seed}"
            + (" --full" if self.full else "")
            + (f" --scale {self.scale:g}" if self.scale != 1 else "")
        )


class Skipped(NamedTuple):
    """A scenario that was not run."""

    scenario: str
    why: str


class Report(NamedTuple):
    """A whole run."""

    options: Options
    results: Sequence[Result]

    @property
    def is_good(self) -> bool:
        """Whether no law was broken."""
        return not any(result.figures.violations for result in self.results)


def table(report: Report) -> str:
    """The results, a row each."""
    notes = [f"{result.scenario}: {result.notes}" for result in report.results if result.notes]
    return "\n".join((columns([HEAD, *map(_row, report.results)]), *notes))


def _row(result: Result) -> list[str]:
    figures = result.figures
    return [
        result.scenario,
        str(figures.invocations),
        str(result.kills),
        str(len(result.exits)),
        str(figures.executions),
        str(figures.extra_executions),
        str(figures.lost),
        str(figures.duplicate_outcomes),
        _seconds(result.resume_s),
        _seconds(result.first_outcome_s),
        "BROKEN" if figures.violations else "ok",
    ]


def _seconds(value: float | None) -> str:
    return f"{value:.1f} s" if value is not None else ""


def violations(report: Report) -> str:
    """The first violations of each scenario, and how to see them again; empty when there are none."""
    parts = []
    for result in report.results:
        found = result.figures.violations
        shown = [f"  {it.law}: {f'{it.request_id} ' if it.request_id else ''}{it.fault}" for it in found]
        if found:
            more = [f"  and {len(found) - VIOLATIONS_SHOWN} more"] if len(found) > VIOLATIONS_SHOWN else []
            command = report.options.command(result.scenario)
            lines = (
                f"{result.scenario} broke a law:",
                *shown[:VIOLATIONS_SHOWN],
                *more,
                f"  repeat it with: {command}",
            )
            parts.append(click.style("\n".join(lines), fg="red"))
    return "\n".join(parts)


def json_line(result: Result, options: Options, kafka: str | None) -> str:
    """A result as a line of JSON. *kafka* is the broker's version, None if it is not ours to know."""
    figures = result.figures
    line: dict[str, Any] = {
        "scenario": result.scenario,
        **options._asdict(),
        "invocations": figures.invocations,
        "unacknowledged": result.unacknowledged,
        "kills": result.kills,
        "exits": result.exits,
        "executions": figures.executions,
        "extra_executions": figures.extra_executions,
        "in_flight": figures.in_flight,
        "lost": figures.lost,
        "duplicate_outcomes": figures.duplicate_outcomes,
        "time_to_resume_s": result.resume_s,
        "first_outcome_s": result.first_outcome_s,
        "took_s": round(result.took_s, 1),
        "notes": result.notes,
        "verdict": "broken" if figures.violations else "ok",
        "violations": [violation._asdict() for violation in figures.violations[:VIOLATIONS_IN_JSON]],
        "versions": versions(kafka),
    }
    return orjson.dumps(line).decode()


def skipped_line(skipped: Skipped, options: Options, kafka: str | None) -> str:
    """A scenario that was not run, as a line of JSON."""
    line = {"scenario": skipped.scenario, **options._asdict(), "verdict": "skipped", "why": skipped.why}
    return orjson.dumps(line | {"versions": versions(kafka)}).decode()


def versions(kafka: str | None) -> dict[str, str | None]:
    """What was tested, on what."""
    return {
        "streams": __version__,
        "kafka": kafka,
        "faust": version("faust-streaming"),
        "aiokafka": version("aiokafka"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
