"""The parts of AWS Lambda's API put together, and what every API of the gateway answers."""

from __future__ import annotations

from streams.gateway.aws import wire
from streams.gateway.aws.account import Account
from streams.gateway.aws.configurations import Configurations
from streams.gateway.aws.definitions import Definitions
from streams.gateway.aws.invoke import Invoke
from streams.gateway.aws.limits import Limits
from streams.gateway.aws.versions import Versions
from streams.gateway.edge import Refused, Reply, Request, Route
from streams.gateway.services import Services
from streams.gateway.sigv4 import SignatureRefused, Signed, verify

SERVICE = "lambda"

_OTHERS = (
    "2017-03-31",
    "2018-10-31",
    "2020-04-22",
    "2020-06-30",
    "2021-10-31",
    "2021-11-15",
    "2025-11-30",
    "2025-12-01",
)
"""Where Lambda has operations that are not here: they are refused in its own manner."""


class AwsLambda:
    """All operations."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._account = account = Account(services)
        parts = (Invoke(account), Configurations(account), Definitions(account), Versions(account), Limits(account))
        self.routes: tuple[Route, ...] = tuple(route for part in parts for route in part.routes)

    @property
    def first_segments(self) -> list[str]:
        """Of the paths that are Lambda's: its operations begin with the day on which they were made."""
        return sorted({route.path.split("/")[1] for route in self.routes} | set(_OTHERS))

    def refused(self, refusal: Refused, request_id: str) -> Reply:
        return wire.error(refusal, request_id)

    def too_large(self, route: Route, size_bytes: int) -> Refused:
        operation = "".join(word.capitalize() for word in route.handler.__name__.split("_"))
        limit = f"Request must be smaller than {route.body_bytes_max} bytes for the {operation} operation"
        return wire.too_large(limit)

    def unknown(self, method: str, path: str, other_methods: bool) -> Refused:
        what = f"{method} is not possible here." if other_methods else "There is no such operation here."
        return Refused(404, "UnknownOperationException", what)

    def unavailable(self, reason: str) -> Refused:
        return Refused(503, "ServiceException", reason, Type="Service")

    def overloaded(self) -> Refused:
        members = {"Reason": "CallerRateLimitExceeded", "Type": "User"}
        return Refused(429, "TooManyRequestsException", "Rate Exceeded.", **members)

    def bad_request(self, reason: str) -> Refused:
        return wire.unreadable(reason)

    def authenticate(self, request: Request) -> str:
        """Signature Version 4."""
        signed = Signed(request.method, request.raw_path, request.raw_query, request.headers, request.body)
        secrets, now_ms = self._services.keys.secrets, self._services.now_ms()
        try:
            return verify(signed, secrets, self._account.aws.region, SERVICE, now_ms)
        except SignatureRefused as refused:
            raise Refused(refused.status, refused.code, str(refused)) from refused
