"""Projectors at work beside a test."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from streams.console.projector import Projector

WITHIN_S = 60.0


@contextlib.contextmanager
def running(*projectors: Projector) -> Iterator[None]:
    """Within, *projectors* work, in a thread."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]] = Future()

    async def work() -> None:
        tasks = asyncio.gather(*(projector.run() for projector in projectors))
        started.set_result((asyncio.get_running_loop(), tasks))
        with contextlib.suppress(asyncio.CancelledError):
            await tasks

    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(asyncio.run, work())
        loop, tasks = started.result(WITHIN_S)
        try:
            yield
            assert not ended.done()
        finally:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(tasks.cancel)
        ended.result(WITHIN_S)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
