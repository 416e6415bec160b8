"""The functions that the workers of these tests run. Each execution writes down that it began and that it ended.

A line is with the kernel before the function goes on, so a worker that is killed takes none with it (only the machine
could; waiting for the disk would block the worker's loop for seconds when thousands run): ``began`` or ``ended``, the
request id, a name for the process, the time in milliseconds. A function does not know which attempt it is, in the
clouds as here; `Deployment.executions` counts.
"""

import asyncio
import ctypes
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["EXECUTIONS"])
"""Holds ``log``, and a file for each id that counts how often it was tried (`tries`)."""

PROCESS = uuid.uuid4().hex[:12]

_log = os.open(FOLDER / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


@contextmanager
def recorded(context: Any) -> Iterator[str]:
    """Write down an execution; gives its request id. A process that dies within leaves no end."""
    request_id = _request_id(context)
    _write("began", request_id)
    try:
        yield request_id
    finally:
        _write("ended", request_id)


def _request_id(context: Any) -> str:
    if hasattr(context, "aws_request_id"):
        return context.aws_request_id
    return context.getRequestID() if hasattr(context, "getRequestID") else context.request_id


def _write(what: str, request_id: str) -> None:
    os.write(_log, f"{what} {request_id} {PROCESS} {time.time_ns() / 1e6}\n".encode())


def tries(request_id: str) -> int:
    """How often this was called for *request_id*, by whatever process."""
    with (FOLDER / request_id).open("ab") as counter:
        counter.write(b".")
        counter.flush()
        return os.fstat(counter.fileno()).st_size


async def until_open(gate: str) -> None:
    """Wait until the test makes the file *gate*."""
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240  # there is no event between processes
        await asyncio.sleep(0.01)


async def echo(event: Any, context: Any) -> Any:
    with recorded(context):
        return event


async def work(event: Any, context: Any) -> Any:
    """What the event says: ``{"ms": wait, "gate": wait for the test, "failures": fail so often}``, all optional."""
    if isinstance(event, bytes):
        event = json.loads(event)
    with recorded(context) as request_id:
        await asyncio.sleep(event.get("ms", 0) / 1000)
        if "gate" in event:
            await until_open(event["gate"])
        if event.get("failures") and tries(request_id) <= event["failures"]:
            raise ValueError("no luck")
        return event


def work_in_thread(event: Any, context: Any) -> Any:
    with recorded(context):
        time.sleep(event.get("ms", 0) / 1000)
        return event


async def fail(event: Any, context: Any) -> None:
    with recorded(context):
        raise ValueError("no luck")


async def dawdle(event: Any, context: Any) -> None:
    with recorded(context):
        await asyncio.Event().wait()


async def leave(event: Any, context: Any) -> None:
    with recorded(context):
        sys.exit(3)


def crash(event: Any, context: Any) -> None:
    with recorded(context):
        ctypes.string_at(0)


async def be_huge(event: Any, context: Any) -> str:
    with recorded(context):
        return "x" * 7_000_000


async def be_no_json(event: Any, context: Any) -> float:
    with recorded(context):
        return float("nan")


async def greet(event: Any, context: Any) -> str:
    with recorded(context):
        return "hello"


async def introduce(event: Any, context: Any) -> dict[str, Any]:
    """What an AWS function is told of itself."""
    with recorded(context):
        return {"request_id": context.aws_request_id, "arn": context.invoked_function_arn, "event": event}
