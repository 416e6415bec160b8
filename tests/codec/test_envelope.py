"""The four encodings of `invocations`, what each may say, and what is refused."""

import io
import json
import uuid
from decimal import Decimal

import fastavro
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.codec.avro import Codec
from streams.codec.envelope import (
    DELAY_MS_MAX,
    INPUT_BYTES_MAX,
    NAMESPACE,
    Invocation,
    coordinates_id,
    read_invocation,
    request_id_of,
)
from streams.codec.errors import AvroError, InputRejected, SchemaNeeded

from .samples import CODEC, NOW, SCHEMAS, TEXTS, Record

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ID = coordinates_id("invocations", 3, 77)
MEGABYTE = b'"' + b"x" * 1_048_574 + b'"'


def read(record: Record) -> Invocation:
    return read_invocation(record, NOW, CODEC)


def raw(event: bytes = b"{}", **headers: str | bytes) -> Record:
    pairs = [(name.replace("_", "-"), v if isinstance(v, bytes) else v.encode()) for name, v in headers.items()]
    return Record(event, pairs)


def cloud_event(event: bytes = b"{}", **attributes: str) -> Record:
    attributes = {"specversion": "1.0", "subject": "resize"} | attributes
    return Record(event, [(f"ce_{name}", value.encode()) for name, value in attributes.items()])


def avro(**fields: object) -> Record:
    return Record(CODEC.encode("Invocation", {"function": "resize", "event": b"{}"} | fields))


def envelope(**members: object) -> Record:
    return Record(orjson.dumps({"function": "resize", "payload": {}} | members))


def expected(**differences: object) -> Invocation:
    return Invocation(ID, "resize", None, b"{}", NOW - 1000, NOW - 1000, 1, None)._replace(**differences)


