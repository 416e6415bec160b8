"""What all invokers share: the call they get, deadlines, and how an exception or an exit becomes a value."""

from __future__ import annotations

import asyncio
import signal
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from streams.core.model import FunctionFailure, Outcome

FRAMES_MAX = 100
"""Innermost stack frames of an error that are kept: a function may recurse as deep as it likes."""

MESSAGE_CHARS_MAX = 65_536
"""Of an exception's message. Results are bounded by their provider; this keeps errors from being larger still."""

RESPONSE_BYTES_MAX = 32 * 1024 * 1024
"""No more of a response is ever read into this process: the largest that any provider allows (FC, synchronous). What a
provider allows of it is for `Provider.returned_bytes` to say."""

_OUR_FOLDER = str(Path(__file__).parent)

NOT_STARTED = Outcome("system_error", 503, error_type="NotStarted", error_message="its turn came too late")
"""It had to wait for a thread, a process or a connection, and was not to start any more when it got one."""

T = TypeVar("T")


def _always() -> bool:
    return True


@dataclass(slots=True)
class Call:
    """One attempt at running a function. Not frozen: that would make it five times as dear to build."""

    request_id: str
    payload: bytes
    event: object
    """What `Provider.read_event` made of *payload*."""
    attempt: int
    """Counted from 1."""
    accepted_at_ms: int
    traceparent: str | None = None
    """W3C trace context of the invocation."""
    may_start: Callable[[], bool] = _always
    """Asked when its turn comes, by runners that let calls wait for one."""


Runner: TypeAlias = Callable[[Call], Awaitable[Outcome]]
"""Runs one attempt of one function. It never raises: every ending is an Outcome. Only CancelledError passes through,
when the awaiting task is cancelled from outside. Await it in a task of its own: an `async def` function runs in it."""


class Deadlines(Generic[T]):
    """Items that all get the same time, *delay_s*; *overdue* is called with each that is not discarded by then.

    With one delay for all, items fall due in the order they came: one timer, set for the first of them, serves
    thousands of calls, and a call costs two dictionary operations (0.3 us; `asyncio.timeout` costs 5).
    """

    def __init__(self, delay_s: float, overdue: Callable[[T], None], loop: asyncio.AbstractEventLoop) -> None:
        self._delay_s = delay_s
        self._overdue = overdue
        self._loop = loop
        self._due: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: T) -> None:
        """Start the clock for *item*."""
        due = self._due[item] = self._loop.time() + self._delay_s
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._tick)

    def discard(self, item: T) -> None:
        """*item* is done. (The timer stays; it finds nothing to do, or waits for the next item.)"""
        self._due.pop(item, None)

    def close(self) -> list[T]:
        """Stop the clock. Returns the items for which it was running."""
        if self._timer is not None:
            self._timer.cancel()
        items = list(self._due)
        self._due.clear()
        return items

    def _tick(self) -> None:
        now = self._loop.time()
        self._timer = None
        overdue = []
        for item, due in self._due.items():
            if due > now:
                self._timer = self._loop.call_at(due, self._tick)
                break
            overdue.append(item)
        for item in overdue:
            del self._due[item]
            self._overdue(item)


def timed_out(timeout_ms: int) -> FunctionFailure:
    """The function did not end within *timeout_ms*."""
    return FunctionFailure(cause="timed_out", timeout_ms=timeout_ms)


def raised(error: BaseException) -> FunctionFailure:
    """The function let *error* out. `sys.exit` and Ctrl-C end a cloud's runtime process, so they are exits."""
    if isinstance(error, SystemExit):
        return exited(_exit_status(error.code))
    if isinstance(error, KeyboardInterrupt):
        return exited(-signal.SIGINT)
    return FunctionFailure(
        cause="raised", error_type=type(error).__name__, message=_message(error), trace=_trace(error)
    )


def exited(status: int) -> FunctionFailure:
    """The function's process ended with *status*: an exit status, or the negative number of a signal."""
    if status < 0:
        return FunctionFailure(cause="exited", exit=f"signal: {_signal_name(-status)}")
    return FunctionFailure(cause="exited", exit=f"exit status {status}" if status else "")


def _exit_status(code: object) -> int:
    """What the interpreter would exit with: None is success, any other object is printed and means 1."""
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1


def _signal_name(number: int) -> str:
    """The kernel's name, lower case, as Lambda's runtime writes it: ``segmentation fault``."""
    name = signal.strsignal(number) or f"signal {number}"
    return name.split(":")[0].lower()  # macOS appends the number


def _message(error: BaseException) -> str:
    try:
        return str(error)[:MESSAGE_CHARS_MAX]
    except BaseException:  # a broken __str__ may raise anything at all
        return f"<unprintable {type(error).__name__} object>"


def _trace(error: BaseException) -> tuple[str, ...]:
    """Formatted frames of the function; those of this package, which are the outermost, left out."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OUR_FOLDER):
        frames = frames.tb_next
    return tuple(traceback.format_list(traceback.extract_tb(frames, limit=-FRAMES_MAX)))
