"""Framing, strict reading and resolution, with the reference library `avro` as the judge."""

import json
import time
from pathlib import Path

import avro.schema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.codec import avro as our_avro
from streams.codec.avro import Codec, Schema, Schemas, load_schemas
from streams.codec.errors import AvroError, SchemaNeeded
from streams.errors import ConfigurationError

from .samples import CODEC, SCHEMAS, data_of, example_of, fastavro_write, plain, reference_read, reference_write

NAMES = sorted(SCHEMAS.current)
INVOCATION = SCHEMAS.current["Invocation"]
DATUM = {
    "function": "resize",
    "event": b"{}",
    "id": None,
    "qualifier": None,
    "accepted_at_ms": None,
    "delay_ms": None,
    "traceparent": None,
}
BODY = b"\x0cresize\x04{}\x00\x00\x00\x00\x00"


def single(body: bytes, schema: Schema = INVOCATION) -> bytes:
    return b"\xc3\x01" + schema.fingerprint + body


@pytest.mark.parametrize("name", NAMES)
def test_fingerprints_are_the_reference_librarys(name):
    schema = SCHEMAS.current[name]

    assert avro.schema.parse(schema.text).fingerprint() == schema.fingerprint
    assert CODEC.prefix(name) == b"\xc3\x01" + schema.fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_library_reads_what_we_write_and_we_read_what_it_writes(name):
    schema = SCHEMAS.current[name]

    @settings(max_examples=25, deadline=None)
    @given(data_of(json.loads(schema.text)))
    def check(datum):
        ours, theirs = CODEC.encode(name, datum)[10:], reference_write(schema.text, datum)

        assert ours == theirs == fastavro_write(name, datum)
        assert reference_read(schema.text, ours) == plain(datum)
        assert CODEC.decode(single(theirs, schema)) == (name, datum)

    check()


def test_records_of_a_registered_topic_carry_the_schemas_id():
    codec = Codec(SCHEMAS, ids={"in": 258}, lookup={258: INVOCATION.text}.get)
    encode = codec.encoder("Invocation", "in")

    assert encode(DATUM) == b"\x00\x00\x00\x01\x02" + BODY
    assert codec.encode("Invocation", DATUM, "elsewhere") == single(BODY)
    assert codec.encode("Invocation", DATUM) == single(BODY)
    assert codec.decode(encode(DATUM)) == codec.decode(single(BODY)) == ("Invocation", DATUM)


def test_a_schema_that_was_not_fetched_is_asked_for_by_its_id():
    texts: dict[int, str] = {}
    codec = Codec(SCHEMAS, lookup=texts.get)

    with pytest.raises(SchemaNeeded) as needed:
        codec.decode(b"\x00\x00\x00\x00\x07" + BODY)
    texts[needed.value.schema_id] = INVOCATION.text

    assert codec.decode(b"\x00\x00\x00\x00\x07" + BODY) == ("Invocation", DATUM)


def test_a_foreign_writer_may_order_add_and_leave_out_fields():
    theirs = json.dumps(
        {
            "type": "record",
            "name": "com.example.Invocation",
            "fields": [
                {"name": "mood", "type": {"type": "enum", "name": "Mood", "symbols": ["good", "bad"]}},
                {"name": "scores", "type": {"type": "map", "values": "double"}},
                {"name": "event", "type": "string"},
                {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 2}},
                {"name": "urgent", "type": "boolean"},
                {"name": "delay_ms", "type": "int"},
                {"name": "function", "type": "string"},
            ],
        }
    )
    datum = {
        "mood": "bad",
        "scores": {"a": 0.5},
        "event": "{}",
        "hash": b"xy",
        "urgent": True,
        "delay_ms": 5,
        "function": "resize",
    }
    codec = Codec(SCHEMAS, lookup={1: theirs}.get)

    assert codec.decode(b"\x00\x00\x00\x00\x01" + reference_write(theirs, datum)) == (
        "Invocation",
        DATUM | {"delay_ms": 5},
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "begin neither"),
        (b"{}", "begin neither"),
        (b"\xc3", "begin neither"),
        (b"\xc3\x01", "truncated"),
        (b"\xc3\x01\x00\x01\x02", "truncated"),
        (b"\xc3\x01\x00\x01\x02\x03\x04\x05\x06\x07rest", "fingerprint 0001020304050607"),
        (b"\x00\x00\x00\x01", "truncated"),
        (b"\x00\x00\x00\x00\x01rest", "none is configured"),
        (single(BODY + b"!"), "1 bytes are left over"),
        (single(b"\x0cresize\x04{}\x03\x00\x00\x00\x00"), "Branch -2"),
        (single(b"\x0cresize\x04{}\x04\x00\x00\x00\x00"), "Branch 2"),
        (single(b"\x0cresize\x03{}\x00\x00\x00\x00\x00"), "-2 bytes is announced"),
        (single(b"\x0cresize\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "9223372036854775807 bytes is announced"),
        (single(b"\x0cresize" + b"\x80" * 9 + b"\x02"), "does not fit 64 bits"),
        (single(b"\x0cresize" + b"\x80" * 1_000_000), "does not fit 64 bits"),
        (single(b"\x04\xff\xff\x04{}\x00\x00\x00\x00\x00"), "not UTF-8"),
    ],
)
def test_malformed_data_are_refused_with_the_reason(data, reason):
    with pytest.raises(AvroError, match=reason):
        CODEC.decode(data)


