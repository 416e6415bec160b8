"""A strict reader of Avro's binary encoding, made once per schema.

fastavro decodes quickly but not safely: it takes a negative branch number as counted from the end, accepts varints of
any length and trailing bytes, and a recursive schema (a registry may hand us one) makes it overrun the C stack. This
reader refuses all of that with the reason and the place, allocates nothing before it has seen the bytes, and takes
about as long as fastavro. It does not resolve schemas: `avro` lets fastavro do that, once the bytes are known to be
good.

Every reader is a function ``(data, at) -> (value, at)``. Reading behind the end raises IndexError, which means that
the data are truncated. Readers recurse as deep as the schema nests, never deeper: recursive types are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, TypeAlias

from streams.codec.errors import AvroError

Reader: TypeAlias = Callable[[bytes, int], tuple[Any, int]]

DEPTH_MAX = 32
"""Deepest nesting of types we read; ours nest 5 deep. It also stops recursive types."""

TYPES_MAX = 1000
"""Most types in a schema, each use of a named one counted: a page of definitions can otherwise mean billions."""

_FLOAT = struct.Struct("<f")
_DOUBLE = struct.Struct("<d")


def reader(canonical: Any) -> Reader:
    """The reader of a schema given as the JSON value of its parsing canonical form.

    Records become dicts; in a union of several records, each becomes ``(full name, dict)``.
    Raises AvroError for a schema that is recursive, too deep or too large, or has a type without any bytes outside of
    a union (with those, a few bytes of data could ask for any number of values).
    """
    return _Compiler().reader(canonical, 0)


def read_all(read: Reader, data: bytes, at: int) -> Any:
    """The value that fills *data* from *at* to the end. Raises AvroError for anything malformed."""
    try:
        value, end = read(data, at)
    except IndexError:
        raise AvroError(f"The data are truncated: {len(data)} bytes end in the middle of a value.") from None
    if end != len(data):
        raise AvroError(f"{len(data) - end} bytes are left over after the value, from byte {end} on.")
    return value


class _Compiler:
    """Makes the readers of one schema."""

    def __init__(self) -> None:
        self.named: dict[str, Any] = {}
        self.types = 0

    def reader(self, schema: Any, depth: int) -> Reader:
        self.types += 1
        if depth > DEPTH_MAX or self.types > TYPES_MAX:
            raise AvroError(f"The schema is recursive, or larger than {TYPES_MAX} types or {DEPTH_MAX} levels.")
        if isinstance(schema, list):
            return self.union(schema, depth)
        if isinstance(schema, str):
            return _PRIMITIVES.get(schema) or self.by_name(schema, depth)
        if schema["type"] == "array":
            return _array(self.reader(schema["items"], depth + 1))
        if schema["type"] == "map":
            return _map(self.reader(schema["values"], depth + 1))
        if "name" in schema:
            self.named[schema["name"]] = schema
            return self.by_name(schema["name"], depth)
        return self.reader(schema["type"], depth + 1)

    def by_name(self, name: str, depth: int) -> Reader:
        if name == "null":
            raise AvroError("The schema has the type null outside of a union.")
        schema = self.named.get(name)
        if schema is None:
            raise AvroError("The schema uses a type that it does not define.")
        if schema["type"] == "enum":
            return _enum(tuple(schema["symbols"]))
        if schema["type"] == "fixed":
            return _fixed(schema["size"])
        if not schema["fields"]:
            raise AvroError("The schema has a record without fields.")
        return _record(tuple((field["name"], self.reader(field["type"], depth + 1)) for field in schema["fields"]))

    def union(self, schema: list[Any], depth: int) -> Reader:
        branches = tuple(_null if branch == "null" else self.reader(branch, depth + 1) for branch in schema)
        names = tuple(self.record_name(branch) for branch in schema)
        several = len(names) - names.count(None) > 1
        return _union(branches, names if several else (None,) * len(names))

    def record_name(self, schema: Any) -> str | None:
        """The full name of *schema* if it is a record."""
        name = schema.get("name") if isinstance(schema, dict) else schema
        known = self.named.get(name) if isinstance(name, str) else None
        return name if known is not None and known["type"] in ("record", "error") else None


def _long(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    at += 1
    number = byte & 0x7F
    shift = 7
    while byte > 0x7F:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if shift > 63 and byte > 1:  # the tenth byte has room for one bit
            raise AvroError(f"The number before byte {at} does not fit 64 bits.")
    return (number >> 1) ^ -(number & 1), at


def _int(data: bytes, at: int) -> tuple[int, int]:
    number, end = _long(data, at)
    if not -0x80000000 <= number <= 0x7FFFFFFF:
        raise AvroError(f"The number at byte {at} does not fit 32 bits.")
    return number, end


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = _long(data, at)
    end = at + size
    if size < 0 or end > len(data):
        raise AvroError(f"A value of {size} bytes is announced at byte {at}, where {len(data) - at} bytes are left.")
    return data[at:end], end


def _string(data: bytes, at: int) -> tuple[str, int]:
    raw, end = _bytes(data, at)
    try:
        return raw.decode(), end
    except UnicodeDecodeError:
        raise AvroError(f"The string that ends at byte {end} is not UTF-8.") from None


def _boolean(data: bytes, at: int) -> tuple[bool, int]:
    if data[at] > 1:
        raise AvroError(f"The boolean at byte {at} is neither 0 nor 1.")
    return data[at] == 1, at + 1


def _unpacked(layout: struct.Struct) -> Reader:
    def read(data: bytes, at: int) -> tuple[float, int]:
        end = at + layout.size
        if end > len(data):
            raise IndexError
        return layout.unpack_from(data, at)[0], end

    return read


_PRIMITIVES: dict[str, Reader] = {
    "int": _int,
    "long": _long,
    "bytes": _bytes,
    "string": _string,
    "boolean": _boolean,
    "float": _unpacked(_FLOAT),
    "double": _unpacked(_DOUBLE),
}


def _null(data: bytes, at: int) -> tuple[None, int]:
    return None, at


def _fixed(size: int) -> Reader:
    if size < 1:
        raise AvroError("The schema has a fixed type without any bytes.")

    def read(data: bytes, at: int) -> tuple[bytes, int]:
        end = at + size
        if end > len(data):
            raise IndexError
        return data[at:end], end

    return read


def _enum(symbols: tuple[str, ...]) -> Reader:
    def read(data: bytes, at: int) -> tuple[str, int]:
        index, end = _long(data, at)
        if not 0 <= index < len(symbols):
            raise AvroError(f"Symbol {index} at byte {at}: the enum has {len(symbols)}.")
        return symbols[index], end

    return read


def _record(fields: tuple[tuple[str, Reader], ...]) -> Reader:
    def read(data: bytes, at: int) -> tuple[dict[str, Any], int]:
        record = {}
        for name, read_field in fields:
            record[name], at = read_field(data, at)
        return record, at

    return read


def _union(branches: tuple[Reader, ...], names: tuple[str | None, ...]) -> Reader:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        index, start = _long(data, at)
        if not 0 <= index < len(branches):
            raise AvroError(f"Branch {index} at byte {at}: the union has {len(branches)}.")
        value, end = branches[index](data, start)
        name = names[index]
        return (value if name is None else (name, value)), end

    return read


def _array(read_item: Reader) -> Reader:
    def read(data: bytes, at: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        count, at = _block(data, at)
        while count:
            for _ in range(count):
                item, at = read_item(data, at)
                items.append(item)
            count, at = _block(data, at)
        return items, at

    return read


def _map(read_value: Reader) -> Reader:
    def read(data: bytes, at: int) -> tuple[dict[str, Any], int]:
        values: dict[str, Any] = {}
        count, at = _block(data, at)
        while count:
            for _ in range(count):
                key, at = _string(data, at)
                values[key], at = read_value(data, at)
            count, at = _block(data, at)
        return values, at

    return read


def _block(data: bytes, at: int) -> tuple[int, int]:
    """How many items the block at *at* has. A negative count is followed by the block's size, which we do not need."""
    count, at = _long(data, at)
    if count < 0:
        _, at = _long(data, at)
    return abs(count), at
