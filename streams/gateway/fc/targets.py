"""Which function a request is about, and what its parameters say; or the refusal in Function Compute's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from streams.core.model import Function
from streams.functions.stored import Key
from streams.gateway.edge import Refused, Request
from streams.gateway.fc.versions import Version
from streams.gateway.services import Services

PROVIDER = "fc"
LATEST = "LATEST"
LIMIT, LIMIT_MAX = 20, 100
"""Of lists [D]."""

T = TypeVar("T")


class Target(NamedTuple):
    """A function in one of its versions or aliases."""

    name: str
    """As `streams.providers.fc` has it: ``service/function`` in 2.0."""
    qualifier: str
    function: Function

    @property
    def key(self) -> Key:
        """Of what is stored about its configuration."""
        return Key(PROVIDER, self.name, self.qualifier)


@dataclass(frozen=True, slots=True)
class Targets:
    """Finds the functions that requests of *version* name."""

    services: Services
    version: Version

    def find(self, request: Request) -> Target:
        """The function of the path, in the version or alias that is asked for. Raises `Refused` when there is none."""
        name, qualifier = self.named(request)
        wanted = qualifier or LATEST
        qualifiers = self.services.functions.qualifiers(PROVIDER, name)
        function = qualifiers.get(wanted)
        if function is None:
            raise self.missing(name, wanted)
        return Target(name, wanted, function)

    def named(self, request: Request) -> tuple[str, str | None]:
        """The function's name and the qualifier that was asked for, whether there is such a function or not."""
        qualifier = request.query.get("qualifier")
        if not self.version.has_services:
            return request.parameters[0], qualifier or None
        service, own = self.service(request.parameters[0])
        if own and qualifier and own != qualifier:
            raise invalid(f"the qualifier '{own}' of the service is not the qualifier '{qualifier}' of the request")
        return f"{service}/{request.parameters[1]}", own or qualifier or None

    def service(self, segment: str) -> tuple[str, str]:
        """Name and qualifier (empty if there is none) of a service: ``service`` or ``service.qualifier`` [D]."""
        service, _, qualifier = segment.partition(".")
        return service, qualifier

    def functions_of(self, service: str) -> list[str]:
        """Names of the functions of *service*, in full. Raises `Refused` when there is no such service."""
        found = [name for name in self.services.functions.of(PROVIDER) if name.partition("/")[0] == service]
        if not any("/" in name for name in found):
            raise Refused(404, "ServiceNotFound", f"service '{service}' does not exist")
        return [name for name in found if "/" in name]

    def missing(self, name: str, qualifier: str) -> Refused:
        """Why there is no function *name* in the version or alias *qualifier*."""
        service, slash, function = name.rpartition("/")
        if slash:
            self.functions_of(service)
        of = f" of service '{service}'" if slash else f" of function '{name}'"  # the latter [G], after the former [D]
        if not self.services.functions.qualifiers(PROVIDER, name):
            within = f" in service '{service}'" if slash else ""
            return Refused(404, "FunctionNotFound", f"function '{function}' does not exist{within}")
        if qualifier.isdecimal():
            return Refused(404, "VersionNotFound", f"version '{qualifier}'{of} does not exist")
        return Refused(404, "AliasNotFound", f"alias '{qualifier}'{of} does not exist")


def invalid(message: str) -> Refused:
    """The refusal of an argument."""
    return Refused(400, "InvalidArgument", message)


def integer(text: str, name: str, minimum: int, maximum: int) -> int:
    """The whole number in *text*, the parameter or header *name*. Raises `Refused`."""
    if text.isascii() and text.isdecimal() and len(text) <= 19 and minimum <= int(text) <= maximum:
        return int(text)
    raise invalid(f"{name} is invalid: '{text}' is not an integer from {minimum} to {maximum}")


def limit(request: Request) -> int:
    """How many items a page is to have. Raises `Refused`."""
    text = request.query.get("limit")
    return LIMIT if not text else integer(text, "limit", 1, LIMIT_MAX)


def page(names: Sequence[str], request: Request) -> tuple[Sequence[str], str | None]:
    """One page of *names*, which are sorted, and the token for the next page; None if this is the last.

    A token is the first name of its page. Raises `Refused`.
    """
    count, token = limit(request), request.query.get("nextToken", "")
    prefix = request.query.get("prefix", "")
    rest = [name for name in names if name >= token and name.startswith(prefix)]
    return rest[:count], rest[count] if len(rest) > count else None


def listed(member: str, items: Sequence[object], token: str | None) -> dict[str, object]:
    """The document of a list: without *nextToken* on its last page."""
    return {member: items} if token is None else {member: items, "nextToken": token}