@pytest.mark.parametrize("name", NAMES)
def test_every_cut_is_refused(name):
    data = CODEC.encode(name, example_of(json.loads(SCHEMAS.current[name].text)))

    for end in range(len(data)):
        with pytest.raises(AvroError):
            CODEC.decode(data[:end])


@pytest.mark.parametrize("name", NAMES)
def test_damaged_data_are_refused_or_read_as_the_reference_library_does(name):
    schema = SCHEMAS.current[name]
    good = CODEC.encode(name, example_of(json.loads(schema.text)))[10:]

    @settings(max_examples=80, deadline=None)
    @given(st.integers(0, len(good)), st.integers(0, 8), st.binary(max_size=12))
    def check(at, dropped, inserted):
        body = good[:at] + inserted + good[at + dropped :]
        try:
            _, datum = CODEC.decode(single(body, schema))
        except AvroError:
            return
        assert plain(datum) == reference_read(schema.text, body)

    check()


@given(st.binary(max_size=60))
@settings(max_examples=60, deadline=None)
def test_arbitrary_data_raise_nothing_but_avro_errors(data):
    codec = Codec(SCHEMAS, lookup=lambda schema_id: INVOCATION.text if schema_id % 2 else None)
    for prefix in (
        b"",
        b"\x00",
        b"\x00\x00\x00\x00\x01",
        *(b"\xc3\x01" + s.fingerprint for s in SCHEMAS.current.values()),
    ):
        try:
            codec.decode(prefix + data)
        except AvroError:
            pass


def test_blocks_with_their_size_are_read():
    body = reference_write(SCHEMAS.current["Facts"].text, facts(attempts=2))
    start = body.index(b"\x04\x02\x02")  # two facts, the first of them AttemptStarted number 1
    items = body[start + 1 : -2]
    sized = body[:start] + b"\x03" + bytes((len(items) * 2,)) + items + b"\x00\x00"

    assert CODEC.decode(single(sized, SCHEMAS.current["Facts"])) == ("Facts", facts(attempts=2))


def facts(attempts: int) -> dict[str, object]:
    started = [("streams.AttemptStarted", {"attempt": n + 1, "at_ms": 5}) for n in range(attempts)]
    return {
        "request_id": "r",
        "function": "f",
        "provider": "aws",
        "traceparent": None,
        "offset": None,
        "facts": started,
        "deliveries": [],
    }


def record(name: str, *types: object) -> dict[str, object]:
    return {"type": "record", "name": name, "fields": [{"name": f"f{n}", "type": t} for n, t in enumerate(types)]}


def doubling(levels: int) -> object:
    schema: object = "int"
    for level in range(levels):
        schema = record(f"R{level}", schema, f"R{level - 1}" if level else "int")
    return schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (record("Invocation", ["null", "Invocation"]), "recursive"),
        (record("Invocation", {"type": "array", "items": "Invocation"}), "recursive"),
        (record("Invocation", doubling(30)), "larger than 1000"),
        (record("Invocation", {"type": "array", "items": "null"}), "null outside"),
        (record("Invocation", {"type": "map", "values": record("Empty")}), "without fields"),
        (
            record("Invocation", {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}),
            "without any bytes",
        ),
        ("string", "not one of a record"),
        (record("Unheard", "int"), "none of"),
        (record("Invocation", "no such type"), "cannot be parsed"),
        (record("Invocation", "int"), "cannot be read as ours"),
    ],
)
def test_a_dangerous_or_foreign_schema_is_refused(schema, reason):
    codec = Codec(SCHEMAS, lookup={9: json.dumps(schema)}.get)

    with pytest.raises(AvroError, match=reason):
        codec.decode(b"\x00\x00\x00\x00\x09\x02")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"type": "array"}', "3", "null"])
