"""No decoder raises anything but its own error, whatever the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_arbitrary_bytes(name: str, data: bytes) -> None:
    TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc3\x01",
        b"\x00\x00\x00\x00\x01",
        b"\xff" * 64,
        b"\xff" * 9 + b"\x01" + b"a",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"function":"f","payload":' + b"[" * 50_000,
        b"\x01\x03f\x00\x00" + b"\x00" * 100,
        b"9" * 100_000,
    ],
    ids=range(10),
)
def test_known_troublemakers(name: str, data: bytes) -> None:
    TARGETS[name](data)
