"""The records on the retry topics, which only we write: the event as value, all else in headers.

| header | meaning |
|---|---|
| `wake-at` | when to leave this topic, epoch ms; always the first header, so that a tier can look cheaply |
| `request-id`, `function`, `qualifier`, `depth`, `traceparent` | the invocation, as in `envelope` |
| `accepted-at`, `due-at` | when its age began, and when the next attempt is due, epoch ms |
| `attempt` | number of the next attempt, from 1 |
| `executions`, `failures`, `throttles` | the counts of `State` |
| `last` | JSON of the latest outcome, without payload |
| `last-payload` | its payload, unless it had none or a very long one |
| `origin` | ``topic/partition/offset/timestamp`` of the record with which the invocation arrived |
| `origin-key`, `origin-header-…` | its key and headers, for a dead letter |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import orjson

from streams.codec.dead_letter import HEADERS_MAX
from streams.codec.envelope import (
    DEPTH_MAX,
    FUNCTION_CHARS_MAX,
    QUALIFIER_CHARS_MAX,
    REQUEST_ID_CHARS_MAX,
    InputRecord,
    Invocation,
)
from streams.codec.errors import InputRejected
from streams.codec.text import ERROR_MESSAGE_BYTES_MAX, ERROR_TYPE_BYTES_MAX, checked, cut, decoded, number
from streams.core.lifecycle import State
from streams.core.model import Outcome, OutcomeKind

Headers = list[tuple[str, bytes | None]]

LAST_PAYLOAD_BYTES_MAX = 64 * 1024
"""A longer response is not carried from attempt to attempt; if the invocation expires, its record has none."""

RETRY_OVERHEAD_BYTES = 192 * 1024
"""A retry record is at most so much larger than the record on `invocations` was: retry topics must take that much more
(and `dlq` that and `DEAD_LETTER_OVERHEAD_BYTES`, because a retry record may become a dead letter itself).
"""

_NUMBER_MAX = 2**63 - 1
_COUNT_MAX = 2**31 - 1
_PARTITION_MAX = 2**31 - 1
_TOPIC_CHARS_MAX = 249


_ORIGIN_HEADER = "origin-header-"


@dataclass(frozen=True, slots=True)
class Origin:
    """The record with which an invocation arrived, except its value. It is an `InputRecord` once it has one."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes | None = None

    @classmethod
    def of(cls, record: InputRecord) -> Origin:
        """Where *record* is."""
        return cls(record.topic, record.partition, record.offset, record.timestamp, record.key, tuple(record.headers))


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a retry record says."""

    invocation: Invocation
    """`due_at_ms` is when the next attempt is due."""
    state: State
    origin: Origin


def retry_headers(
    invocation: Invocation, state: State, function: str, qualifier: str, wake_at_ms: int, origin: Origin
) -> Headers:
    """The headers of a retry record. *function* and *qualifier* are what to look up at the next attempt.

    The record's value is the event, its key the request id.
    """
    headers: Headers = [
        ("wake-at", b"%d" % wake_at_ms),
        ("request-id", invocation.request_id.encode()),
        ("function", function.encode()),
        ("qualifier", qualifier.encode()),
        ("attempt", b"%d" % state.attempt),
        ("executions", b"%d" % state.executions),
        ("failures", b"%d" % state.failures),
        ("throttles", b"%d" % state.throttles),
        ("accepted-at", b"%d" % state.accepted_at_ms),
        ("due-at", b"%d" % state.due_at_ms),
        ("depth", b"%d" % invocation.depth),
    ]
    if invocation.traceparent is not None:
        headers.append(("traceparent", invocation.traceparent.encode()))
    if state.last is not None:
        headers += _last_headers(state.last)
    return headers + origin_headers(origin)


def woken_later(headers: Sequence[tuple[str, bytes | None]], wake_at_ms: int) -> Headers:
    """The headers of a retry record that goes on to another retry topic."""
    return [("wake-at", b"%d" % wake_at_ms), *(header for header in headers if header[0] != "wake-at")]


def read_retry(record: InputRecord) -> Waiting:
    """The invocation that waits, its state and its origin.

    Raises InputRejected for a record that `retry_headers` did not make.
    """
    if record.value is None:
        raise InputRejected("NullInput", "The retry record's value is null; it should be the event.")
    headers = {name: value for name, value in record.headers if value is not None}
    state = State(
        "waiting",
        number_header(headers, "attempt", 1, _COUNT_MAX),
        number_header(headers, "executions", 0, _COUNT_MAX),
        number_header(headers, "failures", 0, _COUNT_MAX),
        number_header(headers, "throttles", 0, _COUNT_MAX),
        number_header(headers, "accepted-at", 0, _NUMBER_MAX),
        number_header(headers, "due-at", 0, _NUMBER_MAX),
        _last(headers),
    )
    invocation = Invocation(
        text_header(headers, "request-id", REQUEST_ID_CHARS_MAX),
        text_header(headers, "function", FUNCTION_CHARS_MAX),
        text_header(headers, "qualifier", QUALIFIER_CHARS_MAX) if "qualifier" in headers else None,
        record.value,
        state.accepted_at_ms,
        state.due_at_ms,
        number_header(headers, "depth", 1, DEPTH_MAX),
        decoded(headers["traceparent"], "The header traceparent") if "traceparent" in headers else None,
    )
    return Waiting(invocation, state, read_origin(record, headers))


def wake_at_ms(headers: Sequence[tuple[str, bytes | None]]) -> int:
    """When to leave the retry topic, epoch ms. Raises InputRejected when the headers do not say."""
    for name, value in headers:
        if name == "wake-at" and value is not None:
            return number(value, "The header wake-at", 0, _NUMBER_MAX)
    raise InputRejected("UndecodableInput", "The retry record has no header wake-at; only Streams writes such records.")


def _last_headers(last: Outcome) -> Headers:
    fields = {
        "kind": last.kind,
        "status_code": last.status_code,
        "error_type": cut(last.error_type, ERROR_TYPE_BYTES_MAX),
        "error_message": cut(last.error_message, ERROR_MESSAGE_BYTES_MAX),
        "handled": last.handled,
        "is_json": last.is_json,
    }
    headers: Headers = [("last", orjson.dumps(fields))]
    if last.payload is not None and len(last.payload) <= LAST_PAYLOAD_BYTES_MAX:
        headers.append(("last-payload", last.payload))
    return headers


def origin_headers(origin: Origin) -> Headers:
    """The headers that say where an invocation came from."""
    coordinates = f"{origin.topic}/{origin.partition}/{origin.offset}/{origin.timestamp}"
    headers: Headers = [("origin", coordinates.encode())]
    if origin.key is not None:
        headers.append(("origin-key", origin.key))
    return headers + [(_ORIGIN_HEADER + name, value) for name, value in origin.headers[:HEADERS_MAX]]


def read_origin(record: InputRecord, headers: dict[str, bytes]) -> Origin:
    """What `origin_headers` wrote, from the *headers* of *record*. Raises InputRejected."""
    match decoded(header(headers, "origin"), "The header origin").split("/"):
        case [topic, partition, offset, timestamp] if (
            len(topic) <= _TOPIC_CHARS_MAX and _is_number(partition, _PARTITION_MAX) and _is_number(offset, _NUMBER_MAX)
        ):
            given = tuple(
                (name.removeprefix(_ORIGIN_HEADER), value)
                for name, value in record.headers
                if name.startswith(_ORIGIN_HEADER)
            )
            at_ms = int(timestamp) if _is_number(timestamp, _NUMBER_MAX) else -1
            return Origin(topic, int(partition), int(offset), at_ms, headers.get("origin-key"), given)
    raise InputRejected("UndecodableInput", "The header origin is not topic/partition/offset/timestamp.")


def _is_number(text: str, most: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most


_LAST_FIELDS = {
    "kind": str,
    "status_code": int,
    "error_type": str,
    "error_message": str,
    "handled": bool,
    "is_json": bool,
}
_KINDS = frozenset(get_args(OutcomeKind))


def _last(headers: dict[str, bytes]) -> Outcome | None:
    if "last" not in headers:
        return None
    try:
        fields: Any = orjson.loads(headers["last"])
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict) or {name: type(value) for name, value in fields.items()} != _LAST_FIELDS:
        raise InputRejected("UndecodableInput", "The header last is not an outcome.")
    if fields["kind"] not in _KINDS:
        raise InputRejected("UndecodableInput", "The header last is an outcome of an unknown kind.")
    return replace(Outcome(**fields), payload=headers.get("last-payload"))


def number_header(headers: dict[str, bytes], name: str, least: int, most: int) -> int:
    """A number. Raises InputRejected."""
    return number(header(headers, name), f"The header {name}", least, most)


def text_header(headers: dict[str, bytes], name: str, chars_max: int) -> str:
    """A word. Raises InputRejected."""
    return checked(decoded(header(headers, name), f"The header {name}"), f"The header {name}", chars_max)


def header(headers: dict[str, bytes], name: str) -> bytes:
    if name in headers:
        return headers[name]
    raise InputRejected("UndecodableInput", f"The record has no header {name}; only Streams writes such records.")
