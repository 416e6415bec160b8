"""From the facts of a request to the row that says where its invocation stands. Pure.

An invocation is identified by where its first facts are: partition and offset on `facts`. Its request id is not enough:
the same id may be sent to two partitions, or again to one after it was forgotten, and each time is an invocation.

Reading the log again changes nothing: a row knows the offset of the latest facts that made it, and passes over all up
to there. All facts of an invocation are in one partition, so they arrive in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias, assert_never

from streams.codec.facts import FactsRecord
from streams.core.facts import (
    Accepted,
    AttemptFailed,
    AttemptStarted,
    Delivered,
    DeliveryFailed,
    Failed,
    RetryScheduled,
    Succeeded,
)
from streams.core.model import Ending, OutcomeKind
from streams.providers import PROVIDERS

Status: TypeAlias = Literal["waiting", "running", "retrying", "succeeded", "failed"]
"""Where an invocation stands.

- *waiting*: accepted; no attempt has been made.
- *running*: an attempt is under way.
- *retrying*: the latest attempt failed, or was throttled; the next one waits.
- *succeeded*, *failed*: over.
"""


@dataclass(frozen=True, slots=True)
class InvocationStatus:
    """What is known of one invocation, and where."""

    partition: int
    """Of `facts` and of `invocations`: the same number."""
    first_offset: int
    """On `facts`, of the first facts; with *partition* the invocation's identity."""
    last_offset: int
    """On `facts`, of the latest facts in here."""
    offset: int | None
    """On `invocations`, of the record with the event; None: facts that old did not say."""
    request_id: str
    provider: str
    resource: str
    """The qualified ARN or URN, as records show it."""
    function: str
    """The function's name."""
    qualifier: str
    """As requested; the provider's word for the newest version when none was."""
    traceparent: str | None
    depth: int
    """Link of a chain function -> destination -> function, from 1."""
    status: Status
    ending: Ending | None
    """Why it is over; None while it is not."""
    attempts: int
    """Attempts that began, throttled ones included."""
    accepted_at_ms: int
    """When its age began."""
    due_at_ms: int | None
    """When the next attempt is due; None: no attempt waits."""
    started_at_ms: int | None
    """When the first attempt began; None: none did."""
    ended_at_ms: int | None
    """None while it is not over."""
    changed_at_ms: int
    """When the latest fact happened."""
    outcome_kind: OutcomeKind | None
    """How the latest attempt that ended did; None: none has."""
    status_code: int | None
    """Of that attempt, as the provider would give it."""
    error_type: str
    """Of that attempt; empty when it returned."""
    error_message: str
    destination: Literal["delivered", "failed"] | None = None
    """What became of its record at the service that its function's configuration names; None: nothing yet, or the
    destination is none outside Kafka."""

    @property
    def order_ms(self) -> int:
        """What lists are ordered by: when it first started, or was accepted if it never did."""
        return self.accepted_at_ms if self.started_at_ms is None else self.started_at_ms


Key: TypeAlias = tuple[int, str]
"""Partition and request id."""


@dataclass(frozen=True, slots=True)
class Located:
    """Facts, and where they are on `facts`."""

    partition: int
    offset: int
    record: FactsRecord


@dataclass(frozen=True, slots=True)
class Event:
    """Facts that belong to the invocation whose first facts are at *first_offset*."""

    first_offset: int
    located: Located


def earlier(batch: Iterable[Located]) -> set[Key]:
    """Whose row must be known before *batch* can be projected: those that *batch* does not begin with."""
    begun: set[Key] = set()
    wanted: set[Key] = set()
    for located in batch:
        key = located.partition, located.record.request_id
        if begins(located.record):
            begun.add(key)
        elif key not in begun:
            wanted.add(key)
    return wanted


def project(
    known: Mapping[Key, InvocationStatus], batch: Iterable[Located]
) -> tuple[list[InvocationStatus], list[Event]]:
    """The rows that *batch* changes, as they are after it, and its facts with the invocation they belong to.

    *known* has the latest row of every key of `earlier`, if there is one.
    """
    current = dict(known)
    changed: dict[tuple[int, int], InvocationStatus] = {}
    events = []
    for located in batch:
        key = located.partition, located.record.request_id
        before = current.get(key)
        after = advance(before, located)
        if after is not None and after is not before:
            current[key] = changed[after.partition, after.first_offset] = after
            events.append(Event(after.first_offset, located))
    return list(changed.values()), events


