"""The functions made of schemas write and read what aiokafka's own walk through the schemas does."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from aiokafka.protocol.admin import ListGroupsRequest
from aiokafka.protocol.api import Request
from aiokafka.protocol.fetch import FetchRequest_v11
from aiokafka.protocol.group import JoinGroupRequest_v5, SyncGroupRequest_v3
from aiokafka.protocol.produce import ProduceRequest_v7
from aiokafka.protocol.types import (
    Array,
    Boolean,
    Bytes,
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.engine import wire
from streams.engine.compiled import compiled, decoder, encoder, quicken

BITS = {Int8: 8, Int16: 16, Int32: 32, Int64: 64}
OURS = [found._CLASSES[0] for found in vars(wire).values() if isinstance(found, type) and issubclass(found, Request)
        and found is not Request]  # fmt: skip
ODD = Schema(
    ("one", Boolean),
    ("texts", Array(String("utf-8"))),
    ("numbers", CompactArray(Int64)),
    ("bytes", Array(Bytes)),
    ("nested", CompactArray(CompactArray(CompactString("utf-8")))),
    ("tags", TaggedFields),
    ("last", CompactBytes),
)
SCHEMAS = {
    "none": Schema(),
    **{
        f"{what.__name__} {which}": schema
        for what in (*OURS, FetchRequest_v11, JoinGroupRequest_v5, SyncGroupRequest_v3, ProduceRequest_v7)
        for which, schema in (("request", what.SCHEMA), ("answer", what.RESPONSE_TYPE.SCHEMA))
    },
}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a schema or of a type in one, long and short."""
    if isinstance(kind, Schema):
        return st.tuples(*map(values, kind.fields))
    if isinstance(kind, Array):
        return st.none() | st.lists(values(kind.array_of), max_size=4)
    if isinstance(kind, String):
        return st.none() | st.text(max_size=5) | st.integers(120, 300).map("ü".__mul__)
    if kind in (Bytes, CompactBytes):
        return st.none() | st.binary(max_size=5) | st.integers(120, 70_000).map(bytes)
    if kind is Boolean:
        return st.booleans()
    if kind is TaggedFields:
        return st.just({})
    return st.integers(-(2 ** (BITS[kind] - 1)), 2 ** (BITS[kind] - 1) - 1)


def check(schema: Schema, given_values: Any) -> None:
    written = schema.encode(given_values)

    assert encoder(schema)(given_values) == written
    assert decoder(schema)(written) == schema.decode(BytesIO(written)) == given_values


@given(values(ODD))
def test_bytes_and_values_are_those_of_aiokafka(given_values: Any) -> None:
    check(ODD, given_values)


@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=20)
@given(data=st.data())
def test_so_they_are_with_every_schema_in_use(name: str, data: st.DataObject) -> None:
    check(SCHEMAS[name], data.draw(values(SCHEMAS[name])))


@given(given_values=values(ODD), cut=st.integers(1, 10))
def test_data_that_end_too_early_are_refused(given_values: Any, cut: int) -> None:
    written = ODD.encode(given_values)

    with pytest.raises(ValueError):
        decoder(ODD)(written[:-cut])


@given(st.binary(max_size=200))
def test_whatever_the_data_it_ends(data: bytes) -> None:
    for schema in (ODD, SCHEMAS["ProduceStruct answer"], FetchRequest_v11.RESPONSE_TYPE.SCHEMA):
        try:
            decoder(schema)(data)
        except ValueError:
            pass


def test_it_reads_on_from_where_the_data_are() -> None:
    data = BytesIO(b"header" + ODD.encode((True, None, [1], None, None, {}, b"x")))
    data.read(6)

    assert decoder(ODD)(data) == (True, None, [1], None, None, {}, b"x")


def test_tags_are_read() -> None:
    schema = Schema(("a", Int8), ("tags", TaggedFields), ("b", Int8))

    assert decoder(schema)(b"\x01\x02\x01\x03abc\x05\x01z\x07") == (1, {1: b"abc", 5: b"z"}, 7)


@pytest.mark.parametrize("given_values", [(1, 2), ("x",), (None,), (2**40,)])
def test_other_values_are_refused(given_values: Any) -> None:
    with pytest.raises(ValueError):
        encoder(Schema(("a", Int32)))(given_values)


def test_a_request_of_aiokafkas_is_quickened_once_in_all_its_versions() -> None:
    quicken(ListGroupsRequest)
    versions = ListGroupsRequest._CLASSES
    quicken(ListGroupsRequest)

    assert ListGroupsRequest._CLASSES is versions
    assert ListGroupsRequest().prepare({16: (0, 2)}).encode() == b""


def test_a_request_and_its_answer_are_what_they_were() -> None:
    request = compiled(FetchRequest_v11)
    made = request(-1, 100, 1, 1 << 20, 1, 7, 3, [("t", [(0, -1, 5, -1, 9)])], [("u", [1, 2])], "")
    read = request.RESPONSE_TYPE.decode(FetchRequest_v11.RESPONSE_TYPE(0, 0, 7, []).encode())

    assert made.encode() == FetchRequest_v11(*(made.__dict__[name] for name in made.SCHEMA.names)).encode()
    assert (read.session_id, read.topics, read.API_VERSION) == (7, [], 11)
    assert isinstance(read, FetchRequest_v11.RESPONSE_TYPE)
