"""Avro with framing: every record on our topics says which schema wrote it.

Two framings, both read, one of them written:

- single-object encoding (``C3 01`` and the CRC-64-AVRO fingerprint of the writer's schema, little-endian), for readers
  that hold the files in `schemas/`;
- the schema registry's (``00`` and the four bytes of the schema's id in the registry, big-endian), for topics whose
  schema is registered.

A schema that changes keeps its earlier text under `schemas/past/`: what was written yesterday is read with yesterday's
schema and resolved to today's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import avro.schema
import fastavro

from streams.codec.binary import Reader, read_all, reader
from streams.codec.errors import AvroError, SchemaNeeded
from streams.codec.writing import Writer, writer
from streams.errors import ConfigurationError

Encode: TypeAlias = Callable[[Mapping[str, Any]], bytes]
Lookup: TypeAlias = Callable[[int], str | None]

SINGLE_OBJECT = b"\xc3\x01"
REGISTRY = b"\x00"

_NO_IDS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema, parsed by the reference library."""

    name: str
    """Without namespace: ``Facts``."""
    text: str
    """As in its file, documentation included."""
    fingerprint: bytes
    """CRC-64-AVRO of its parsing canonical form, little-endian."""
    parsed: Any = field(repr=False, compare=False)
    """What fastavro takes."""
    read: Reader = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Schema:
        """Raises AvroError for anything that is not a schema of a record, or not one we can read safely."""
        try:
            schema = avro.schema.parse(text)
            canonical = json.loads(schema.canonical_form)
            fingerprint = schema.fingerprint()
            parsed = fastavro.parse_schema(json.loads(text))
        except Exception as error:  # the text may come from a registry, and neither library names all that it raises
            raise AvroError(f"The schema cannot be parsed ({type(error).__name__}): {error}") from error
        if not isinstance(canonical, dict) or canonical["type"] != "record":
            raise AvroError("The schema is not one of a record.")
        name = canonical["name"].rpartition(".")[2]
        return cls(name, text, fingerprint, parsed, reader(canonical))


@dataclass(frozen=True, slots=True)
class Schemas:
    """The schemas in `schemas/`."""

    current: Mapping[str, Schema]
    """By name; we write these."""
    past: tuple[Schema, ...] = ()
    """Earlier versions; we still read these."""


@cache
def load_schemas() -> Schemas:
    """The schemas of this installation. Raises ConfigurationError when they are missing or broken."""
    folder = _folder()
    current = {schema.name: schema for schema in _files(folder)}
    past = folder.joinpath("past")
    return Schemas(MappingProxyType(current), tuple(_files(past)) if past.is_dir() else ())


@lru_cache(maxsize=64)
def _writer(schema: Schema) -> Writer:
    """Compiled once, however many codecs there are. Raises AvroError for what we do not write."""
    return writer(schema.parsed)


