"""`streams show`: the life of one request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, assert_never

import click

from streams.codec.facts import FactsRecord, read_facts
from streams.commands.base import existing_topics, pass_settings, progress, run, time_text
from streams.commands.documents import Documents, concerns, may_concern, pretty, providers
from streams.commands.reading import Decoder, Reader, Record, partitions_of
from streams.console.payloads import Payloads
from streams.console.store import InvocationStatus, ReadModel, RecordPlace
from streams.core.facts import (
    Accepted,
    AttemptFailed,
    AttemptStarted,
    Delivered,
    DeliveryFailed,
    Failed,
    Happened,
    RetryScheduled,
    Succeeded,
)
from streams.errors import ReadModelError, StreamsError
from streams.settings import Settings

Found = tuple[Record | RecordPlace, str, dict[str, Any]]
"""A record that is about the request or its place, its schema and its content."""


@click.command()
@click.argument("request_id", metavar="ID")
@pass_settings
def show(settings: Settings, request_id: str) -> None:
    """Show everything that happened to request ID.

    Its state, a timeline of its facts, and its record or dead letter. Facts are kept for a week by default and have no
    index: all that are there are read, some ten thousand a second.

    \b
    Example:
      streams show 9c1c7b0a-5b1e-4a57-a4a3-0a3b5a1b2c3d
    """
    known = _known(settings, request_id)
    if known is not None:
        click.echo(f"Found in the read model {known.where}.", err=True)
    found = run(_find(settings, request_id, known))
    facts = [*(known.facts if known else ()), *(read_facts(datum) for _, schema, datum in found if schema == "Facts")]
    if not facts and not found:
        raise StreamsError(
            f"nothing is known of request {request_id}. Either no worker has accepted it yet (is one running, and does "
            f"`streams topics list` show a lag?), or its facts are older than the topic {settings.topics.facts} keeps "
            "them, or the id is of another cluster or prefix"
        )
    if facts:
        click.echo("\n".join(_life(request_id, facts)))
    documents = Documents(providers(settings))
    for place, schema, datum in found:
        if schema != "Facts":
            where = f"{place.topic}, partition {place.partition}, offset {place.offset}"
            click.echo(f"\n{click.style(where, bold=True)}\n{pretty(documents.write(schema, datum))}")


@dataclass(frozen=True, slots=True)
class _Known:
    """What the read model has of a request."""

    where: str
    facts: list[FactsRecord]
    records: list[RecordPlace]
    positions: dict[tuple[str, int], int]
    """Up to where it had read Kafka by (topic, partition), before it was asked for the rest."""
    last: dict[int, int]
    """Offset of the latest of *facts* by partition."""

    def has(self, record: Record, facts_topic: str) -> bool:
        """Whether *record* is in here already: the read model may have come further meanwhile."""
        if record.topic == facts_topic:
            return record.offset <= self.last.get(record.partition, -1)
        return RecordPlace(record.topic, record.partition, record.offset) in self.records


def _known(settings: Settings, request_id: str) -> _Known | None:
    """What the read model has of the request; None when it has nothing, or there is none."""
    with closing(ReadModel(settings.read_model_url())) as store:
        try:
            if not store.exists():
                return None
            positions = store.positions()
            statuses = store.find(request_id)[::-1]
            facts = [_facts_of(status, store.events(status)) for status in statuses]
            records = [place for place in store.records(statuses) if place is not None]
        except ReadModelError as error:
            click.echo(f"{error}; looking through Kafka instead", err=True)
            return None
    last = {status.partition: status.last_offset for status in statuses}
    return _Known(store.where, facts, records, positions, last) if facts else None


def _facts_of(status: InvocationStatus, happened: Sequence[Happened]) -> FactsRecord:
    facts = tuple(fact for fact in happened if not isinstance(fact, Delivered | DeliveryFailed))
    deliveries = tuple(fact for fact in happened if isinstance(fact, Delivered | DeliveryFailed))
    offset, traceparent = status.offset, status.traceparent
    return FactsRecord(status.request_id, status.resource, status.provider, traceparent, offset, facts, deliveries)


async def _find(settings: Settings, wanted: str, known: _Known | None) -> list[Found]:
    """What Kafka has of the request besides what is *known*, facts first and in order."""
    ours = settings.topics
    topics = (ours.facts, *ours.records, ours.dlq)
    existing = await existing_topics(settings, topics)
    positions = known.positions if known else {}
    found: list[Found] = []
    if known and known.records:
        async with Payloads(settings) as payloads:
            for place in known.records:
                if (content := await payloads.record(wanted, place)) is not None:
                    found.append((place, *content))
    async with Reader(settings, partitions_of(topics, existing)) as reader, Decoder(settings) as decoder:
        first, end = await reader.bounds()
        start = {
            partition: min(max(offset, positions.get((partition.topic, partition.partition), 0)), end[partition])
            for partition, offset in first.items()
        }
        shown = 0
        with progress("Looking", sum(end[partition] - start[partition] for partition in end)) as bar:
            async for batch in reader.range(start, end):
                new = [record for record in batch if not (known and known.has(record, ours.facts))]
                found += [entry for record in new if (entry := await _read(decoder, record, wanted))]
                bar.update(reader.passed - shown)
                shown = reader.passed
    return sorted(
        found, key=lambda entry: (entry[0].topic != ours.facts, entry[0].topic, entry[0].partition, entry[0].offset)
    )


async def _read(decoder: Decoder, record: Record, wanted: str) -> Found | None:
    """*record* if it is about the request."""
    if record.value is None or not may_concern(wanted, record.key, record.value):
        return None
    schema, datum = await decoder.decode(record.value)
    return (record, schema, datum) if concerns(wanted, schema, datum) else None


def _life(request_id: str, records: list[FactsRecord]) -> Iterable[str]:
    """State and timeline."""
    facts = [fact for record in records for fact in record.happened]
    yield f"{click.style(request_id, bold=True)}  {records[-1].function}"
    yield f"{_state(facts)}\n"
    begin_ms = facts[0].accepted_at_ms if isinstance(facts[0], Accepted) else facts[0].at_ms
    for fact in facts:
        yield f"{time_text(fact.at_ms)}  {_after(fact.at_ms - begin_ms):>10}  {_told(fact, begin_ms)}"


def _state(facts: Sequence[Happened]) -> str:
    """Where the request stands, in a sentence."""
    life = [fact for fact in facts if not isinstance(fact, Delivered | DeliveryFailed)]
    if not life:
        return "ended; older facts are not kept any more"
    last, failures = life[-1], [fact for fact in facts if isinstance(fact, AttemptFailed)]
    throttled = sum(fact.outcome.kind in ("throttled", "system_error") for fact in failures)
    so_far = f"{len(failures) - throttled} failed and {throttled} throttled attempts"
    match last:
        case Succeeded():
            return f"succeeded at attempt {last.attempt}, after {so_far}"
        case Failed():
            return f"failed ({last.ending}) after {so_far}"
        case RetryScheduled():
            return f"waiting for attempt {last.attempt}, due {time_text(last.due_at_ms)}, after {so_far}"
        case Accepted() | AttemptStarted() | AttemptFailed():
            return f"running, after {so_far}"
        case _:
            assert_never(last)


def _told(fact: Happened, begin_ms: int) -> str:
    """*fact* in words."""
    match fact:
        case Accepted():
            link = f", link {fact.depth} of a chain" if fact.depth > 1 else ""
            return f"accepted{link}"
        case AttemptStarted():
            return f"attempt {fact.attempt} started"
        case AttemptFailed():
            outcome = fact.outcome
            error = ": ".join(text for text in (outcome.error_type, outcome.error_message) if text)
            return f"attempt {fact.attempt} failed: {outcome.kind} {outcome.status_code} {error}".rstrip()
        case RetryScheduled():
            return f"attempt {fact.attempt} scheduled for {_after(fact.due_at_ms - begin_ms)}"
        case Succeeded():
            return f"succeeded with status {fact.outcome.status_code}"
        case Failed():
            return f"failed: {fact.ending}"
        case Delivered():
            return f"{'event' if fact.is_event else 'record'} delivered to {fact.address}"
        case DeliveryFailed():
            error = ": ".join(text for text in (fact.error_type, fact.error_message) if text)
            return f"{'event' if fact.is_event else 'record'} not delivered to {fact.address}: {error}"
        case _:
            assert_never(fact)


def _after(ms: int) -> str:
    """Time since the beginning: ``+17 ms``, ``+1.204 s``, ``+2 h 3 min``."""
    if ms < 1000:
        return f"{ms:+d} ms"
    if ms < 60_000:
        return f"{ms / 1000:+.3f} s"
    minutes, rest_ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"+{hours} h {minutes} min" if hours else f"+{minutes} min {rest_ms // 1000} s"
