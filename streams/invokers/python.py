"""Python callables: finding them, `async def` on the event loop, `def` in threads.

**On the loop.** A call runs inside the task that awaits its runner; a task of its own would cost as much again as all
the rest (4 us instead of 1). Two things then need care. *Time*: a function may swallow the CancelledError that its
deadline throws in, or wait for something that does. So the task never waits for the function's futures, but for one of
ours (`_Attempt`), and after a grace the coroutine is closed and forgotten. *Cancellation*: the task's counter tells
whose a CancelledError is. What raises it while the function is running is the function's own doing and is undone; if it
is still raised when the function ends, somebody outside wants the task to stop. A function that never waits needs none
of this: its only step is taken directly. A function that never lets go of the loop cannot be interrupted at all; that
is what `isolation = "process"` is for.

**In threads.** Threads cannot be killed. When the time is up the outcome is reported at once, the thread is asked to
stop (an exception is raised in it, which Python code notices and a blocked system call does not) and its slot is free
again only when it ends. While every slot is lost like that, calls end as system errors, which use no attempts. The
threads are daemons, unlike those of ThreadPoolExecutor, for which the interpreter waits at exit, for ever if need be.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import difflib
import importlib
import inspect
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeAlias, cast

from streams.core.model import Function, Outcome, PythonTarget
from streams.invokers.call import NOT_STARTED, Call, Deadlines, Runner, raised, timed_out
from streams.invokers.context import context_class
from streams.providers.base import Provider

Handler: TypeAlias = Callable[[Any, Any], object]


class NotAHandler(Exception):
    """There is nothing that can be called with (event, context) where a target says; the message says why."""


def load_handler(target: PythonTarget) -> Handler:
    """Import *target*. Raises `NotAHandler`, or whatever the import raises."""
    handler: Any = importlib.import_module(target.module)
    for name in target.attribute.split("."):
        if not hasattr(handler, name):
            near = difflib.get_close_matches(name, dir(handler), 1)
            raise NotAHandler(f"{target.module} has no {name}" + "".join(f"; did you mean {found}?" for found in near))
        handler = getattr(handler, name)
    if not callable(handler) or isinstance(handler, type):
        raise NotAHandler(f"{target.attribute} is not a function")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise NotAHandler(f"{target.attribute} is a generator")
    with contextlib.suppress(ValueError):  # some built-in callables have no signature
        signature = inspect.signature(handler)
        try:
            signature.bind(None, None)
        except TypeError:
            raise NotAHandler(f"{target.attribute}{signature} cannot be called with (event, context)") from None
    return cast(Handler, handler)


def is_async(handler: Handler) -> bool:
    """Whether *handler* is an `async def` function, or an object with an `async def __call__`."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


# -- on the loop -----------------------------------------------------------------------------------------------------

Waited: TypeAlias = "asyncio.Future[object] | None"
"""What a coroutine hands to the event loop: a future to wait for, or None for one turn of the loop."""