def begins(record: FactsRecord) -> bool:
    """Whether *record* is the beginning of an invocation."""
    return bool(record.facts) and isinstance(record.facts[0], Accepted)


def advance(before: InvocationStatus | None, located: Located) -> InvocationStatus | None:
    """The row after the facts at *located*; *before* itself when they are old news or say nothing.

    The beginning of an invocation makes a row of its own, whatever was known of the id. So do facts of which the
    beginning is not known, because the log does not reach back so far.
    """
    partition, offset, record = located.partition, located.offset, located.record
    happened = record.happened
    if not happened or (before is not None and offset <= before.last_offset):
        return before
    if before is None or begins(record):
        before = _new(partition, offset, record)
    status, ending, attempts, depth = before.status, before.ending, before.attempts, before.depth
    accepted_at_ms, due_at_ms, started_at_ms = before.accepted_at_ms, before.due_at_ms, before.started_at_ms
    ended_at_ms = before.ended_at_ms
    kind, status_code = before.outcome_kind, before.status_code
    error_type, error_message = before.error_type, before.error_message
    destination = before.destination
    for fact in happened:
        match fact:
            case Accepted():
                accepted_at_ms, due_at_ms, depth = fact.accepted_at_ms, fact.due_at_ms, fact.depth
            case AttemptStarted():
                status, attempts, due_at_ms = "running", fact.attempt, None
                started_at_ms = fact.at_ms if started_at_ms is None else started_at_ms
            case AttemptFailed():
                status, attempts, due_at_ms = "retrying", fact.attempt, None
                kind, status_code = fact.outcome.kind, fact.outcome.status_code
                error_type, error_message = _clean(fact.outcome.error_type), _clean(fact.outcome.error_message)
            case RetryScheduled():
                status, due_at_ms = "retrying" if attempts else "waiting", fact.due_at_ms
            case Succeeded():
                status, ending, attempts, due_at_ms, ended_at_ms = (
                    "succeeded",
                    "succeeded",
                    fact.attempt,
                    None,
                    fact.at_ms,
                )
                kind, status_code, error_type, error_message = "returned", fact.outcome.status_code, "", ""
            case Failed():
                status, ending, attempts, due_at_ms, ended_at_ms = "failed", fact.ending, fact.attempt, None, fact.at_ms
            case Delivered():
                destination = destination if fact.is_event else "delivered"
            case DeliveryFailed():
                destination = destination if fact.is_event else "failed"
            case _:
                assert_never(fact)
    return InvocationStatus(
        partition,
        before.first_offset,
        offset,
        before.offset,
        before.request_id,
        before.provider,
        before.resource,
        before.function,
        before.qualifier,
        before.traceparent,
        depth,
        status,
        ending,
        attempts,
        accepted_at_ms,
        due_at_ms,
        started_at_ms,
        ended_at_ms,
        happened[-1].at_ms,
        kind,
        status_code,
        error_type,
        error_message,
        destination,
    )


def _new(partition: int, offset: int, record: FactsRecord) -> InvocationStatus:
    """A row without any facts yet."""
    function, qualifier = _names(record.provider, record.function)
    traceparent = None if record.traceparent is None else _clean(record.traceparent)
    at_ms = record.happened[0].at_ms
    return InvocationStatus(
        partition,
        offset,
        -1,
        record.offset,
        record.request_id,
        record.provider,
        record.function,
        function,
        qualifier,
        traceparent,
        1,
        "waiting",
        None,
        0,
        at_ms,
        None,
        None,
        None,
        at_ms,
        None,
        None,
        "",
        "",
    )


@lru_cache(maxsize=4096)
def _names(provider: str, resource: str) -> tuple[str, str]:
    """The function's name and the qualifier in *resource*; all of it and nothing if that cannot be read."""
    known = PROVIDERS.get(provider)
    reference = known.parse_resource(resource) if known is not None else None
    if known is None or reference is None:
        return resource, ""
    return reference.name, reference.qualifier or known.latest


def _clean(text: str) -> str:
    """*text* without NUL, which PostgreSQL does not store."""
    return text.replace("\0", "\ufffd") if "\0" in text else text
