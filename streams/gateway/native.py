"""Our own API, for those without a cloud's SDK: invoke functions, and see what became of it.

It describes itself: each operation carries its part of the OpenAPI document that `openapi` puts together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from streams.codec.envelope import DELAY_MS_MAX, REQUEST_ID_CHARS_MAX, read_envelope
from streams.codec.errors import InputRejected
from streams.codec.facts import fact_fields
from streams.codec.text import checked
from streams.console.store import InvocationStatus
from streams.core.model import Function
from streams.gateway.edge import Refused, Reply, Request, Route
from streams.gateway.intake import Overloaded, TooLarge, Unavailable
from streams.gateway.openapi import PROBLEM, document
from streams.gateway.services import Services
from streams.providers.base import InvalidEvent

EVENT_BYTES_MAX = 1 << 20
"""The largest event of any provider."""
BATCH_BYTES_MAX = 8 << 20
BATCH_MAX = 1_000
"""Lines of a batch."""

_FUNCTION = {
    "name": "function",
    "in": "path",
    "required": True,
    "description": "Name, name:qualifier, ARN or URN.",
    "schema": {"type": "string"},
}
_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The request id.",
    "schema": {"type": "string", "maxLength": REQUEST_ID_CHARS_MAX},
}
_QUERY = {
    "qualifier": {"type": "string", "description": "Version or alias; the newest version if it is not given."},
    "id": {
        "type": "string",
        "maxLength": REQUEST_ID_CHARS_MAX,
        "description": "The request id, for callers that may repeat themselves: the same id twice is one invocation.",
    },
    "delay_ms": {
        "type": "integer",
        "minimum": 0,
        "maximum": DELAY_MS_MAX,
        "description": "Not before so many milliseconds from now.",
    },
}


class Wanted(NamedTuple):
    """One invocation, as its caller describes it."""

    reference: str
    qualifier: str | None
    request_id: str
    delay_ms: int
    event: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route, and what the OpenAPI document says of it."""

    route: Route
    summary: str
    parameters: tuple[Mapping[str, Any], ...] = ()
    request_body: Mapping[str, Any] | None = None
    responses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Native:
    """``POST /invocations/{function}`` and what goes with it. Errors are problem documents (RFC 9457)."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.operations = self._operations()
        self.routes = tuple(operation.route for operation in self.operations)
        self._document = orjson.dumps(document(self.operations))

    def _operations(self) -> tuple[Operation, ...]:
        accepted = {
            "description": "Accepted: Kafka has it for good.",
            **_json({"$ref": "#/components/schemas/Accepted"}),
        }
        return (
            Operation(
                route=Route("POST", "/invocations/{function}", self.invoke, EVENT_BYTES_MAX),
                summary="Invoke a function asynchronously",
                parameters=(
                    _FUNCTION,
                    *({"name": name, "in": "query", "schema": schema} for name, schema in _QUERY.items()),
                    {"name": "traceparent", "in": "header", "schema": {"type": "string"}},
                ),
                request_body={
                    "description": "The event, byte for byte.",
                    "content": {"application/json": {"schema": {}}, "application/octet-stream": {"schema": {}}},
                },
                responses={"202": accepted, "400": PROBLEM, "404": PROBLEM, "413": PROBLEM, **_LATER},
            ),
            Operation(
                route=Route("POST", "/invocations", self.invoke_batch, BATCH_BYTES_MAX),
                summary=f"Invoke up to {BATCH_MAX} times with one request",
                request_body={
                    "required": True,
                    "description": "A JSON envelope a line; the event is the text of its payload, byte for byte.",
                    "content": {"application/x-ndjson": {"schema": {"$ref": "#/components/schemas/Envelope"}}},
                },
                responses={
                    "200": {
                        "description": "What became of each line, in order.",
                        **_json({"$ref": "#/components/schemas/Results"}),
                    },
                    "400": PROBLEM,
                    "413": PROBLEM,
                    **_LATER,
                },
            ),
            Operation(
                route=Route("GET", "/invocations/{id}", self.show),
                summary="What became of an invocation",
                parameters=(_ID,),
                responses={
                    "200": {
                        "description": "Where it stands.",
                        **_json({"$ref": "#/components/schemas/Invocation"}),
                    },
                    "404": PROBLEM,
                    **_LATER,
                },
            ),
            Operation(
                route=Route("GET", "/openapi.json", self.describe),
                summary="This document",
                responses={"200": {"description": "OpenAPI 3.1.", **_json({"type": "object"})}},
            ),
        )

    # -- operations ----------------------------------------------------------------------------------------------

    async def invoke(self, request: Request) -> Reply:
        """Accept an invocation: 202 with its id."""
        [reference] = request.parameters
        query = request.query
        wanted = Wanted(
            reference,
            query.get("qualifier"),
            _request_id(query.get("id"), request.request_id),
            _delay_ms(query.get("delay_ms")),
            request.body,
        )
        await self._accept(wanted, request.headers.get("traceparent"))
        return Reply.of(202, {"id": wanted.request_id})

    async def invoke_batch(self, request: Request) -> Reply:
        """Accept what can be accepted of a batch, and say of each line what became of it."""
        lines = [line for line in request.body.split(b"\n") if line.strip()]
        if not 1 <= len(lines) <= BATCH_MAX:
            raise Refused(400, "BadRequest", f"A batch has from 1 to {BATCH_MAX} lines; this one has {len(lines)}.")
        results = []
        for number, line in enumerate(lines):
            results.append(await self._accept_line(line, f"{request.request_id}-{number}"))
        return Reply.of(200, {"results": results})

    async def _accept_line(self, line: bytes, request_id: str) -> dict[str, Any]:
        try:
            fields = read_envelope(line)
            wanted = Wanted(
                fields["function"],
                fields["qualifier"],
                _request_id(fields["id"], request_id),
                _delay_ms(fields["delay_ms"]),
                fields["event"],
            )
            await self._accept(wanted, None)
        except InputRejected as rejected:
            return _problem(Refused(400, "BadRequest", rejected.message))
        except Refused as refused:
            return _problem(refused)
        except Unavailable:
            return _problem(self.unavailable("The invocation could not be stored. Try again."))
        except Overloaded:
            return _problem(self.overloaded())
        return {"status": 202, "id": wanted.request_id}

    async def _accept(self, wanted: Wanted, traceparent: str | None) -> None:
        function = self._services.functions.resolve(wanted.reference, wanted.qualifier)
        if not isinstance(function, Function):
            raise Refused(404, "UnknownFunction", function)
        try:
            self._services.provider(function.provider).read_event(wanted.event)
        except InvalidEvent as invalid:
            raise Refused(invalid.status_code, invalid.code, str(invalid)) from invalid
        try:
            await self._services.accept(
                function, wanted.event, wanted.request_id, delay_ms=wanted.delay_ms, traceparent=traceparent
            )
        except TooLarge as error:
            raise Refused(413, "TooLarge", "The event is larger than Kafka takes.") from error

    async def show(self, request: Request) -> Reply:
        """Where an invocation stands, with all that happened to it."""
        [request_id] = request.parameters
        statuses = self._services.statuses
        status = await statuses.get(None, request_id)
        if status is None:
            raise Refused(404, "UnknownInvocation", "Nothing is known of an invocation with this id.")
        events = [{"fact": type(fact).__name__, **fact_fields(fact)} for fact in await statuses.events(status)]
        return Reply.of(200, {**_shown(status), "events": events})

    async def describe(self, request: Request) -> Reply:
        """The OpenAPI document."""
        return Reply(200, self._document, "application/json")

    # -- what every API has --------------------------------------------------------------------------------------

    def refused(self, refusal: Refused, request_id: str) -> Reply:
        reply = Reply.of(refusal.status, _problem(refusal), X_Request_Id=request_id)
        reply.content_type = "application/problem+json"
        return reply

    def too_large(self, route: Route, size_bytes: int) -> Refused:
        return Refused(413, "TooLarge", f"The body has {size_bytes} bytes; {route.body_bytes_max} are allowed.")

    def unknown(self, method: str, path: str, other_methods: bool) -> Refused:
        if other_methods:
            return Refused(405, "MethodNotAllowed", f"{method} is not possible here.")
        return Refused(404, "NotFound", "There is nothing here; GET /openapi.json tells what there is.")

    def unavailable(self, reason: str) -> Refused:
        return Refused(503, "Unavailable", reason)

    def overloaded(self) -> Refused:
        return Refused(429, "TooManyRequests", "Too much is waiting already. Try again later.")

    def bad_request(self, reason: str) -> Refused:
        return Refused(400, "BadRequest", reason)

    def authenticate(self, request: Request) -> str:
        """A bearer token (RFC 6750)."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        principal = self._services.keys.tokens.get(token.strip()) if scheme.lower() == "bearer" else None
        if principal is None:
            raise Refused(401, "Unauthorized", "Send the header Authorization: Bearer, with the token of a key.")
        return principal


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


