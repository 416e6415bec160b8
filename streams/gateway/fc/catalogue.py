"""Functions, services, versions and aliases, to look at: as far as `streams.toml` and the topic `functions` know them.

What the cloud knows besides (code, memory, network …) is left out. A version is a qualifier that is a number; any other
qualifier is an alias. In 2.0 they belong to the service, which has those of all its functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from streams.core.model import Function, PythonTarget
from streams.gateway.edge import Refused, Reply, Request
from streams.gateway.fc.configs import shown_time
from streams.gateway.fc.targets import LATEST, PROVIDER, Targets, listed, page
from streams.gateway.services import Services


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The operations, for one version of the API."""

    services: Services
    targets: Targets

    async def function(self, request: Request) -> Reply:
        """GetFunction."""
        return Reply.of(200, self._function(self.targets.find(request).function))

    async def functions(self, request: Request) -> Reply:
        """ListFunctions: of the account in 3.0, of a service in 2.0."""
        if self.targets.version.has_services:
            service, qualifier = self.targets.service(request.parameters[0])
            names = {name.rpartition("/")[2]: name for name in self.targets.functions_of(service)}
        else:
            qualifier = ""
            names = {name: name for name in self.services.functions.of(PROVIDER) if "/" not in name}
        wanted = qualifier or request.query.get("qualifier") or LATEST
        found = {
            short: function
            for short, name in names.items()
            if (function := self.services.functions.qualifiers(PROVIDER, name).get(wanted)) is not None
        }
        keys, token = page(sorted(found), request)
        return Reply.of(200, listed("functions", [self._function(found[key]) for key in keys], token))

    async def service(self, request: Request) -> Reply:
        """GetService."""
        service, _ = self.targets.service(request.parameters[0])
        self.targets.functions_of(service)
        return Reply.of(200, self._service(service))

    async def list_services(self, request: Request) -> Reply:
        """ListServices."""
        names = {name.partition("/")[0] for name in self.services.functions.of(PROVIDER) if "/" in name}
        keys, token = page(sorted(names), request)
        return Reply.of(200, listed("services", [self._service(key) for key in keys], token))

    async def versions(self, request: Request) -> Reply:
        """ListFunctionVersions, ListServiceVersions: the newest first."""
        numbers = sorted((int(name) for name in self._qualifiers(request) if name.isdecimal()), reverse=True)
        return Reply.of(200, {"versions": [{"versionId": str(number), **self._times()} for number in numbers]})

    async def aliases(self, request: Request) -> Reply:
        """ListAliases."""
        found = self._aliases(request)
        keys, token = page(sorted(found), request)
        return Reply.of(200, listed("aliases", [self._alias(key, found[key]) for key in keys], token))

    async def alias(self, request: Request) -> Reply:
        """GetAlias."""
        of, name = request.parameters
        found = self._aliases(request)
        if name not in found:
            kind = "service" if self.targets.version.has_services else "function"
            raise Refused(404, "AliasNotFound", f"alias '{name}' of {kind} '{of}' does not exist")
        return Reply.of(200, self._alias(name, found[name]))

    def _qualifiers(self, request: Request) -> dict[str, Function]:
        """By qualifier, without the newest version; in 2.0 those of all functions of the service."""
        if self.targets.version.has_services:
            names: Sequence[str] = self.targets.functions_of(self.targets.service(request.parameters[0])[0])
        else:
            names = request.parameters[:1]
            if not self.services.functions.qualifiers(PROVIDER, names[0]):
                raise self.targets.missing(names[0], LATEST)
        found = {q: f for name in names for q, f in self.services.functions.qualifiers(PROVIDER, name).items()}
        found.pop(LATEST, None)
        return found

    def _aliases(self, request: Request) -> dict[str, Function]:
        return {name: function for name, function in self._qualifiers(request).items() if not name.isdecimal()}

    def _alias(self, name: str, function: Function) -> dict[str, Any]:
        version = LATEST if function.executed_version == name else function.executed_version
        return {"aliasName": name, "versionId": version, **self._times()}

    def _function(self, function: Function) -> dict[str, Any]:
        target = function.target
        python = isinstance(target, PythonTarget)
        document = {
            "functionName": function.name.rpartition("/")[2],
            "functionId": str(uuid5(NAMESPACE_URL, function.resource)),
            "handler": f"{target.module}.{target.attribute}" if isinstance(target, PythonTarget) else "",
            "runtime": "python3" if python else "custom",
            "timeout": -(-function.timeout_ms // 1000),
            **self._times(),
        }
        if not self.targets.version.has_services:
            document |= {"functionArn": function.resource, "state": "Active", "lastUpdateStatus": "Successful"}
        return document

    def _service(self, name: str) -> dict[str, Any]:
        identity = uuid5(NAMESPACE_URL, f"acs:fc:::services/{name}")
        return {"serviceName": name, "serviceId": str(identity), "description": "", **self._times()}

    def _times(self) -> dict[str, str]:
        """When the file was written that says so."""
        at = shown_time(self.services.live.description.file_modified_at_ms)
        return {"createdTime": at, "lastModifiedTime": at}
