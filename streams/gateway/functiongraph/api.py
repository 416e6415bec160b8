"""The operations of FunctionGraph's API, under ``/v2/{project_id}/fgs/functions``.

Sources, read November 2026: [M] SDK model huaweicloudsdkfunctiongraph 3.1.219, [D] the OTC API reference; details are
in the modules beside this one. What a page does not say is marked [G].

- A function is named by its URN, percent-encoded or not, with or without version. Functions of another region, project
  or package do not exist.
- Status lists do not depend on the switches for keeping statuses, per project and per configuration: they are accepted
  and shown, statuses are always kept.
- A synchronous call that ends with an error of the function is a 200 whose headers say so [G].
- OTC has no DIS, no ``active-async-invocations`` and no project switch.
- A client that knows its region only asks IAM for the project: ``GET /v3/projects`` is answered here, too.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

import orjson

from streams.core.model import Function, Outcome
from streams.functions.stored import Entry, Key, merged
from streams.gateway.edge import JSON, Handler, Refused, Reply, Request, Route
from streams.gateway.functiongraph import refusals
from streams.gateway.functiongraph.configuration import Configured, configured, document, read_change, read_object
from streams.gateway.functiongraph.invocations import (
    ID_CHARS_MAX,
    error_code,
    limit,
    marker,
    page,
    read_ids,
    read_query,
    wants,
)
from streams.gateway.functiongraph.metadata import function_document, project_document, version_document
from streams.gateway.intake import TooLarge
from streams.gateway.sdk_hmac import SignatureRefused, verify
from streams.gateway.services import Services
from streams.providers.base import InvalidEvent, Reference, quote_payload
from streams.providers.functiongraph import FunctionGraph

URN_CHARS_MAX = 269
SYNCHRONOUS_BYTES_MAX = 6 << 20
"""Of a synchronous call's event: 6 MB [D]."""
BODY_BYTES_MAX = 64 << 10
"""Of any other request."""
CONFIGURATIONS, CONFIGURATIONS_MAX = 10, 100
FUNCTIONS_MAX = 400

_FUNCTIONS = "/v2/{project_id}/fgs/functions"
_FUNCTION = f"{_FUNCTIONS}/{{function_urn}}"


