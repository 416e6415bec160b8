"""Function Compute's API, one object for each of its versions: which paths there are, and how it refuses."""

from __future__ import annotations

import logging

from streams.errors import BrokerError, ReadModelError
from streams.gateway.edge import Api, Handler, Refused, Reply, Request, Route
from streams.gateway.fc import signatures
from streams.gateway.fc.catalogue import Catalogue
from streams.gateway.fc.configs import Configs
from streams.gateway.fc.invoking import REQUEST_ID, SYNC_BYTES_MAX, Invoking, too_large
from streams.gateway.fc.targets import Targets, invalid
from streams.gateway.fc.tasks import Stopping, Tasks
from streams.gateway.fc.versions import VERSIONS, Version
from streams.gateway.services import Services
from streams.providers.base import plain

log = logging.getLogger(__name__)

CONFIG_BYTES_MAX = 64 << 10
"""Of the body of every request but invocations. [G]"""


def function_compute(services: Services) -> dict[str, Api]:
    """The API in every version, by the first segment of its paths."""
    stopping = Stopping()
    return {version.date: FunctionCompute(services, version, stopping) for version in VERSIONS}


class FunctionCompute:
    """One version of the API."""

    def __init__(self, services: Services, version: Version, stopping: Stopping) -> None:
        self._services = services
        self._version = version
        targets = Targets(services, version)
        configs = Configs(services, targets)
        tasks = Tasks(services, targets, configs, stopping)
        catalogue = Catalogue(services, targets)
        root, function = f"/{version.date}", version.function
        invoke = Route("POST", f"{function}/invocations", Invoking(services, targets, configs).invoke, SYNC_BYTES_MAX)
        operations = [
            ("GET", f"{function}/async-invoke-config", configs.get),
            ("PUT", f"{function}/async-invoke-config", configs.put),
            ("DELETE", f"{function}/async-invoke-config", configs.delete),
            ("GET", f"{function}/{version.tasks}", tasks.list),
            ("GET", f"{function}/{version.tasks}/{{task}}", tasks.get),
            ("GET", function, catalogue.function),
            ("GET", function.removesuffix("/{function}"), catalogue.functions),
        ]
        owner = f"{root}/services/{{service}}" if version.has_services else function
        operations += [
            ("GET", f"{owner}/versions", catalogue.versions),
            ("GET", f"{owner}/aliases", catalogue.aliases),
            ("GET", f"{owner}/aliases/{{alias}}", catalogue.alias),
        ]
        if version.has_services:
            operations += [
                ("GET", f"{function}/async-invoke-configs", configs.list_of_function),
                ("PUT", f"{function}/{version.tasks}/{{task}}", tasks.stop),
                ("GET", f"{root}/stateful-async-invocation-functions", tasks.functions),
                ("GET", f"{root}/services", catalogue.list_services),
                ("GET", f"{root}/services/{{service}}", catalogue.service),
            ]
        else:
            operations += [
                ("GET", f"{root}/async-invoke-configs", configs.list_all),
                ("PUT", f"{function}/{version.tasks}/{{task}}/stop", tasks.stop),
            ]
        # Paths of one length are tried in this order: invocations are first.
        self.routes = (invoke, *(_route(*operation) for operation in operations))

    def refused(self, refusal: Refused, request_id: str) -> Reply:
        reply = Reply.of(refusal.status, self._version.document(refusal, plain(refusal.message), request_id))
        _sign(reply, request_id)
        return reply

    def too_large(self, route: Route, size_bytes: int) -> Refused:
        return too_large(route.body_bytes_max)

    def unknown(self, method: str, path: str, other_methods: bool) -> Refused:
        return Refused(400, "PathNotSupported", f"'{path}' against '{method}' is not supported")  # [D]

    def unavailable(self, reason: str) -> Refused:
        return Refused(500, "InternalServerError", reason)

    def overloaded(self) -> Refused:
        return Refused(429, "ResourceThrottled", "Too much is waiting already. Try again later.")

    def bad_request(self, reason: str) -> Refused:
        return invalid(reason)

    def authenticate(self, request: Request) -> str:
        """The access key of an ACS3-HMAC-SHA256 or FC signature."""
        return signatures.signer(request, self._services.keys.secrets, self._services.now_ms())


def _route(method: str, path: str, handler: Handler) -> Route:
    """The operation, with the request id in its reply; an invocation's reply has one of its own."""

    async def handle(request: Request) -> Reply:
        try:
            reply = await handler(request)
        except (BrokerError, ReadModelError) as error:
            log.error("request %s failed: %s", request.request_id, error)
            raise Refused(500, "InternalServerError", "An internal error occurred. Try again.") from error
        _sign(reply, request.request_id)
        return reply

    return Route(method, path, handle, CONFIG_BYTES_MAX)


def _sign(reply: Reply, request_id: str) -> None:
    """Say which request this is the reply to, as the SDKs of all versions look for it."""
    reply.headers[REQUEST_ID] = reply.headers["x-acs-request-id"] = request_id
