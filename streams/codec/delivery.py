"""The records on the topic `deliveries`, which only we write: what is to go to a service outside Kafka.

One that has to wait for its next try waits on a retry topic, as invocations do. The value is the body to send, the key
the request id, all else is in headers:

| header | meaning |
|---|---|
| `wake-at` | when to leave a retry topic, epoch ms; always the first header, so that a tier can look cheaply |
| `destination` | the service, by its provider's address; always the second: known from a retry by it |
| `request-id`, `provider`, `function` | the invocation; *function* is its qualified ARN or URN |
| `content` | ``record``, or ``event`` for a dead-letter queue |
| `outcome` | ``success`` or ``failure`` |
| `ended-at` | when the invocation ended, epoch ms |
| `accepted-at`, `attempts`, `executions` | when its age began, attempts made and those that ran, for a dead letter |
| `error-code`, `error-message` | why, with an event |
| `traceparent` | as in `envelope` |
| `failures`, `tried-at` | tries so far, and when the first was (0: not yet) |
| `waits`, `due-at` | how often there was no room for it, when it is to be tried next |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streams.codec.envelope import FUNCTION_CHARS_MAX, REQUEST_ID_CHARS_MAX, InputRecord, read_traceparent
from streams.codec.errors import InputRejected
from streams.codec.retry import Headers, header, number_header, text_header
from streams.codec.text import decoded
from streams.core.model import Delivery

_DESTINATION = "destination"
_NUMBER_MAX = 2**63 - 1
_COUNT_MAX = 2**31 - 1
_PROVIDER_CHARS_MAX = 64


def delivery_headers(delivery: Delivery, wake_at_ms: int) -> Headers:
    """The headers of a delivery record; its value is the body, its key the request id."""
    headers: Headers = [
        ("wake-at", b"%d" % wake_at_ms),
        (_DESTINATION, delivery.address.encode()),
        ("request-id", delivery.request_id.encode()),
        ("provider", delivery.provider.encode()),
        ("function", delivery.resource.encode()),
        ("content", b"event" if delivery.is_event else b"record"),
        ("outcome", b"success" if delivery.succeeded else b"failure"),
        ("ended-at", b"%d" % delivery.ended_at_ms),
        ("accepted-at", b"%d" % delivery.accepted_at_ms),
        ("attempts", b"%d" % delivery.attempts),
        ("executions", b"%d" % delivery.executions),
        ("failures", b"%d" % delivery.failures),
        ("waits", b"%d" % delivery.waits),
        ("tried-at", b"%d" % delivery.tried_at_ms),
        ("due-at", b"%d" % delivery.due_at_ms),
    ]
    if delivery.error_code is not None:
        headers.append(("error-code", b"%d" % delivery.error_code))
    if delivery.error_message:
        headers.append(("error-message", delivery.error_message.encode("utf-8", "replace")))
    if delivery.traceparent is not None:
        headers.append(("traceparent", delivery.traceparent.encode()))
    return headers


def is_delivery(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Whether a record on a retry topic is a delivery that waits, not an invocation."""
    return len(headers) > 1 and headers[1][0] == _DESTINATION


def read_delivery(record: InputRecord) -> Delivery:
    """The delivery that *record* is. Raises InputRejected for a record that `delivery_headers` did not make."""
    if record.value is None:
        raise InputRejected("NullInput", "The delivery's value is null; it should be what is to be delivered.")
    headers = {name: value for name, value in record.headers if value is not None}
    return Delivery(
        request_id=text_header(headers, "request-id", REQUEST_ID_CHARS_MAX),
        provider=text_header(headers, "provider", _PROVIDER_CHARS_MAX),
        resource=text_header(headers, "function", FUNCTION_CHARS_MAX),
        address=decoded(header(headers, _DESTINATION), "The header destination"),  # it may be any text
        is_event=_either(headers, "content", "event", "record"),
        body=record.value,
        succeeded=_either(headers, "outcome", "success", "failure"),
        ended_at_ms=number_header(headers, "ended-at", 0, _NUMBER_MAX),
        accepted_at_ms=number_header(headers, "accepted-at", 0, _NUMBER_MAX),
        attempts=number_header(headers, "attempts", 0, _COUNT_MAX),
        executions=number_header(headers, "executions", 0, _COUNT_MAX),
        error_code=number_header(headers, "error-code", 0, _COUNT_MAX) if "error-code" in headers else None,
        error_message=decoded(headers.get("error-message", b""), "The header error-message"),
        traceparent=read_traceparent(headers["traceparent"]) if "traceparent" in headers else None,
        failures=number_header(headers, "failures", 0, _COUNT_MAX),
        waits=number_header(headers, "waits", 0, _COUNT_MAX),
        tried_at_ms=number_header(headers, "tried-at", 0, _NUMBER_MAX),
        due_at_ms=number_header(headers, "due-at", 0, _NUMBER_MAX),
    )


def _either(headers: Mapping[str, bytes], name: str, yes: str, no: str) -> bool:
    """Whether the header is *yes*. Raises InputRejected when it is neither of the two."""
    word = headers.get(name)
    if word == yes.encode():
        return True
    if word == no.encode():
        return False
    raise InputRejected("UndecodableInput", f"The header {name} is neither {yes} nor {no}; only Streams writes these.")
