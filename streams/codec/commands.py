"""The records on the topic `commands`: what somebody wants done about an invocation that we have.

There is one command: *cancel*. The record's key is the request id. Whoever knows the invocation's partition number
writes it there; whoever does not writes it to every partition, where it means nothing to all but one worker.

| header | meaning |
|---|---|
| `command` | ``cancel`` |
| `function`, `qualifier`, `depth`, `traceparent` | the invocation, as on a retry topic |
| `origin`, `origin-key`, `origin-header-…` | the record with which it arrived, likewise |

All but the first may be missing. With `function` and the event as its value, the record of a waiting invocation can be
written at once. Without them (the value is null) that may have to wait until its retry is due.
"""

from __future__ import annotations

from dataclasses import dataclass

from streams.codec.envelope import (
    DEPTH_MAX,
    FUNCTION_CHARS_MAX,
    QUALIFIER_CHARS_MAX,
    REQUEST_ID_CHARS_MAX,
    InputRecord,
    Invocation,
    read_traceparent,
)
from streams.codec.errors import InputRejected
from streams.codec.retry import Headers, Origin, number_header, origin_headers, read_origin, text_header
from streams.codec.text import checked, decoded


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What a record with the command *cancel* says."""

    request_id: str
    invocation: Invocation | None
    """As far as the sender knows it; the times are 0, they are in the table. None: it knows the id only."""
    origin: Origin


def cancel_headers(invocation: Invocation | None = None, origin: Origin | None = None) -> Headers:
    """The headers of the command to cancel. The record's key is the request id, its value the event if there is one."""
    headers: Headers = [("command", b"cancel")]
    if invocation is not None:
        headers += [("function", invocation.function.encode()), ("depth", b"%d" % invocation.depth)]
        if invocation.qualifier is not None:
            headers.append(("qualifier", invocation.qualifier.encode()))
        if invocation.traceparent is not None:
            headers.append(("traceparent", invocation.traceparent.encode()))
    return headers if origin is None else headers + origin_headers(origin)


def read_command(record: InputRecord) -> Cancellation:
    """What *record* wants done. Raises InputRejected."""
    headers = {name: value for name, value in record.headers if value is not None}
    if headers.get("command") != b"cancel":
        raise InputRejected("UndecodableInput", "The header command is not cancel, the only command there is.")
    if record.key is None:
        raise InputRejected("NullInput", "The command's key is null; it should be the request id.")
    request_id = checked(decoded(record.key, "The command's key"), "The command's key", REQUEST_ID_CHARS_MAX)
    invocation = _invocation(request_id, record.value, headers)
    origin = read_origin(record, headers) if "origin" in headers else Origin.of(record)
    return Cancellation(request_id, invocation, origin)


def _invocation(request_id: str, event: bytes | None, headers: dict[str, bytes]) -> Invocation | None:
    if event is None or "function" not in headers:
        return None
    return Invocation(
        request_id,
        text_header(headers, "function", FUNCTION_CHARS_MAX),
        text_header(headers, "qualifier", QUALIFIER_CHARS_MAX) if "qualifier" in headers else None,
        event,
        0,
        0,
        number_header(headers, "depth", 1, DEPTH_MAX) if "depth" in headers else 1,
        read_traceparent(headers["traceparent"]) if "traceparent" in headers else None,
    )
