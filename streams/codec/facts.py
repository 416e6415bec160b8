"""The facts of one request in one transaction, to and from Avro `Facts`.

Every request writes such a record, most of them these three facts: accepted, started, succeeded. So this one record has
an encoder by hand, which needs no dicts: it takes half the time of `writing` and a fifth of fastavro's (measured in
`tests/codec/measure.py`), and the tests prove that the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, assert_never

from streams.codec.errors import AvroError
from streams.codec.text import ERROR_MESSAGE_BYTES_MAX, ERROR_TYPE_BYTES_MAX, cut
from streams.codec.writing import long_bytes, offset_bytes, string_bytes
from streams.core.facts import (
    Accepted,
    AttemptFailed,
    AttemptStarted,
    Delivered,
    DeliveryFact,
    DeliveryFailed,
    Fact,
    Failed,
    Happened,
    RetryScheduled,
    Succeeded,
)
from streams.core.model import Outcome


class EncodeFacts(Protocol):
    """Writes a record; *function* is the qualified ARN or URN."""

    def __call__(
        self,
        request_id: str,
        function: str,
        provider: str,
        traceparent: str | None,
        offset: int | None,
        facts: Sequence[Fact],
        deliveries: Sequence[DeliveryFact] = (),
    ) -> bytes: ...


@dataclass(frozen=True, slots=True)
class FactsRecord:
    """An Avro `Facts` record read back."""

    request_id: str
    function: str
    provider: str
    traceparent: str | None
    offset: int | None
    """Where the invocation was read from `invocations`, in the partition of the same number; None: not said here."""
    facts: tuple[Fact, ...]
    deliveries: tuple[DeliveryFact, ...] = ()

    @property
    def happened(self) -> tuple[Happened, ...]:
        """All of it, in order."""
        return (*self.facts, *self.deliveries)


def facts_encoder(prefix: bytes) -> EncodeFacts:
    """The encoder of `Facts` records that begin with *prefix*, the framing of their schema (`Codec.prefix`)."""
    heads = lru_cache(maxsize=1024)(lambda function, provider: string_bytes(function) + string_bytes(provider))

    def encode_facts(
        request_id: str,
        function: str,
        provider: str,
        traceparent: str | None,
        offset: int | None,
        facts: Sequence[Fact],
        deliveries: Sequence[DeliveryFact] = (),
    ) -> bytes:
        raw = request_id.encode()
        parts = [
            prefix,
            long_bytes(len(raw)),
            raw,
            heads(function, provider),
            b"\x00" if traceparent is None else b"\x02" + string_bytes(traceparent),
            b"\x00" if offset is None else b"\x02" + offset_bytes(offset),
        ]
        if facts:
            parts += _facts(facts)
        if deliveries:
            parts += (b"\x00", long_bytes(len(deliveries)))
            for delivery in deliveries:
                parts += _delivery(delivery)
            parts.append(b"\x00")
        else:
            parts.append(b"\x00\x00")  # the ends of both lists
        return b"".join(parts)

    return encode_facts


def facts_datum(
    request_id: str,
    function: str,
    provider: str,
    traceparent: str | None,
    offset: int | None,
    facts: Iterable[Fact],
    deliveries: Iterable[DeliveryFact] = (),
) -> dict[str, Any]:
    """The same record as fastavro and `Codec.decode` spell it."""
    return {
        "request_id": request_id,
        "function": function,
        "provider": provider,
        "traceparent": traceparent,
        "offset": offset,
        "facts": [(f"streams.{type(fact).__name__}", fact_fields(fact)) for fact in facts],
        "deliveries": [
            {"outcome": _delivered(delivery), "error_type": "", "error_message": ""} | fact_fields(delivery)
            for delivery in deliveries
        ],
    }


def read_facts(datum: Mapping[str, Any]) -> FactsRecord:
    """The record that `Codec.decode` made of the bytes. Outcomes come back without payload.

    Raises AvroError for a fact of a kind that this version does not know.
    """
    facts = tuple(_fact(kind, fields) for kind, fields in datum["facts"])
    request_id, function, provider = datum["request_id"], datum["function"], datum["provider"]
    deliveries = tuple(_read_delivery(fields) for fields in datum["deliveries"])
    return FactsRecord(request_id, function, provider, datum["traceparent"], datum["offset"], facts, deliveries)


_word = lru_cache(maxsize=64)(string_bytes)  # the dozen words of our own: kinds and endings


def _facts(facts: Sequence[Fact]) -> Sequence[bytes]:
    """How many they are, and each of them."""
    if len(facts) == 3:
        accepted, started, succeeded = facts
        if type(accepted) is Accepted and type(started) is AttemptStarted and type(succeeded) is Succeeded:
            first_success = _first_success(
                accepted.at_ms,
                accepted.accepted_at_ms,
                accepted.due_at_ms,
                accepted.depth,
                started.attempt,
                started.at_ms,
                succeeded.attempt,
                succeeded.at_ms,
                succeeded.outcome.status_code,
            )
            return (first_success,)
    parts = [long_bytes(len(facts))]
    for fact in facts:
        _append(parts, fact)
    return parts


@lru_cache(maxsize=256)
def _first_success(
    at_ms: int,
    accepted_at_ms: int,
    due_at_ms: int,
    depth: int,
    started_attempt: int,
    started_at_ms: int,
    attempt: int,
    ended_at_ms: int,
    status_code: int,
) -> bytes:
    """As `_append` for accepted, started, succeeded: what nearly every record has, and under load many share."""
    return b"".join(
        (
            b"\x06\x00",
            long_bytes(at_ms),
            long_bytes(accepted_at_ms),
            long_bytes(due_at_ms),
            long_bytes(depth),
            b"\x02",
            long_bytes(started_attempt),
            long_bytes(started_at_ms),
            b"\x08",
            long_bytes(attempt),
            long_bytes(ended_at_ms),
            long_bytes(status_code),
        )
    )


def _append(parts: list[bytes], fact: Fact) -> None:
    """Append the number of *fact*'s branch and its fields, in the order of `schemas/Facts.avsc`."""
    match fact:
        case Accepted():
            at_ms, accepted_at_ms = long_bytes(fact.at_ms), long_bytes(fact.accepted_at_ms)
            parts += (b"\x00", at_ms, accepted_at_ms, long_bytes(fact.due_at_ms), long_bytes(fact.depth))
        case AttemptStarted():
            parts += (b"\x02", long_bytes(fact.attempt), long_bytes(fact.at_ms))
        case AttemptFailed():
            parts += (b"\x04", long_bytes(fact.attempt), long_bytes(fact.at_ms), *_outcome(fact.outcome))
        case RetryScheduled():
            parts += (b"\x06", long_bytes(fact.attempt), long_bytes(fact.at_ms), long_bytes(fact.due_at_ms))
        case Succeeded():
            parts += (b"\x08", long_bytes(fact.attempt), long_bytes(fact.at_ms), long_bytes(fact.outcome.status_code))
        case Failed():
            parts += (b"\x0a", long_bytes(fact.attempt), long_bytes(fact.at_ms), _word(fact.ending))
        case _:
            assert_never(fact)


