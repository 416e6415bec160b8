"""`streams worker`: run functions."""

from __future__ import annotations

from dataclasses import replace

import click

from streams.commands.base import connected, pass_settings, run
from streams.functions import Functions, load_functions
from streams.settings import Settings

LEVELS = ("debug", "info", "warning", "error", "critical")


@click.command()
@click.option(
    "--name",
    envvar="STREAMS_WORKER_NAME",
    show_envvar=True,
    help="A name that stays with this worker across restarts and that no other running worker has (a pod's name, for "
    "instance): restarted under it, the worker has its partitions back at once.  [default: a new one at each start]",
)
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
@pass_settings
def worker(settings: Settings, name: str | None, log_level: str) -> None:
    """Run functions until Ctrl-C or SIGTERM.

    The worker takes its share of the partitions and runs what is invoked there: start more workers, on any machines,
    to run more. Topics and functions are checked first. A worker that is told to stop lets running functions end (at
    most STREAMS_DRAIN_S seconds), commits and leaves; one that is killed loses nothing, another takes over.

    Exit codes: 0 stopped as told, 2 the topics or the functions file are wrong, 3 Kafka does not answer, 70 the worker
    stopped itself rather than risk a loss (let your supervisor start it again).

    \b
    Examples:
      streams worker
      streams --broker kafka-1:9092,kafka-2:9092 --config functions.toml worker --name worker-0
    """
    if name:
        settings = replace(settings, worker_name=name)
    functions = load_functions(settings.functions_file())
    run(_check(settings, functions))
    from streams.engine.worker import run_worker  # here: Faust is slow to import, and a faulty file is found without

    file = settings.functions_file()
    where = f"in {file}" if file is not None else "(there is no streams.toml, nor was --config given)"
    click.echo(
        f"{len(list(functions))} functions {where}, and those made through the APIs. Kafka at {settings.broker}. "
        "Ctrl-C stops the worker.",
        err=True,
    )
    run_worker(settings, log_level)


async def _check(settings: Settings, functions: Functions) -> None:
    """Raise what keeps the worker from running on these topics."""
    from streams.engine.worker import check_topics

    async with connected(settings):
        pass  # within five seconds, or with a clear message
    await check_topics(settings, functions)
