"""`streams topics`: make the topics, and see whether they fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from streams import cluster
from streams.cluster import Topic
from streams.commands.base import columns, connected, pass_settings, run
from streams.commands.reading import Reader, partitions_of
from streams.errors import ConfigurationError
from streams.functions import load_functions
from streams.settings import Settings


@click.group()
def topics() -> None:
    """Make and inspect the topics that workers need.

    Kafka does not make them by itself: retry topics, state and invocations must have the same number of partitions,
    and each has its own retention.
    """


@topics.command()
@click.option("--partitions", type=click.IntRange(1, 10_000), help="Partitions of each topic.  [default: 8]")
@click.option("--replication", type=click.IntRange(1, 100), help="Replication factor.  [default: 1]")
@pass_settings
def create(settings: Settings, partitions: int | None, replication: int | None) -> None:
    """Make the topics that are missing.

    What exists is left alone, so this can be run at every deployment. If some topics exist, the new ones get their
    number of partitions. Topics that the functions file names as destinations (kafka://…) are made, too. Defaults can
    be set with STREAMS_PARTITIONS and STREAMS_REPLICATION.

    \b
    Examples:
      streams topics create
      streams --prefix staging. topics create --partitions 32 --replication 3
    """
    given: dict[str, Any] = {"partitions": partitions, "replication": replication}
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    destinations = load_functions(settings.functions_file()).kafka_topics()
    made, existing = run(_create(settings, destinations))
    if made:
        counts = sorted({existing[name].partitions for name in made if name != settings.topics.functions} or {1})
        what = "1 topic" if len(made) == 1 else f"{len(made)} topics"
        click.echo(f"Made {what} with {' or '.join(map(str, counts))} partitions.")
    else:
        click.echo("All topics exist already.")
    _refuse_fault(settings, existing, destinations)


@topics.command("list")
@pass_settings
def list_topics(settings: Settings) -> None:
    """List the topics with their partitions, records and lag.

    Records are counted by offsets, so transaction markers and compacted records are included. Lag is what workers have
    yet to finish. Exit code 2 means that workers cannot run on these topics, and the message says why.
    """
    destinations = load_functions(settings.functions_file()).kafka_topics()
    rows, existing = run(_rows(settings, destinations))
    if rows:
        click.echo(columns([["topic", "partitions", "records", "lag"], *rows]))
    _refuse_fault(settings, existing, destinations)


def _refuse_fault(settings: Settings, existing: dict[str, Topic], destinations: frozenset[str]) -> None:
    fault = cluster.fault(settings.topics, existing, destinations)
    if fault is not None:
        raise ConfigurationError(fault)


async def _create(settings: Settings, destinations: frozenset[str]) -> tuple[list[str], dict[str, Topic]]:
    async with connected(settings) as admin:
        made = await admin.create(settings.topics, destinations)
        return made, await admin.topics()


async def _rows(settings: Settings, destinations: frozenset[str]) -> tuple[list[list[str]], dict[str, Topic]]:
    """A row of text for each topic of ours that exists."""
    async with connected(settings) as admin:
        existing = await admin.topics()
        committed = await admin.committed_offsets(settings.topics.app_id)
    names = [name for name in (*settings.topics.all, *sorted(destinations)) if name in existing]
    if not names:
        return [], existing
    async with Reader(settings, partitions_of(names, existing)) as reader:
        first, end = await reader.bounds()
    sources = settings.topics.sources
    rows = []
    for name in names:
        partitions = partitions_of([name], existing)
        records = sum(end[partition] - first[partition] for partition in partitions)
        lag = sum(end[partition] - max(first[partition], committed.get(partition, 0)) for partition in partitions)
        rows.append([name, str(len(partitions)), str(records), str(max(0, lag)) if name in sources else ""])
    return rows, existing
