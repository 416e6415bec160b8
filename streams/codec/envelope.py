"""What lands on `invocations`, in the four encodings that producers may choose.

- *raw*: a header `function`; the value is the event, byte for byte. Optional headers: `request-id`, `qualifier`,
  `accepted-at` (epoch ms), `delay-ms`, `traceparent`, and `depth`, which only we write.
- *CloudEvents*, binary mode: a header `ce_specversion`; the value is the event. `ce_subject` names the function,
  `ce_id` is the request id, `ce_time` when it was accepted, `ce_traceparent` its trace. Our own headers, if there, win.
- *Avro*: no such header, and the value is an `Invocation` in one of the two framings of `avro`.
- *JSON*: no such header, and the value is ``{"function": …, "payload": …}`` with optional ``id``, ``qualifier`` and
  ``delay_ms``; the event is the text of the payload, byte for byte. This is for tools that cannot write headers.

Header names are ours in lower case; other capitals are understood, at the cost of a slower look. Of several headers of
one name the last wins. `depth` and `traceparent` are read from headers in every encoding.

What identifies an invocation must be right, or the record is rejected; a `traceparent` that is not one is ignored, as
its specification asks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha1
from typing import Any, NamedTuple, Protocol

import orjson

from streams.codec.avro import REGISTRY, SINGLE_OBJECT, Codec
from streams.codec.errors import AvroError, InputRejected, SchemaNeeded
from streams.codec.text import checked, decoded, in_range, number

INPUT_BYTES_MAX = 15 << 20
"""Of a record, not compressed. With what retries and dead letters add it fits the topics that they go to."""
_KEY_BYTES_USUAL = 64 << 10
REQUEST_ID_CHARS_MAX = 256
FUNCTION_CHARS_MAX = 512
"""A name, ARN or URN; the longest documented one has 170 characters."""
QUALIFIER_CHARS_MAX = 256
DELAY_MS_MAX = 7 * 24 * 3_600_000
TIME_MS_MAX = 253_402_300_799_999
"""The last millisecond of the year 9999: later times are mistakes, microseconds for instance."""
DEPTH_MAX = 1_000_000
BRACKETS_MAX = 200_000
"""In search of a payload's end we step over so many brackets (0.1 s), not counting those of the three innermost levels.
"""

NAMESPACE = bytes.fromhex("7d3c0a5ec0a45c3b9a51f0c2d1e6b847")
"""Of the UUIDv5 of ``topic/partition/offset`` that is the request id of an invocation without one. Never change it."""


class InputRecord(Protocol):
    """A Kafka record as aiokafka hands it out."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class Invocation(NamedTuple):
    """One request to run a function. (A named tuple: a frozen dataclass takes a microsecond longer to make.)"""

    request_id: str
    function: str
    """As the producer named it: a name, ARN or URN, maybe with a qualifier in it."""
    qualifier: str | None
    event: bytes
    accepted_at_ms: int
    """When its age began; never in the reader's future."""
    due_at_ms: int
    """No attempt may start before."""
    depth: int
    """Link of a chain function -> destination -> function, from 1."""
    traceparent: str | None


def read_invocation(record: InputRecord, now_ms: int, codec: Codec) -> Invocation:
    """The invocation in *record*. *now_ms* stands in for a missing timestamp and bounds `accepted_at_ms`.

    Raises InputRejected for what is not one, with the reason for the dead letter; SchemaNeeded when it is Avro by a
    schema that must be fetched first.
    """
    value = record.value
    if value is None:
        raise InputRejected("NullInput", "The record's value is null; an event without content is an empty value.")
    headers = dict(record.headers)
    if not _OURS_ONLY.issuperset(headers) or len(headers) < len(record.headers):
        _check_size(record)  # else what is in them is checked one by one
        headers = _known_headers(record.headers)
    elif record.key is not None and len(record.key) > _KEY_BYTES_USUAL:
        _check_size(record)
    if "ce_specversion" in headers:
        _adopt_cloudevent(headers)
    if headers.get("function") is not None:
        return _from_headers(record, value, headers, now_ms)
    _check_size(record)
    return _from_value(record, value, headers, now_ms, codec)


