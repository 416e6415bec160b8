"""Microseconds per call of what every request does: ``python -m tests.codec.measure`` (best of five, one core)."""

import json
import timeit
from collections.abc import Callable

from streams.codec.dead_letter import dead_letter
from streams.codec.envelope import coordinates_id, read_invocation
from streams.codec.facts import facts_datum, facts_encoder
from streams.codec.retry import Origin, read_retry, retry_headers, wake_at_ms
from streams.codec.state import pack, unpack
from streams.core.facts import Accepted, AttemptStarted, Succeeded
from streams.core.lifecycle import State
from streams.core.model import Outcome

from .samples import CODEC, NOW, SCHEMAS, Record, example_of, fastavro_write

ARN = "arn:aws:lambda:us-east-1:123456789012:function:resize:$LATEST"
REQUEST_ID = "0f8c2d57-5f0e-4b5a-9c1d-0c3f6a1b2c3d"
RETURNED = Outcome("returned", 200, b"{}")
CALLS = 20_000


def facts(at_ms: int) -> tuple[Accepted, AttemptStarted, Succeeded]:
    return Accepted(at_ms, at_ms, at_ms, 1), AttemptStarted(1, at_ms), Succeeded(1, at_ms + 5, RETURNED)


def measure(what: str, call: Callable[[], object], calls: int = CALLS) -> None:
    print(f"{min(timeit.repeat(call, number=calls, repeat=5)) / calls * 1e6:7.2f}  {what}")


def measure_avro() -> None:
    by_hand, by_writer = facts_encoder(CODEC.prefix("Facts")), CODEC.encoder("Facts")
    same = facts(NOW)
    others = iter([facts(NOW + ms) for ms in range(5 * CALLS)])
    data = by_hand(REQUEST_ID, ARN, "aws", None, 1_000_000, same)
    measure(
        "encode Facts by hand, timestamps seen before", lambda: by_hand(REQUEST_ID, ARN, "aws", None, 1_000_000, same)
    )
    measure(
        "encode Facts by hand, every millisecond new",
        lambda: by_hand(REQUEST_ID, ARN, "aws", None, 1_000_000, next(others)),
    )
    measure("encode Facts by `writing`", lambda: by_writer(facts_datum(REQUEST_ID, ARN, "aws", None, 1_000_000, same)))
    measure(
        "encode Facts by fastavro",
        lambda: fastavro_write("Facts", facts_datum(REQUEST_ID, ARN, "aws", None, 1_000_000, same)),
    )
    measure("decode Facts", lambda: CODEC.decode(data))
    for name in ("AwsInvocationRecord", "FcInvocationRecord", "FunctionGraphInvocationRecord"):
        encode, record = CODEC.encoder(name), example_of(json.loads(SCHEMAS.current[name].text))
        measure(f"encode {name}, every field set", lambda encode=encode, record=record: encode(record))
    encode = CODEC.encoder("AwsInvocationRecord")
    record = example_of(json.loads(SCHEMAS.current["AwsInvocationRecord"].text)) | {"deliveryError": None}
    measure("encode AwsInvocationRecord of a success", lambda: encode(record))
    measure("the same by fastavro", lambda: fastavro_write("AwsInvocationRecord", record))
    encoded = encode(record)
    measure("decode AwsInvocationRecord", lambda: CODEC.decode(encoded))


def measure_envelope() -> None:
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    pairs = [("function", b"resize"), ("request-id", REQUEST_ID.encode()), ("qualifier", b"prod"), ("delay-ms", b"0")]
    records = {
        "raw, with an id": Record(b"{}", pairs[:2]),
        "raw, without an id": Record(b"{}", pairs[:1]),
        "raw, every header": Record(b"{}", [*pairs, ("accepted-at", b"5"), ("depth", b"1"), ("traceparent", trace)]),
        "raw, a foreign header": Record(b"{}", [*pairs[:2], ("baggage", b"x")]),
        "CloudEvents": Record(
            b"{}",
            [
                ("ce_specversion", b"1.0"),
                ("ce_id", b"1"),
                ("ce_source", b"/"),
                ("ce_type", b"t"),
                ("ce_subject", b"resize"),
                ("ce_time", b"2026-01-01T00:00:00Z"),
            ],
        ),
        "JSON": Record(b'{"function": "resize", "id": "1", "payload": {"a": [1, 2, {"b": "x]"}]}}'),
        "Avro": Record(CODEC.encode("Invocation", {"function": "resize", "event": b"{}", "id": "1"})),
    }
    for what, record in records.items():
        measure(f"read_invocation: {what}", lambda record=record: read_invocation(record, NOW, CODEC))
    measure("coordinates_id", lambda: coordinates_id("invocations", 3, 77))


def measure_retry() -> None:
    record = Record(b"{}", [("function", b"resize"), ("request-id", REQUEST_ID.encode())])
    invocation, state = read_invocation(record, NOW, CODEC), State("waiting", 2, 1, 1, 0, NOW, NOW)
    packed, origin = pack(state), Origin.of(record)
    headers = retry_headers(invocation, state, "resize", "prod", NOW, origin)
    retried = Record(b"{}", headers)
    measure("pack a state", lambda: pack(state))
    measure("unpack a state", lambda: unpack(packed))
    measure("of it: making a State", lambda: State("waiting", 2, 1, 1, 0, NOW, NOW))
    measure("retry_headers", lambda: retry_headers(invocation, state, "resize", "prod", NOW, origin))
    measure("read_retry", lambda: read_retry(retried))
    measure("wake_at_ms", lambda: wake_at_ms(headers))
    measure(
        "dead_letter",
        lambda: dead_letter(CODEC, "dlq", record, "UndecodableInput", NOW, request_id="1", error_message="bad"),
    )


if __name__ == "__main__":
    measure_avro()
    measure_envelope()
    measure_retry()
