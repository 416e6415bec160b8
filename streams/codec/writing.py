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


def offset_bytes(offset: int) -> bytes:
    """As `long_bytes`, in half the time of one that is not cached: an offset comes only once, and most have three or
    four bytes.
    """
    rest = offset << 1
    if 0x4000 <= rest < 0x200000:
        return bytes((rest & 0x7F | 0x80, rest >> 7 & 0x7F | 0x80, rest >> 14))
    if 0x200000 <= rest < 0x10000000:
        return bytes((rest & 0x7F | 0x80, rest >> 7 & 0x7F | 0x80, rest >> 14 & 0x7F | 0x80, rest >> 21))
    return long_bytes(offset)


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


class _Part(str):
    """An expression, of bytes to append."""


class _Set(str):
    """A statement that gives a variable its value, once and for all."""


Code: TypeAlias = list[str]
"""`_Part`, `_Set`, and other lines, which append bytes themselves."""


class _Source:
    """Python source that writes the data of one schema. Only names of our making and literals are in it.

    It takes less time than what it looks like by hand: a record within a record is written in the same function, and
    parts that are always there are appended in one go.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._records: dict[str, Any] = {}
        """Schemas by name."""
        self._functions: dict[str, str] = {}
        """By the name of the record that they write."""
        self._numbers = count()

    def function(self, schema: Any) -> str:
        """The name of a function that appends a datum of *schema* to a list."""
        name = self._new("write")
        if isinstance(schema, dict) and schema["type"] == "record":
            self._functions[schema["name"]] = name
            code = self._record(schema, "datum")
        else:
            code = self._value(schema, "datum")
        self.lines += [f"def {name}(parts, datum):", *_indented(code)]
        return name

    def _new(self, word: str) -> str:
        return f"{word}_{next(self._numbers)}"

    def _record(self, schema: Any, record: str) -> Code:
        self._records[schema["name"]] = schema
        code: Code = []
        for field in schema["fields"]:
            name = field["name"]
            got = f"{record}.get({name!r}, {field['default']!r})" if "default" in field else f"{record}[{name!r}]"
            value = self._new("value")
            code += [_Set(f"{value} = {got}"), *self._value(field["type"], value)]
        return code

    def _value(self, schema: Any, value: str) -> Code:
        """What appends *value*, a variable."""
        if isinstance(schema, list):
            return self._union(schema, value)
        if isinstance(schema, dict):
            match schema["type"]:
                case "array":
                    return self._array(schema["items"], value)
                case "record":
                    return self._record(schema, value)
                case other:
                    schema = other
        match schema:
            case "string":
                raw = self._new("raw")
                return [_Set(f"{raw} = {value}.encode()"), *self._bytes(raw)]
            case "bytes":
                return self._bytes(value)  # joining the parts refuses anything else
            case "long" | "int":
                return [_Part(f"{schema}_bytes({value})")]
        if schema in self._records:
            if schema not in self._functions:
                self.function(self._records[schema])
            return [f"{self._functions[schema]}(parts, {value})"]
        raise AvroError(f"Schemas with {schema} cannot be written yet.")

    def _bytes(self, value: str) -> Code:
        size = self._new("size")
        return [
            _Set(f"{size} = len({value})"),
            _Part(f"sizes[{size}] if {size} < {_SIZES_MAX} else long_bytes({size})"),
            _Part(value),
        ]

    def _array(self, items: Any, value: str) -> Code:
        item = self._new("item")
        written = [
            _Part(f"long_bytes(len({value}))"),
            f"for {item} in {value}:",
            *_indented(self._value(items, item)),
        ]
        return [f"if {value}:", *_indented(written), _Part("b'\\0'")]

    def _union(self, schema: list[Any], value: str) -> Code:
        others = [branch for branch in schema if branch != "null"]
        if len(others) == 1 and len(schema) == 2:
            null, other = long_bytes(schema.index("null")), long_bytes(schema.index(others[0]))
            written = [_Part(repr(other)), *self._value(others[0], value)]
            return [f"if {value} is None:", *_indented([_Part(repr(null))]), "else:", *_indented(written)]
        if others == schema and all(isinstance(branch, dict) and branch["type"] == "record" for branch in schema):
            name, record, branches = self._new("name"), self._new("record"), self._new("branches")
            known = {branch["name"]: (index, self.function(branch)) for index, branch in enumerate(schema)}
            table = ", ".join(f"{key!r}: ({long_bytes(index)!r}, {write})" for key, (index, write) in known.items())
            self.lines.append(f"{branches} = {{{table}}}")
            branch, write = self._new("branch"), self._new("write")
            return [
                _Set(f"{name}, {record} = {value}"),
                _Set(f"{branch}, {write} = {branches}[{name}]"),
                _Part(branch),
                f"{write}(parts, {record})",
            ]
        raise AvroError(f"A union of {len(schema)} such types cannot be written yet.")


def _indented(code: Code) -> list[str]:
    """The lines of *code* as a block: one statement for all parts with nothing between them that appends."""
    lines: list[str] = []
    parts: list[str] = []
    for line in [*code, ""]:
        if isinstance(line, _Part):
            parts.append(line)
        elif isinstance(line, _Set):
            lines.append(line)
        else:
            if parts:
                lines.append(f"parts += ({', '.join(parts)},)")
                parts = []
            lines.append(line)
    return [f"    {line}" for line in lines if line]