@pytest.mark.parametrize(
    ("record", "differences"),
    [
        (raw(function="resize"), {}),
        (raw(function="resize", request_id="my id/☃"), {"request_id": "my id/☃"}),
        (raw(function="resize", request_id="x" * 256), {"request_id": "x" * 256}),
        (raw(function="größe:prod"), {"function": "größe:prod"}),
        (raw(function="resize", qualifier="prod"), {"qualifier": "prod"}),
        (raw(b"", function="resize"), {"event": b""}),
        (raw(b"\x00\xff", function="resize"), {"event": b"\x00\xff"}),
        (raw(b"\xc3\x01", function="resize"), {"event": b"\xc3\x01"}),
        (raw(MEGABYTE, function="resize"), {"event": MEGABYTE}),
        (raw(b"[" * 9999, function="resize"), {"event": b"[" * 9999}),
        (raw(function="resize", accepted_at="5"), {"accepted_at_ms": 5, "due_at_ms": 5}),
        (raw(function="resize", accepted_at=str(NOW + 9)), {"accepted_at_ms": NOW, "due_at_ms": NOW}),
        (raw(function="resize", delay_ms="1500"), {"due_at_ms": NOW + 500}),
        (raw(function="resize", delay_ms=str(DELAY_MS_MAX)), {"due_at_ms": NOW - 1000 + DELAY_MS_MAX}),
        (raw(function="resize", depth="3"), {"depth": 3}),
        (raw(function="resize", traceparent=TRACE), {"traceparent": TRACE}),
        (raw(function="resize", traceparent=f"01{TRACE[2:]}-more"), {"traceparent": f"01{TRACE[2:]}-more"}),
        (raw(function="resize", traceparent=f"{TRACE}-more"), {}),
        (raw(function="resize", traceparent=f"ff{TRACE[2:]}"), {}),
        (raw(function="resize", traceparent=TRACE.upper()), {}),
        (raw(function="resize", traceparent=b"\xff"), {}),
        (raw(Function="resize", REQUEST_ID="a", other="b"), {"request_id": "a"}),
        (raw(function="resize", baggage=b"\xff\x00"), {}),
        (Record(b"{}", [("function", b"a"), ("request-id", b"1"), ("function", b"resize")]), {"request_id": "1"}),
        (Record(b"{}", [("Request-Id", b"1"), ("function", b"resize"), ("request-id", b"2")]), {"request_id": "2"}),
        (Record(b"{}", [("function", b"resize"), ("request-id", None), ("qualifier", None)]), {}),
        (Record(b"{}", [("function", b"resize")], timestamp=-1), {"accepted_at_ms": NOW, "due_at_ms": NOW}),
        (Record(b"{}", [("function", b"resize")], timestamp=NOW + 5), {"accepted_at_ms": NOW, "due_at_ms": NOW}),
        (cloud_event(), {}),
        (cloud_event(b"", id="e-1"), {"request_id": "e-1", "event": b""}),
        (cloud_event(id="e-1", source="/s", type="t", time="2025-12-31T23:59:59Z"), {
            "request_id": "e-1", "accepted_at_ms": 1_767_225_599_000, "due_at_ms": 1_767_225_599_000}),
        (cloud_event(time="2026-01-01t01:00:00.0459999999+01:00"), {
            "accepted_at_ms": 1_767_225_600_045, "due_at_ms": 1_767_225_600_045}),
        (cloud_event(time="2026-01-01 00:00:00.1-00:00"), {
            "accepted_at_ms": 1_767_225_600_100, "due_at_ms": 1_767_225_600_100}),
        (cloud_event(time="2100-01-01T00:00:00Z"), {"accepted_at_ms": NOW, "due_at_ms": NOW}),
        (cloud_event(traceparent=TRACE), {"traceparent": TRACE}),
        (Record(b"{}", [("CE_SpecVersion", b"1.0"), ("CE_Subject", b"resize")]), {}),
        (Record(b"{}", [("ce_specversion", b"1.0"), ("function", b"resize"), ("ce_subject", b"x"), ("ce_id", b"1"),
                        ("delay-ms", b"1")]), {"request_id": "1", "due_at_ms": NOW - 999}),
        (avro(), {}),
        (avro(event=MEGABYTE), {"event": MEGABYTE}),
        (avro(id="a☃", qualifier="prod", traceparent=TRACE), {
            "request_id": "a☃", "qualifier": "prod", "traceparent": TRACE}),
        (avro(accepted_at_ms=5, delay_ms=6), {"accepted_at_ms": 5, "due_at_ms": 11}),
        (envelope(), {}),
        (envelope(id="a☃", qualifier="prod", delay_ms=7), {
            "request_id": "a☃", "qualifier": "prod", "due_at_ms": NOW - 993}),
        (envelope(id=None, qualifier=None, delay_ms=None), {}),
        (Record(b'{"function":"resize","payload":' + MEGABYTE + b"}"), {"event": MEGABYTE}),
        (Record(b'{"function":"resize","payload":{}}', [("depth", b"4"), ("traceparent", TRACE.encode())]), {
            "depth": 4, "traceparent": TRACE}),
    ],
)  # fmt: skip
def test_every_encoding_says_the_same(record, differences):
    assert read(record) == expected(**differences)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (raw(function=""), "function's name is empty"),
        (raw(function=b"\xff"), "header function is not UTF-8"),
        (raw(function="f" * 513), "function's name has 513 characters; at most 512"),
        (raw(function="a\nb"), "function's name has control characters"),
        (raw(function="f", request_id=""), "request id is empty; give it a value or leave it out"),
        (raw(function="f", request_id="x" * 257), "request id has 257 characters; at most 256"),
        (raw(function="f", request_id="a\x00b"), "request id has control characters"),
        (raw(function="f", request_id="a\u202eb"), "request id has control characters"),
        (raw(function="f", request_id=b"\xc3"), "header request-id is not UTF-8"),
        (raw(function="f", qualifier=""), "qualifier is empty"),
        (raw(function="f", qualifier=b"\x80"), "header qualifier is not UTF-8"),
        (raw(function="f", accepted_at="yesterday"), "header accepted-at .* whole number"),
        (raw(function="f", accepted_at="-5"), "accepted-at"),
        (raw(function="f", accepted_at="0"), "accepted-at"),
        (raw(function="f", accepted_at="1767225600123000"), "accepted-at"),
        (raw(function="f", accepted_at="9" * 10_000), "accepted-at"),
        (raw(function="f", accepted_at="1_000"), "accepted-at"),
        (raw(function="f", accepted_at="٣"), "accepted-at"),
        (raw(function="f", delay_ms="1.5"), "delay-ms is not a whole number from 0 to 604800000"),
        (raw(function="f", delay_ms="604800001"), "delay-ms"),
        (raw(function="f", delay_ms=""), "delay-ms"),
        (raw(function="f", depth="0"), "depth"),
        (raw(function="f", depth="deep"), "depth"),
        (cloud_event(specversion="0.3"), "ce_specversion is not 1.0"),
        (Record(b"", [("ce_specversion", None)]), "ce_specversion is not 1.0"),
        (cloud_event(subject=""), "put its name into ce_subject"),
        (Record(b"", [("ce_specversion", b"1.0")]), "put its name into ce_subject"),
        (cloud_event(id=""), "request id is empty"),
        (cloud_event(time="yesterday"), "ce_time is not a time as in"),
        (cloud_event(time="2026-01-01"), "ce_time is not a time as in"),
        (cloud_event(time="2026-02-30T00:00:00Z"), "ce_time is not a time that exists"),
        (cloud_event(time="1960-01-01T00:00:00Z"), "ce_time, in epoch milliseconds, is not"),
        (cloud_event(time="0001-01-01T00:00:00+23:59"), "ce_time"),
        (avro(function=""), "function's name is empty"),
        (avro(id=""), "request id is empty"),
        (avro(delay_ms=-1), "delay_ms is not a whole number"),
        (avro(accepted_at_ms=2**60), "accepted_at_ms is not a whole number"),
        (Record(avro().value[:-1]), "begins like Avro and is not. The data are truncated"),
        (Record(b"\x00"), "begins like Avro and is not. The data are truncated"),
        (Record(b"\x00\x00\x00\x00\x01"), "none is configured"),
        (Record(b"\xc3\x01" + b"x" * 20), "fingerprint"),
        (Record(CODEC.prefix("Facts") + b"\x02r\x02f\x02p\x00\x00\x00\x00"), "is an Avro Facts; write an Invocation"),
        (Record(b""), "no header function, and the value is not a JSON envelope"),
        (Record(b"SECRET"), "not a JSON envelope"),
        (Record(b"\xff\xfe"), "not a JSON envelope"),
        (Record(b'{"function": "f", "payload": SECRET}'), "not a JSON envelope"),
        (Record(b'{"function": "f", "payload": {}} SECRET'), "not a JSON envelope"),
        (Record(b'{"function": "f", "payload": ' + b"[" * 1100 + b"]" * 1100 + b"}"), "depth limit"),
        (Record(b'{"function": "f", "payload": [' + b"[[[[[]]]]]," * 51_000 + b"0]}"), "nests too much"),
        (Record(b'{"payload": 1, "function": "f", "payload": 2}'), "has a member twice"),
        (Record(b'{"payload": 1, "function": "f", "p\\u0061yload": 2}'), "has a member twice"),
        (Record(b'{"payload": 1, "function": "f", "function": []}'), "function in the JSON envelope is not a string"),
        (Record(b'{"payload": 1, "id": {}, "function": "f", "id": "a"}'), "has a member twice"),
        (Record(b"[1]"), "is not {"),
        (Record(b"null"), "is not {"),
        (envelope(function=None), "is not {"),
        (Record(b'{"payload": "SECRET"}'), "is not {"),
        (Record(b'{"function": "f"}'), "is not {"),
        (envelope(request_id="SECRET"), "may have payload, function, id, qualifier, delay_ms and nothing else"),
        (envelope(specversion="1.0"), "CloudEvent in structured mode"),
        (envelope(function=["SECRET"]), "function in the JSON envelope is not a string"),
        (envelope(id=7), "id in the JSON envelope is not a string"),
        (envelope(delay_ms=True), "delay_ms in the JSON envelope is not a whole number"),
        (envelope(delay_ms=1.5), "delay_ms in the JSON envelope is not a whole number"),
        (envelope(delay_ms=-1), "delay_ms is not a whole number from 0 to 604800000"),
        (envelope(id="a\u0000"), "request id has control characters"),
    ],
)
def test_what_is_not_an_invocation_is_refused_with_what_to_do(record, message):
    with pytest.raises(InputRejected, match=message) as rejected:
        read(record)

    assert rejected.value.reason == "UndecodableInput"
    assert rejected.value.message == str(rejected.value)
    assert "SECRET" not in str(rejected.value)
    assert rejected.value.__context__ is None or rejected.value.__suppress_context__


