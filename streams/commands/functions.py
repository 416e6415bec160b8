"""`streams functions`: which functions there are, where each setting comes from, and back to what the file says."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple

import click

from streams.commands.base import columns, connected, existing_topics, pass_settings, run, time_text
from streams.core.model import (
    Destination,
    Function,
    FunctionDestination,
    HttpTarget,
    KafkaDestination,
    ServiceDestination,
)
from streams.errors import BrokerError, ConfigurationError
from streams.functions import Functions
from streams.functions.live import Description, LiveFunctions
from streams.functions.stored import CONFIGURATION, Entry, Key
from streams.settings import Settings

FILE = "streams.toml"
DEFAULT = "default"


@click.group()
def functions() -> None:
    """Look at the functions that the functions file and the clouds' APIs describe."""


@functions.command("list")
@pass_settings
def list_functions(settings: Settings) -> None:
    """List every function with its versions and aliases, as workers know them.

    That is what the functions file says, and what the APIs of `streams gateway` have changed. When Kafka does not
    answer, the file alone is shown. It is checked as a worker checks it at start, importing the targets, and all that
    is wrong with it is told. Retries come after the first attempt. Ages and time limits are as they are applied, with
    the file's time_scale.

    \b
    Examples:
      streams functions list
      streams --config staging.toml functions list
    """
    known = _description(settings).functions()
    rows = [_row(function) for function in known]
    if not rows:
        click.echo("There are no functions.")
        return
    head = ["name", "provider", "qualifier", "target", "timeout", "retries", "age", "on success", "on failure"]
    click.echo(columns([[*head, "dead letter"], *rows]))


@functions.command("show")
@click.argument("name")
@click.option("--qualifier", help="Version or alias.  [default: the newest version]")
@pass_settings
def show_function(settings: Settings, name: str, qualifier: str | None) -> None:
    """Show the settings of function NAME, and where each comes from.

    NAME is a name, name:qualifier, ARN or URN. A setting comes from streams.toml, from an API (with the time of the
    last change), or is the default. An asynchronous configuration that an API has stored takes the place of the whole
    configuration in the file: retries, age and destinations.

    \b
    Examples:
      streams functions show resize
      streams functions show resize --qualifier prod
    """
    description = _description(settings)
    known = description.functions()
    function = known.resolve(name, qualifier)
    if not isinstance(function, Function):
        raise ConfigurationError(f"{name}: {function} See `streams functions list`")
    click.echo(function.resource)
    rows = [[setting, value, _origin(description, function, setting)] for setting, value in _settings(function)]
    click.echo(columns([["setting", "value", "from"], *rows]))


@functions.command("reset")
@click.argument("name")
@click.option("--qualifier", help="Only the asynchronous configuration of this version or alias.")
@pass_settings
def reset_function(settings: Settings, name: str, qualifier: str | None) -> None:
    """Forget what the APIs have stored of function NAME, so that the functions file's word holds again.

    NAME is a name, name:qualifier, ARN or URN. Workers and gateways follow within a second. A function that is only
    known from an API is gone then.

    \b
    Examples:
      streams functions reset resize
      streams functions reset resize --qualifier prod
    """
    description = Description(settings.functions_file())
    forgotten = run(_reset(settings, name, qualifier))
    for key in forgotten:
        what = "the settings" if key.qualifier is None else f"the configuration of {key.qualifier}"
        click.echo(f"{key.provider} {key.name}: {what} that an API had stored is forgotten")
    key = forgotten[0]._replace(qualifier=None)
    if key in forgotten and description.table(key) is None:
        click.echo(f"{key.provider} {key.name} is not in the functions file: there is no such function now.")


async def _reset(settings: Settings, name: str, qualifier: str | None) -> list[Key]:
    """What was stored, and is not any more. Raises `ConfigurationError` when there is nothing."""
    await existing_topics(settings, (settings.topics.functions,))
    async with _live(settings) as live:
        keys = _stored_keys(live.description, name, qualifier)
        for key in keys:
            await live.put(key, None)
    return keys


def _stored_keys(description: Description, name: str, qualifier: str | None) -> list[Key]:
    wanted: dict[str, list[Key]] = {}
    for provider in description.file.providers.values():
        named = provider.parse_reference(name)
        if named is None:
            continue
        only = qualifier or named.qualifier
        for key in sorted(description.entries, key=str):
            if (key.provider, key.name) == (provider.name, named.name) and only in (None, key.qualifier):
                wanted.setdefault(provider.name, []).append(key)
    if not wanted:
        of = name if qualifier is None else f"the qualifier {qualifier} of {name}"
        raise ConfigurationError(f"no API has stored anything of {of}: see `streams functions list`")
    if len(wanted) > 1:
        raise ConfigurationError(
            f"functions of {' and '.join(wanted)} have the name {name}: only an ARN or URN tells which one is meant"
        )
    [keys] = wanted.values()
    return keys


