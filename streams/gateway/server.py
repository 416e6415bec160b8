"""The HTTP server of a gateway: reads requests within bounds of size and time, finds their handlers, writes replies.

It stands directly on aiohttp's protocol (`web.Server`), without its router and middlewares: those cost as much as all
the rest of accepting an invocation.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import uuid
from collections.abc import Mapping

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from streams.gateway.edge import Api, Found, Refused, Reply, Request, Route, Table
from streams.gateway.intake import Overloaded, Unavailable

log = logging.getLogger(__name__)

HEAD_TIMEOUT_S = 10.0
"""A client has so long to send its first request's line and headers."""
BODY_TIMEOUT_S = 30.0
"""A client has so long to send a body."""
KEEPALIVE_S = 75.0
"""An idle connection is closed after so long."""
STOP_TIMEOUT_S = 15.0
"""Requests under way may take so long to end when the gateway stops."""
_SERVER = "Streams"


class Server:
    """Serves *apis* (by the first segment of their paths; *otherwise* gets every other path)."""

    def __init__(self, apis: Mapping[str, Api], otherwise: Api, *, authenticates: bool = False) -> None:
        self._table = Table(apis, otherwise)
        self._authenticates = authenticates
        self._runner: web.ServerRunner | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen. Returns the port. Raises OSError when that is not possible."""
        server = _Server(self.handle, access_log=None, keepalive_timeout=KEEPALIVE_S, auto_decompress=False)
        self._runner = web.ServerRunner(server, shutdown_timeout=STOP_TIMEOUT_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=tls, backlog=1024)
        await site.start()
        [address, *_] = self._runner.addresses
        return int(address[1])

    async def stop(self) -> None:
        """Take no more connections, and let requests under way end."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Every request comes through here, and always gets a reply in the words of its API."""
        request_id = str(uuid.uuid4())
        raw_path, _, raw_query = request.path_qs.partition("?")
        found = self._table.find(request.method, raw_path)
        api = found.api
        try:
            reply = await self._reply(request, found, raw_path, raw_query, request_id)
        except Refused as refused:
            reply = api.refused(refused, request_id)
        except Unavailable:
            reply = api.refused(api.unavailable("The invocation could not be stored. Try again."), request_id)
        except Overloaded:
            reply = api.refused(api.overloaded(), request_id)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("request %s failed: %s %s", request_id, request.method, found.route and found.route.path)
            reply = api.refused(api.unavailable("An internal error occurred. Try again."), request_id)
        headers = reply.headers
        headers["Server"] = _SERVER
        response = web.Response(status=reply.status, body=reply.body, headers=headers)
        if reply.content_type is not None:
            response.headers["Content-Type"] = reply.content_type
        elif "Content-Type" in response.headers:  # aiohttp thinks that every body is an octet-stream
            del response.headers["Content-Type"]
        return response

    async def _reply(
        self, request: web.BaseRequest, found: Found, raw_path: str, raw_query: str, request_id: str
    ) -> Reply:
        api, route = found.api, found.route
        if route is None:
            raise api.unknown(request.method, raw_path, found.other_methods)
        body = await _body(request, api, route)
        read = Request(
            request.method,
            raw_path,
            raw_query,
            request.query,
            request.headers,
            body,
            request_id,
            found.parameters,
        )
        if self._authenticates:
            read.principal = api.authenticate(read)
        return await route.handler(read)


async def _body(request: web.BaseRequest, api: Api, route: Route) -> bytes:
    """The body of *request*, if it is not too large. Raises `Refused`."""
    announced = request.content_length
    if announced is None and not request.body_exists:
        return b""
    if announced is not None and announced > route.body_bytes_max:
        raise api.too_large(route, announced)
    content = request.content
    if content.is_eof():  # it came with the head, as small bodies do
        body: bytes = content.read_nowait()
        if len(body) > route.body_bytes_max:
            raise api.too_large(route, len(body))
        return body
    chunks, size = [], 0
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in content.iter_any():
                size += len(chunk)
                if size > route.body_bytes_max:
                    raise api.too_large(route, size)
                chunks.append(chunk)
    except TimeoutError:
        raise api.bad_request(f"The request body did not arrive within {BODY_TIMEOUT_S:.0f} seconds.") from None
    except (web.RequestPayloadError, ValueError) as error:
        raise api.bad_request("The request body cannot be read.") from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        handler = super().__call__()
        assert self._loop is not None
        self._loop.call_later(HEAD_TIMEOUT_S, _close_if_silent, handler)
        return handler


def _close_if_silent(handler: RequestHandler) -> None:
    """Close a connection on which no request has come: a client that drips its headers holds it for ever."""
    if handler._request_count == 0 and not handler._request_in_progress:
        handler.force_close()
