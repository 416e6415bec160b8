"""`streams demo`: all of it at work, with nothing to set up."""

from __future__ import annotations

import click

from streams.commands.base import pass_settings
from streams.local.demo import run_demo
from streams.settings import Settings


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running, say how to use it, and wait for Ctrl-C.")
@pass_settings
@click.pass_context
def demo(ctx: click.Context, settings: Settings, keep: bool) -> None:
    """Run functions of three clouds on a real Kafka, and check every outcome.

    Starts a broker and two workers, invokes functions that succeed, fail once, always fail, time out, are throttled or
    crash, feeds in some garbage, waits until each has its outcome, and prints what came of it. Minutes between retries
    are fractions of a second here. Nothing is left behind.

    With --broker or STREAMS_BROKER that cluster is used instead of a broker of its own; topics are made under a prefix
    that nobody else has, and deleted at the end.

    Exit codes: 0 everything was as expected, else 1, with the end of the workers' logs.

    \b
    Examples:
      streams demo
      streams demo --keep
      streams --broker 127.0.0.1:9092 demo
    """
    named = ctx.find_root().params["broker"] is not None
    run_demo(settings if named else None, keep=keep)
