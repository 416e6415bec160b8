"""What the table keeps of an invocation whose attempt takes long: its state and all that is needed to run it again.

Such an invocation does not hold its record's offset any longer, so after a crash or a rebalance it is this entry from
which the attempt is started again. The bytes are the packed state (`state`), the suspicion (`engine.careful`) and a
retry record (`retry`): count of headers, then name and value of each, then the event. Numbers are signed and have four
bytes; a null value has length -1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from streams.codec.errors import InputRejected
from streams.codec.retry import Headers, Origin, Waiting, read_retry
from streams.codec.state import PACKED_BYTES, StateError

_LENGTH = struct.Struct(">i")


@dataclass(frozen=True, slots=True)
class Journal:
    """An entry read back."""

    suspicion: int
    waiting: Waiting


def write_journal(packed: bytes, suspicion: int, headers: Headers, event: bytes) -> bytes:
    """The entry for a running invocation. *headers* as from `retry_headers`."""
    parts = [packed, _LENGTH.pack(suspicion), _LENGTH.pack(len(headers))]
    for name, value in headers:
        parts += (_sized(name.encode()), _LENGTH.pack(-1) if value is None else _sized(value))
    return b"".join((*parts, event))


def is_journal(data: bytes) -> bool:
    """Whether *data* is such an entry rather than a packed state alone."""
    return len(data) > PACKED_BYTES


def read_journal(data: bytes) -> Journal:
    """What `write_journal` wrote. Raises StateError for damaged bytes."""
    try:
        (suspicion,) = _LENGTH.unpack_from(data, PACKED_BYTES)
        (count,) = _LENGTH.unpack_from(data, PACKED_BYTES + _LENGTH.size)
        at = PACKED_BYTES + 2 * _LENGTH.size
        headers: Headers = []
        for _ in range(count):
            name, at = _read(data, at)
            value, at = _read(data, at)
            headers.append(((name or b"").decode(), value))
        # A retry record is read from a topic; this one was never on one.
        record = replace(Origin("", 0, 0, -1, None, tuple(headers)), value=data[at:])
        return Journal(suspicion, read_retry(record))
    except (struct.error, UnicodeDecodeError, InputRejected) as error:
        raise StateError(f"A journal entry in the table is damaged: {error}") from error


def _sized(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _read(data: bytes, at: int) -> tuple[bytes | None, int]:
    (size,) = _LENGTH.unpack_from(data, at)
    at += _LENGTH.size
    if size < 0:
        return None, at
    if at + size > len(data):
        raise struct.error("its end is missing")
    return data[at : at + size], at + size
