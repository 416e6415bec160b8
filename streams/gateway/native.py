"""Our own API, for those without a cloud's SDK: invoke, and see what became of it."""

from __future__ import annotations

from streams.core.model import Function
from streams.gateway.edge import Refused, Reply, Request, Route
from streams.gateway.services import Services
from streams.providers.base import InvalidEvent

EVENT_BYTES_MAX = 1 << 20


class Native:
    """``POST /invocations/{function}`` and what goes with it. Errors are RFC 9457 problem documents."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.routes = (Route("POST", "/invocations/{function}", self.invoke, EVENT_BYTES_MAX),)

    async def invoke(self, request: Request) -> Reply:
        """Accept an invocation: 202 with its id."""
        [reference] = request.parameters
        function = self._services.functions.resolve(reference, request.query.get("qualifier"))
        if not isinstance(function, Function):
            raise Refused(404, "UnknownFunction", function)
        try:
            self._services.provider(function.provider).read_event(request.body)
        except InvalidEvent as invalid:
            raise Refused(invalid.status_code, invalid.code, str(invalid)) from invalid
        await self._services.accept(function, request.body, request.request_id)
        return Reply.of(202, {"id": request.request_id})

    # -- what every API has --------------------------------------------------------------------------------------

    def refused(self, refusal: Refused, request_id: str) -> Reply:
        document = {"type": "about:blank", "title": refusal.code, "status": refusal.status, "detail": refusal.message}
        reply = Reply.of(refusal.status, document, X_Request_Id=request_id)
        reply.content_type = "application/problem+json"
        return reply

    def too_large(self, route: Route, size_bytes: int) -> Refused:
        return Refused(413, "TooLarge", f"The body has {size_bytes} bytes; {route.body_bytes_max} are allowed.")

    def unknown(self, method: str, path: str, other_methods: bool) -> Refused:
        if other_methods:
            return Refused(405, "MethodNotAllowed", f"{method} is not possible here.")
        return Refused(404, "NotFound", "There is nothing here.")

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