class Inline:
    """Runs `async def` functions on the loop.

    *grace_s* is how long a function may go on after its time limit has cancelled it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, grace_s: float) -> None:
        self._loop = loop
        self._grace: Deadlines[_Attempt] = Deadlines(grace_s, self._abandon, loop)
        self._limits: dict[float, Deadlines[_Attempt]] = {}
        self.abandoned = 0
        """Functions that did not stop when their time was up."""

    def prepare(self, function: Function, provider: Provider, handler: Handler) -> Runner:
        """The runner of *function*, whose *handler* is asynchronous."""
        new_context = context_class(function, provider)
        returned, failed = provider.returned, provider.failed
        timeout_s = function.timeout_ms / 1000
        too_late = timed_out(function.timeout_ms)
        limit = self._limits.get(timeout_s)
        if limit is None:
            limit = self._limits[timeout_s] = Deadlines(timeout_s, self._expire, self._loop)
        loop, now, current_task = self._loop, time.monotonic, asyncio.current_task

        async def run(call: Call) -> Outcome:
            task = current_task(loop)
            assert task is not None
            cancels = task.cancelling()
            request_id = call.request_id
            attempt = None
            try:
                coroutine: Any = handler(call.event, new_context(request_id, now() + timeout_s))
                try:
                    waits_for = coroutine.send(None)
                except StopIteration as stop:
                    outcome = returned(stop.value, request_id)
                else:
                    attempt = _Attempt(coroutine, task, cancels, loop)
                    limit.add(attempt)
                    result = await attempt.finish(waits_for)
                    outcome = failed(too_late, request_id) if attempt.expired else returned(result, request_id)
            except BaseException as error:
                if attempt is not None and attempt.was_cancelled(error, cancels):
                    raise
                expired = attempt is not None and attempt.expired
                outcome = failed(too_late if expired else raised(error), request_id)
            finally:
                if attempt is not None:
                    limit.discard(attempt)
                    self._grace.discard(attempt)
            if attempt is None and task.cancelling() > cancels:
                await undo_cancel(task, cancels)
            return outcome

        return run

    def close(self) -> None:
        """Stop the functions that are running: their runners raise CancelledError."""
        for limit in (*self._limits.values(), self._grace):
            for attempt in limit.close():
                attempt.abandon()

    def _expire(self, attempt: _Attempt) -> None:
        self._grace.add(attempt)
        attempt.expire()

    def _abandon(self, attempt: _Attempt) -> None:
        self.abandoned += 1
        attempt.abandon()


class _Attempt:
    """A coroutine function that has begun to wait: we stand between it and the task it runs in."""

    __slots__ = ("_cancel_due", "_cancels", "_coroutine", "_gate", "_loop", "_task", "abandoned", "expired")

    def __init__(
        self,
        coroutine: Coroutine[Waited, None, object],
        task: asyncio.Task[Any],
        cancels: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._coroutine = coroutine
        self._task = task
        self._cancels = cancels
        """How often the task has been cancelled by others, as far as we know."""
        self._loop = loop
        self._gate: asyncio.Future[None] | None = None
        """What the task waits for."""
        self._cancel_due = False
        self.expired = False
        self.abandoned = False

    def expire(self) -> None:
        """The time is up: cancel the function."""
        self.expired = self._cancel_due = True
        self._open_gate()

    def abandon(self) -> None:
        """Stop waiting for the function."""
        self.abandoned = True
        self._open_gate()

    def was_cancelled(self, error: BaseException, cancels: int) -> bool:
        """Whether *error* is to leave the runner: the task, which had seen *cancels*, is being stopped."""
        if not isinstance(error, asyncio.CancelledError):
            return False
        return self._task.cancelling() > cancels or (self.abandoned and not self.expired)

    @types.coroutine
    def finish(self, waits_for: Waited) -> Generator[Waited, None, object]:
        """Take the function, which waits for *waits_for*, to its end. Returns or raises what it does."""
        try:
            while True:
                own = yield from self._undo_own_cancel()
                thrown = yield from self._wait(waits_for, own)
                if self.abandoned:
                    raise asyncio.CancelledError
                try:
                    waits_for = self._coroutine.send(None) if thrown is None else self._coroutine.throw(thrown)
                except StopIteration as stop:
                    yield from self._undo_own_cancel()
                    return stop.value
                except BaseException:
                    yield from self._undo_own_cancel()
                    raise
        finally:
            # A coroutine that ended does not mind. One that did not is thrown GeneratorExit, and may do its worst.
            with contextlib.suppress(BaseException):
                self._coroutine.close()

    def _wait(
        self, waits_for: Waited, cancel: asyncio.CancelledError | None
    ) -> Generator[Waited, None, asyncio.CancelledError | None]:
        """Wait in the function's place. Returns what is to be thrown into it, else it goes on.

        A cancellation is passed on with its words: libraries (anyio) know theirs by them.
        """
        if waits_for is None:
            try:
                yield None
            except asyncio.CancelledError as error:
                cancel = error
            return self._take_cancel() or cancel
        if not asyncio.isfuture(waits_for):
            raise RuntimeError("the function waits for something that is not asyncio's")
        waits_for._asyncio_future_blocking = False  # the answer that asyncio expects from whoever will wait
        waits_for.add_done_callback(self._wake)
        if cancel is not None and not waits_for.cancel(*cancel.args[:1]):
            return cancel
        while not waits_for.done():
            self._gate = self._loop.create_future()
            try:
                yield from self._gate
            except asyncio.CancelledError as error:
                if self.abandoned or not waits_for.cancel(*error.args[:1]):
                    return error
                self._take_cancel()  # passed on: what it waits for will end, if it obeys
        return self._take_cancel()

    def _undo_own_cancel(self) -> Generator[Waited, None, asyncio.CancelledError | None]:
        """Returns what is thrown at the function whose latest step cancelled the task, which is only lent to it."""
        cancels = self._task.cancelling()
        if cancels <= self._cancels:
            self._cancels = cancels
            return None
        return (yield from _undo_cancel(self._task, self._cancels))

    def _take_cancel(self) -> asyncio.CancelledError | None:
        """What the time limit throws into the function, if that is due."""
        due, self._cancel_due = self._cancel_due, False
        self._cancels = self._task.cancelling()
        return asyncio.CancelledError() if due else None

    def _wake(self, _: object) -> None:
        if self._gate is not None and not self._gate.done():
            self._gate.set_result(None)

    def _open_gate(self) -> None:
        if self._gate is not None:
            self._gate.cancel()


def _undo_cancel(task: asyncio.Task[Any], cancels: int) -> Generator[Waited, None, asyncio.CancelledError]:
    """Make the running *task* as if it had been cancelled only *cancels* times. Returns what was to be thrown in."""
    while task.cancelling() > cancels:
        task.uncancel()
    try:  # before Python 3.13 it is still thrown in, at the next wait
        yield None
    except asyncio.CancelledError as error:
        return error
    return asyncio.CancelledError()


@types.coroutine
def undo_cancel(task: asyncio.Task[Any], cancels: int) -> Generator[Waited, None, None]:
    """`_undo_cancel` for `await`."""
    yield from _undo_cancel(task, cancels)


# -- in threads ------------------------------------------------------------------------------------------------------

NO_THREAD = Outcome(
    "system_error", 503, error_type="NoThread", error_message="every thread is held by a function past its time limit"
)


class _Stop(BaseException):
    """Asks a thread to give up its function."""


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[], Outcome]
    may_start: Callable[[], bool]
    limit: Deadlines[_Job]
    done: asyncio.Future[Outcome | None]
    """None: the time is up."""
    thread: _Thread | None = None


class _Thread(threading.Thread):
    """Does one job after the other until it is retired."""

    def __init__(self, ended: Callable[[_Thread, _Job, Outcome], None], gone: Callable[[_Thread], None]) -> None:
        super().__init__(name="function", daemon=True)
        self._ended = ended
        self._gone = gone
        self.inbox: SimpleQueue[_Job | None] = SimpleQueue()
        self.retired = False

    def retire(self) -> None:
        """End after the present job, and ask that job to stop. Only once: afterwards its id may be another thread's."""
        assert self.ident is not None and not self.retired
        self.retired = True
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), ctypes.py_object(_Stop))
        self.inbox.put(None)

    def run(self) -> None:
        # _Stop comes at most once, but perhaps late: anywhere in here.
        try:
            try:
                while (job := self.inbox.get()) is not None:
                    self._ended(self, job, job.work())
            except _Stop:
                pass
            self._gone(self)
        except _Stop:
            self._gone(self)


