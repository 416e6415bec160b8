"""Running functions: `Invokers.prepare` gives a runner for a function, a runner turns a call into an Outcome.

`call` is what all share, `context` the handler's second argument, `python` callables on the loop and in threads,
`process` callables in child processes, `http` functions behind URLs.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from streams.core.model import Function, FunctionFailure, HttpTarget, Outcome, PythonTarget
from streams.invokers.call import Call, Runner
from streams.invokers.process import Processes
from streams.invokers.python import Inline, Threads, load_handler
from streams.providers.base import Provider

if TYPE_CHECKING:
    from streams.invokers.http import Http

__all__ = ["Call", "Invokers", "Runner"]


class Invokers:
    """Owns what functions run in: threads, child processes, connections. Nothing is started before it is needed.

    *threads* run `def` functions, all together. *processes* is the number of children of each function with
    ``isolation = "process"`` (default: one for each processor). *connections* are open at most to HTTP functions.
    *grace_s* is how long an `async def` function may take to end when its time limit has cancelled it, and how long a
    call waits when all threads are held by functions past their time limit.
    """

    def __init__(
        self, *, threads: int = 32, processes: int | None = None, connections: int = 256, grace_s: float = 1.0
    ) -> None:
        self._thread_count = threads
        self._process_count = processes or os.cpu_count() or 1
        self._connections = connections
        self._grace_s = grace_s
        self._processes: dict[Runner, Processes] = {}
        self._http: Http | None = None

    async def start(self) -> None:
        """Bind to the running event loop."""
        loop = asyncio.get_running_loop()
        self._inline = Inline(loop, self._grace_s)
        self._threads = Threads(loop, self._thread_count, self._grace_s)

    async def close(self) -> None:
        """Stop what is still running; runners that are being awaited raise CancelledError."""
        self._inline.close()
        self._threads.close()
        for processes in self._processes.values():
            await processes.close()
        if self._http is not None:
            await self._http.close()

    def prepare(self, function: Function, provider: Provider) -> Runner:
        """The runner of *function*; `release` it when the function is not to be run any more.

        A target that cannot be imported here is an error of every attempt.
        """
        target = function.target
        if isinstance(target, HttpTarget):
            return self._get_http().prepare(function, provider)
        if target.isolation == "process":
            processes = Processes(function, provider, self._process_count)
            self._processes[processes.run] = processes
            return processes.run
        try:
            handler = load_handler(target)
        except (Exception, SystemExit) as error:
            return _cannot_run(target, error, provider)
        python = self._inline if target.isolation == "inline" else self._threads
        return python.prepare(function, provider, handler)

    def release(self, run: Runner) -> None:
        """Let go of what only *run* needs; attempts that are under way go on to their end."""
        processes = self._processes.pop(run, None)
        if processes is not None:
            processes.retire()

    @property
    def abandoned(self) -> int:
        """`async def` functions so far that did not end when their time limit had cancelled them."""
        return self._inline.abandoned

    @property
    def threads_stuck(self) -> int:
        """Threads that are held, at present, by functions past their time limit."""
        return self._threads.stuck

    def _get_http(self) -> Http:
        if self._http is None:
            from streams.invokers.http import Http  # here: children need no aiohttp, which is slow to import

            self._http = Http(self._connections)
        return self._http


def _cannot_run(target: PythonTarget, error: BaseException, provider: Provider) -> Runner:
    """A runner for a *target* that could not be imported, in the words of Lambda's Python runtime."""
    message = f"Unable to import module '{target.module}': {error}"
    failure = FunctionFailure(cause="raised", error_type="Runtime.ImportModuleError", message=message)

    async def run(call: Call) -> Outcome:
        return provider.failed(failure, call.request_id)

    return run
