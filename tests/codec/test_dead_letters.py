"""Dead letters keep everything, and fit."""

import pytest

from streams.codec.dead_letter import DEAD_LETTER_OVERHEAD_BYTES, HEADERS_MAX, dead_letter

from .samples import CODEC, NOW, Record, batch_bytes

RECORD = Record(b"\xff{", [("function", b"resize"), ("x", None), ("x", b"")], "retry.60s", 3, 2**40, NOW, b"key")


def test_the_original_comes_back_byte_for_byte():
    value, _ = dead_letter(CODEC, "dlq", RECORD, "UndecodableInput", NOW + 5, request_id="id", error_message="bad")

    assert CODEC.decode(value) == (
        "DeadLetter",
        {
            "key": b"key",
            "value": b"\xff{",
            "headers": [
                {"name": "function", "value": b"resize"},
                {"name": "x", "value": None},
                {"name": "x", "value": b""},
            ],
            "topic": "retry.60s",
            "partition": 3,
            "offset": 2**40,
            "timestamp_ms": NOW,
            "provider": None,
            "function": None,
            "request_id": "id",
            "reason": "UndecodableInput",
            "error_code": None,
            "error_type": "",
            "error_message": "bad",
            "attempts": 0,
            "executions": 0,
            "accepted_at_ms": None,
            "dead_lettered_at_ms": NOW + 5,
        },
    )


def test_the_headers_are_springs_and_readable_ones():
    _, headers = dead_letter(
        CODEC,
        "dlq",
        RECORD,
        "RetriesExhausted",
        NOW,
        request_id="id",
        error_message="no",
        error_type="ValueError",
        error_code=200,
        provider="aws",
        function="arn:f",
        attempts=3,
        executions=3,
        accepted_at_ms=NOW - 9,
    )

    assert headers == [
        ("reason", b"RetriesExhausted"),
        ("request-id", b"id"),
        ("function", b"arn:f"),
        ("kafka_dlt-original-topic", b"retry.60s"),
        ("kafka_dlt-original-partition", b"\x00\x00\x00\x03"),
        ("kafka_dlt-original-offset", b"\x00\x00\x01\x00\x00\x00\x00\x00"),
        ("kafka_dlt-original-timestamp", b"\x00\x00\x01\x9b\x76\xda\xa8\x7b"),
        ("kafka_dlt-exception-fqcn", b"ValueError"),
        ("kafka_dlt-exception-message", b"no"),
        ("x-original-topic", b"retry.60s"),
        ("x-original-partition", b"3"),
        ("x-original-offset", b"1099511627776"),
    ]


def test_a_record_without_anything_has_a_dead_letter():
    value, headers = dead_letter(
        CODEC, "dlq", Record(None, timestamp=-1), "NullInput", NOW, request_id="id", error_message="null"
    )

    _, datum = CODEC.decode(value)
    assert (datum["key"], datum["value"], datum["headers"], datum["timestamp_ms"]) == (None, None, [], None)
    assert dict(headers)["kafka_dlt-original-timestamp"] == b"\xff" * 8
    assert dict(headers)["kafka_dlt-exception-fqcn"] == b"NullInput"


@pytest.mark.parametrize(
    "record",
    [
        Record(b"x" * 1_000_000, key=b"k" * 100_000),
        Record(None, [("", b"")] * 100_000),
        Record(None, [("", None)] * 100_000),
        Record(b"", [("☃" * 40, b"v" * 100)] * HEADERS_MAX),
        Record(b"", [("n" * 63, b"v" * 63)] * HEADERS_MAX),
        Record(b"", [("n" * 64, b"v" * 64)] * (HEADERS_MAX + 1), "t" * 249, 2**31 - 1, 2**63 - 1, 2**62),
    ],
    ids=lambda record: f"{len(record.headers)} headers",
)
def test_a_dead_letter_is_never_larger_than_its_allowance(record):
    value, headers = dead_letter(
        CODEC,
        "dlq",
        record,
        "DestinationDeliveryFailed",
        NOW,
        request_id="☃" * 256,
        error_message="é" * 100_000,
        error_type="É" * 100_000,
        error_code=-1,
        provider="functiongraph",
        function="☃" * 100_000,
        attempts=-1,
        executions=-1,
        accepted_at_ms=2**62,
    )

    original = batch_bytes(record.key, record.value, record.headers)
    assert batch_bytes("☃".encode() * 256, value, headers) <= original + DEAD_LETTER_OVERHEAD_BYTES


def test_headers_that_do_not_fit_are_counted():
    record = Record(b"", [("", None)] * (HEADERS_MAX + 7))

    value, _ = dead_letter(CODEC, "dlq", record, "UndecodableInput", NOW, request_id="id", error_message="bad")

    _, datum = CODEC.decode(value)
    assert len(datum["headers"]) == HEADERS_MAX
    assert datum["error_message"] == "(7 of its headers are left out here.) bad"
