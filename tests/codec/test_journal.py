"""Journal entries: the table's memory of an attempt that takes long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.codec.envelope import Invocation
from streams.codec.journal import is_journal, read_journal, write_journal
from streams.codec.retry import Origin, retry_headers
from streams.codec.state import PACKED_BYTES, StateError, ended_at_ms, pack, unpack
from streams.core.lifecycle import State

STATE = State("running", 2, 1, 1, 0, 1_700_000_000_000, 1_700_000_060_000)
ORIGIN = Origin(
    "invocations", 3, 17, 1_700_000_000_000, b"key", (("function", b"f"), ("note", None), ("\u00e9", b"\xff"))
)
RESOURCE = "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST"


def entry(event: bytes = b'{"a": 1}') -> bytes:
    invocation = Invocation("id-1", RESOURCE, "$LATEST", event, STATE.accepted_at_ms, STATE.due_at_ms, 1, None)
    return write_journal(pack(STATE), 2, retry_headers(invocation, STATE, RESOURCE, "$LATEST", 0, ORIGIN), event)


@given(st.binary(max_size=200))
def test_what_was_written_is_read(event: bytes) -> None:
    journal = read_journal(entry(event))
    waiting = journal.waiting

    assert journal.suspicion == 2
    assert waiting.invocation.event == event
    assert waiting.invocation.function == RESOURCE
    assert waiting.origin == ORIGIN
    assert (waiting.state.attempt, waiting.state.executions, waiting.state.failures) == (2, 1, 1)


def test_the_state_in_front_is_readable_by_itself() -> None:
    data = entry()

    assert is_journal(data)
    assert not is_journal(pack(STATE))
    assert unpack(data) == STATE
    assert ended_at_ms(data) is None


@given(st.integers(PACKED_BYTES + 1, len(entry(b"")) - 1))
def test_damage_is_named(size: int) -> None:
    with pytest.raises(StateError):
        read_journal(entry(b"")[:size])
