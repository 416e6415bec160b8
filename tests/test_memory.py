"""What is free is the system's again."""

from __future__ import annotations

import gc
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