def test_a_null_value_is_no_event():
    with pytest.raises(InputRejected, match="empty value") as rejected:
        read(Record(None, [("function", b"f")]))

    assert rejected.value.reason == "NullInput"


def test_a_schema_that_must_be_fetched_is_asked_for():
    codec = Codec(SCHEMAS, lookup=lambda schema_id: None)

    with pytest.raises(SchemaNeeded) as needed:
        read_invocation(Record(b"\x00\x00\x00\x00\x2a..."), NOW, codec)
    assert needed.value.schema_id == 42


@pytest.mark.parametrize(
    ("field", "kind", "value"), [("id", "string/uuid", uuid.UUID(int=1)), ("event", "bytes/decimal", Decimal(1))]
)
def test_a_field_that_its_writer_means_otherwise_is_refused(field: str, kind: str, value: object):
    avro_type, logical = kind.split("/")
    written = {"type": avro_type, "logicalType": logical, "precision": 9}
    types = {"function": "string", "event": "bytes"} | {field: written}
    fields = [{"name": name, "type": of} for name, of in types.items()]
    schema = {"type": "record", "name": "Invocation", "namespace": "streams", "fields": fields}
    codec = Codec(SCHEMAS, lookup=lambda schema_id: json.dumps(schema))
    file = io.BytesIO()
    fastavro.schemaless_writer(file, schema, {"function": "resize", "event": b"{}"} | {field: value})

    with pytest.raises(InputRejected, match=f"{field} in the Avro Invocation is a .* logical type"):
        read_invocation(Record(b"\0\0\0\0\x2a" + file.getvalue()), NOW, codec)


