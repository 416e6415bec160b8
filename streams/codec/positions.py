"""Offsets up to which the sources are done, as the changelog keeps them beside the states.

Kafka forgets the offsets of a group a week after its last member has left (`offsets.retention.minutes`), and anybody
can delete them. What was read before would be read again then, long after it has been forgotten here.

A topic that is made anew has another id, and what is known of the old one says nothing of it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

_PREFIX = b"\xff"
"""Begins no request id: those are UTF-8."""
_KEY = struct.Struct(">cqq")
_VALUE = struct.Struct(">q")


class TopicId(NamedTuple):
    """A topic's UUID, as two numbers."""

    high: int
    low: int


def position_key(topic: TopicId) -> bytes:
    """The key under which a partition's changelog has its offset in *topic*."""
    return _KEY.pack(_PREFIX, *topic)


def position_value(offset: int) -> bytes:
    """The next *offset* to read."""
    return _VALUE.pack(offset)


def is_position(key: bytes) -> bool:
    """Whether a changelog has an offset under *key*, and not a state."""
    return key[:1] == _PREFIX


def read_positions(table: Mapping[bytes, bytes]) -> dict[bytes, int]:
    """The offsets in *table* by their keys there."""
    return {key: _VALUE.unpack(table[key])[0] for key in table if is_position(key)}