class Codec:
    """Encodes and decodes with `schemas`.

    *ids* says under which id the schema of a topic is registered; other topics get single-object encoding. *lookup*
    gives the text of a schema by its id, or None while it has not been fetched (`Registry.fetched`); None: there is
    no registry.
    """

    def __init__(self, schemas: Schemas, ids: Mapping[str, int] = _NO_IDS, lookup: Lookup | None = None) -> None:
        self._current = schemas.current
        self._ids = ids
        self._lookup = lookup
        self._writers = {name: _writer(schema) for name, schema in schemas.current.items()}
        known = (*schemas.past, *schemas.current.values())
        self._by_fingerprint = {schema.fingerprint: self._decoder(schema) for schema in known}
        self._by_id: dict[int, _Decoder] = {}

    def prefix(self, schema_name: str, topic: str | None = None) -> bytes:
        """The framing with which records of *schema_name* begin on *topic*."""
        schema_id = self._ids.get(topic) if topic is not None else None
        if schema_id is None:
            return SINGLE_OBJECT + self._current[schema_name].fingerprint
        return REGISTRY + schema_id.to_bytes(4, "big")

    def encoder(self, schema_name: str, topic: str | None = None) -> Encode:
        """A function that encodes records of *schema_name* for *topic*; make it once, use it often.

        A datum that is not of the schema is a mistake of ours and raises what `writing` says.
        """
        write = self._writers[schema_name]
        prefix = self.prefix(schema_name, topic)

        def encode(datum: Mapping[str, Any]) -> bytes:
            parts = [prefix]
            write(parts, datum)
            return b"".join(parts)

        return encode

    def encode(self, schema_name: str, datum: Mapping[str, Any], topic: str | None = None) -> bytes:
        """*datum* as a record of *schema_name* for *topic*; see `encoder`."""
        return self.encoder(schema_name, topic)(datum)

    def decode(self, data: bytes) -> tuple[str, dict[str, Any]]:
        """The name of the record's schema and the record, as our version of the schema has it.

        Raises SchemaNeeded when the writer's schema is to be fetched first, AvroError for anything malformed.
        """
        if data.startswith(SINGLE_OBJECT):
            return self._fingerprinted(data[2:10])(data, 10)
        if data.startswith(REGISTRY):
            if len(data) < 5:
                raise AvroError("The data are truncated: they end before the schema's id.")
            return self._registered(int.from_bytes(data[1:5], "big"))(data, 5)
        raise AvroError("The data begin neither with C3 01 (single-object encoding) nor with 00 (schema registry).")

    def _fingerprinted(self, fingerprint: bytes) -> _Decoder:
        decoder = self._by_fingerprint.get(fingerprint)
        if decoder is not None:
            return decoder
        if len(fingerprint) < 8:
            raise AvroError("The data are truncated: they end before the schema's fingerprint.")
        raise AvroError(f"No schema of this version has the fingerprint {fingerprint.hex()}; did a newer one write it?")

    def _registered(self, schema_id: int) -> _Decoder:
        decoder = self._by_id.get(schema_id)
        if decoder is not None:
            return decoder
        if self._lookup is None:
            raise AvroError(f"The data name schema {schema_id} of a schema registry, and none is configured.")
        text = self._lookup(schema_id)
        if text is None:
            raise SchemaNeeded(schema_id)
        decoder = self._by_id[schema_id] = self._decoder(Schema.parse(text))
        return decoder

    def _decoder(self, written_by: Schema) -> _Decoder:
        ours = self._current.get(written_by.name)
        if ours is None:
            raise AvroError(f"The writer's schema is {written_by.name}, which is none of {', '.join(self._current)}.")
        return _Decoder(written_by, ours)


@dataclass(frozen=True, slots=True)
class _Decoder:
    """Reads what *writer* wrote as *ours* has it."""

    writer: Schema
    ours: Schema

    def __call__(self, data: bytes, at: int) -> tuple[str, dict[str, Any]]:
        datum = read_all(self.writer.read, data, at)
        if self.writer.fingerprint != self.ours.fingerprint:
            datum = self._resolved(data, at)
        return self.ours.name, datum

    def _resolved(self, data: bytes, at: int) -> Any:
        try:
            return fastavro.schemaless_reader(
                BytesIO(data[at:]),
                self.writer.parsed,
                self.ours.parsed,
                return_record_name=True,
                return_record_name_override=True,  # name a record only in a union of several
            )
        except Exception as error:  # the bytes are good, so the schemas disagree; fastavro has no one word for that
            # Its message speaks of schemas only, the others' may quote data.
            fault = error if isinstance(error, fastavro.read.SchemaResolutionError) else type(error).__name__
            raise AvroError(f"The writer's {self.writer.name} cannot be read as ours: {fault}") from None


def _folder() -> Traversable:
    """`streams/schemas` in a wheel, `schemas` beside `streams` in a checkout."""
    packaged = resources.files("streams").joinpath("schemas")
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "schemas"


def _files(folder: Traversable) -> Iterator[Schema]:
    try:
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            if file.name.endswith(".avsc"):
                yield Schema.parse(file.read_text(encoding="utf-8"))
    except (OSError, AvroError) as error:
        raise ConfigurationError(f"The schemas in {folder} cannot be read; install Streams anew. {error}") from error
