"""Functions for the tests of this folder. Those of the contract exist twice: `def`, and `async def` with an ``a``."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from streams.invokers.context import LambdaContext


class Unspeakable(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise SystemExit(9)


def do(event: Any, context: LambdaContext) -> Any:
    """Calls the target that *event* names with what else is in it: processes are dear, one can play many parts."""
    name, argument = event
    return globals()[name](argument, context)


def echo(event: Any, context: LambdaContext) -> Any:
    return event


def nothing(event: Any, context: LambdaContext) -> None:
    return None


def fail(event: Any, context: LambdaContext) -> None:
    raise ValueError("no such ünit: 💥")


def fail_unspeakably(event: Any, context: LambdaContext) -> None:
    raise Unspeakable


def fail_in_groups(event: Any, context: LambdaContext) -> None:
    raise BaseExceptionGroup("many", [ValueError("one"), KeyboardInterrupt()])


def recurse(event: Any, context: LambdaContext) -> None:
    recurse(event, context)


def leave(event: Any, context: LambdaContext) -> None:
    sys.exit(event)


def interrupt(event: Any, context: LambdaContext) -> None:
    raise KeyboardInterrupt


def be_huge(event: Any, context: LambdaContext) -> str:
    return "x" * event


def be_unserializable(event: Any, context: LambdaContext) -> object:
    return object()


def hang(event: Any, context: LambdaContext) -> None:
    while True:
        time.sleep(0.001)


def fork(event: Any, context: LambdaContext) -> str:
    """Returns in two processes."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return "parent" if pid else "child"


def doze(event: Any, context: LambdaContext) -> None:
    time.sleep(0.05)


def describe(event: Any, context: LambdaContext) -> dict[str, Any]:
    return {
        "request": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "left": context.get_remaining_time_in_millis(),
    }


async def ado(event: Any, context: LambdaContext) -> Any:
    name, argument = event
    return await globals()["a" + name](argument, context)


async def aecho(event: Any, context: LambdaContext) -> Any:
    await asyncio.sleep(0)
    return event


async def anothing(event: Any, context: LambdaContext) -> None:
    return None


async def afail(event: Any, context: LambdaContext) -> None:
    await asyncio.sleep(0)
    fail(event, context)


async def afail_unspeakably(event: Any, context: LambdaContext) -> None:
    raise Unspeakable


async def afail_in_groups(event: Any, context: LambdaContext) -> None:
    fail_in_groups(event, context)


async def arecurse(event: Any, context: LambdaContext) -> None:
    await arecurse(event, context)


async def aleave(event: Any, context: LambdaContext) -> None:
    sys.exit(event)


async def ainterrupt(event: Any, context: LambdaContext) -> None:
    raise KeyboardInterrupt


async def abe_huge(event: Any, context: LambdaContext) -> str:
    return be_huge(event, context)


async def abe_unserializable(event: Any, context: LambdaContext) -> object:
    return object()


async def ahang(event: Any, context: LambdaContext) -> None:
    await asyncio.Event().wait()


async def adescribe(event: Any, context: LambdaContext) -> dict[str, Any]:
    return describe(event, context)


# -- only on the loop ------------------------------------------------------------------------------------------------

log: list[str] = []
"""What functions did; tests clear it."""


async def swallow(event: Any, context: LambdaContext) -> str:
    """Ignores its cancellation, and goes on waiting."""
    log.append("begun")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        log.append("cancelled")
    try:
        await asyncio.Event().wait()
    finally:
        log.append("closed")
    return "too late"


async def swallow_below(event: Any, context: LambdaContext) -> None:
    """Waits for a task that ignores its cancellation."""
    await asyncio.create_task(swallow(event, context))


async def spin(event: Any, context: LambdaContext) -> None:
    """Never waits for anything but its turn."""
    while True:  # noqa: ASYNC110  # that is the point
        await asyncio.sleep(0)


async def finish_when_cancelled(event: Any, context: LambdaContext) -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "cleaned up"
    return ""


async def raise_cancelled(event: Any, context: LambdaContext) -> None:
    await asyncio.sleep(0)
    raise asyncio.CancelledError("mine")


async def await_cancelled(event: Any, context: LambdaContext) -> None:
    task = asyncio.create_task(asyncio.sleep(3600))
    asyncio.get_running_loop().call_soon(task.cancel)
    await task


async def cancel_itself(event: Any, context: LambdaContext) -> str:
    """Cancels its task: *event* says before which wait, or at the end."""
    task = asyncio.current_task()
    assert task is not None
    if event == "wait":
        task.cancel()
        await asyncio.Event().wait()
    if event == "end after a wait":
        await asyncio.sleep(0)
    task.cancel()
    return "done"


async def time_itself_out(event: Any, context: LambdaContext) -> str:
    """Uses its own, shorter time limits, which cancel the task it runs in."""
    for _ in range(2):
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            log.append("timed out")
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))
    return "done"


# -- only in threads -------------------------------------------------------------------------------------------------

release = threading.Event()
"""Ends `block`."""
running = threading.Semaphore(0)
"""Counts the functions that have begun."""


def block(event: Any, context: LambdaContext) -> str:
    """Cannot be stopped by an exception, as it sits in a system call (or as good as)."""
    running.release()
    while True:
        try:
            release.wait()
        except BaseException:
            continue
        return "released"


def name_thread(event: Any, context: LambdaContext) -> int:
    return threading.get_ident()


def nap(event: Any, context: LambdaContext) -> Any:
    time.sleep(event)
    return event


# -- only in processes -----------------------------------------------------------------------------------------------


def crash(event: Any, context: LambdaContext) -> None:
    ctypes.string_at(0)


def exit_hard(event: Any, context: LambdaContext) -> None:
    os._exit(3)


def kill_itself(event: Any, context: LambdaContext) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ignore_signals(event: Any, context: LambdaContext) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    return os.getpid()


def print_garbage(event: Any, context: LambdaContext) -> int:
    """Writes to the socket to the parent, which has the lowest descriptor after stdin, stdout and stderr."""
    for descriptor in range(3, 4096):  # it keeps the number that it has in the parent, which may have many
        try:
            os.write(descriptor, b"\xff" * 4096)
        except OSError:
            continue
    return 0


def leave_a_process(event: Any, context: LambdaContext) -> None:
    """Forks a process that holds all descriptors open, and dies."""
    if os.fork() == 0:
        time.sleep(event)
        os._exit(0)
    os._exit(4)


def start_a_process(event: Any, context: LambdaContext) -> None:
    """Writes the pid of a process it starts to the file *event*, and hangs."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(event).write_text(f"{process.pid}\n")
    hang(event, context)


def stdin(event: Any, context: LambdaContext) -> str:
    return sys.stdin.read()


async def say_how_it_was_cancelled(event: Any, context: LambdaContext) -> list[str]:
    """Be cancelled by a task of its own, as libraries do that bound the time of a block (anyio): first while it waits
    for something, then while it only lets others go first.
    """
    task = asyncio.current_task()
    assert task is not None
    words = []
    for wait in (lambda: asyncio.Event().wait(), lambda: asyncio.sleep(0), lambda: asyncio.shield(_forever())):
        asyncio.get_running_loop().call_soon(task.cancel, f"word {len(words)}")
        try:
            while True:
                await wait()
        except asyncio.CancelledError as error:
            words += error.args
            task.uncancel()
    return words


async def _forever() -> None:
    await asyncio.Event().wait()
