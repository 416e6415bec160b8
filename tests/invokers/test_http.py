"""Functions behind URLs, against real servers on the loopback interface."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from streams.core.model import HttpTarget, Outcome
from streams.invokers import Call, Invokers
from streams.providers import PROVIDERS

from .conftest import call, function

ERROR = b'{"errorType": "ValueError",  "errorMessage": "spaced"}'
"""An error document in nobody's style: it must come through unchanged."""

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[..., Awaitable[str]]
Ask = Callable[..., Awaitable[Outcome]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server that gives one answer to everything; returns its address."""
    async with contextlib.AsyncExitStack() as servers:

        async def serve(answer: Answer, host: str = "127.0.0.1") -> str:
            app = web.Application(client_max_size=2**24)
            app.router.add_route("*", "/{path:.*}", answer)
            server = TestServer(app, host=host)
            await server.start_server(shutdown_timeout=0)
            servers.push_async_callback(server.close)
            return str(server.make_url("/"))

        yield serve


@pytest.fixture
async def serve_bytes() -> AsyncIterator[Serve]:
    """Starts a server that reads a request, sends these bytes, and closes or (with ``linger``) waits."""
    async with contextlib.AsyncExitStack() as servers:

        async def serve_bytes(*parts: bytes, linger: bool = False) -> str:
            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    for part in parts:
                        writer.write(part)
                        await writer.drain()
                    if linger:
                        await reader.read()
                writer.transport.abort() if not parts else writer.close()

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            servers.callback(server.close)
            return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

        yield serve_bytes


@pytest.fixture
def ask(invokers: Invokers) -> Ask:
    """Calls the function at a URL once."""

    async def ask(
        url: str, *, emulator: bool = False, provider: str = "aws", timeout_s: float = 10, with_call: Call | None = None
    ) -> Outcome:
        target = function(HttpTarget(url, runtime_api=emulator), provider=provider, timeout_s=timeout_s)
        run = invokers.prepare(target, PROVIDERS[provider])
        return await run(with_call or call(provider=provider))

    return ask


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
    """A fixed response; underscores in header names stand for dashes."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


async def test_what_a_server_answers_is_the_result(serve: Serve, ask: Ask) -> None:
    assert await ask(await serve(answer(body=b'{ "a":1 }'))) == Outcome("returned", 200, b'{ "a":1 }')


async def test_a_result_need_not_be_json(serve: Serve, ask: Ask) -> None:
    assert await ask(await serve(answer(body=b"<html>"))) == Outcome("returned", 200, b"<html>", is_json=False)


async def test_no_content_is_nothing(serve: Serve, ask: Ask) -> None:
    assert await ask(await serve(answer(204))) == Outcome("returned", 200, b"null")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "returned"),
        (201, "returned"),
        (302, "function_error"),
        (400, "function_error"),
        (403, "function_error"),
        (404, "target_missing"),
        (413, "function_error"),
        (429, "throttled"),
        (500, "function_error"),
        (501, "function_error"),
        (502, "system_error"),
        (503, "system_error"),
        (504, "system_error"),
    ],
)
async def test_a_status_decides(serve: Serve, ask: Ask, status: int, kind: str) -> None:
    outcome = await ask(await serve(answer(status, b'"body"', Location="http://127.0.0.1:1/")))

    assert outcome.kind == kind
    if kind == "function_error":
        assert (outcome.payload, outcome.error_message) == (b'"body"', f"HTTP status {status}")


async def test_an_error_without_a_body_gets_the_providers(serve: Serve, ask: Ask) -> None:
    outcome = await ask(await serve(answer(500)))

    assert json.loads(outcome.payload or b"")["errorMessage"] == "HTTP status 500"


@pytest.mark.parametrize(
    ("provider", "headers", "handled"),
    [
        ("aws", {"X_Amz_Function_Error": "Unhandled"}, False),
        ("aws", {"X_Amz_Function_Error": "Handled"}, False),
        ("fc", {"X_Fc_Error_Type": "HandledInvocationError"}, True),
        ("fc", {"X_Fc_Error_Type": "UnhandledInvocationError"}, False),
        ("fc", {"x_fc_status": "404"}, False),
        ("functiongraph", {"X_Is_Func_Err": "true"}, False),
    ],
)
@pytest.mark.parametrize("status", [200, 502])
async def test_a_header_of_its_provider_says_that_a_function_failed(
    serve: Serve, ask: Ask, provider: str, headers: dict[str, str], handled: bool, status: int
) -> None:
    outcome = await ask(await serve(answer(status, ERROR, **headers)), provider=provider)

    assert outcome.kind == "function_error"
    assert (outcome.payload, outcome.error_type, outcome.error_message) == (ERROR, "ValueError", "spaced")
    assert outcome.handled is handled


