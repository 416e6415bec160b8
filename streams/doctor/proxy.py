"""A TCP relay whose weather can be changed: delay, one-way cuts, black holes, lost connections.

A client's first line names its target, ``host port``, so one relay serves a worker's connections to any number of
brokers (`worker` sends that line). What a closed direction does not let through is late, not lost: TCP would repeat it,
and whoever has not given up until then gets it. So do the ends of connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

HOST = "127.0.0.1"
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What happens to bytes on their way."""

    delay_s: float = 0.0
    """Each piece of data takes so much longer, in both directions."""
    requests: bool = True
    """What the client sends gets through."""
    answers: bool = True
    """What it is sent gets through."""
    connects: bool = True
    """New connections are taken; else they are reset, and so are those there are."""


CLEAR = Weather()
WEATHERS = {
    "reset": Weather(connects=False),
    "requests lost": Weather(requests=False),
    "answers lost": Weather(answers=False),
    "black hole": Weather(requests=False, answers=False),
}
"""Ways to be cut off."""


class Proxy:
    """Relays from a loopback port; use it as ``async with``."""

    def __init__(self) -> None:
        self.port = 0
        self.carried = 0
        """Connections so far."""
        self._weather = CLEAR
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._reset()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def change(self, weather: Weather) -> None:
        """From now on it is *weather*."""
        async with self._changed:
            self._weather = weather
            self._changed.notify_all()
        if not weather.connects:
            self._reset()

    def _reset(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._relay(reader, writer)
        except (OSError, ValueError):
            pass  # an end was reset, cannot be reached, or named no target
        except asyncio.CancelledError:
            pass  # at the end; `asyncio.start_server` would log it as an error
        finally:
            writer.close()
            self._connections.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._weather.connects:
            return
        with self._known(writer):
            host, port = (await reader.readline()).decode().split()
            await self._let_through("requests")
            target_reader, target_writer = await asyncio.open_connection(host, int(port))
            self.carried += 1
            with self._known(target_writer):
                await _until_one_ends(
                    self._pump("requests", reader, target_writer), self._pump("answers", target_reader, writer)
                )

    @contextlib.contextmanager
    def _known(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _pump(self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes, until one end closes."""
        while data := await reader.read(_CHUNK_BYTES):
            await self._let_through(direction)
            writer.write(data)
            await writer.drain()
        await self._let_through(direction)

    async def _let_through(self, direction: str) -> None:
        if self._weather.delay_s:
            await asyncio.sleep(self._weather.delay_s)
        if not getattr(self._weather, direction):
            async with self._changed:
                await self._changed.wait_for(lambda: getattr(self._weather, direction))


async def _until_one_ends(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run them side by side until the first has ended, however it did."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