# -- what there is ---------------------------------------------------------------------------------------------------


def _description(settings: Settings) -> Description:
    """The file, and what the APIs have stored; without Kafka the file alone, and a notice of that.

    Raises `ConfigurationError` when there is neither.
    """
    alone = Description(settings.functions_file())
    try:
        stored = run(_read(settings))
        fault = f"the cluster at {settings.broker} has no topic {settings.topics.functions}"
    except BrokerError:
        stored, fault = None, f"no Kafka broker answers at {settings.broker}"
    if stored is not None:
        return stored
    if alone.path is None:
        raise ConfigurationError(
            "there is no functions file: write streams.toml here, or name another with --config or STREAMS_CONFIG. "
            f"What the APIs have stored cannot be read either: {fault}"
        )
    click.echo(f"This is what the file says, without what APIs may have changed: {fault}.", err=True)
    return alone


async def _read(settings: Settings) -> Description | None:
    """The file, and what the APIs have stored. None when there is no topic for that."""
    async with connected(settings) as cluster:
        if settings.topics.functions not in await cluster.topics():
            return None
    async with _live(settings) as live:
        return live.description


@contextlib.asynccontextmanager
async def _live(settings: Settings) -> AsyncIterator[LiveFunctions]:
    """What the APIs have stored, read to its end."""
    live = LiveFunctions(settings, _ignore, lambda error: None)
    await live.start()
    try:
        yield live
    finally:
        await live.stop()


async def _ignore(functions: Functions) -> None:
    """They are looked at once."""


# -- where a setting comes from --------------------------------------------------------------------------------------


class _Level(NamedTuple):
    """A table that may hold a setting, and where that is."""

    table: Mapping[str, Any]
    where: str


_TARGET = ("target", "url")


def _settings(function: Function) -> Iterator[tuple[str, str]]:
    """Names as in streams.toml, and values as they are applied."""
    target = function.target
    if isinstance(target, HttpTarget):
        yield "url", target.url
        yield "runtime_api", str(target.runtime_api).lower()
    else:
        yield "target", f"{target.module}:{target.attribute}"
        yield "isolation", target.isolation
    yield "timeout_s", _duration(function.timeout_ms)
    yield "retries", str(function.policy.attempts_max - 1)
    yield "age_max_s", _duration(function.policy.age_max_ms)
    yield "on_success", _destination(function.on_success)
    yield "on_failure", _destination(function.on_failure)
    yield "dead_letter", _destination(function.dead_letter)
    limit = function.reserved_concurrency
    yield "reserved_concurrency", "-" if limit is None else str(limit)
    yield "records", function.records


def _origin(description: Description, function: Function, setting: str) -> str:
    """Who has said what *setting* of *function* is."""
    names = _TARGET if setting in _TARGET else (setting,)
    for level in _levels(description, function, setting):
        if any(name in level.table for name in names):
            return level.where
    return DEFAULT


def _levels(description: Description, function: Function, setting: str) -> Iterator[_Level]:
    """Where *setting* is looked for, the first word first (`streams.functions.stored.merged`)."""
    key = Key(function.provider, function.name)
    entry, table = description.entries.get(key), description.table(key) or {}
    configuration = description.entries.get(key._replace(qualifier=function.qualifier))
    if setting in CONFIGURATION and configuration is not None:
        yield _Level(configuration.settings or {}, _api(configuration))
        return
    is_latest = function.qualifier == description.file.provider(function.provider).latest
    if not is_latest and setting in (*CONFIGURATION, *_TARGET, "runtime_api"):
        if entry is not None and function.qualifier in entry.qualifiers:
            yield _Level(entry.qualifiers[function.qualifier] or {}, _api(entry))
        else:
            yield _Level(table.get("qualifiers", {}).get(function.qualifier, {}), FILE)
    if is_latest or setting not in CONFIGURATION:
        if entry is not None:
            yield _Level(entry.settings or {}, _api(entry))
        yield _Level(table, FILE)


def _api(entry: Entry) -> str:
    return f"API, {time_text(entry.modified_at_ms)}"


# -- how it is shown -------------------------------------------------------------------------------------------------


def _row(function: Function) -> list[str]:
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