@pytest.mark.parametrize(
    ("provider", "headers"),
    [("fc", {"x_fc_status": "200"}), ("functiongraph", {"X_Is_Func_Err": "false"}), ("aws", {"x_fc_status": "404"})],
)
async def test_other_headers_say_nothing(serve: Serve, ask: Ask, provider: str, headers: dict[str, str]) -> None:
    assert (await ask(await serve(answer(200, b"1", **headers)), provider=provider)).kind == "returned"


# -- the emulator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "kind", "error_type"),
    [
        (200, b'{"ok": true}', "returned", ""),
        (200, b'{"errorType": "only"}', "returned", ""),
        (200, b'["errorType", "errorMessage"]', "returned", ""),
        (200, b'"errorType" "errorMessage"', "returned", ""),
        (200, ERROR, "function_error", "ValueError"),
        (502, ERROR, "function_error", "ValueError"),
        (502, b"", "function_error", "Runtime.ExitError"),
        (200, b"Task timed out after 3.00 seconds", "function_error", "Sandbox.Timedout"),
        (400, b"", "throttled", ""),
        (500, b"", "system_error", ""),
        (504, b"", "system_error", ""),
        (404, b"404 page not found\n", "target_missing", ""),
    ],
)
async def test_the_emulators_answers(
    serve: Serve, ask: Ask, status: int, body: bytes, kind: str, error_type: str
) -> None:
    outcome = await ask(await serve(answer(status, body)), emulator=True)

    assert (outcome.kind, outcome.error_type) == (kind, error_type)
    if body == ERROR:
        assert outcome.payload == ERROR


async def test_only_the_emulator_shows_errors_in_the_body(serve: Serve, ask: Ask) -> None:
    assert (await ask(await serve(answer(200, ERROR)))).kind == "returned"


# -- requests --------------------------------------------------------------------------------------------------------


async def tell(request: web.Request) -> web.Response:
    """Answers with the request."""
    body = (await request.read()).decode()
    return web.json_response({"method": request.method, "body": body, "headers": dict(request.headers)})


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("provider", "names"),
    [
        (
            "aws",
            {
                "Lambda-Runtime-Aws-Request-Id": "r-1",
                "X-Amzn-RequestId": "r-1",
                "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:resize:$LATEST",
                "X-Amzn-Trace-Id": "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1",
            },
        ),
        ("fc", {"x-fc-request-id": "r-1", "x-fc-function-name": "resize", "x-fc-retry-count": "2"}),
        ("functiongraph", {"X-CFF-Request-Id": "r-1", "X-CFF-Func-Name": "resize", "X-CFF-Timeout": "10"}),
    ],
)
async def test_a_request_tells_the_function_what_its_runtime_would(
    serve: Serve, ask: Ask, provider: str, names: dict[str, str]
) -> None:
    this = call(b'{ "a": 1}', provider, request_id="r-1", attempt=3, traceparent=TRACEPARENT)

    outcome = await ask(await serve(tell), provider=provider, with_call=this)

    request = json.loads(outcome.payload or b"")
    assert (request["method"], request["body"]) == ("POST", '{ "a": 1}')
    assert request["headers"].items() >= (names | {"traceparent": TRACEPARENT}).items()


@pytest.mark.parametrize("odd", ["a\r\nInjected: yes", "ünïcödé", "lone \ud800"])
async def test_whatever_a_request_id_holds_it_can_be_sent(serve: Serve, ask: Ask, odd: str) -> None:
    outcome = await ask(await serve(tell), with_call=call(request_id=odd, traceparent=odd))

    assert outcome.kind == "returned"
    assert "Injected" not in json.loads(outcome.payload or b"")["headers"]