_LATER = {"429": PROBLEM, "503": PROBLEM}


def _problem(refusal: Refused) -> dict[str, Any]:
    return {"type": "about:blank", "title": refusal.code, "status": refusal.status, "detail": refusal.message}


def _request_id(given: str | None, otherwise: str) -> str:
    if given is None:
        return otherwise
    try:
        return checked(given, "The request id", REQUEST_ID_CHARS_MAX)
    except InputRejected as rejected:
        raise Refused(400, "BadRequest", rejected.message) from rejected


def _delay_ms(given: str | int | None) -> int:
    if given is None:
        return 0
    text = str(given)
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= DELAY_MS_MAX):
        raise Refused(400, "BadRequest", f"delay_ms is not a whole number from 0 to {DELAY_MS_MAX}.")
    return int(text)


def _shown(status: InvocationStatus) -> dict[str, Any]:
    error = None
    if status.outcome_kind not in (None, "returned"):
        error = {"kind": status.outcome_kind, "type": status.error_type, "message": status.error_message}
    return {
        "id": status.request_id,
        "function": status.resource,
        "provider": status.provider,
        "status": status.status,
        "ending": status.ending,
        "attempts": status.attempts,
        "accepted_at": _time(status.accepted_at_ms),
        "due_at": _time(status.due_at_ms),
        "started_at": _time(status.started_at_ms),
        "ended_at": _time(status.ended_at_ms),
        "error": error,
        "destination": status.destination,
    }


def _time(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