class FunctionGraphApi:
    """One project's functions. Errors are ``{"error_code", "error_msg"}``."""

    first_segments = ("v2", "v3")
    """Of the paths that are FunctionGraph's, and of IAM's."""

    def __init__(self, services: Services) -> None:
        provider = services.provider("functiongraph")
        assert isinstance(provider, FunctionGraph)
        self._services = services
        self._provider = provider
        path = services.live.description.path
        self._file_at_ms = int(path.stat().st_mtime * 1000) if path is not None and path.is_file() else 0
        self.routes = tuple(self._routes())

    def _routes(self) -> list[Route]:
        configuration = f"{_FUNCTION}/async-invoke-config"
        small: list[tuple[str, str, Handler]] = [
            ("PUT", configuration, self.put_configuration),
            ("GET", configuration, self.get_configuration),
            ("DELETE", configuration, self.delete_configuration),
            ("GET", f"{_FUNCTION}/async-invoke-configs", self.list_configurations),
            ("GET", f"{_FUNCTION}/async-invocations", self.list_invocations),
            ("POST", f"{_FUNCTION}/cancel", self.cancel),
            ("GET", _FUNCTIONS, self.list_functions),
            ("GET", f"{_FUNCTION}/config", self.show_function),
            ("GET", f"{_FUNCTION}/versions", self.list_versions),
            ("GET", "/v3/projects", self.list_projects),
        ]
        if self._provider.variant == "huawei":
            small += [
                ("GET", f"{_FUNCTION}/active-async-invocations", self.list_active_invocations),
                ("POST", f"{_FUNCTIONS}/enable-async-status-logs", self.enable_status_log),
                ("GET", f"{_FUNCTIONS}/async-status-log-detail", self.show_status_log),
            ]
        return [
            Route("POST", f"{_FUNCTION}/invocations-async", self.invoke, self._provider.payload_bytes_max),
            Route("POST", f"{_FUNCTION}/invocations", self.invoke_and_wait, SYNCHRONOUS_BYTES_MAX),
            *(Route(method, path, handler, BODY_BYTES_MAX) for method, path, handler in small),
        ]

    # -- invoking ------------------------------------------------------------------------------------------------

    async def invoke(self, request: Request) -> Reply:
        """Accept an invocation: 202 with its id."""
        function = self._invokable(request)
        try:
            self._provider.read_event(request.body)
        except InvalidEvent as invalid:
            raise Refused(invalid.status_code, invalid.code, str(invalid)) from invalid
        try:
            await self._services.accept(
                function, request.body, request.request_id, traceparent=request.headers.get("traceparent")
            )
        except TooLarge as error:
            raise refusals.too_large() from error
        request_id = request.request_id
        return Reply(202, b'{"request_id":"%b"}' % request_id.encode(), JSON, {"X-Request-Id": request_id})

    async def invoke_and_wait(self, request: Request) -> Reply:
        """Run the function here, and answer what it returns; as JSON with a log if the caller wants version v1."""
        function = self._invokable(request)
        event = read_object(request.body)
        began = time.perf_counter()
        outcome = await self._services.run(function, request.body, event, request.request_id)
        duration_ms = (time.perf_counter() - began) * 1000
        if outcome is None or outcome.kind == "throttled":
            raise refusals.too_many()
        if outcome.kind not in ("returned", "function_error"):
            raise refusals.internal(outcome.error_message)
        return self._outcome(request, outcome, duration_ms)

    def _outcome(self, request: Request, outcome: Outcome, duration_ms: float) -> Reply:
        payload, content_type = outcome.payload or b"", JSON if outcome.is_json else "text/plain; charset=utf-8"
        version = "v1" if request.headers.get("X-CFF-Request-Version", "").lower() == "v1" else "v0"
        if version == "v1":
            payload = b'{"request_id":"%b","result":%b,"log":"","status":%d}' % (
                request.request_id.encode(),
                quote_payload(payload, self._provider.binary_payload),
                outcome.status_code,
            )
            content_type = JSON
        summary = {"duration": round(duration_ms, 3), "billingDuration": -int(-duration_ms // 1)}  # [G] its form
        headers = {
            "X-Request-Id": request.request_id,
            "X-Cff-Request-Id": request.request_id,
            "X-Cff-Response-Version": version,
            "X-Cff-Invoke-Summary": orjson.dumps(summary).decode(),
            "X-CFF-Billing-Duration": str(summary["billingDuration"]),
            "X-Func-Err-Code": str(error_code(outcome.kind, outcome.error_type)),
            "X-Is-Func-Err": "true" if outcome.kind == "function_error" else "false",
        }
        return Reply(200, payload, content_type, headers)

    # -- asynchronous configuration ------------------------------------------------------------------------------

    async def put_configuration(self, request: Request) -> Reply:
        function = self._version(request)
        change = read_change(request.body, self._provider)
        now_ms, known = self._services.now_ms(), self._configured(function)
        created_at_ms = known.created_at_ms if known is not None else now_ms
        api = {**change.api, "created_at_ms": created_at_ms}
        faults = await self._services.store(
            _key(function), Entry(settings=change.settings, api=api, modified_at_ms=now_ms)
        )
        if faults:
            raise refusals.invalid_parameter("; ".join(faults))
        return await self.get_configuration(request)

    async def get_configuration(self, request: Request) -> Reply:
        return _reply(request, document(self._existing(self._version(request)), self._provider))

    async def delete_configuration(self, request: Request) -> Reply:
        function = self._version(request)
        self._existing(function)
        await self._services.store(_key(function), Entry(settings=None, modified_at_ms=self._services.now_ms()))
        return Reply(204, headers={"X-Request-Id": request.request_id})

    async def list_configurations(self, request: Request) -> Reply:
        """Of all versions of the function, whichever the URN names."""
        found = [
            document(known, self._provider)
            for version in self._versions(self._function(request))
            if (known := self._configured(version)) is not None
        ]
        begin = marker(request.query)
        shown = found[begin : begin + limit(request.query, "limit", CONFIGURATIONS, CONFIGURATIONS_MAX)]
        page_info = {"next_marker": begin + len(shown), "previous_marker": begin, "current_count": len(shown)}
        return _reply(request, {"async_invoke_configs": shown, "count": len(found), "page_info": page_info})

    def _existing(self, function: Function) -> Configured:
        known = self._configured(function)
        if known is None:
            raise refusals.not_found()
        return known

    def _configured(self, function: Function) -> Configured | None:
        description, key = self._services.live.description, _key(function)
        of = key._replace(qualifier=None)
        table = merged(description.table(of), description.entries, of, self._provider.latest)
        own: Mapping[str, Any] = table or {}
        if function.qualifier != self._provider.latest:
            own = own.get("qualifiers", {}).get(function.qualifier, {})
        return configured(function.resource, own, description.entries.get(key), self._file_at_ms)

    # -- invocations ---------------------------------------------------------------------------------------------

    async def list_invocations(self, request: Request) -> Reply:
        return await self._list(request, "request_id", active=False)

    async def list_active_invocations(self, request: Request) -> Reply:
        """Those that are not over [G]."""
        return await self._list(request, "requests", active=True)

    async def _list(self, request: Request, ids: str, *, active: bool) -> Reply:
        function, given = self._function(request), request.query
        query = read_query(function, given, self._services.now_ms(), active=active)
        wanted = read_ids(given, ids)
        if not wanted:
            found, count = await self._services.statuses.page(query)
            return _reply(request, page(found, count, query.offset))
        known = await self._services.statuses.find(self._provider.name, wanted)
        fitting = [known[one] for one in wanted if one in known and wants(query, known[one], given)]
        shown = fitting[query.offset : query.offset + query.limit]
        return _reply(request, page(shown, len(fitting), query.offset))

    async def cancel(self, request: Request) -> Reply:
        """End an invocation by force, the only way there is [D]. One that is over already stays as it is [G]."""
        function, body = self._find(request), read_object(request.body)
        if not isinstance(function, Function):
            raise refusals.nothing_to_cancel()
        if body.get("type") not in (None, "", "force") or body.get("recursive") not in (None, False):
            raise refusals.invalid_parameter("type is not force: functions that were called are not stopped, too.")
        request_id = body.get("request_id")
        if not isinstance(request_id, str) or not 0 < len(request_id) <= ID_CHARS_MAX:
            raise refusals.invalid_request_id()
        status = (await self._services.statuses.find(self._provider.name, [request_id])).get(request_id)
        if status is None or (status.function, status.qualifier) != (function.name, function.qualifier):
            raise refusals.invalid_request_id()
        if status.ending is None:
            await self._services.cancel(status)
        return _reply(request, None)

    async def enable_status_log(self, request: Request) -> Reply:
        """Statuses are always kept."""
        self._project(request)
        return _reply(request, {})

    async def show_status_log(self, request: Request) -> Reply:
        """Where statuses come from: the topic `facts`."""
        self._project(request)
        topics = self._services.settings.topics
        stream, group = (
            str(uuid.uuid5(uuid.NAMESPACE_URL, f"kafka://{name}")) for name in (topics.facts, topics.app_id)
        )
        return _reply(
            request,
            {"group_name": topics.app_id, "group_id": group, "stream_id": stream, "stream_name": topics.facts},
        )

    # -- functions -----------------------------------------------------------------------------------------------

    async def list_functions(self, request: Request) -> Reply:
        self._project(request)
        functions, provider, given = self._services.functions, self._provider, request.query
        names = functions.of(provider.name) if given.get("package_name") in (None, "", provider.package) else []
        names = [name for name in names if given.get("func_name", "") in name]
        begin = marker(given)
        shown = names[begin : begin + limit(given, "maxitems", FUNCTIONS_MAX, FUNCTIONS_MAX)]
        latest = [functions.qualifiers(provider.name, name)[provider.latest] for name in shown]
        documents = [function_document(function, provider, self._modified_at_ms(function)) for function in latest]
        return _reply(request, {"functions": documents, "count": len(names), "next_marker": begin + len(shown)})

    async def show_function(self, request: Request) -> Reply:
        function = self._function(request)
        return _reply(request, function_document(function, self._provider, self._modified_at_ms(function)))

    async def list_projects(self, request: Request) -> Reply:
        """The one project there is, if its name, which is that of its region, is asked for or none is."""
        fits = request.query.get("name", self._provider.region) == self._provider.region
        return _reply(request, {"projects": [project_document(self._provider)] if fits else [], "links": {}})

    async def list_versions(self, request: Request) -> Reply:
        versions, begin = self._versions(self._function(request)), marker(request.query)
        shown = versions[begin : begin + limit(request.query, "maxitems", FUNCTIONS_MAX, FUNCTIONS_MAX)]
        documents = [
            version_document(version, self._provider, self._modified_at_ms(version), self._configured(version))
            for version in shown
        ]
        return _reply(request, {"versions": documents, "count": len(versions), "next_marker": begin + len(shown)})

    def _versions(self, function: Function) -> list[Function]:
        """Every version of *function*, the newest first; aliases are none."""
        known = self._services.functions.qualifiers(function.provider, function.name)
        first = known[self._provider.latest]
        return [first, *(known[name] for name in sorted(known) if name != first.qualifier and not _is_alias(name))]

    def _modified_at_ms(self, function: Function) -> int:
        entry = self._services.entry(Key(function.provider, function.name))
        return self._file_at_ms if entry is None else entry.modified_at_ms

    # -- which function ------------------------------------------------------------------------------------------

    def _invokable(self, request: Request) -> Function:
        """The function to invoke. Raises `Refused`."""
        found = self._find(request)
        if not isinstance(found, Function):
            raise refusals.not_invokable(found.name)
        if found.reserved_concurrency == 0:
            raise refusals.disabled()
        return found

    def _function(self, request: Request) -> Function:
        """The version or alias in the path. Raises `Refused`."""
        found = self._find(request)
        if isinstance(found, Function):
            return found
        if not self._services.functions.qualifiers(self._provider.name, found.name):
            raise refusals.no_function()
        raise refusals.no_alias() if _is_alias(found.qualifier or "") else refusals.no_version()

    def _version(self, request: Request) -> Function:
        """The version in the path, which may be no alias. Raises `Refused`."""
        function = self._function(request)
        if _is_alias(function.qualifier):
            raise refusals.no_alias_here()
        return function

    def _find(self, request: Request) -> Function | Reference:
        """The function in the path; only its name when there is none. Raises `Refused`."""
        self._project(request)
        urn = request.parameters[1]
        found = self._services.functions.resolve(urn, None)
        if isinstance(found, Function) and found.provider == self._provider.name and urn.startswith("urn:"):
            return found
        named = self._provider.parse_resource(urn) if len(urn) <= URN_CHARS_MAX else None
        if named is None:
            raise refusals.invalid_urn()
        return named if self._provider.parse_destination(urn) is not None else Reference(named.name, None)

    def _project(self, request: Request) -> None:
        if request.parameters[0] != self._provider.project_id:
            raise refusals.other_project()

    # -- what every API has --------------------------------------------------------------------------------------

    def refused(self, refusal: Refused, request_id: str) -> Reply:
        shown = {"error_code": refusal.code, "error_msg": refusal.message}
        if refusal.code.startswith("APIGW."):
            shown["request_id"] = request_id
        return Reply(refusal.status, orjson.dumps(shown), JSON, {"X-Request-Id": request_id})

    def too_large(self, route: Route, size_bytes: int) -> Refused:
        return refusals.too_large()

    def unknown(self, method: str, path: str, other_methods: bool) -> Refused:
        return refusals.no_api(other_methods)

    def unavailable(self, reason: str) -> Refused:
        return refusals.unavailable(reason)

    def overloaded(self) -> Refused:
        return refusals.too_many()

    def bad_request(self, reason: str) -> Refused:
        return refusals.invalid_parameter(reason)

    def authenticate(self, request: Request) -> str:
        """A token, or the signature that the SDK makes with an access key."""
        token, keys = request.headers.get("X-Auth-Token"), self._services.keys
        if token is not None:
            principal = keys.tokens.get(token)
            if principal is None:
                raise refusals.unauthorized("decrypt token fail")
            return principal
        if "Authorization" not in request.headers:
            raise refusals.unauthorized("x-auth-token not found")
        try:
            return verify(
                request.method,
                request.raw_path,
                request.raw_query,
                request.headers,
                request.body,
                keys.secrets,
                self._services.now_ms(),
            )
        except SignatureRefused as refused:
            raise refusals.unauthorized(str(refused)) from refused


def _key(function: Function) -> Key:
    """The entry of a version's asynchronous configuration."""
    return Key(function.provider, function.name, function.qualifier)


def _is_alias(qualifier: str) -> bool:
    return qualifier.startswith("!")


def _reply(request: Request, shown: object) -> Reply:
    return Reply(200, orjson.dumps(shown), JSON, {"X-Request-Id": request.request_id})