async def test_ipv6_addresses_work(serve: Serve, ask: Ask) -> None:
    try:
        url = await serve(answer(body=b"1"), host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")

    assert (await ask(url)).payload == b"1"


async def test_connections_are_kept_and_limited(serve: Serve, invokers: Invokers) -> None:
    peers: set[Any] = set()

    async def remember(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=b"1")

    run = invokers.prepare(function(HttpTarget(await serve(remember), False)), PROVIDERS["aws"])
    await asyncio.gather(*(run(call()) for _ in range(40)))

    assert len(peers) <= 4  # connections of the fixture `invokers`


async def test_waiting_for_a_connection_does_not_count_as_time(serve: Serve, invokers: Invokers) -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.3)
        return web.Response(body=b"1")

    run = invokers.prepare(function(HttpTarget(await serve(slow), False), timeout_s=1.0), PROVIDERS["aws"])
    outcomes = await asyncio.gather(*(run(call()) for _ in range(20)))

    assert all(outcome.kind == "returned" for outcome in outcomes)


# -- trouble ---------------------------------------------------------------------------------------------------------


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


async def begin_only(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"[1,")
    await asyncio.Event().wait()
    return response


@pytest.mark.parametrize("slow", [never, begin_only])
async def test_an_answer_that_does_not_end_is_a_timeout(serve: Serve, ask: Ask, slow: Answer) -> None:
    outcome = await ask(await serve(slow), timeout_s=0.05)

    assert (outcome.kind, outcome.error_type) == ("function_error", "Sandbox.Timedout")


async def test_a_refused_connection_is_a_system_error(ask: Ask) -> None:
    outcome = await ask(f"http://127.0.0.1:{unused_port()}/")

    assert (outcome.kind, outcome.status_code) == ("system_error", 503)
    assert "refused" in outcome.error_message.lower()


async def test_an_unknown_host_is_a_system_error(ask: Ask) -> None:
    assert (await ask("http://no-such-host.invalid/")).kind == "system_error"


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (b"\x00\x01\x02 garbage\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnothex\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nnogz!",),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",),
    ],
)
async def test_what_is_no_http_is_a_system_error(serve_bytes: Serve, ask: Ask, parts: tuple[bytes, ...]) -> None:
    outcome = await ask(await serve_bytes(*parts))

    assert outcome.kind == "system_error"


@pytest.mark.parametrize("announced", [True, False])
async def test_a_response_is_read_only_as_far_as_any_provider_allows(
    serve_bytes: Serve, ask: Ask, announced: bool
) -> None:
    head = b"Content-Length: 1000000000000\r\n" if announced else b""
    megabytes = [b"x" * 2**20] * (0 if announced else 48)

    outcome = await ask(await serve_bytes(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n", *megabytes, linger=announced))

    assert outcome.error_type == "Function.ResponseSizeTooLarge"


async def test_whoever_awaits_a_runner_can_cancel_it(serve: Serve, ask: Ask) -> None:
    begun = asyncio.Event()

    async def begin(request: web.Request) -> web.StreamResponse:
        begun.set()
        return await never(request)

    task = asyncio.ensure_future(ask(await serve(begin)))
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_closing_ends_what_is_awaited(serve: Serve, ask: Ask, invokers: Invokers) -> None:
    begun = asyncio.Event()

    async def begin(request: web.Request) -> web.StreamResponse:
        begun.set()
        return await never(request)

    task = asyncio.ensure_future(ask(await serve(begin)))
    await begun.wait()

    await invokers.close()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_lone_surrogates_in_an_error_can_be_encoded(serve: Serve, ask: Ask) -> None:
    body = b'{"errorType": "E\\ud83d", "errorMessage": "m\\ud83d"}'

    outcome = await ask(await serve(answer(status=500, body=body)))

    assert (outcome.error_type.encode(), outcome.error_message.encode()) == (b"E\\ud83d", b"m\\ud83d")
    assert outcome.payload == body


@pytest.mark.parametrize(
    "body",
    [
        b"Task timed out after " + b"9" * 400 + b" seconds",
        b'{"errorType": ' + b"[" * 1_000 + b"]" * 1_000 + b', "errorMessage": ""}',
    ],
    ids=["digits", "nested"],
)
async def test_no_answer_of_the_emulator_is_too_strange(serve: Serve, invokers: Invokers, body: bytes) -> None:
    target = HttpTarget(await serve(answer(body=body)), runtime_api=True)

    outcome = await invokers.prepare(function(target), PROVIDERS["aws"])(call())

    assert outcome.payload is not None
