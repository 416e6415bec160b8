"""What the functions of `streams demo` do. The same code serves all clouds; only their contexts differ."""

from __future__ import annotations

import asyncio
import ctypes
import resource
from typing import Any

_seen: set[str] = set()
"""Requests that this worker has failed once."""


async def succeed(event: object, context: Any) -> dict[str, object]:
    return {"greeting": "Hello, 世界", "request": _request_id(context)}


def succeed_in_thread(event: object, context: Any) -> str:
    """A plain `def` runs in a thread, where it may block."""
    return f"Hello from a thread, {_request_id(context)}"


async def fail_once(event: object, context: Any) -> dict[str, object]:
    """Fail the first attempt that this worker makes, which is the first one unless partitions change hands."""
    request_id = _request_id(context)
    if request_id not in _seen:
        _seen.add(request_id)
        raise ConnectionError("the database is restarting")
    return {"recovered": True}


async def fail(event: object, context: Any) -> None:
    raise ValueError("no such order")


async def hang(event: object, context: Any) -> None:
    """Wait for longer than the function may run."""
    await asyncio.sleep(3600)


async def take_time(event: object, context: Any) -> str:
    """With a reserved concurrency of 1, others are throttled meanwhile."""
    await asyncio.sleep(0.02)
    return "done"


def crash(event: object, context: Any) -> None:
    """Read address 0: the kernel ends the process (without a core dump)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def _request_id(context: Any) -> str:
    for name in ("aws_request_id", "request_id"):
        if hasattr(context, name):
            return str(getattr(context, name))
    return str(context.getRequestID())
