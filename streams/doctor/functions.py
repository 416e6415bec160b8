"""The function that doctor's workers run. Every execution writes down that it began and that it ended.

A line is on the disk before the function goes on, so neither a killed worker nor a killed machine takes an execution
with it: ``began`` or ``ended``, the request id, the time in milliseconds. Each process has a file of its own, whose
name is the process's. A function does not know which attempt it is, in the clouds as here: `executions` counts.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import time
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = "STREAMS_DOCTOR_FOLDER"
"""Environment variable: where to write."""
EXECUTIONS, FAILED = "executions", "failed"
"""Folders in there: the files, and an empty one for each request that has failed once."""


DEATHS: dict[str, Callable[[], object]] = {
    "crash": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(3),
    "use up memory": lambda: os.kill(os.getpid(), signal.SIGKILL),  # as the kernel does then
}
"""Ways to take the whole worker along."""


async def work(event: Any, context: Any) -> object:
    """What the event says: ``{"ms": time to take, "do": "succeed" | "fail" | "fail once" | one of `DEATHS`}``."""
    if isinstance(event, bytes):
        event = json.loads(event)
    request_id, diary = _request_id(context), _diary()
    await diary.write("began", request_id)
    try:
        await asyncio.sleep(event["ms"] / 1000)
        if event["do"] in DEATHS:
            DEATHS[event["do"]]()
        fails = event["do"] == "fail" or (event["do"] == "fail once" and _is_first(request_id))
    finally:
        diary.note("ended", request_id)  # also when it is cut short: then its partition is another worker's
    await diary.synced()
    if fails:
        raise ValueError("this had to fail")
    return event


def _request_id(context: Any) -> str:
    for name in ("aws_request_id", "request_id"):
        if hasattr(context, name):
            return str(getattr(context, name))
    return str(context.getRequestID())


def _is_first(request_id: str) -> bool:
    """Whether no process has failed this request before."""
    try:
        os.close(os.open(Path(os.environ[FOLDER]) / FAILED / request_id, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


@cache
def _diary() -> Diary:
    return Diary(Path(os.environ[FOLDER]) / EXECUTIONS / f"{os.getpid()}-{uuid.uuid4().hex[:8]}")


class Diary:
    """A file of lines. One `fsync`, in a thread, serves all who wait for theirs: the loop goes on meanwhile."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._syncing = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None

    async def write(self, what: str, request_id: str) -> None:
        """Write a line; it is on the disk on return."""
        self.note(what, request_id)
        await self.synced()

    def note(self, what: str, request_id: str) -> None:
        """Write a line. It outlives this process; `synced` makes it outlive the machine."""
        os.write(self._file, f"{what} {request_id} {time.time_ns() / 1e6}\n".encode())

    async def synced(self) -> None:
        """Return when all lines written so far are on the disk."""
        if self._next is None:
            self._next = asyncio.create_task(self._sync())
        await asyncio.shield(self._next)

    async def _sync(self) -> None:
        async with self._syncing:
            self._next = None  # too late for lines that are written from now on
            await asyncio.to_thread(os.fsync, self._file)
