"""What is free is the system's again."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.memory import give_back


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """What other tests have left is not looked at, which would take a second."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_memory_between_what_is_still_used_goes_back() -> None:
    chunks = [bytes(100_000) for _ in range(500)]
    pins = [bytes(100_000) for _ in range(2)]  # the heap does not shrink below what is at its end
    held = _resident()

    del chunks
    give_back()

    assert len(pins) == 2
    assert held - _resident() > 20_000_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's")
@pytest.mark.parametrize(("apart", "goes_back"), [(True, True), (False, False)])
def test_large_memory_goes_back_when_it_is_freed(apart: bool, goes_back: bool) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FREE_LARGE_MEMORY, str(int(apart))], check=True, capture_output=True, text=True
    )

    assert (int(ended.stdout) > 40_000_000) is goes_back


FREE_LARGE_MEMORY = """
import sys
from pathlib import Path
from streams.memory import LARGE_BYTES, keep_large_apart

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "1":
    keep_large_apart()
freed = b"." * LARGE_BYTES
del freed  # glibc takes the next ones from its heap, if nobody tells it not to
chunks = [b"." * LARGE_BYTES for _ in range(200)]
pin = b"." * LARGE_BYTES  # the heap does not shrink below what is at its end
held = resident()
del chunks
print(held - resident())
"""


def test_garbage_of_any_age_is_collected() -> None:
    class Node:
        itself: object

    node = Node()
    node.itself = node
    gone = weakref.ref(node)
    gc.collect(1)  # it has grown old

    del node
    give_back()

    assert gone() is None


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
