"""A load of HTTP requests: all answered ones are counted, by what they were answered."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from benchmarks.http_load import flood, steady
from streams.local.broker import free_port

REQUEST = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server that refuses every fourth request, with a body."""
    numbers, port = itertools.count(1), free_port()

    async def answer(request: web.Request) -> web.Response:
        number = next(numbers)
        assert await request.read() == b"{}"
        if number % 4 == 0:
            return web.Response(status=429, text="later")
        return web.Response(status=202, headers={"X-Amzn-RequestId": f"id-{number}"})

    app = web.Application()
    app.router.add_post("/x", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield port
    await runner.cleanup()


async def test_a_steady_load_is_all_asked(port: int) -> None:
    answers = await steady(port, [REQUEST] * 40, per_second=10_000, connections=3)

    assert len(answers.latencies_s) == len(set(answers.accepted)) == 30
    assert answers.refused == [429] * 10


async def test_a_flood_asks_until_its_time_is_over(port: int) -> None:
    answers = await flood(port, REQUEST, seconds=0.05, connections=4)

    assert answers.took_s >= 0.05
    assert len(answers.accepted) >= 3
    assert answers.per_s > 0