class Threads:
    """Runs `def` functions in at most *size* threads.

    When all are stuck, calls wait *grace_s* for one to end before they are refused.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int, grace_s: float) -> None:
        self._loop = loop
        self._size = size
        self._grace_s = grace_s
        self._threads: dict[_Thread, _Job | None] = {}
        """What each thread is doing."""
        self._idle: list[_Thread] = []
        self._waiting: deque[_Job] = deque()
        self._refusal: asyncio.TimerHandle | None = None
        """When waiting calls will be refused."""
        self.stuck = 0
        """Threads held by functions that did not stop when their time was up."""

    def prepare(self, function: Function, provider: Provider, handler: Handler) -> Runner:
        """The runner of *function*, whose *handler* blocks."""
        new_context = context_class(function, provider)
        timeout_s = function.timeout_ms / 1000
        too_late = timed_out(function.timeout_ms)
        limit = Deadlines(timeout_s, self._overdue, self._loop)

        def work(call: Call) -> Outcome:
            try:
                result = handler(call.event, new_context(call.request_id, time.monotonic() + timeout_s))
                return provider.returned(result, call.request_id)
            except BaseException as error:
                return provider.failed(raised(error), call.request_id)

        async def run(call: Call) -> Outcome:
            job = _Job(partial(work, call), call.may_start, limit, self._loop.create_future())
            self._submit(job)
            try:
                outcome = await job.done
            except asyncio.CancelledError:
                self._give_up(job)
                raise
            return provider.failed(too_late, call.request_id) if outcome is None else outcome

        return run

    def close(self) -> None:
        """Stop the functions that are running, as far as threads can be stopped: their runners raise CancelledError."""
        jobs = [*self._waiting, *(job for job in self._threads.values() if job is not None)]
        self._waiting.clear()
        if self._refusal is not None:
            self._refusal.cancel()
        for job in jobs:
            job.limit.discard(job)
            job.done.cancel()
        for thread in self._threads:
            if not thread.retired:
                thread.retire()
        self._idle.clear()
        self.stuck = len(self._threads)

    def _submit(self, job: _Job) -> None:
        if self._idle:
            self._give(self._idle.pop(), job)
        elif len(self._threads) < self._size:
            self._start_thread(job)
        else:
            self._waiting.append(job)
            self._refuse_if_stuck()

    def _start_thread(self, job: _Job) -> None:
        thread = _Thread(self._ended_in_thread, self._gone_in_thread)
        try:
            thread.start()
        except RuntimeError:  # the system allows no more
            job.done.set_result(NO_THREAD)
        else:
            self._give(thread, job)

    def _give(self, thread: _Thread, job: _Job) -> None:
        job.thread = thread
        self._threads[thread] = job
        job.limit.add(job)
        thread.inbox.put(job)

    def _overdue(self, job: _Job) -> None:
        if not job.done.done():
            job.done.set_result(None)
        self._give_up(job)

    def _give_up(self, job: _Job) -> None:
        """Nobody waits for *job* any more."""
        job.limit.discard(job)
        if job.thread is None:
            with contextlib.suppress(ValueError):
                self._waiting.remove(job)
        elif self._threads.get(job.thread) is job and not job.thread.retired:
            job.thread.retire()
            self.stuck += 1
            self._refuse_if_stuck()

    def _refuse_if_stuck(self) -> None:
        if self.stuck == self._size and self._waiting and self._refusal is None:
            self._refusal = self._loop.call_later(self._grace_s, self._refuse)

    def _refuse(self) -> None:
        """Whatever waits for a thread would wait for ever."""
        self._refusal = None
        while self._waiting and self.stuck == self._size:
            job = self._waiting.popleft()
            if not job.done.done():
                job.done.set_result(NO_THREAD)

    def _ended(self, thread: _Thread, job: _Job, outcome: Outcome) -> None:
        """*thread* is done with *job*."""
        job.limit.discard(job)
        if not job.done.done():
            job.done.set_result(outcome)
        if thread.retired:
            return
        self._threads[thread] = None
        self._idle.append(thread)
        self._serve_waiting()

    def _gone(self, thread: _Thread) -> None:
        """*thread*, which was retired, has ended."""
        if thread in self._threads:
            del self._threads[thread]
            self.stuck -= 1
            self._serve_waiting()

    def _serve_waiting(self) -> None:
        while self._waiting:
            job = self._waiting.popleft()
            if job.done.done():  # cancelled meanwhile
                continue
            if job.may_start():
                self._submit(job)
                return
            job.done.set_result(NOT_STARTED)

    def _ended_in_thread(self, thread: _Thread, job: _Job, outcome: Outcome) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._ended, thread, job, outcome)

    def _gone_in_thread(self, thread: _Thread) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._gone, thread)
