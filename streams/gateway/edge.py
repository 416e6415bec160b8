"""What every API of the gateway is made of: requests, replies, refusals, and how a path finds its handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias
from urllib.parse import unquote

import orjson
from multidict import CIMultiDictProxy, MultiMapping

JSON = "application/json"


@dataclass(slots=True)
class Request:
    """An HTTP request, read in full. (Not frozen: that would make it five times as dear to build.)"""

    method: str
    raw_path: str
    """As it was sent, percent-encoded, without the query: signatures are made over it."""
    raw_query: str
    query: MultiMapping[str]
    headers: CIMultiDictProxy[str]
    body: bytes
    request_id: str
    """Ours, in every reply; the request id of the invocation if it becomes one."""
    parameters: tuple[str, ...] = ()
    """Decoded path segments that the route leaves open, in order."""
    principal: str | None = None
    """The access key that signed it; None when nobody has to."""

    def json(self) -> object:
        """The body as JSON; None when there is none. Raises ValueError."""
        return orjson.loads(self.body) if self.body.strip() else None


@dataclass(slots=True)
class Reply:
    """An HTTP reply. The server adds what every reply has."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, status: int, document: object, **headers: str) -> Reply:
        """A reply with *document* as JSON; an underscore in a header's name stands for a hyphen."""
        return cls(
            status, orjson.dumps(document), JSON, {name.replace("_", "-"): value for name, value in headers.items()}
        )


class Refused(Exception):
    """A request that its provider would refuse, with the provider's own code and text; its API gives it its shape."""

    def __init__(self, status: int, code: str, message: str, **members: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.members = members
        """What else the provider's document has."""


Handler: TypeAlias = Callable[[Request], Awaitable[Reply]]


class Route(NamedTuple):
    """One operation of an API."""

    method: str
    path: str
    """As in ``/2015-03-31/functions/{name}/invocations``; what stands in braces matches one segment."""
    handler: Handler
    body_bytes_max: int = 1 << 20
    """A larger body is refused while it arrives (`Api.too_large`)."""


class Api(Protocol):
    """One provider's API."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """All operations. The first path segments tell the APIs apart."""

    def refused(self, refusal: Refused, request_id: str) -> Reply:
        """The provider's document for *refusal*."""

    def too_large(self, route: Route, size_bytes: int) -> Refused:
        """The refusal of a body of *size_bytes* (as announced; or as far as it was read) on *route*."""

    def unknown(self, method: str, path: str, other_methods: bool) -> Refused:
        """The refusal of a path that no route has, or that *other_methods* than this one have."""

    def unavailable(self, reason: str) -> Refused:
        """The refusal of what Kafka did not take, or a fault of ours: the client is to try again. *reason* is for the
        client's eyes: it names nothing internal."""

    def overloaded(self) -> Refused:
        """The refusal of what there is no room for now: the client is to try again later."""

    def bad_request(self, reason: str) -> Refused:
        """The refusal of a request that cannot be read at all (its body ended early, or took too long)."""

    def authenticate(self, request: Request) -> str:
        """The access key that signed *request*. Raises `Refused`. Not called when no keys are configured."""


class Found(NamedTuple):
    """Where a path leads."""

    api: Api
    route: Route | None
    """None: no operation has this path and method."""
    parameters: tuple[str, ...] = ()
    other_methods: bool = False
    """The path exists, with other methods."""


class Table:
    """Finds the route of a path. Segments are decoded after the path was split: a name may hold ``%2F``."""

    def __init__(self, apis: Mapping[str, Api], otherwise: Api) -> None:
        """*apis* by the first segment of their paths; any other path belongs to *otherwise*."""
        self._apis = dict(apis)
        self._otherwise = otherwise
        self._routes: dict[tuple[Api, int], list[tuple[Route, tuple[str | None, ...]]]] = {}
        for api in {id(api): api for api in (*apis.values(), otherwise)}.values():
            for route in api.routes:
                segments = tuple(None if part.startswith("{") else part for part in route.path.split("/")[1:])
                self._routes.setdefault((api, len(segments)), []).append((route, segments))

    def find(self, method: str, raw_path: str) -> Found:
        parts = raw_path.split("/")[1:]
        if len(parts) > 1 and not parts[-1]:
            parts.pop()  # a trailing slash means nothing
        api = self._apis.get(parts[0] if parts else "", self._otherwise)
        other_methods = False
        for route, segments in self._routes.get((api, len(parts)), ()):
            if all(segment is None or segment == part for segment, part in zip(segments, parts, strict=True)):
                if route.method == method:
                    opened = (part for segment, part in zip(segments, parts, strict=True) if segment is None)
                    return Found(api, route, tuple(unquote(part) for part in opened))
                other_methods = True
        return Found(api, None, (), other_methods)
