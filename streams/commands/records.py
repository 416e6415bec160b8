"""`streams records`: what is on the topics of records, dead letters and facts, as JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

import click
from aiokafka import TopicPartition

from streams.codec.errors import AvroError
from streams.commands.base import existing_topics, pass_settings, run, terminated_like_interrupted, time_text
from streams.commands.documents import (
    Documents,
    concerns,
    condition,
    is_about,
    may_concern,
    one_line,
    pretty,
    providers,
    request_id,
    resource,
)
from streams.commands.reading import Decoder, Offsets, Reader, Record, partitions_of
from streams.settings import Settings
from streams.topics import Topics

LOOK_BACK_FACTOR = 8
"""When the end of a partition has too few records, so many times as much of it is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which records to show."""

    function: str | None
    request_id: str | None

    def may_match(self, record: Record) -> bool:
        """A look before *record* is decoded."""
        if record.value is None:
            return False
        return self.request_id is None or may_concern(self.request_id, record.key, record.value)

    def matches(self, schema: str, datum: Mapping[str, Any]) -> bool:
        if self.request_id is not None and not concerns(self.request_id, schema, datum):
            return False
        return self.function is None or is_about(self.function, resource(schema, datum))


@click.command()
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "--topic",
    "names",
    multiple=True,
    metavar="T",
    help="Read this topic, with or without the prefix: aws.success, fc.failure, dlq, facts …; may be repeated.  "
    "[default: all records, and dlq]",
)
@click.option("--from-beginning", is_flag=True, help="Show everything that is still there (the default).")
@click.option(
    "--last", type=click.IntRange(0), metavar="N", help="Show only the latest N; with --follow, before what comes."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line, and nothing else.")
@click.option("--function", metavar="F", help="Only records of this function: its name, or its ARN or URN.")
@click.option("--id", "request_id", metavar="ID", help="Only records of this request.")
@pass_settings
def records(
    settings: Settings,
    follow: bool,
    names: tuple[str, ...],
    from_beginning: bool,
    last: int | None,
    as_json: bool,
    function: str | None,
    request_id: str | None,
) -> None:
    """Show records, dead letters and facts.

    A record is the JSON document that its cloud would send to a destination, byte for byte (with --json, line breaks
    between its tokens become blanks). A dead letter has the original record as `payload`, or `payload_base64` where it
    is not text. Only what is committed is shown; the order is that of each partition, with --last that of time.

    \b
    Examples:
      streams records --last 10
      streams records --follow --last 0 --json | jq -r .requestContext.condition
      streams records --topic dlq --function resize
      streams records --topic facts --id 9c1c7b0a-…
    """
    if from_beginning and last is not None:
        raise click.UsageError("--from-beginning and --last exclude each other.")
    topics = _chosen(settings.topics, names)
    wanted = Wanted(function=function, request_id=request_id)
    documents = Documents(providers(settings))
    try:
        with terminated_like_interrupted():
            run(_show(settings, topics, wanted, documents, last=last, follow=follow, as_json=as_json))
    except KeyboardInterrupt:
        if not follow:
            raise


def _chosen(ours: Topics, names: Iterable[str]) -> tuple[str, ...]:
    """Full names of the topics to read."""
    known = (*ours.records, ours.dlq, ours.facts)
    chosen = {name: name if name in known else ours.name(name) for name in names}
    for name, topic in chosen.items():
        if topic not in known:
            raise click.UsageError(f"--topic {name}: the topics that can be read are {', '.join(known)}.")
    return tuple(chosen.values()) or (*ours.records, ours.dlq)


async def _show(
    settings: Settings,
    topics: tuple[str, ...],
    wanted: Wanted,
    documents: Documents,
    *,
    last: int | None,
    follow: bool,
    as_json: bool,
) -> None:
    existing = await existing_topics(settings, topics)
    async with Reader(settings, partitions_of(topics, existing)) as reader, Decoder(settings) as decoder:
        printer = _Printer(wanted, documents, decoder, as_json)
        first, end = await reader.bounds()
        if last is None:
            async for batch in reader.range(first, end):
                await printer.print(batch)
        else:
            await printer.print(await _latest(reader, first, end, last, printer))
        if follow:
            async for batch in reader.follow(end):
                await printer.print(batch)


async def _latest(reader: Reader, first: Offsets, end: Offsets, count: int, printer: _Printer) -> list[Record]:
    """The latest *count* wanted records, oldest first.

    How far back they reach is not known: offsets are also used up by transaction markers, and by records of others.
    """
    found: dict[TopicPartition, list[Record]] = {
        partition: [] for partition in end if end[partition] > first[partition]
    }
    left = set(found) if count else set()
    back = 2 * count
    while left:
        start = {partition: max(first[partition], end[partition] - back) for partition in left}
        for partition in left:
            found[partition].clear()
        async for batch in reader.range(start, {partition: end[partition] for partition in left}):
            for record in batch:
                if await printer.wants(record):
                    found[TopicPartition(record.topic, record.partition)].append(record)
        left = {
            partition for partition in left if len(found[partition]) < count and start[partition] > first[partition]
        }
        back *= LOOK_BACK_FACTOR
    candidates = (record for records in found.values() for record in records[-count:])
    return nlargest(count, candidates, key=lambda record: (record.timestamp, record.topic, record.offset))[::-1]


class _Printer:
    """Prints the wanted ones of the records it gets."""

    def __init__(self, wanted: Wanted, documents: Documents, decoder: Decoder, as_json: bool) -> None:
        self._wanted = wanted
        self._documents = documents
        self._decoder = decoder
        self._as_json = as_json

    async def wants(self, record: Record) -> bool:
        """Whether it would print *record*."""
        return [_ async for _ in self._decoded([record])] != []

    async def print(self, records: Iterable[Record]) -> None:
        async for record, schema, datum in self._decoded(records):
            document = self._documents.write(schema, datum)
            if self._as_json:
                click.echo(one_line(document))
            else:
                at = f"partition {record.partition}, offset {record.offset}"
                head = f"{record.topic}  {time_text(record.timestamp)}  {request_id(schema, datum)}"
                how = condition(schema, datum) or record.topic.rpartition(".")[2]  # FC and FunctionGraph: "" is success
                click.echo(f"{click.style(head, bold=True)}  {how}  ({at})\n{pretty(document)}\n")

    async def _decoded(self, records: Iterable[Record]) -> AsyncIterator[tuple[Record, str, dict[str, Any]]]:
        for record in records:
            if not self._wanted.may_match(record):
                continue
            try:
                schema, datum = await self._decoder.decode(record.value or b"")
            except AvroError as error:
                click.echo(f"{record.topic}, partition {record.partition}, offset {record.offset}: {error}", err=True)
                continue
            if self._wanted.matches(schema, datum):
                yield record, schema, datum
