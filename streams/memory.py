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


def settle() -> None:
    """What is loaded now lives as long as the process: the collector looks at the rest only, and not as often.

    A full collection would look at 80,000 objects else, and nothing is served for those 35 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


async def give_back_memory() -> None:
    """Do so every minute, for ever."""
    while True:
        await asyncio.sleep(EVERY_S)
        give_back()


def give_back() -> None:
    """Collect garbage of any age, and return free memory to the system where the C library can."""
    gc.collect()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """glibc's function; other C libraries have none, and no need of it."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return trim
