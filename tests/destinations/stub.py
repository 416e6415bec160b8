"""A server that writes down what it gets and answers what it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(slots=True)
class Got:
    """A request as it arrived."""

    method: str
    raw_path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Stub:
    """Where it is, what it got, and what it answers."""

    url: str = ""
    got: list[Got] = field(default_factory=list)
    status: int = 200
    body: bytes = b"{}"

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append(Got(request.method, request.raw_path, headers, await request.read()))
        return web.Response(status=self.status, body=self.body)


@asynccontextmanager
async def serving() -> AsyncIterator[Stub]:
    """A stub on a free port of this machine."""
    stub = Stub()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", stub.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    stub.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    yield stub
    await runner.cleanup()