OVERSIZED = {
    "in a header of others": raw(function="resize", other=b"0" * INPUT_BYTES_MAX),
    "in a header of ours that is not read": Record(b"{}", [("function", b"resize"), ("ce_id", b"0" * INPUT_BYTES_MAX)]),
    "in a header that comes twice": Record(b"{}", [("function", b"0" * INPUT_BYTES_MAX), ("function", b"resize")]),
    "in the key": Record(b"{}", [("function", b"resize")], key=b"0" * INPUT_BYTES_MAX),
    "beside an envelope": Record(envelope().value, [("request-id", b"0" * INPUT_BYTES_MAX)]),
}


@pytest.mark.parametrize("where", OVERSIZED)
def test_what_was_compressed_too_well_is_refused(where: str):
    with pytest.raises(InputRejected, match="when it is not compressed") as rejected:
        read(OVERSIZED[where])

    assert rejected.value.reason == "OversizedInput"


@given(TEXTS, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
@settings(max_examples=100, deadline=None)
def test_the_id_of_coordinates_is_a_uuid5(topic, partition, offset):
    namespace = uuid.UUID(bytes=NAMESPACE)

    assert coordinates_id(topic, partition, offset) == str(uuid.uuid5(namespace, f"{topic}/{partition}/{offset}"))


@pytest.mark.parametrize(
    ("headers", "request_id"),
    [
        ([], ID),
        ([("request-id", b"a"), ("request-id", b"b"), ("ce_id", b"c")], "b"),
        ([("ce_id", b"c")], "c"),
        ([("request-id", b"\xff"), ("ce_id", b"c")], "c"),
        ([("request-id", b""), ("ce_id", None)], ID),
        ([("request-id", b"x" * 257)], ID),
    ],
)
def test_a_rejected_record_is_called_by_the_id_in_its_headers_or_by_its_coordinates(headers, request_id):
    assert request_id_of(Record(b"", headers)) == request_id


def test_the_id_of_coordinates_never_changes():
    assert coordinates_id("invocations", 3, 77) == "b2cfce4c-bcfa-56a8-ae95-935ee7525010"


SPACE = st.text(" \t\n\r", max_size=2)
SCALARS = st.one_of(
    st.builds(
        json.dumps,
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
        ensure_ascii=st.booleans(),
    ),
    st.sampled_from([r'"\""', r'"\\"', r'"\\\""', '"]"', '"}"', '",\\"payload\\":1"', "-0", "1E+2", '"\\u00e9"']),
)


def listed(brackets: str, items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda spaces, members: (
            brackets[0] + spaces[0] + f"{spaces[1]},{spaces[2]}".join(members) + spaces[3] + brackets[1]
        ),
        st.tuples(SPACE, SPACE, SPACE, SPACE),
        st.lists(items, max_size=4),
    )


def member(name: st.SearchStrategy[str], value: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda key, before, after, text: f"{json.dumps(key)}{before}:{after}{text}", name, SPACE, SPACE, value
    )


JSON_TEXTS = st.recursive(
    SCALARS, lambda texts: listed("[]", texts) | listed("{}", member(TEXTS, texts)), max_leaves=12
)


@given(JSON_TEXTS, st.permutations(["function", "payload", "id"]), st.lists(SPACE, min_size=16, max_size=16))
@settings(max_examples=100, deadline=None)
def test_the_payload_is_cut_out_of_the_envelope_byte_for_byte(payload, order, spaces):
    space = iter(spaces)
    texts = {"function": '"resize"', "payload": payload, "id": r'"}\"payload\":0,{"'}
    members = [f'{next(space)}"{name}"{next(space)}:{next(space)}{texts[name]}{next(space)}' for name in order]
    value = f"{next(space)}{{{','.join(members)}}}{next(space)}".encode()

    assert read(Record(value)).event == payload.encode()


@pytest.mark.parametrize(
    "value",
    [
        b'{"function":"f","payloa\\u0064": [2 ] }',
        b'{"p\\u0061yload":[2 ],"function":"f"}',
        b' {\t"payload"\n:\r[2 ] , "function":"f" } ',
        b'{"function":"payload","id":"\\"payload\\":","payload":[2 ]}',
    ],
)
def test_the_payload_is_found_however_the_envelope_is_written(value):
    assert read(Record(value)).event == b"[2 ]"


def test_a_deeply_nested_payload_is_cut_out():
    payload = b'[{"a":' * 500 + b"0" + b"}]" * 500

    assert read(Record(b'{"payload":' + payload + b',"function":"f"}')).event == payload


@pytest.mark.parametrize("item", [b"[]", b'{"a":[{"b":["]"]}]}', b'"\\""', b"1", b"[[[[]]]]"])
def test_a_payload_of_a_megabyte_is_cut_out(item):
    payload = b"[" + b",\n".join([item] * (1_000_000 // len(item + b",\n"))) + b"]"
    if item == b"[[[[]]]]":
        payload = payload[: 100_000 // 10 * 10] + b"0]"

    assert read(Record(b'{"payload":' + payload + b',"function":"f"}')).event == payload


OUR_NAMES = [
    "function", "Function", "request-id", "qualifier", "accepted-at", "delay-ms", "depth", "traceparent",
    "ce_specversion", "ce_subject", "ce_id", "ce_time", "ce_traceparent", "other",
]  # fmt: skip
VALUES = st.none() | st.binary(max_size=12) | st.sampled_from([b"1.0", b"resize", b"0", b"-1", b"2026-01-01T00:00:00Z"])
HEADERS = st.lists(st.tuples(st.sampled_from(OUR_NAMES) | TEXTS, VALUES), max_size=6)
BODIES = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.binary(max_size=40).map(lambda data: CODEC.prefix("Invocation") + data),
    st.binary(max_size=40).map(lambda data: b'{"function":"f","payload":' + data),
    JSON_TEXTS.map(str.encode),
    st.dictionaries(st.sampled_from(["function", "payload", "id", "qualifier", "delay_ms"]), st.none() | TEXTS).map(
        orjson.dumps
    ),
)


@given(BODIES, HEADERS, st.integers(-1, 2**62))
@settings(max_examples=120, deadline=None)
def test_any_record_is_an_invocation_or_is_rejected(value, headers, timestamp):
    codec = Codec(SCHEMAS, lookup=lambda schema_id: None)
    try:
        invocation = read_invocation(Record(value, headers, timestamp=timestamp), NOW, codec)
    except (InputRejected, AvroError):
        return
    assert 0 < invocation.accepted_at_ms <= NOW
    assert invocation.accepted_at_ms <= invocation.due_at_ms <= NOW + DELAY_MS_MAX
    assert 0 < len(invocation.request_id) <= 256
    assert invocation.depth >= 1
    assert isinstance(invocation.event, bytes)