def _check_size(record: InputRecord) -> None:
    """A topic's limit is for what is compressed: a record may be a thousand times as large, and has to fit again."""
    size = len(record.value or b"") + bytes_around(record)
    if size > INPUT_BYTES_MAX:
        fault = f"The record has {size} bytes when it is not compressed; at most {INPUT_BYTES_MAX} are allowed."
        raise InputRejected("OversizedInput", fault)


def bytes_around(record: InputRecord) -> int:
    """The size of all of *record* but its value."""
    return len(record.key or b"") + sum(len(name) + len(value or b"") for name, value in record.headers)


def coordinates_id(topic: str, partition: int, offset: int) -> str:
    """The request id of a record that names none: equal to ``str(uuid5(NAMESPACE, "topic/partition/offset"))``."""
    text = sha1(b"%b%b/%d/%d" % (NAMESPACE, topic.encode(), partition, offset), usedforsecurity=False).hexdigest()
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:32]}"


def request_id_of(record: InputRecord) -> str:
    """What to call *record* when it is no invocation: the request id in its headers, if it is one; `coordinates_id`."""
    for name in ("request-id", "ce_id"):
        for given, value in reversed(record.headers):
            if given == name and value:
                try:
                    return checked(decoded(value, name), name, REQUEST_ID_CHARS_MAX)
                except InputRejected:
                    break
    return coordinates_id(record.topic, record.partition, record.offset)


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

_OURS = ("function", "request-id", "qualifier", "accepted-at", "delay-ms", "depth", "traceparent")
_CLOUDEVENT = {"function": "ce_subject", "request-id": "ce_id", "traceparent": "ce_traceparent"}
_OURS_ONLY = frozenset(_OURS)
_HEADERS = frozenset((*_OURS, *_CLOUDEVENT.values(), "ce_specversion", "ce_time"))

_IDS = rb"-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
# Only a version after 00 may append something.
_TRACEPARENT = re.compile(rb"00%b|(?!00|ff)[0-9a-f]{2}%b(?:-[!-~]{0,255})?" % (_IDS, _IDS))
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:[Zz]|([+-]\d\d:\d\d))", re.ASCII)  # RFC 3339


def _known_headers(headers: Sequence[tuple[str, bytes | None]]) -> dict[str, bytes | None]:
    """The headers that mean something to us, by their names in lower case."""
    return {lower: value for name, value in headers if (lower := name.lower()) in _HEADERS}


def _adopt_cloudevent(headers: dict[str, bytes | None]) -> None:
    """Give *headers* our own names for what the CloudEvents headers say."""
    if headers["ce_specversion"] != b"1.0":
        raise _undecodable("The header ce_specversion is not 1.0, the only version of CloudEvents we read.")
    if headers.get("function") is None and not headers.get("ce_subject"):
        raise _undecodable("The CloudEvent names no function; put its name into ce_subject.")
    for ours, theirs in _CLOUDEVENT.items():
        if headers.get(ours) is None:
            headers[ours] = headers.get(theirs)
    time = headers.get("ce_time")
    if headers.get("accepted-at") is None and time is not None:
        headers["accepted-at"] = b"%d" % _time_ms(decoded(time, "The header ce_time"))


