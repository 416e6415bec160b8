"""Invoke, with its three invocation types, and the older InvokeAsync."""

from __future__ import annotations

import re
from typing import NoReturn

from streams.core.model import Outcome
from streams.gateway.aws.account import Account
from streams.gateway.aws.names import NAMESPACED
from streams.gateway.aws.wire import (
    REQUEST_ID,
    fault,
    function_not_found,
    no_content,
    too_large,
    unreadable,
    validation,
)
from streams.gateway.edge import JSON, Refused, Reply, Request, Route
from streams.gateway.intake import TooLarge
from streams.providers.aws import Aws
from streams.providers.base import is_json, read_json

SYNCHRONOUS_BYTES_MAX = 6 * 1024 * 1024
"""Of an event of a synchronous invocation [D]."""
INVOKE_ASYNC_BYTES_MAX = 262_144
"""Of an event of InvokeAsync, which did not grow with the others in 2025 [N invoke_async.json]."""

_TYPES = ("Event", "RequestResponse", "DryRun")
_TRACE = "X-Amzn-Trace-Id"
_ROOT = re.compile(r"root=1-([0-9a-f]{8})-([0-9a-f]{24})(?![0-9a-f])", re.ASCII | re.IGNORECASE)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_PARENT = re.compile(r"parent=([0-9a-f]{16})(?![0-9a-f])", re.ASCII | re.IGNORECASE)


class Invoke:
    """How functions are invoked. `X-Amz-Client-Context` and `X-Amz-Log-Type` are read by nobody: an asynchronous
    invocation has no client context [N, D], and logs are the workers'."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._services = account.services
        function = "/functions/{FunctionName}"
        self.routes = (
            Route("POST", f"/2015-03-31{function}/invocations", self.invoke_function, SYNCHRONOUS_BYTES_MAX),
            Route("POST", f"/2014-11-13{function}/invoke-async", self.invoke_async, SYNCHRONOUS_BYTES_MAX),
        )

    async def invoke_function(self, request: Request) -> Reply:
        kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        if kind == "Event":
            await self._accept(request, Aws.payload_bytes_max)
            headers = {REQUEST_ID: request.request_id, "x-amzn-Remapped-Content-Length": "0"}
            headers[_TRACE] = trace_header(request, self._services.now_ms())
            return Reply(202, headers=headers)
        if kind not in _TYPES:
            wrong = fault(kind, "invocationType", f"satisfy enum value set: [{', '.join(_TYPES)}]")
            self._account.named(request, NAMESPACED, faults=[wrong])
            raise validation([wrong])
        if kind == "DryRun":
            self._account.invoked(request)
            return no_content(request)
        return await self._run(request)

    async def invoke_async(self, request: Request) -> Reply:
        """The body is the event; there is no invocation type and no trace."""
        await self._accept(request, INVOKE_ASYNC_BYTES_MAX)
        return Reply(202, content_type=JSON, headers={REQUEST_ID: request.request_id})

    async def _accept(self, request: Request, bytes_max: int) -> None:
        """Put the invocation on Kafka. Reserved concurrency is no matter of the door: throttled events wait [V]."""
        event = request.body
        if len(event) > bytes_max:
            raise _event_too_large(len(event), bytes_max)
        function = self._account.invoked(request)
        if event and not is_json(event):
            _refuse_event(event)
        try:
            await self._services.accept(function, event or b"{}", request.request_id, traceparent=traceparent(request))
        except TooLarge as error:
            raise _event_too_large(len(event), bytes_max) from error

    async def _run(self, request: Request) -> Reply:
        """Run the function here, and answer with what it returned."""
        function = self._account.invoked(request)
        event = request.body or b"{}"
        try:
            value = read_json(event)
        except ValueError:
            _refuse_event(event)
        outcome = await self._services.run(function, event, value, request.request_id)
        if outcome is None:
            raise _throttled("ReservedFunctionConcurrentInvocationLimitExceeded")
        if outcome.kind not in ("returned", "function_error"):
            raise _not_run(outcome, function.resource)
        headers = {
            REQUEST_ID: request.request_id,
            "X-Amz-Executed-Version": function.executed_version,
            "x-amzn-Remapped-Content-Length": "0",
            _TRACE: trace_header(request, self._services.now_ms()),
        }
        if outcome.kind == "function_error":
            headers["X-Amz-Function-Error"] = "Unhandled"
        return Reply(200, outcome.payload or b"", JSON, headers)


# -- refusals --------------------------------------------------------------------------------------------------------


def _refuse_event(event: bytes) -> NoReturn:
    """*event* is not JSON. Where AWS quotes its JSON parser, we quote ours."""
    try:
        read_json(event)
    except ValueError as wrong:
        message = f"Could not parse request body into json: Could not parse payload into json: {wrong}"
        raise unreadable(message) from wrong
    raise AssertionError("the event is JSON")


def _event_too_large(size_bytes: int, bytes_max: int) -> Refused:
    return too_large(f"{size_bytes} byte payload is too large for the Event invocation type (limit {bytes_max} bytes)")


def _throttled(reason: str) -> Refused:
    return Refused(429, "TooManyRequestsException", "Rate Exceeded.", Reason=reason, Type="User")


def _not_run(outcome: Outcome, arn: str) -> Refused:
    """The function did not run, for a reason outside of it."""
    match outcome.kind:
        case "throttled":
            return _throttled("ConcurrentInvocationLimitExceeded")
        case "target_missing":
            return function_not_found(arn)
        case _:
            return Refused(500, "ServiceException", "The function could not be run. Try again.", Type="Service")


# -- traces ----------------------------------------------------------------------------------------------------------


def traceparent(request: Request) -> str | None:
    """The W3C trace context that the client sent, or else its X-Ray trace in that form."""
    given = request.headers.get("traceparent")
    if given is not None and _TRACEPARENT.fullmatch(given) is not None:
        return given
    header = request.headers.get(_TRACE)
    if header is None:
        return None
    root, parent = _ROOT.search(header), _PARENT.search(header)
    if root is None or parent is None:
        return None
    sampled = "01" if "sampled=1" in header.lower() else "00"
    return f"00-{root[1]}{root[2]}-{parent[1]}-{sampled}".lower()


def trace_header(request: Request, now_ms: int) -> str:
    """What a reply says of its trace: the client's, or one that nobody samples [N]."""
    header = request.headers.get(_TRACE)
    root = _ROOT.search(header) if header is not None else None
    digits = request.request_id.replace("-", "")
    trace = f"1-{root[1]}-{root[2]}" if root is not None else f"1-{now_ms // 1000:08x}-{digits[8:]}"
    sampled = 1 if header is not None and "sampled=1" in header.lower() else 0
    return f"root={trace};parent={digits[:16]};sampled={sampled}"
