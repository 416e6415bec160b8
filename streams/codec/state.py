"""The state of an invocation as the table keeps it: 30 bytes, and for long attempts a journal behind them.

An invocation that was cancelled while its record stood in a retry topic is kept until that record has come (`cancelled`
below): only then is it known for sure that nothing of it comes any more. Its time of acceptance is stored inverted, so
that versions without cancels take it for one that is too old to run.
"""

from __future__ import annotations

import struct
from typing import get_args

from streams.core.lifecycle import State, Status
from streams.errors import StreamsError

VERSION = 1

# version, status, executions, failures, attempt, throttles, accepted_at_ms, due_at_ms. Executions and failures are
# bounded by the policies' attempts; attempts and throttles only by the age.
_LAYOUT = struct.Struct(">BBHHIIqq")
PACKED_BYTES = _LAYOUT.size
_ACCEPTED_AT = 14
"""Where accepted_at_ms begins, with its sign."""
_STATUSES: tuple[Status, ...] = get_args(Status)
_CODES = {status: code for code, status in enumerate(_STATUSES)}
_OVER = (_CODES["succeeded"], _CODES["failed"])


class StateError(StreamsError):
    """Bytes in the table that this version cannot read."""


def pack(state: State, cancelled: bool = False) -> bytes:
    """*state* without its `last` outcome: 30 bytes, never empty.

    *cancelled*: it was cancelled, and its retry record is still to come. If it is not over, its end is to be written
    then.
    """
    return _LAYOUT.pack(
        VERSION,
        _CODES[state.status],
        state.executions,
        state.failures,
        state.attempt,
        state.throttles,
        ~state.accepted_at_ms if cancelled else state.accepted_at_ms,
        state.due_at_ms,
    )


def unpack(data: bytes) -> State:
    """The state that `pack` made *data* of, or the beginning of it. Raises StateError for another version or damage."""
    if len(data) < _LAYOUT.size or data[0] != VERSION or data[1] >= len(_STATUSES):
        raise StateError(_fault(data))
    _, code, executions, failures, attempt, throttles, accepted_at_ms, due_at_ms = _LAYOUT.unpack_from(data)
    if accepted_at_ms < 0:
        accepted_at_ms = ~accepted_at_ms
    return State(_STATUSES[code], attempt, executions, failures, throttles, accepted_at_ms, due_at_ms)


def is_cancelled(data: bytes) -> bool:
    """Whether *data* was packed as cancelled, with its retry record still to come."""
    return data[_ACCEPTED_AT] >= 0x80


def is_over(data: bytes) -> bool:
    """Whether the invocation whose packed state is *data* has ended and no record of it is to come. Cheaper than
    `unpack`.
    """
    return data[1] in _OVER and data[_ACCEPTED_AT] < 0x80


def ended_at_ms(data: bytes) -> int | None:
    """When the invocation whose packed state is *data* ended; None while it `is_over` not. Cheaper than `unpack`."""
    return int.from_bytes(data[22:30], "big") if is_over(data) else None


def _fault(data: bytes) -> str:
    if data and data[0] != VERSION:
        return f"The table has a state of version {data[0]}, this Streams reads {VERSION}: run the one that wrote it."
    return f"A state in the table is damaged: {len(data)} bytes instead of {_LAYOUT.size}, or an unknown status."
