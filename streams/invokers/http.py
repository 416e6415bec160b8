"""Functions behind a URL: a Lambda Runtime Interface Emulator, or any HTTP server.

Whether a function failed is said by a header of its provider: AWS `X-Amz-Function-Error`; FC `X-Fc-Error-Type` (its
API) and `x-fc-status` (its custom runtimes); FunctionGraph `X-Is-Func-Err`. Without one, 2xx is a result, 429 a
throttle, 404 a missing function; 502, 503, 504 and every trouble with the connection are system errors; all else is a
function error. The body of an error is its payload, unchanged.

The emulator (aws-lambda-runtime-interface-emulator, cmd/aws-lambda-rie/handlers.go, read 2026-11) has no such header
(its issue 20, open since 2021). An error is 200 with the error document; a timeout is 200 with the text ``Task timed
out after 3.00 seconds``; while it runs another call it answers 400 with no body; when the runtime could not start or
exited, 502 with the error document or (its issue 86) nothing; when its own machinery failed, 500 or 504.

Requests carry what a custom runtime of the provider would be told: request id, deadline, function; and `traceparent`.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, TypeAlias
from urllib.parse import quote

import aiohttp

from streams.core.lifecycle import THROTTLED
from streams.core.model import Function, FunctionFailure, HttpTarget, Outcome
from streams.invokers.call import NOT_STARTED, RESPONSE_BYTES_MAX, Call, Runner, exited, timed_out
from streams.invokers.context import setting
from streams.providers.base import Provider, is_json, plain, read_json

CONNECT_S = 3.0
"""Connecting may take so long, then it is a system error. (A function's shorter time limit strikes first.)"""

Headers: TypeAlias = Mapping[str, str]
Reported: TypeAlias = Literal["raised", "handled"] | None
"""How a function says that it failed; None: it does not say so."""

_TIMED_OUT = re.compile(rb"Task timed out after (\d{1,9}(?:\.\d{1,9})?) seconds")
_TRACEPARENT = re.compile(r"[\da-f]{2}-([\da-f]{8})([\da-f]{24})-([\da-f]{16})-[\da-f]([\da-f])")


class Http:
    """Runs functions behind URLs over at most *connections* connections."""

    def __init__(self, connections: int) -> None:
        self._connections = connections
        # Ours, so that waiting for a connection does not count as the function's time.
        self._slots = asyncio.Semaphore(connections)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def prepare(self, function: Function, provider: Provider) -> Runner:
        """The runner of *function*."""
        assert isinstance(function.target, HttpTarget)
        url = function.target.url
        headers = _request_headers(function, provider)
        read_response = _Reader(function, provider)
        timeout = aiohttp.ClientTimeout(total=function.timeout_ms / 1000, sock_connect=CONNECT_S)

        async def run(call: Call) -> Outcome:
            event = provider.event_bytes(call.payload)
            async with self._slots:
                if not call.may_start():
                    return NOT_STARTED
                request = self._get_session().post(
                    url, data=event, headers=headers(call), timeout=timeout, allow_redirects=False
                )
                try:
                    async with request as response:
                        return await read_response(response, call.request_id)
                except aiohttp.ConnectionTimeoutError as error:
                    return _system_error(503, error)
                except TimeoutError:
                    return provider.failed(timed_out(function.timeout_ms), call.request_id)
                except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as error:
                    # ValueError: nothing that HTTP allows; RuntimeError: uvloop's for a connection that is closed
                    if self._closed:
                        raise asyncio.CancelledError from None
                    return _system_error(503, error)

        return run

    async def close(self) -> None:
        """Drop all connections; runners that wait for an answer raise CancelledError."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "streams", "Accept-Encoding": "identity"},
            )
        return self._session


# -- responses -------------------------------------------------------------------------------------------------------


class _Reader:
    """Turns the responses of one function into outcomes."""

    def __init__(self, function: Function, provider: Provider) -> None:
        assert isinstance(function.target, HttpTarget)
        self._is_emulator = function.target.runtime_api
        self._provider = provider
        self._reported = _REPORTED[function.provider]

    async def __call__(self, response: aiohttp.ClientResponse, request_id: str) -> Outcome:
        """Raises aiohttp's errors when the body does not arrive in full."""
        body = await _read_body(response)
        if isinstance(body, int):
            failure = FunctionFailure(cause="response_too_large", size_bytes=body)
            return self._provider.failed(failure, request_id)
        outcome = self._from_emulator(response, body, request_id) if self._is_emulator else None
        return outcome or self._from_server(response, body, request_id)

    def _from_server(self, response: aiohttp.ClientResponse, body: bytes, request_id: str) -> Outcome:
        status = response.status
        reported = self._reported(response.headers)
        if reported is not None:
            return self._error(reported, status, body, request_id)
        if status == 204:  # what a handler means that returns None
            return self._provider.returned(None, request_id)
        if 200 <= status < 300:
            return self._provider.returned_bytes(body, request_id)
        if status == 429:
            return THROTTLED
        if status == 404:
            return Outcome("target_missing", 404, error_message="HTTP status 404")
        if status in (502, 503, 504):
            return Outcome("system_error", status, error_message=f"HTTP status {status}")
        return self._error("raised", status, body, request_id)

    def _from_emulator(self, response: aiohttp.ClientResponse, body: bytes, request_id: str) -> Outcome | None:
        """The outcome if the response is one that only the emulator gives."""
        status = response.status
        if _error_document(body) is not None:
            return self._error("raised", status, body, request_id)
        if (match := _TIMED_OUT.fullmatch(body)) is not None:
            return self._provider.failed(timed_out(round(float(match[1]) * 1000)), request_id)
        if status == 400 and not body:
            return THROTTLED
        if status == 502:
            return self._provider.failed(exited(0), request_id)
        if status == 500:
            return Outcome("system_error", status, error_message=f"HTTP status {status}")
        return None

    def _error(self, reported: Literal["raised", "handled"], status: int, body: bytes, request_id: str) -> Outcome:
        """A function error whose payload is *body*; without one, the provider's document about the status."""
        error_type, message = _error_document(body) or ("", f"HTTP status {status}")
        outcome = self._provider.failed(
            FunctionFailure(cause=reported, error_type=error_type, message=message), request_id
        )
        if not body:
            return outcome
        return replace(outcome, payload=body, is_json=is_json(body), error_type=error_type, error_message=message)


async def _read_body(response: aiohttp.ClientResponse) -> bytes | int:
    """The body, or its size if that is too much to read (as far as it is known)."""
    announced = response.content_length or 0
    if announced > RESPONSE_BYTES_MAX:
        return announced
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > RESPONSE_BYTES_MAX:
            return len(body)
    return bytes(body)


def _error_document(body: bytes) -> tuple[str, str] | None:
    """Type and message of an error as the providers' runtimes write it: a JSON object that has both."""
    if b'"errorType"' not in body or b'"errorMessage"' not in body:
        return None
    try:
        document = read_json(body)
    except ValueError:
        return None
    if not isinstance(document, dict) or "errorType" not in document or "errorMessage" not in document:
        return None
    return _text(document["errorType"]), _text(document["errorMessage"])


def _text(found: object) -> str:
    """Mostly a string, but anybody may write anything there."""
    try:
        return plain(str(found))
    except RecursionError:
        return ""


def _system_error(status: int, error: Exception) -> Outcome:
    """*error* happened on the way. Its text may quote what was sent; only the operating system's words are kept."""
    reason = "no HTTP response"
    if isinstance(error, OSError) and error.errno is not None:
        reason = os.strerror(error.errno) if error.errno > 0 else str(error.strerror)  # below 0: a name not found
    return Outcome("system_error", status, error_type=type(error).__name__, error_message=reason)


def _aws_reported(headers: Headers) -> Reported:
    value = headers.get("X-Amz-Function-Error")
    return None if value is None else "handled" if value == "Handled" else "raised"


def _fc_reported(headers: Headers) -> Reported:
    error_type = headers.get("X-Fc-Error-Type")
    if error_type == "HandledInvocationError":
        return "handled"
    failed = error_type == "UnhandledInvocationError" or headers.get("X-Fc-Status", "200") != "200"
    return "raised" if failed else None


def _functiongraph_reported(headers: Headers) -> Reported:
    return "raised" if headers.get("X-Is-Func-Err", "false").lower() == "true" else None


_REPORTED: dict[str, Callable[[Headers], Reported]] = {
    "aws": _aws_reported,
    "fc": _fc_reported,
    "functiongraph": _functiongraph_reported,
}


# -- requests --------------------------------------------------------------------------------------------------------


def _request_headers(function: Function, provider: Provider) -> Callable[[Call], dict[str, str]]:
    """Makes the headers of a request to *function*."""
    same, own = _HEADERS[function.provider](function, provider)
    timeout_s = function.timeout_ms / 1000

    def headers(call: Call) -> dict[str, str]:
        result = same | own(_sendable(call.request_id), str(round((time.time() + timeout_s) * 1000)), call)
        if call.traceparent:
            result["traceparent"] = _sendable(call.traceparent)
        return result

    return headers


HeaderParts: TypeAlias = tuple[dict[str, str], Callable[[str, str, Call], dict[str, str]]]
"""Headers that are the same in all requests, and those made of request id, deadline (epoch ms) and call."""


def _aws_headers(function: Function, provider: Provider) -> HeaderParts:
    same = {"Content-Type": "application/json", "Lambda-Runtime-Invoked-Function-Arn": function.resource}

    def own(request_id: str, deadline_ms: str, call: Call) -> dict[str, str]:
        headers = {
            "X-Amzn-RequestId": request_id,  # the emulator takes this one over
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": deadline_ms,
        }
        match = _TRACEPARENT.fullmatch(call.traceparent or "")
        if match is not None:
            sampled = int(match[4], 16) & 1
            headers["X-Amzn-Trace-Id"] = f"Root=1-{match[1]}-{match[2]};Parent={match[3]};Sampled={sampled}"
        return headers

    return same, own


def _fc_headers(function: Function, provider: Provider) -> HeaderParts:
    service, _, name = function.name.rpartition("/")
    same = {
        "Content-Type": "application/octet-stream",
        "x-fc-control-path": "/invoke",
        "x-fc-function-name": name,
        "x-fc-service-name": service,
        "x-fc-function-timeout": str(function.timeout_ms // 1000),
        "x-fc-qualifier": function.qualifier,
        "x-fc-version-id": function.executed_version,
        "x-fc-region": setting(provider, "region"),
        "x-fc-account-id": setting(provider, "account"),
    }

    def own(request_id: str, deadline_ms: str, call: Call) -> dict[str, str]:
        return {
            "x-fc-request-id": request_id,
            "x-fc-function-deadline": deadline_ms,
            "x-fc-retry-count": str(call.attempt - 1),
        }

    return same, own


def _functiongraph_headers(function: Function, provider: Provider) -> HeaderParts:
    same = {
        "Content-Type": "application/json",
        "X-CFF-Func-Name": function.name,
        "X-CFF-Func-Version": function.executed_version,
        "X-CFF-Timeout": str(function.timeout_ms // 1000),
        "X-CFF-Project-Id": setting(provider, "project_id"),
        "X-CFF-Package": setting(provider, "package"),
        "X-CFF-Region": setting(provider, "region"),
    }

    def own(request_id: str, deadline_ms: str, call: Call) -> dict[str, str]:
        return {"X-CFF-Request-Id": request_id}  # its runtimes know the time limit, not the deadline

    return same, own


_HEADERS: dict[str, Callable[[Function, Provider], HeaderParts]] = {
    "aws": _aws_headers,
    "fc": _fc_headers,
    "functiongraph": _functiongraph_headers,
}


def _sendable(text: str) -> str:
    """*text* as a header's value: percent-encoded if it holds what no header may."""
    return text if text.isascii() and text.isprintable() else quote(text, errors="replace")