def _delivery(fact: DeliveryFact) -> tuple[bytes, ...]:
    fields = fact_fields(fact)
    return (
        long_bytes(fact.at_ms),
        string_bytes(fact.address),
        _word(fields["content"]),
        _word(_delivered(fact)),
        string_bytes(fields.get("error_type", "")),
        string_bytes(fields.get("error_message", "")),
    )


def _read_delivery(fields: Mapping[str, Any]) -> DeliveryFact:
    at_ms, address, is_event = fields["at_ms"], fields["address"], fields["content"] == "event"
    if fields["outcome"] == "delivered":
        return Delivered(at_ms, address, is_event)
    return DeliveryFailed(at_ms, address, is_event, fields["error_type"], fields["error_message"])


def _outcome(outcome: Outcome) -> tuple[bytes, ...]:
    error_type = cut(outcome.error_type, ERROR_TYPE_BYTES_MAX)
    error_message = cut(outcome.error_message, ERROR_MESSAGE_BYTES_MAX)
    return _word(outcome.kind), long_bytes(outcome.status_code), string_bytes(error_type), string_bytes(error_message)


def fact_fields(fact: Happened) -> dict[str, Any]:
    """The fields of *fact* by the names of the schema; of an outcome what a fact keeps of it."""
    match fact:
        case Accepted(at_ms, accepted_at_ms, due_at_ms, depth):
            return {"at_ms": at_ms, "accepted_at_ms": accepted_at_ms, "due_at_ms": due_at_ms, "depth": depth}
        case AttemptStarted(attempt, at_ms):
            return {"attempt": attempt, "at_ms": at_ms}
        case AttemptFailed(attempt, at_ms, outcome):
            return {
                "attempt": attempt,
                "at_ms": at_ms,
                "kind": outcome.kind,
                "status_code": outcome.status_code,
                "error_type": cut(outcome.error_type, ERROR_TYPE_BYTES_MAX),
                "error_message": cut(outcome.error_message, ERROR_MESSAGE_BYTES_MAX),
            }
        case RetryScheduled(attempt, at_ms, due_at_ms):
            return {"attempt": attempt, "at_ms": at_ms, "due_at_ms": due_at_ms}
        case Succeeded(attempt, at_ms, outcome):
            return {"attempt": attempt, "at_ms": at_ms, "status_code": outcome.status_code}
        case Failed(attempt, at_ms, ending):
            return {"attempt": attempt, "at_ms": at_ms, "ending": ending}
        case Delivered(at_ms, address, is_event):
            return {"at_ms": at_ms, "address": address, "content": _content(is_event)}
        case DeliveryFailed(at_ms, address, is_event, error_type, error_message):
            return {
                "at_ms": at_ms,
                "address": address,
                "content": _content(is_event),
                "error_type": cut(error_type, ERROR_TYPE_BYTES_MAX),
                "error_message": cut(error_message, ERROR_MESSAGE_BYTES_MAX),
            }
        case _:
            assert_never(fact)


def _delivered(fact: DeliveryFact) -> str:
    return "delivered" if isinstance(fact, Delivered) else "failed"


def _content(is_event: bool) -> str:
    return "event" if is_event else "record"


def _fact(kind: str, fields: Mapping[str, Any]) -> Fact:
    match kind:
        case "streams.Accepted":
            return Accepted(fields["at_ms"], fields["accepted_at_ms"], fields["due_at_ms"], fields["depth"])
        case "streams.AttemptStarted":
            return AttemptStarted(fields["attempt"], fields["at_ms"])
        case "streams.AttemptFailed":
            outcome = Outcome(
                fields["kind"],
                fields["status_code"],
                error_type=fields["error_type"],
                error_message=fields["error_message"],
            )
            return AttemptFailed(fields["attempt"], fields["at_ms"], outcome)
        case "streams.RetryScheduled":
            return RetryScheduled(fields["attempt"], fields["at_ms"], fields["due_at_ms"])
        case "streams.Succeeded":
            return Succeeded(fields["attempt"], fields["at_ms"], Outcome("returned", fields["status_code"]))
        case "streams.Failed":
            return Failed(fields["attempt"], fields["at_ms"], fields["ending"])
        case _:
            raise AvroError(f"Facts of the kind {kind} are not known to this version.")
