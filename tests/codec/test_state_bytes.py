"""The table's bytes."""

import struct
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.codec.state import StateError, ended_at_ms, is_cancelled, pack, unpack
from streams.core.lifecycle import State, Status
from streams.core.model import Outcome

from .samples import NOW

SHORTS = st.integers(0, 2**16 - 1)
COUNTS = st.integers(0, 2**32 - 1)
TIMES = st.integers(0, 2**63 - 1)
STATES = st.builds(State, st.sampled_from(get_args(Status)), COUNTS, SHORTS, SHORTS, COUNTS, TIMES, TIMES)


@given(STATES)
@settings(max_examples=50, deadline=None)
def test_what_was_packed_is_unpacked(state):
    data = pack(state)

    assert unpack(data) == unpack(data + b"journal") == state
    assert ended_at_ms(data) == (state.due_at_ms if state.is_over else None)
    assert len(data) == 30
    assert pack(replace(state, last=Outcome("throttled"))) == data


def test_the_layout_is_storage():
    state = State("running", 2, 1, 1, 3, NOW, NOW + 1)

    assert pack(state).hex() == "01010001000100000002000000030000019b76daa87b0000019b76daa87c"


@given(STATES)
@settings(max_examples=50, deadline=None)
def test_a_cancelled_one_is_not_over_before_its_retry_record_has_come(state):
    data = pack(state, cancelled=True)

    assert unpack(data) == state
    assert ended_at_ms(data) is None
    assert is_cancelled(data)
    assert not is_cancelled(pack(state))
    assert len(data) == 30


def test_a_version_without_cancels_takes_a_cancelled_one_for_too_old():
    """It reads the same layout, and finds that the invocation was accepted before 1970."""
    data = pack(State("waiting", 2, 1, 1, 0, NOW, NOW + 1), cancelled=True)

    assert struct.unpack(">BBHHIIqq", data) == (1, 0, 1, 1, 2, 0, -NOW - 1, NOW + 1)


def test_another_version_says_so():
    with pytest.raises(StateError, match="version 2, this Streams reads 1"):
        unpack(b"\x02" + bytes(29))


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01\x09" + bytes(28)])
def test_damaged_bytes_say_so(data):
    with pytest.raises(StateError, match="damaged"):
        unpack(data)


@given(st.binary(max_size=40) | st.binary(min_size=28, max_size=28).map(lambda data: b"\x01\x02" + data))
def test_any_bytes_are_a_state_or_an_error(data):
    try:
        assert pack(unpack(data), is_cancelled(data)) == data[:30]
    except StateError:
        pass