def _time_ms(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise _undecodable("The header ce_time is not a time as in 2026-01-31T12:00:00Z.")
    day, time, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{time}{zone or '+00:00'}")
    except ValueError:
        raise _undecodable("The header ce_time is not a time that exists.") from None
    time_ms = int(moment.timestamp()) * 1000 + int((fraction or "").ljust(3, "0")[:3])
    return in_range(time_ms, "The header ce_time, in epoch milliseconds,", 1, TIME_MS_MAX)


def _from_headers(record: InputRecord, event: bytes, headers: dict[str, bytes | None], now_ms: int) -> Invocation:
    """The invocation that *headers* describe; the caller has seen the header `function`."""
    function = headers["function"]
    request_id = headers.get("request-id")
    qualifier = headers.get("qualifier")
    accepted_at = headers.get("accepted-at")
    delay = headers.get("delay-ms")
    assert function is not None
    return _invocation(
        record,
        decoded(function, "The header function"),
        None if request_id is None else decoded(request_id, "The header request-id"),
        None if qualifier is None else decoded(qualifier, "The header qualifier"),
        event,
        None if accepted_at is None else number(accepted_at, "The header accepted-at (ms)", 1, TIME_MS_MAX),
        0 if delay is None else number(delay, "The header delay-ms", 0, DELAY_MS_MAX),
        headers,
        now_ms,
    )


def _from_value(
    record: InputRecord, value: bytes, headers: dict[str, bytes | None], now_ms: int, codec: Codec
) -> Invocation:
    """The invocation that *value* describes itself."""
    fields = _from_avro(value, codec) if value.startswith((SINGLE_OBJECT, REGISTRY)) else read_envelope(value)
    delay_ms = fields["delay_ms"]
    accepted_at_ms = fields["accepted_at_ms"]
    if fields["traceparent"] is not None:
        headers["traceparent"] = fields["traceparent"].encode()
    return _invocation(
        record,
        fields["function"],
        fields["id"],
        fields["qualifier"],
        fields["event"],
        None if accepted_at_ms is None else in_range(accepted_at_ms, "accepted_at_ms", 1, TIME_MS_MAX),
        0 if delay_ms is None else in_range(delay_ms, "delay_ms", 0, DELAY_MS_MAX),
        headers,
        now_ms,
    )


def _invocation(
    record: InputRecord,
    function: str,
    request_id: str | None,
    qualifier: str | None,
    event: bytes,
    accepted_at_ms: int | None,
    delay_ms: int,
    headers: dict[str, bytes | None],
    now_ms: int,
) -> Invocation:
    if request_id is None:
        request_id = coordinates_id(record.topic, record.partition, record.offset)
    else:
        checked(request_id, "The request id", REQUEST_ID_CHARS_MAX)
    if accepted_at_ms is None:
        accepted_at_ms = record.timestamp if record.timestamp > 0 else now_ms
    if accepted_at_ms > now_ms:
        accepted_at_ms = now_ms
    depth = headers.get("depth")
    traceparent = headers.get("traceparent")
    return Invocation(
        request_id,
        checked(function, "The function's name", FUNCTION_CHARS_MAX),
        None if qualifier is None else checked(qualifier, "The qualifier", QUALIFIER_CHARS_MAX),
        event,
        accepted_at_ms,
        accepted_at_ms + delay_ms,
        1 if depth is None else number(depth, "The header depth", 1, DEPTH_MAX),
        None if traceparent is None else read_traceparent(traceparent),
    )


def read_traceparent(raw: bytes) -> str | None:
    """*raw* if it is a W3C trace context, else None."""
    return raw.decode() if _TRACEPARENT.fullmatch(raw) else None


def _from_avro(value: bytes, codec: Codec) -> dict[str, Any]:
    try:
        name, fields = codec.decode(value)
    except SchemaNeeded:
        raise
    except AvroError as error:
        raise _undecodable(f"The value begins like Avro and is not. {error}") from None
    if name != "Invocation":
        raise _undecodable(f"The value is an Avro {name}; write an Invocation, or add the header function.")
    for field, kind in _FIELDS.items():
        if type(fields[field]) is not kind and (fields[field] is not None or field in _REQUIRED):
            raise _undecodable(  # its writer has another schema
                f"{field} in the Avro Invocation is a {type(fields[field]).__name__}; write it without a logical type."
            )
    return fields


_MEMBERS = {"function": str, "id": str, "qualifier": str, "delay_ms": int}
_FIELDS = _MEMBERS | {"event": bytes, "accepted_at_ms": int, "traceparent": str}
_REQUIRED = {"function", "event"}


def read_envelope(value: bytes) -> dict[str, Any]:
    """The fields of a JSON envelope, spelled as those of Avro `Invocation`. Raises InputRejected."""
    try:
        envelope = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise _undecodable(f"There is no header function, and the value is not a JSON envelope: {error}.") from None
    _check_members(envelope)
    start, end = _payload_span(value, len(envelope))
    fields: dict[str, Any] = {name: envelope.get(name) for name in _MEMBERS}
    return fields | {"event": value[start:end], "accepted_at_ms": None, "traceparent": None}


def _check_members(envelope: Any) -> None:
    if isinstance(envelope, dict) and "specversion" in envelope:
        raise _undecodable("The value is a CloudEvent in structured mode; send it in binary mode, with ce_ headers.")
    if not isinstance(envelope, dict) or envelope.get("function") is None or "payload" not in envelope:
        raise _undecodable('There is no header function, and the value is not {"function": …, "payload": …}.')
    if not envelope.keys() <= {*_MEMBERS, "payload"}:  # a misspelt id or delay must not go unnoticed
        raise _undecodable(f"The JSON envelope may have payload, {', '.join(_MEMBERS)} and nothing else.")
    for name, kind in _MEMBERS.items():
        if envelope.get(name) is not None and type(envelope[name]) is not kind:
            raise _undecodable(f"{name} in the JSON envelope is not a {'string' if kind is str else 'whole number'}.")


# The scanner below looks for the payload in text that orjson has found to be JSON, so it need not check anything. Not
# orjson itself, because it cannot say where a value stands; not the json module's scanner, which can, because it gives
# up on nesting at a depth that depends on who calls it.
_SPACE = rb"[ \t\n\r]*"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NAME = re.compile(rb"%b(%b)%b:%b" % (_SPACE, _STRING, _SPACE, _SPACE), re.DOTALL)
_SCALAR = re.compile(rb"%b|[^ \t\n\r,}]+" % _STRING, re.DOTALL)
_FLAT = rb'[^"\[\]{}]++|%b' % _STRING
_THREE_LEVELS = rb"(?:%b|[\[{](?:%b|[\[{](?:%b|[\[{](?:%b)*+[\]}])*+[\]}])*+[\]}])*+" % (_FLAT, _FLAT, _FLAT, _FLAT)
_TO_BRACKET = re.compile(rb"%b[\[\]{}]" % _THREE_LEVELS, re.DOTALL)  # past whatever nests no deeper than that
_COMMA = re.compile(rb"%b,?" % _SPACE)


def _payload_span(text: bytes, members: int) -> tuple[int, int]:
    """Where in *text*, a JSON object of so many *members*, the value of its member `payload` starts and ends.

    Raises InputRejected when a member is there twice: then the object has fewer.
    """
    span = (0, 0)
    at = text.index(b"{") + 1
    for _ in range(members):
        name = _NAME.match(text, at)
        assert name is not None, "orjson found so many"
        end = _value_end(text, name.end())
        if name[1] == b'"payload"' or (b"\\" in name[1] and orjson.loads(name[1]) == "payload"):
            span = (name.end(), end)
        comma = _COMMA.match(text, end)
        assert comma is not None, "the pattern matches nothing, too"
        at = comma.end()
    if _NAME.match(text, at) is not None:
        raise _undecodable("The JSON envelope has a member twice.")
    return span


def _value_end(text: bytes, at: int) -> int:
    """Where the JSON value that starts at *at* ends."""
    if text[at] not in b"{[":
        scalar = _SCALAR.match(text, at)
        assert scalar is not None, "orjson found a value here"
        return scalar.end()
    at += 1
    depth = 1
    for _ in range(BRACKETS_MAX):
        bracket = _TO_BRACKET.match(text, at)
        assert bracket is not None, "orjson found the brackets balanced"
        at = bracket.end()
        depth += 1 if text[at - 1] in b"{[" else -1
        if not depth:
            return at
    raise _undecodable("The payload nests too much for a JSON envelope; send it as it is, with the header function.")


def _undecodable(message: str) -> InputRejected:
    return InputRejected("UndecodableInput", message)
