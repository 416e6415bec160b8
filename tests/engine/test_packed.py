"""A table of packed states is a dict of them, only smaller."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from streams.codec.state import PACKED_BYTES
from streams.engine.packed import PackedStates

STATES = st.integers(0, 3).map(lambda n: bytes([n]) * PACKED_BYTES)
KEYS = st.one_of(
    st.integers(0, 40).map(lambda n: b"request-%d" % n),
    # anything may be in a request id, also the length and the beginning of another
    st.sampled_from([b"", b"a", b"\x00\x01a", b"xx\x00\x01a", b"\x00\x00", b"a" * 1024, b"\x00" * 35, b"\x01" * 30]),
    st.binary(max_size=4),
)
STEPS = st.lists(st.tuples(st.sampled_from(["put", "discard", "get"]), KEYS, STATES), max_size=200)


def assert_equal(packed: PackedStates, expected: dict[bytes, bytes]) -> None:
    assert dict(packed.items()) == expected
    assert len(packed) == len(list(packed.items())) == len(expected)
    assert {key: packed.get(key) for key in expected} == expected


@given(st.dictionaries(KEYS, STATES), STEPS)
def test_it_holds_what_a_dict_would(begun_with: dict[bytes, bytes], steps: list[tuple[str, bytes, bytes]]) -> None:
    packed, expected = PackedStates(begun_with), dict(begun_with)
    for step, key, state in steps:
        if step == "put":
            packed.put(key, state)
            expected[key] = state
        elif step == "discard":
            packed.discard(key)
            expected.pop(key, None)
        else:
            assert packed.get(key) == expected.get(key)
    assert_equal(packed, expected)


def test_a_bucket_has_a_handful_of_entries_however_many_there_are() -> None:
    """So the search takes the same time for the first and for the millionth."""
    added = PackedStates()
    for number in range(20_000):
        added.put(b"%d" % number, bytes(PACKED_BYTES))
    filled: Any = PackedStates({b"%d" % number: bytes(PACKED_BYTES) for number in range(20_000)})

    longest = max(map(len, [*added._buckets, *filled._buckets]))  # type: ignore[attr-defined]
    assert longest < 40 * (PACKED_BYTES + 7)
