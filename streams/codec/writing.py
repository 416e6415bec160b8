"""A writer of Avro's binary encoding, made once per schema: a Python function for each of its records.

It writes what fastavro writes (the tests compare the two with the reference library) in less time than it: fastavro
validates a datum against every branch of a union before it writes one. Ours knows what our schemas have: a union is a
type or null, or one of several records, given as ``(full name, dict)``. For other schemas, add to `_Source`.

A datum that is not of its schema is a mistake of ours: it raises KeyError, ValueError, TypeError or AttributeError.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import count
from typing import Any, TypeAlias

from streams.codec.errors import AvroError

Writer: TypeAlias = Callable[[list[bytes], Any], None]
"""Appends a datum's bytes to the list."""


@lru_cache(maxsize=4096)
def long_bytes(number: int) -> bytes:
    """*number* as Avro's zig-zag varint. Raises ValueError when it does not fit 64 bits.

    Cached: attempts and sizes are small, and the same few milliseconds come up in every record of a busy worker.
    """
    rest = number << 1 if number >= 0 else ~(number << 1)
    if rest >> 64:
        raise ValueError(f"{number} does not fit 64 bits")
    varint = bytearray()
    while rest > 0x7F:
        varint.append(rest & 0x7F | 0x80)
        rest >>= 7
    varint.append(rest)
    return bytes(varint)


def string_bytes(text: str) -> bytes:
    """*text* as an Avro string."""
    raw = text.encode()
    return long_bytes(len(raw)) + raw


_SIZES_MAX = 1024
_SIZES = tuple(map(long_bytes, range(_SIZES_MAX)))
"""A look-up takes half as long as a cached call, and nearly every size is that small."""


@lru_cache(maxsize=256)
def _int_bytes(number: int) -> bytes:
    if not -0x80000000 <= number <= 0x7FFFFFFF:
        raise ValueError(f"{number} does not fit 32 bits")
    return long_bytes(number)


def writer(schema: Any) -> Writer:
    """The writer of *schema*, given as fastavro parses it. Raises AvroError for a type that we do not write yet."""
    source = _Source()
    root = source.function(schema)
    found: dict[str, Any] = {"long_bytes": long_bytes, "int_bytes": _int_bytes, "sizes": _SIZES}
    exec("\n".join(source.lines), found)
    write: Writer = found[root]
    return write


class _Source:
    """Python source that writes the data of one schema. Only names of our making and literals are in it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._named: dict[str, str] = {}
        self._numbers = count()

    def function(self, schema: Any) -> str:
        """The name of a function that appends a datum of *schema* to a list."""
        name = self._new("write")
        body = [f"def {name}(parts, datum):", "    add = parts.append"]
        if isinstance(schema, dict) and schema["type"] == "record":
            self._named[schema["name"]] = name
            for field in schema["fields"]:
                body += self._indented(self._field(field))
        else:
            body += self._indented(self._value(schema, "datum"))
        self.lines += body
        return name

    def _new(self, word: str) -> str:
        return f"{word}_{next(self._numbers)}"

    @staticmethod
    def _indented(lines: list[str]) -> list[str]:
        return [f"    {line}" for line in lines]

    def _field(self, field: Any) -> list[str]:
        name = field["name"]
        got = f"datum.get({name!r}, {field['default']!r})" if "default" in field else f"datum[{name!r}]"
        value = self._new("value")
        return [f"{value} = {got}", *self._value(field["type"], value)]

    def _value(self, schema: Any, value: str) -> list[str]:
        """Lines that append *value*, a variable."""
        if isinstance(schema, list):
            return self._union(schema, value)
        if isinstance(schema, dict):
            match schema["type"]:
                case "array":
                    return self._array(schema["items"], value)
                case "record":
                    return [f"{self.function(schema)}(parts, {value})"]
                case other:
                    schema = other
        match schema:
            case "string":
                return [f"{value} = {value}.encode()", *self._bytes(value)]
            case "bytes":
                return self._bytes(value)  # joining the parts refuses anything else
            case "long" | "int":
                return [f"add({schema}_bytes({value}))"]
        if schema in self._named:
            return [f"{self._named[schema]}(parts, {value})"]
        raise AvroError(f"Schemas with {schema} cannot be written yet.")

    def _bytes(self, value: str) -> list[str]:
        size = self._new("size")
        return [
            f"{size} = len({value})",
            f"add(sizes[{size}] if {size} < {_SIZES_MAX} else long_bytes({size}))",
            f"add({value})",
        ]

    def _array(self, items: Any, value: str) -> list[str]:
        item = self._new("item")
        written = [
            f"add(long_bytes(len({value})))",
            f"for {item} in {value}:",
            *self._indented(self._value(items, item)),
        ]
        return [f"if {value}:", *self._indented(written), "add(b'\\0')"]

    def _union(self, schema: list[Any], value: str) -> list[str]:
        others = [branch for branch in schema if branch != "null"]
        if len(others) == 1 and len(schema) == 2:
            null, other = long_bytes(schema.index("null")), long_bytes(schema.index(others[0]))
            written = [f"add({other!r})", *self._value(others[0], value)]
            return [f"if {value} is None:", f"    add({null!r})", "else:", *self._indented(written)]
        if others == schema and all(isinstance(branch, dict) and branch["type"] == "record" for branch in schema):
            name, record, branches = self._new("name"), self._new("record"), self._new("branches")
            known = {branch["name"]: (index, self.function(branch)) for index, branch in enumerate(schema)}
            table = ", ".join(f"{key!r}: ({long_bytes(index)!r}, {write})" for key, (index, write) in known.items())
            self.lines.append(f"{branches} = {{{table}}}")
            branch, write = self._new("branch"), self._new("write")
            return [
                f"{name}, {record} = {value}",
                f"{branch}, {write} = {branches}[{name}]",
                f"add({branch})",
                f"{write}(parts, {record})",
            ]
        raise AvroError(f"A union of {len(schema)} such types cannot be written yet.")
