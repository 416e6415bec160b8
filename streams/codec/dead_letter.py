"""What nobody could process, with its bytes and the reason, in a form that existing consoles understand too.

The value is Avro `DeadLetter`. The headers `kafka_dlt-*` are those of Spring Kafka's DeadLetterPublishingRecoverer,
with its names and its big-endian numbers; `x-original-*` say the same as text.
"""

from __future__ import annotations

from streams.codec.avro import Codec
from streams.codec.envelope import InputRecord
from streams.codec.text import ERROR_MESSAGE_BYTES_MAX, ERROR_TYPE_BYTES_MAX, cut

DELIVERY_FAILED = "DestinationDeliveryFailed"
"""Reason of the dead letter of what a destination, or a dead-letter queue, did not get."""

HEADERS_MAX = 4096
"""Dead letters and retry records keep so many of the original headers, because each of them takes a little more room
there. Nobody sends more; but a record may consist of nothing else, and must not stop us.
"""

DEAD_LETTER_OVERHEAD_BYTES = 64 * 1024
"""A dead letter is at most so much larger than the record in it. So the topic `dlq` must take records that are larger
by this than those of any topic we read (`max.message.bytes`); then no dead letter is ever too large to be written.
"""

_FUNCTION_BYTES_MAX = 2048
_HEADER_MESSAGE_BYTES_MAX = 1024


def dead_letter(
    codec: Codec,
    dlq: str,
    record: InputRecord,
    reason: str,
    at_ms: int,
    *,
    request_id: str,
    error_message: str,
    error_type: str = "",
    error_code: int | None = None,
    provider: str | None = None,
    function: str | None = None,
    attempts: int = 0,
    executions: int = 0,
    accepted_at_ms: int | None = None,
) -> tuple[bytes, list[tuple[str, bytes | None]]]:
    """The value and the headers of the dead letter for *record*, to be written to the topic *dlq* at *at_ms*.

    *record* is the Kafka record as it was read, from `invocations` or a retry topic. Texts are cut to lengths that
    keep `DEAD_LETTER_OVERHEAD_BYTES` true.
    """
    left_out = len(record.headers) - HEADERS_MAX
    if left_out > 0:
        error_message = f"({left_out} of its headers are left out here.) {error_message}"
    error_message = cut(error_message, ERROR_MESSAGE_BYTES_MAX)
    error_type = cut(error_type, ERROR_TYPE_BYTES_MAX)
    function = None if function is None else cut(function, _FUNCTION_BYTES_MAX)
    datum = {
        "key": record.key,
        "value": record.value,
        "headers": [{"name": name, "value": value} for name, value in record.headers[:HEADERS_MAX]],
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp if record.timestamp >= 0 else None,
        "provider": provider,
        "function": function,
        "request_id": request_id,
        "reason": reason,
        "error_code": error_code,
        "error_type": error_type,
        "error_message": error_message,
        "attempts": attempts,
        "executions": executions,
        "accepted_at_ms": accepted_at_ms,
        "dead_lettered_at_ms": at_ms,
    }
    headers: list[tuple[str, bytes | None]] = [("reason", reason.encode()), ("request-id", request_id.encode())]
    if function is not None:
        headers.append(("function", function.encode()))
    headers += _spring_headers(record, error_type or reason, error_message)
    return codec.encode("DeadLetter", datum, dlq), headers


def _spring_headers(record: InputRecord, error_type: str, error_message: str) -> list[tuple[str, bytes | None]]:
    topic = record.topic.encode()
    return [
        ("kafka_dlt-original-topic", topic),
        ("kafka_dlt-original-partition", record.partition.to_bytes(4, "big", signed=True)),
        ("kafka_dlt-original-offset", record.offset.to_bytes(8, "big", signed=True)),
        ("kafka_dlt-original-timestamp", record.timestamp.to_bytes(8, "big", signed=True)),
        ("kafka_dlt-exception-fqcn", error_type.encode()),
        ("kafka_dlt-exception-message", cut(error_message, _HEADER_MESSAGE_BYTES_MAX).encode()),
        ("x-original-topic", topic),
        ("x-original-partition", b"%d" % record.partition),
        ("x-original-offset", b"%d" % record.offset),
    ]
