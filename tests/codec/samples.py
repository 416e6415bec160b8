"""What the codec's tests share: records as Kafka hands them out, and data of any schema."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import avro.io
import avro.schema
import fastavro
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import strategies as st

from streams.codec.avro import Codec, load_schemas

NOW = 1_767_225_600_123
SCHEMAS = load_schemas()
CODEC = Codec(SCHEMAS)


@dataclass(frozen=True, slots=True)
class Record:
    """A consumer record."""

    value: bytes | None = b""
    headers: Sequence[tuple[str, bytes | None]] = ()
    topic: str = "invocations"
    partition: int = 3
    offset: int = 77
    timestamp: int = NOW - 1000
    key: bytes | None = None


def batch_bytes(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> int:
    """The size of a Kafka batch with one record."""
    batch = DefaultRecordBatchBuilder(2, 0, True, 1, 1, 0, 2**30)
    batch.append(0, NOW, key, value, list(headers))
    return len(batch.build())


LONGS = st.integers(-(2**63), 2**63 - 1)
INTS = st.integers(-(2**31), 2**31 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)

_LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "int": INTS,
    "long": LONGS,
    "string": TEXTS,
    "bytes": st.binary(max_size=20),
}


def data_of(schema: Any) -> st.SearchStrategy[Any]:
    """Any datum of a schema (its JSON), spelled as fastavro takes it."""
    if isinstance(schema, list):
        several = sum(isinstance(branch, dict) and branch["type"] == "record" for branch in schema) > 1
        branches = [data_of(branch) for branch in schema]
        if several:
            branches = [
                branch.map(lambda datum, name=name: (name, datum))
                for branch, name in zip(branches, map(full_name, schema), strict=True)
            ]
        return st.one_of(branches)
    if isinstance(schema, str):
        return _LEAVES[schema]
    if schema["type"] == "record":
        return st.fixed_dictionaries({field["name"]: data_of(field["type"]) for field in schema["fields"]})
    if schema["type"] == "array":
        return st.lists(data_of(schema["items"]), max_size=4)
    return data_of(schema["type"])


def example_of(schema: Any) -> Any:
    """One datum of a schema, the same every time, with everything in it."""
    if isinstance(schema, list):
        return example_of(schema[-1])
    if isinstance(schema, str):
        return {"null": None, "int": -7, "long": NOW, "string": "naïve ☃", "bytes": b"\x00\xff{}"}[schema]
    if schema["type"] == "record":
        return {field["name"]: example_of(field["type"]) for field in schema["fields"]}
    if schema["type"] == "array":
        items = schema["items"]
        return [(full_name(b), example_of(b)) for b in items] if isinstance(items, list) else [example_of(items)]
    return example_of(schema["type"])


def full_name(schema: Mapping[str, Any]) -> str:
    return str(schema["name"] if "." in schema["name"] else f"streams.{schema['name']}")


def plain(datum: Any) -> Any:
    """*datum* as the reference library spells it: records in unions without their names."""
    if isinstance(datum, tuple):
        return plain(datum[1])
    if isinstance(datum, dict):
        return {name: plain(value) for name, value in datum.items()}
    if isinstance(datum, list):
        return [plain(item) for item in datum]
    return datum


def fastavro_write(name: str, datum: Any) -> bytes:
    """*datum* in bytes by fastavro, without framing."""
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, SCHEMAS.current[name].parsed, datum)
    return buffer.getvalue()


class _Writer(avro.io.DatumWriter):
    """The reference library's writer, told which branch to take: by itself it takes the first that might do."""

    def write_union(self, schema: Any, datum: Any, encoder: avro.io.BinaryEncoder) -> None:
        if not isinstance(datum, tuple):
            super().write_union(schema, datum, encoder)
            return
        index = [branch.fullname for branch in schema.schemas].index(datum[0])
        encoder.write_long(index)
        self.write_data(schema.schemas[index], datum[1], encoder)


def reference_write(schema: str, datum: Any) -> bytes:
    """*datum* in bytes by the reference library, without framing."""
    buffer = io.BytesIO()
    parsed = avro.schema.parse(schema)
    _Writer(parsed).write_data(parsed, datum, avro.io.BinaryEncoder(buffer))
    return buffer.getvalue()


def reference_read(writer: str, data: bytes, reader: str | None = None) -> Any:
    """What the reference library reads in *data*, which have no framing and end with the datum."""
    buffer = io.BytesIO(data)
    schemas = avro.schema.parse(writer), avro.schema.parse(reader or writer)
    datum = avro.io.DatumReader(*schemas).read(avro.io.BinaryDecoder(buffer))
    assert not buffer.read(1), "bytes are left over"
    return datum
