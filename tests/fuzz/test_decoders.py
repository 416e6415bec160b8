"""No decoder raises anything but its own error, hangs or takes much memory, whatever the bytes.

`STREAMS_FUZZ_EXAMPLES=5000 pytest tests/fuzz` tries more of them.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .targets import TARGETS

EXAMPLES = int(os.environ.get("STREAMS_FUZZ_EXAMPLES", "150"))
HANGS_S = 600
"""All examples of a decoder take a fraction of that, or one of them hangs: then the process says where, and ends."""
MEMORY_BYTES_MAX = 1 << 30


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    """A hang ends the process, and a memory blow-up is a MemoryError, which no decoder may raise."""
    faulthandler.dump_traceback_later(HANGS_S, exit=True)
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES_MAX, hard))
        yield
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    else:
        yield
    faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=400))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
