"""An event loop with simulated time, and processes in it that can be stopped and killed between any two callbacks.

When nothing is ready, the clock jumps to the next timer: ten hours of waiting take as long as what happens in them.
There is no input or output, so the order of all callbacks follows from the program alone; `Task.__hash__` keeps it so
where the engine puts tasks into sets.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, Literal

PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
"""The process whose callback is running; None for the world around them."""

WORLD = Context()
"""The context of callbacks that belong to no process: brokers, networks, supervisors."""


class Deadlock(Exception):
    """Nothing is ready and no timer is set, or time is up, and the main coroutine has not ended."""


class Killed(BaseException):
    """Unwinds the stack of a process that is dead; nothing it does on its way has effects outside of it."""


class Process:
    """Callbacks that stop and die together. What a process starts belongs to it."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.name = name
        self.state: Literal["running", "stopped", "dead"] = "running"
        self.context = copy_context()
        self.context.run(PROCESS.set, self)
        self._loop = loop
        self._waiting: list[asyncio.Handle] = []

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run *coroutine* in this process."""
        self._loop.create_task(coroutine, context=self.context)

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: object) -> None:
        """Call *callback* in this process; late if it is stopped then, never if it is dead."""
        self._loop.call_later(delay_s, callback, *args, context=self.context)

    def stop(self) -> None:
        """As SIGSTOP: nothing runs until `go_on`."""
        if self.state == "running":
            self.state = "stopped"

    def go_on(self) -> None:
        """As SIGCONT: everything that came due meanwhile runs now."""
        if self.state == "stopped":
            self.state = "running"
            self._loop.make_ready(self._waiting)
            self._waiting = []

    def kill(self) -> None:
        """As SIGKILL. In the process itself, nothing may run after it: see `die`."""
        self.state = "dead"
        self._waiting.clear()

    def die(self) -> None:
        """Kill the process in which this runs."""
        self.kill()
        raise Killed(self.name)

    def keep(self, handle: asyncio.Handle) -> None:
        """*handle* came due while the process does not run."""
        if self.state == "stopped":
            self._waiting.append(handle)


class Task(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address."""

    _log_destroy_pending: bool

    def __init__(self, coroutine: Coroutine[Any, Any, Any], *, serial: int, **options: Any) -> None:
        self.serial = serial
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self.serial


class VirtualLoop(asyncio.BaseEventLoop):
    """The event loop of one world."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[Any]

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []
        """What callbacks and tasks raised and nobody looked at."""
        self.turns = 0
        """Callbacks that have run."""
        self.turns_max = 1 << 60
        self.end_s = float("inf")
        self._now = 0.0
        self._tasks: list[Task] = []
        self._when_idle: list[Callable[[], None]] = []
        self.set_task_factory(self._new_task)
        self.set_exception_handler(self._report)

    def time(self) -> float:
        return self._now

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call *callback* when nothing is ready, before time goes on."""
        self._when_idle.append(callback)

    def make_ready(self, handles: list[asyncio.Handle]) -> None:
        """Run *handles* next."""
        self._ready.extend(handles)

    def close(self) -> None:
        """Close all that is still under way, without a word about it."""
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False
                with contextlib.suppress(RuntimeError, Killed):
                    task.get_coro().close()
        self._tasks.clear()
        super().close()

    def _new_task(self, _: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Task:
        task = Task(coroutine, serial=len(self._tasks), loop=self, **options)
        self._tasks.append(task)
        return task

    def _report(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Killed):
            self.errors.append(f"{context['message']}: {error!r}")

    def _run_once(self) -> None:
        """As `BaseEventLoop._run_once`, but time jumps and processes may be stopped or dead."""
        ready = self._ready
        if not ready:
            self._wait()
        for _ in range(len(ready)):
            handle: Any = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)
            if process is None or process.state == "running":
                self.turns += 1
                handle._run()
            else:
                process.keep(handle)

    def _wait(self) -> None:
        """Let time pass until something is ready."""
        if self._when_idle:
            callbacks, self._when_idle = self._when_idle, []
            for callback in callbacks:
                callback()
            return
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not scheduled:
            raise Deadlock
        self._now = max(self._now, scheduled[0]._when)
        if self._now > self.end_s or self.turns > self.turns_max:
            raise Deadlock
        while scheduled and scheduled[0]._when <= self._now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            self._ready.append(handle)

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""
