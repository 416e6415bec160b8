"""Schemas may change only so that every version reads what every other has written.

`yesterday/` has each version of each schema there ever was and a record written by it. When a test here fails because
a schema has changed: put its earlier text into `schemas/past/`, run ``python -m tests.codec.keep_yesterday``, and
never change or remove a file in `yesterday/`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import avro.schema
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from streams.codec.avro import Codec, Schema, Schemas

from .samples import CODEC, SCHEMAS, example_of, plain, reference_read

YESTERDAY = sorted((Path(__file__).parent / "yesterday").glob("*.avsc"))
NAMES = sorted(SCHEMAS.current)


def compatible(reader: str, writer: str) -> bool:
    answer = ReaderWriterCompatibilityChecker().get_compatibility(avro.schema.parse(reader), avro.schema.parse(writer))
    return answer.compatibility is SchemaCompatibilityType.compatible


def fields(schema: Any, inside: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of every record in *schema*, under ``record.field``."""
    if isinstance(schema, list):
        for branch in schema:
            yield from fields(branch)
    elif isinstance(schema, dict):
        for field in schema.get("fields", ()):
            yield f"{schema['name']}.{field['name']}", field
            yield from fields(field["type"])
        yield from fields(schema.get("items"))
        if not isinstance(schema["type"], str):
            yield from fields(schema["type"])


@pytest.mark.parametrize("path", YESTERDAY, ids=lambda path: path.stem)
def test_yesterdays_bytes_are_read_with_todays_schemas(path):
    data = path.with_suffix(".bin").read_bytes()
    written_by = path.read_text(encoding="utf-8")
    name = path.stem.partition(".")[0]

    read_as, datum = CODEC.decode(data)

    assert read_as == name
    assert plain(datum) == reference_read(written_by, data[10:], SCHEMAS.current[name].text)


@pytest.mark.parametrize("path", YESTERDAY, ids=lambda path: path.stem)
def test_today_and_yesterday_read_each_other(path):
    today = SCHEMAS.current[path.stem.partition(".")[0]].text
    yesterday = path.read_text(encoding="utf-8")

    assert compatible(today, yesterday)
    assert compatible(yesterday, today)


@pytest.mark.parametrize("path", YESTERDAY, ids=lambda path: path.stem)
def test_fields_that_came_or_went_have_defaults(path):
    today = dict(fields(json.loads(SCHEMAS.current[path.stem.partition(".")[0]].text)))
    yesterday = dict(fields(json.loads(path.read_text(encoding="utf-8"))))

    both = {name.partition(".")[0] for name in today} & {name.partition(".")[0] for name in yesterday}
    changed = [
        field
        for name, field in (today | yesterday).items()
        if name.partition(".")[0] in both  # a record that came or went did so in a field that did
        and (name in today) != (name in yesterday)
    ]

    assert [field["name"] for field in changed if "default" not in field] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_version_of_a_schema_is_kept(name):
    kept = {path.stem for path in YESTERDAY}

    assert f"{name}.{SCHEMAS.current[name].fingerprint.hex()}" in kept, "see the top of this file"


@pytest.mark.parametrize("name", NAMES)
def test_a_field_with_default_can_come_and_one_without_cannot(name):
    text = SCHEMAS.current[name].text
    extended = json.loads(text)
    extended["fields"].append({"name": "tomorrow", "type": ["null", "string"], "default": None})
    tomorrow = Schema.parse(json.dumps(extended))
    datum = example_of(json.loads(text))
    codec = Codec(Schemas({**SCHEMAS.current, name: tomorrow}, (SCHEMAS.current[name],)))

    assert codec.decode(CODEC.encode(name, datum)) == (name, datum | {"tomorrow": None})
    assert compatible(tomorrow.text, text)
    assert compatible(text, tomorrow.text)

    del extended["fields"][-1]["default"]
    assert not compatible(json.dumps(extended), text)


@pytest.mark.parametrize("name", NAMES)
def test_schemas_keep_the_house_rules(name):
    schema = json.loads(SCHEMAS.current[name].text)

    assert (schema["namespace"], schema["name"]) == ("streams", name)
    assert "logicalType" not in SCHEMAS.current[name].text
    for where, field in fields(schema):
        assert field.get("doc"), f"{where} has no doc"
        # fastavro hands a default of this type out as text
        assert "bytes" not in field["type"] or field.get("default") is None, f"{where} has a default of bytes"
