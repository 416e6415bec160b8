"""Starts attempts in tasks. Those that end without having waited share one: a task of their own would cost a tenth of
all that is done for them. They are also reported together.

A function that is seen to wait gets a task for every attempt from then on (`Prepared.waits`).
"""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from typing import Any, TypeAlias

from streams.core.model import Outcome
from streams.engine.work import Work

Run: TypeAlias = Callable[[Work, object], Coroutine[Any, None, Outcome | None]]
"""Runs the function of a work with an event; None: what came of it counts for nothing."""

EndedAttempt: TypeAlias = tuple[Work, Outcome, int]
"""What came of an attempt, and when it ended, epoch milliseconds. (A plain tuple: hot path.)"""

Report: TypeAlias = Callable[[Sequence[EndedAttempt]], None]
"""Writes down what came of attempts."""

TOGETHER_MAX = 64
"""So many are reported at once. More would not fit the processor's caches."""


class Attempts:
    """The attempts of one worker that are to start."""

    def __init__(self, run: Run, report: Report) -> None:
        self._run = run
        self._report = report
        self._due: deque[tuple[Work, object]] = deque()
        self._turn: asyncio.Task[None] | None = None
        """What starts them, one after the other; not scheduled twice."""

    def start(self, work: Work, event: object) -> None:
        """Make the attempt of *work* soon, not now."""
        if work.prepared.waits:
            work.task = work.partition.spawn(self.make(work, event))
            return
        self._due.append((work, event))
        if self._turn is None:
            self._next_turn()

    async def make(self, work: Work, event: object) -> None:
        """Make the attempt of *work* now."""
        self._ended(work, await self._run(work, event))

    def _ended(self, work: Work, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._report(((work, outcome, work.partition.owner.now_ms()),))

    def _next_turn(self) -> None:
        self._turn = asyncio.get_running_loop().create_task(self._take_turns()) if self._due else None

    async def _take_turns(self) -> None:
        """Make attempts until one waits for something. From then on this task is that one's, and another goes on."""
        ended: list[EndedAttempt] = []
        while self._due:
            work, event = self._due.popleft()
            if work.partition.closed or work.cut:
                continue
            attempt, context = self._run(work, event), copy_context()
            try:
                waits_for = context.run(attempt.send, None)
            except StopIteration as stop:
                if stop.value is not None:
                    ended.append((work, stop.value, work.partition.owner.now_ms()))
                    if len(ended) == TOGETHER_MAX:
                        self._report_together(ended)
                continue
            except (Exception, asyncio.CancelledError) as error:  # nobody has cancelled this task
                work.partition.owner.task_failed(error)
                continue
            self._report_together(ended)
            work.prepared.waits = True
            assert self._turn is not None
            work.task = work.partition.adopt(self._turn)
            self._next_turn()
            self._ended(work, await _rest(attempt, waits_for, context))
            return
        self._report_together(ended)
        self._turn = None

    def _report_together(self, ended: list[EndedAttempt]) -> None:
        """Report *ended*, and empty it. Nothing else happens in this turn of the loop, so nobody sees the delay."""
        if ended:
            try:
                self._report(ended)
            except Exception as error:
                ended[0][0].partition.owner.task_failed(error)
            ended.clear()


@types.coroutine
def _rest(
    attempt: Coroutine[Any, None, Outcome | None], waits_for: Any, context: Context
) -> Generator[Any, None, Outcome | None]:
    """Await the rest of *attempt*, which has begun and *waits_for* something."""
    while True:
        thrown: BaseException | None = None
        try:
            yield waits_for
        except BaseException as error:
            thrown = error
        try:
            waits_for = context.run(attempt.send, None) if thrown is None else context.run(attempt.throw, thrown)
        except StopIteration as stop:
            outcome: Outcome | None = stop.value
            return outcome
