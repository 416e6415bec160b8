"""`streams doctor`: prove on a cluster that nothing is lost, whatever happens."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import IO

import click

from streams.commands.base import pass_settings
from streams.doctor import report
from streams.doctor.report import Options, Report
from streams.doctor.run import Request, run_doctor
from streams.doctor.scenarios import SCENARIOS
from streams.settings import Settings

EXIT_BROKEN = 1
EXIT_INTERRUPTED = 130


@click.command(
    epilog="Scenarios: " + "; ".join(f"{scenario.name} ({scenario.does})" for scenario in SCENARIOS.values()) + "."
)
@click.option(
    "--scenario",
    "names",
    multiple=True,
    type=click.Choice(list(SCENARIOS)),
    help="Run this one; may be given several times.  [default: all]",
)
@click.option("--full", is_flag=True, help="The long form: hours instead of minutes.")
@click.option("--seed", type=click.IntRange(0), help="Repeat the decisions of a run.  [default: a new one]")
@click.option(
    "--scale",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="So many times as many invocations and faults.",
)
@click.option(
    "--json",
    "json_file",
    type=click.File("w", encoding="utf-8", lazy=False),
    metavar="FILE",
    help="Write a line of JSON for each scenario; - is standard output, which then has nothing else.",
)
@click.option(
    "--keep-logs",
    "logs",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the workers' logs, and what the functions wrote down, in DIR.",
)
@pass_settings
@click.pass_context
def doctor(
    ctx: click.Context,
    settings: Settings,
    names: tuple[str, ...],
    full: bool,
    seed: int | None,
    scale: float,
    json_file: IO[str] | None,
    logs: Path | None,
) -> None:
    """Break things on purpose, and check what became of every invocation.

    Runs workers under load while they, their broker and their network fail, and judges what was seen from outside:
    every acknowledged invocation ends, exactly once, in the way its function makes it end; what cannot be read is a
    dead letter, unchanged; nothing runs again but what a kill interrupted. It starts a broker of its own for that.

    With --broker or STREAMS_BROKER that cluster is used instead; topics are made under a prefix that nobody else has,
    and deleted at the end. A scenario that has to kill the broker is then skipped.

    Kills are workers killed, frozen, cut off, or without a broker; exits are workers that stopped themselves. Time to
    resume is the longest that a partition had no outcome after a fault.

    Exit codes: 0 every law held, 1 one was broken, 2 refused, 3 Kafka does not answer, 130 interrupted.

    \b
    Examples:
      streams doctor
      streams doctor --scenario kill --scenario storm --seed 7
      streams --broker kafka-1:9092 doctor --full --json results.jsonl
    """
    named = ctx.find_root().params["broker"] is not None
    options = Options(random.randrange(1_000_000) if seed is None else seed, full, scale)
    request = Request(
        scenarios=[scenario for name, scenario in SCENARIOS.items() if not names or name in names],
        options=options,
        settings=settings if named else None,
        json=json_file,
        logs=logs.absolute() if logs is not None else None,
    )
    try:
        done = run_doctor(request)
    except KeyboardInterrupt:
        click.echo("Interrupted; nothing is left behind.", err=True)
        ctx.exit(EXIT_INTERRUPTED)
    ctx.exit(conclude(done, to_stderr=getattr(json_file, "name", "") == sys.stdout.name))


def conclude(done: Report, *, to_stderr: bool = False) -> int:
    """Print the results. Returns the exit code."""
    if done.results:
        click.echo(f"\n{report.table(done)}", err=to_stderr)
    if not done.is_good:
        click.echo(report.violations(done), err=to_stderr)
    click.echo(f"Seed: {done.options.seed}", err=to_stderr)
    return 0 if done.is_good else EXIT_BROKEN
