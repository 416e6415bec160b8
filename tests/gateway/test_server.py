"""The server on a real socket: bounds of size and time, replies in the words of the API, nothing that hangs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from streams.gateway import server as module
from streams.gateway.edge import Refused, Reply, Request, Route
from streams.gateway.intake import Overloaded, Unavailable
from streams.gateway.server import Server

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

LIMIT = 1_000
ERRORS = {"/unavailable": Unavailable(), "/overloaded": Overloaded(), "/broken": KeyError("secret")}


class Echo:
    """Answers with what it got."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.routes = (
            Route("POST", "/echo/{name}", self.echo, LIMIT),
            Route("GET", "/empty", self.empty),
            *(Route("GET", path, self.fail) for path in ERRORS),
        )

    async def echo(self, request: Request) -> Reply:
        self.requests.append(request)
        return Reply(200, request.body, "text/plain")

    async def empty(self, request: Request) -> Reply:
        return Reply(202)

    async def fail(self, request: Request) -> Reply:
        raise ERRORS[request.raw_path]

    def refused(self, refusal: Refused, request_id: str) -> Reply:
        return Reply.of(refusal.status, {"code": refusal.code, "message": refusal.message}, X_Id=request_id)

    def too_large(self, route: Route, size_bytes: int) -> Refused:
        return Refused(413, "TooLarge", str(size_bytes))

    def unknown(self, method: str, path: str, other_methods: bool) -> Refused:
        return Refused(405 if other_methods else 404, "Unknown", path)

    def unavailable(self, reason: str) -> Refused:
        return Refused(503, "Unavailable", reason)

    def overloaded(self) -> Refused:
        return Refused(429, "Overloaded", "")

    def bad_request(self, reason: str) -> Refused:
        return Refused(400, "BadRequest", reason)

    def authenticate(self, request: Request) -> str:
        if request.headers.get("Key") != "right":
            raise Refused(403, "Forbidden", "")
        return "somebody"


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest_asyncio.fixture
async def port(echo: Echo) -> AsyncIterator[int]:
    server = Server({}, echo)
    yield await server.start("127.0.0.1", 0)
    await server.stop()


async def talk(port: int, data: bytes) -> bytes:
    """What comes back on a connection of its own for *data*, until the server closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer


async def test_the_handler_gets_the_request_as_it_was_sent(port: int, echo: Echo) -> None:
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{port}/echo/a%2Fb?x=1&x=2"
        async with session.post(aiohttp.client.URL(url, encoded=True), data=b"\x00body") as reply:
            assert (reply.status, await reply.read()) == (200, b"\x00body")
            assert reply.headers["Server"] == "Streams"

    [request] = echo.requests
    assert (request.raw_path, request.raw_query, request.parameters) == ("/echo/a%2Fb", "x=1&x=2", ("a/b",))
    assert request.query.getall("x") == ["1", "2"]


async def test_an_empty_reply_has_no_content_type(port: int) -> None:
    answer = await talk(port, b"GET /empty HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 202 ")
    assert b"Content-Length: 0\r\n" in answer
    assert b"content-type" not in answer.lower()


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/unavailable", 503, "Unavailable"),
        ("/overloaded", 429, "Overloaded"),
        ("/broken", 503, "Unavailable"),
        ("/nowhere", 404, "Unknown"),
    ],
)
async def test_every_fault_has_the_apis_words(port: int, path: str, status: int, code: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as reply:
        document = await reply.json()

    assert (reply.status, document["code"]) == (status, code)
    assert "secret" not in json.dumps(document), "what is wrong inside is for the log"


async def test_a_body_that_says_it_is_too_large_is_refused_at_once(port: int) -> None:
    head = b"POST /echo/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5000\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)  # and no body

    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_body_that_does_not_say_its_size_is_refused_when_it_is_too_large(port: int) -> None:
    head = b"POST /echo/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"

    answer = await talk(port, head + b"200\r\n" + b"x" * 512 + b"\r\n" + b"200\r\n" + b"x" * 512 + b"\r\n0\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_who_asks_is_told_to_continue(port: int) -> None:
    head = b"POST /echo/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"

    writer.write(b"hi")
    assert (await reader.read()).endswith(b"\r\n\r\nhi")
    writer.close()


async def test_a_body_that_does_not_arrive_is_not_waited_for_for_ever(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BODY_TIMEOUT_S", 0.05)
    head = b"POST /echo/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nab"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)

    assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
    writer.close()


async def test_a_connection_without_a_request_is_closed(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_TIMEOUT_S", 0.05)
    server = Server({}, echo)
    port = await server.start("127.0.0.1", 0)
    try:
        assert await talk(port, b"GET /empty HTTP/1.1\r\nHost:") == b""
    finally:
        await server.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /echo/x HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /echo/x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /echo/x HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 1_000 + b"\r\n",
    ],
)
async def test_what_is_not_http_is_a_bad_request(port: int, data: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)

    assert (await reader.readline()).split()[1] == b"400"
    writer.close()


async def test_with_keys_a_request_without_the_right_one_is_refused(echo: Echo) -> None:
    server = Server({}, echo, authenticates=True)
    port = await server.start("127.0.0.1", 0)
    url = f"http://127.0.0.1:{port}/echo/x"
    try:
        async with aiohttp.ClientSession() as session:
            async with session.post(url, data=b"1") as refused:
                assert refused.status == 403
            async with session.post(url, data=b"2", headers={"Key": "right"}) as accepted:
                assert accepted.status == 200
    finally:
        await server.stop()

    assert [request.principal for request in echo.requests] == ["somebody"]
