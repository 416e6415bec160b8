"""Starts attempts in tasks. Those that end without having waited share one: a task of their own would cost a tenth of
all that is done for them.

A function that is seen to wait gets a task for every attempt from then on (`Prepared.waits`).
"""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, TypeAlias

from streams.engine.work import Work

Attempt: TypeAlias = Callable[[Work, object], Coroutine[Any, None, None]]
"""Runs the function of a work with an event and writes down what came of it."""


class Attempts:
    """The attempts of one worker that are to start."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._due: deque[tuple[Work, object]] = deque()
        self._turn: asyncio.Task[None] | None = None
        """What starts them, one after the other; not scheduled twice."""

    def start(self, work: Work, event: object) -> None:
        """Make the attempt of *work* soon, not now."""
        if work.prepared.waits:
            work.task = work.partition.spawn(self._attempt(work, event))
            return
        self._due.append((work, event))
        if self._turn is None:
            self._next_turn()

    def _next_turn(self) -> None:
        self._turn = asyncio.get_running_loop().create_task(self._take_turns()) if self._due else None

    async def _take_turns(self) -> None:
        """Make attempts until one waits for something. From then on this task is that one's, and another goes on."""
        while self._due:
            work, event = self._due.popleft()
            if work.partition.closed or work.cut:
                continue
            attempt, context = self._attempt(work, event), copy_context()
            try:
                waits_for = context.run(attempt.send, None)
            except StopIteration:
                continue
            except (Exception, asyncio.CancelledError) as error:  # nobody has cancelled this task
                work.partition.owner.task_failed(error)
                continue
            work.prepared.waits = True
            assert self._turn is not None
            work.task = work.partition.adopt(self._turn)
            self._next_turn()
            await _rest(attempt, waits_for, context)
            return
        self._turn = None


@types.coroutine
def _rest(attempt: Coroutine[Any, None, None], waits_for: Any, context: Context) -> Generator[Any, None, None]:
    """Await the rest of *attempt*, which has begun and *waits_for* something."""
    while True:
        thrown: BaseException | None = None
        try:
            yield waits_for
        except BaseException as error:
            thrown = error
        try:
            waits_for = context.run(attempt.send, None) if thrown is None else context.run(attempt.throw, thrown)
        except StopIteration:
            return
