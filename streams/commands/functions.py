"""`streams functions`: what the functions file describes."""

from __future__ import annotations

import click

from streams.commands.base import columns, pass_settings
from streams.core.model import (
    Destination,
    Function,
    FunctionDestination,
    HttpTarget,
    KafkaDestination,
    ServiceDestination,
)
from streams.errors import ConfigurationError
from streams.functions import Functions, load_functions
from streams.settings import Settings


@click.group()
def functions() -> None:
    """Look at the functions that are described in the functions file."""


@functions.command("list")
@pass_settings
def list_functions(settings: Settings) -> None:
    """List every function with its versions and aliases.

    The file is checked as a worker checks it at start, importing the targets, and all that is wrong with it is shown.
    Retries come after the first attempt. Ages and time limits are as they are applied, with the file's time_scale.

    \b
    Examples:
      streams functions list
      streams --config staging.toml functions list
    """
    file = settings.functions_file()
    if file is None:
        raise ConfigurationError(
            "there is no functions file: write streams.toml here, or name another with --config or STREAMS_CONFIG"
        )
    known = load_functions(file)
    rows = [_row(known, function) for function in known]
    if not rows:
        click.echo(f"{file} describes no functions.")
        return
    head = ["name", "provider", "qualifier", "target", "timeout", "retries", "age", "on success", "on failure"]
    click.echo(columns([[*head, "dead letter"], *rows]))


def _row(known: Functions, function: Function) -> list[str]:
    target = function.target
    return [
        function.name,
        function.provider,
        function.qualifier,
        target.url if isinstance(target, HttpTarget) else f"{target.module}:{target.attribute} ({target.isolation})",
        _duration(function.timeout_ms),
        str(function.policy.attempts_max - 1),
        _duration(function.policy.age_max_ms),
        _destination(function.on_success),
        _destination(function.on_failure),
        _destination(function.dead_letter),
    ]


def _destination(destination: Destination | None) -> str:
    match destination:
        case None:
            return "-"
        case KafkaDestination(topic):
            return f"kafka://{topic}"
        case FunctionDestination(reference):
            return reference
        case ServiceDestination(address):
            return address


def _duration(duration_ms: int) -> str:
    """As short as it can be said exactly: ``6h``, ``90s``, ``300ms``."""
    for unit, unit_ms in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if duration_ms % unit_ms == 0:
            return f"{duration_ms // unit_ms}{unit}"
    return f"{duration_ms}ms"
