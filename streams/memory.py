"""Long-lived processes do not look again and again at what stays, and give back what they need no more.

A backlog, or a state that is read, leaves holes behind in the C library's heap, which glibc keeps, and garbage in
cycles that has grown old: Python's collector would look at it again after hours. Without this a worker stays as large
as it ever was, and grows with every rebalance.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import Callable
from functools import cache

EVERY_S = 60.0
"""Takes milliseconds each time, more only while very much is in flight."""
LARGE_BYTES = 256 << 10
"""What is at least as large has pages of its own, which go back as soon as it is freed."""
_FREE_BYTES_MAX = 1 << 20
"""So much may be free at the end of the C library's heap."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""


def settle() -> None:
    """What is loaded now lives as long as the process: the collector looks at the rest only, and not as often.

    A full collection would look at 80,000 objects else, and nothing is served for those 35 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    keep_large_apart()


def keep_large_apart() -> None:
    """Large memory does not come from the C library's heap, where it can.

    glibc would put there what it has seen freed before, up to 32 MB: each recovery left 10 MB until the next minute.
    """
    set_parameter = _c_function("mallopt")
    if set_parameter is not None:
        set_parameter(_MMAP_THRESHOLD, LARGE_BYTES)
        set_parameter(_TRIM_THRESHOLD, _FREE_BYTES_MAX)


async def give_back_memory() -> None:
    """Do so every minute, for ever."""
    while True:
        await asyncio.sleep(EVERY_S)
        give_back()


def give_back() -> None:
    """Collect garbage of any age, and return free memory to the system where the C library can."""
    gc.collect()
    trim = _c_function("malloc_trim")
    if trim is not None:
        trim(0)


@cache
def _c_function(name: str) -> Callable[..., int] | None:
    """glibc's function; other C libraries have none, and no need of it."""
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
    return function