def test_what_is_no_schema_is_refused(text):
    with pytest.raises(AvroError):
        Schema.parse(text)


def test_huge_counts_end_where_the_data_end():
    body = reference_write(SCHEMAS.current["Facts"].text, facts(attempts=1))
    huge = body[: body.index(b"\x02\x02\x02\x0a")] + b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    began = time.perf_counter()

    with pytest.raises(AvroError, match="truncated"):
        CODEC.decode(single(huge + b"\x02\x02\x0a" * 10_000, SCHEMAS.current["Facts"]))
    assert time.perf_counter() - began < 2


def test_past_schemas_are_read():
    past = json.loads(INVOCATION.text)
    past["fields"] = past["fields"][:2]
    writer = Schema.parse(json.dumps(past))

    with pytest.raises(AvroError, match="did a newer one write it"):
        CODEC.decode(single(b"\x0cresize\x04{}", writer))

    codec = Codec(Schemas(SCHEMAS.current, (writer,)))
    assert codec.decode(single(b"\x0cresize\x04{}", writer)) == ("Invocation", DATUM)


def test_schemas_come_from_a_wheel_or_a_checkout(tmp_path, monkeypatch):
    installed = tmp_path / "streams" / "schemas"
    (installed / "past").mkdir(parents=True)
    (installed / "Invocation.avsc").write_text(INVOCATION.text, encoding="utf-8")
    (installed / "past" / "Invocation.1.avsc").write_text(INVOCATION.text, encoding="utf-8")
    monkeypatch.setattr(our_avro.resources, "files", lambda package: tmp_path / package)

    loaded = load_schemas.__wrapped__()

    assert loaded == Schemas({"Invocation": INVOCATION}, (INVOCATION,))
    assert set(SCHEMAS.current) == {path.stem for path in (Path(__file__).parents[2] / "schemas").glob("*.avsc")}


def test_missing_schemas_are_a_fault_of_the_installation(tmp_path, monkeypatch):
    monkeypatch.setattr(our_avro, "_folder", lambda: tmp_path / "nowhere")

    with pytest.raises(ConfigurationError, match="install"):
        load_schemas.__wrapped__()


@pytest.mark.parametrize(
    ("name", "datum"),
    [
        ("Invocation", {"event": b""}),
        ("Invocation", DATUM | {"function": b"f"}),
        ("Invocation", DATUM | {"function": None}),
        ("Invocation", DATUM | {"function": "\ud800"}),
        ("Invocation", DATUM | {"event": "{}"}),
        ("Invocation", DATUM | {"delay_ms": 1.5}),
        ("Invocation", DATUM | {"delay_ms": 2**63}),
        ("Invocation", DATUM | {"delay_ms": -(2**63) - 1}),
        ("Facts", facts(attempts=0) | {"facts": [("streams.Unheard", {})]}),
        ("Facts", facts(attempts=0) | {"facts": [{"attempt": 1, "at_ms": 1}]}),
        ("Facts", facts(attempts=0) | {"facts": [("streams.AttemptStarted", {"attempt": 2**31, "at_ms": 1})]}),
    ],
)
def test_a_datum_that_is_not_of_the_schema_is_never_written(name, datum):
    with pytest.raises((KeyError, ValueError, TypeError, AttributeError)):
        CODEC.encode(name, datum)


@pytest.mark.parametrize(
    "kind", ["boolean", ["int", "string"], ["null", "int", "string"], {"type": "map", "values": "int"}]
)
def test_a_type_that_we_cannot_write_is_refused_before_anything_is_written(kind):
    schema = Schema.parse(json.dumps(record("Invocation", kind)))

    with pytest.raises(AvroError, match="cannot be written yet"):
        Codec(Schemas({"Invocation": schema}))
