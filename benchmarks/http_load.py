"""A load of HTTP requests from one process: as many as go through some connections, or so many a second.

Plain protocols rather than a client library, which would take more of the machine than what is measured.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

CONNECTIONS = 64
LATE_S = 10.0
"""Answers are waited for so long after the last request."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"\r\nx-amzn-requestid: *([^\r]+)", re.IGNORECASE)


@dataclass(slots=True)
class Answers:
    """What came back."""

    latencies_s: list[float] = field(default_factory=list)
    """Of accepted requests; in an open loop from the moment when each was due."""
    accepted: list[str] = field(default_factory=list)
    """Request ids, where the answers name them."""
    refused: list[int] = field(default_factory=list)
    """Other status codes."""
    took_s: float = 0.0

    @property
    def per_s(self) -> float:
        return len(self.latencies_s) / self.took_s


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, answered: Callable[[_Connection, bytes], None]) -> None:
        self.asked_at = 0.0
        self._answered = answered
        self._received = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end >= 0:
            head = self._received[:end]
            length = _LENGTH.search(head)
            if len(self._received) >= end + 4 + (int(length[1]) if length else 0):
                self._received = b""
                self._answered(self, head)

    def ask(self, request: bytes, asked_at: float) -> None:
        self.asked_at = asked_at
        self._transport.write(request)

    def close(self) -> None:
        self._transport.close()


class _Load:
    """Connections to one address, and what they were answered."""

    def __init__(self) -> None:
        self.answers = Answers()
        self.connections: list[_Connection] = []
        self.then: Callable[[_Connection], None] = lambda connection: None

    async def open(self, port: int, count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, connection = await loop.create_connection(lambda: _Connection(self._answered), "127.0.0.1", port)
            self.connections.append(connection)

    def _answered(self, connection: _Connection, head: bytes) -> None:
        answers, status = self.answers, int(head[9:12])
        if status == 202:
            answers.latencies_s.append(time.perf_counter() - connection.asked_at)
            named = _ID.search(head)
            if named:
                answers.accepted.append(named[1].decode())
        else:
            answers.refused.append(status)
        self.then(connection)

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


async def flood(port: int, request: bytes, seconds: float, connections: int = CONNECTIONS) -> Answers:
    """The next request as soon as the last one is answered, on every connection, for so long."""
    load, waiting = _Load(), asyncio.Event()
    await load.open(port, connections)
    began = time.perf_counter()
    end, open_count = began + seconds, connections

    def then(connection: _Connection) -> None:
        nonlocal open_count
        now = time.perf_counter()
        if now < end:
            connection.ask(request, now)
        else:
            open_count -= 1
            if not open_count:
                waiting.set()

    load.then = then
    for connection in load.connections:
        connection.ask(request, began)
    await asyncio.wait_for(waiting.wait(), seconds + LATE_S)
    load.answers.took_s = time.perf_counter() - began
    load.close()
    return load.answers


async def steady(port: int, requests: Sequence[bytes], per_second: float, connections: int = CONNECTIONS) -> Answers:
    """Each of *requests* when it is due, whether or not earlier ones are answered."""
    load, idle, due = _Load(), deque[_Connection](), deque[tuple[bytes, float]]()
    answered = asyncio.Event()
    await load.open(port, connections)
    idle.extend(load.connections)

    def ask() -> None:
        while idle and due:
            idle.popleft().ask(*due.popleft())

    def then(connection: _Connection) -> None:
        idle.append(connection)
        ask()
        answered.set()

    load.then = then
    began = time.perf_counter()
    for number, request in enumerate(requests):
        at = began + number / per_second
        if (pause_s := at - time.perf_counter()) > 0:
            await asyncio.sleep(pause_s)
        due.append((request, at))
        ask()
    async with asyncio.timeout(LATE_S):
        while len(idle) < connections:
            answered.clear()
            await answered.wait()
    load.answers.took_s = time.perf_counter() - began
    load.close()
    return load.answers
