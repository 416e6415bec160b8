"""Asynchronous configurations: put, which merges, get, delete and list.

A configuration belongs to one version or alias of a function and is never inherited. What `streams.toml` says of it is
a configuration as well: it is shown, and a put changes it from there. A put leaves members alone that it does not name
("items not specified remain unchanged" [D]); [G] *destinationConfig* is one member: a put of it without onFailure takes
the old one away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from streams.functions.stored import CONFIGURATION, Entry, Key
from streams.gateway.edge import Refused, Reply, Request
from streams.gateway.fc.targets import LATEST, PROVIDER, Target, Targets, invalid, listed, page
from streams.gateway.services import Services

ADDRESS_CHARS_MAX = 1024
"""Of a destination. [G]"""


@dataclass(frozen=True, slots=True)
class Configs:
    """The operations on configurations, for one version of the API."""

    services: Services
    targets: Targets

    async def get(self, request: Request) -> Reply:
        """GetAsyncInvokeConfig."""
        target = self.targets.find(request)
        settings = _settings(self.services, target.key)
        if settings is None:
            raise _missing(target)
        return Reply.of(200, self._shown(target, settings))

    async def put(self, request: Request) -> Reply:
        """PutAsyncInvokeConfig."""
        target = self.targets.find(request)
        settings, api = self._merged(target, _body(request))
        now_ms = self.services.now_ms()
        api = {"created_at_ms": now_ms} | api
        await self._store(target, Entry(settings=settings, api=api, modified_at_ms=now_ms))
        return Reply.of(200, self._shown(target, settings))

    async def delete(self, request: Request) -> Reply:
        """DeleteAsyncInvokeConfig: the function has the default configuration from now on."""
        target = self.targets.find(request)
        if _settings(self.services, target.key) is None:
            raise _missing(target)
        # Without an entry the file's word would hold again.
        gone = None if _file_settings(self.services, target.key) is None else Entry(settings=None)
        await self.services.live.put(target.key, gone)
        return Reply(204)

    async def list_of_function(self, request: Request) -> Reply:
        """ListFunctionAsyncInvokeConfigs (2.0): those of one function."""
        target = self.targets.find(request)
        return self._listed([target.name], request)

    async def list_all(self, request: Request) -> Reply:
        """ListAsyncInvokeConfigs (3.0): those of the account, or of one function."""
        name = request.query.get("functionName")
        if name and not self.services.functions.qualifiers(PROVIDER, name):
            raise self.targets.missing(name, LATEST)
        names = [name] if name else self.services.functions.of(PROVIDER)
        return self._listed([name for name in names if "/" not in name], request)

    def is_task(self, target: Target) -> bool:
        """Whether every asynchronous invocation is a task."""
        entry = self.services.entry(target.key)
        return entry is not None and entry.settings is not None and bool(entry.api.get("task"))

    def _listed(self, names: list[str], request: Request) -> Reply:
        found = {}
        for name in names:
            for qualifier, function in self.services.functions.qualifiers(PROVIDER, name).items():
                target = Target(name, qualifier, function)
                settings = _settings(self.services, target.key)
                if settings is not None:
                    found[f"{name}:{qualifier}"] = target, settings
        shown, token = page(sorted(found), request)
        return Reply.of(200, listed("configs", [self._shown(*found[key]) for key in shown], token))

    def _merged(self, target: Target, body: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The settings, and what only the API shows, after a put of *body*. Raises `Refused`."""
        provider = self.services.provider(PROVIDER)
        settings = dict.fromkeys(CONFIGURATION) | dict(_settings(self.services, target.key) or {})
        entry = self.services.entry(target.key)
        api = dict(entry.api) if entry is not None and entry.settings is not None else {}
        for member, setting, bounds in (
            ("maxAsyncRetryAttempts", "retries", provider.retries),
            ("maxAsyncEventAgeInSeconds", "age_max_s", provider.age_s),
        ):
            value = body.get(member)
            if value is not None:
                if type(value) is not int or not bounds.minimum <= value <= bounds.maximum:
                    range_ = f"from {bounds.minimum} to {bounds.maximum}"
                    raise invalid(f"{member} is invalid: it must be an integer {range_}")
                settings[setting] = value
        destinations = body.get("destinationConfig")
        if destinations is not None:
            if not isinstance(destinations, dict):
                raise invalid("destinationConfig is invalid: it must be an object")
            settings["on_success"] = _address(destinations, "onSuccess")
            settings["on_failure"] = _address(destinations, "onFailure")
        task = body.get(self.targets.version.task_switch)
        if task is not None:
            if not isinstance(task, bool):
                raise invalid(f"{self.targets.version.task_switch} is invalid: it must be true or false")
            api["task"] = task
        return settings, api

    async def _store(self, target: Target, entry: Entry) -> None:
        faults = await self.services.store(target.key, entry)
        if faults:
            raise invalid("; ".join(faults))

    def _shown(self, target: Target, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The document of a configuration. What is not set has its default: the value that holds."""
        provider = self.services.provider(PROVIDER)
        entry = self.services.entry(target.key)
        if entry is not None:
            modified_at_ms = entry.modified_at_ms
            created_at_ms = entry.api.get("created_at_ms", modified_at_ms)
        else:
            created_at_ms = modified_at_ms = self.services.live.description.file_modified_at_ms
        retries, age_max_s = settings.get("retries"), settings.get("age_max_s")
        return {
            **self._identity(target),
            "createdTime": shown_time(created_at_ms),
            "lastModifiedTime": shown_time(modified_at_ms),
            "destinationConfig": {
                "onSuccess": _destination(settings.get("on_success")),
                "onFailure": _destination(settings.get("on_failure")),
            },
            "maxAsyncEventAgeInSeconds": provider.age_s.default if age_max_s is None else age_max_s,
            "maxAsyncRetryAttempts": provider.retries.default if retries is None else retries,
            self.targets.version.task_switch: self.is_task(target),
        }

    def _identity(self, target: Target) -> dict[str, str]:
        if not self.targets.version.has_services:
            return {"functionArn": target.function.resource}
        service, _, function = target.name.rpartition("/")
        return {"service": service, "function": function, "qualifier": target.qualifier}


def _settings(services: Services, key: Key) -> Mapping[str, Any] | None:
    """The settings of a configuration, of an API or of the file; None when there is none."""
    entry = services.entry(key)
    return entry.settings if entry is not None else _file_settings(services, key)


def _file_settings(services: Services, key: Key) -> Mapping[str, Any] | None:
    table = services.live.description.table(key)
    if table is not None and key.qualifier != LATEST:
        table = table.get("qualifiers", {}).get(key.qualifier)
    found = {setting: table[setting] for setting in CONFIGURATION if setting in table} if table is not None else {}
    return found or None


def _body(request: Request) -> Mapping[str, Any]:
    try:
        body = request.json()
    except ValueError:
        raise invalid("the request body is not JSON") from None
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise invalid("the request body is not a JSON object")
    return body


def _address(destinations: Mapping[str, Any], member: str) -> str | None:
    """The address in ``{"destination": …}``; None when there is none: null and an empty one are none, too [C]."""
    destination = destinations.get(member)
    if destination is None:
        return None
    address = destination.get("destination") if isinstance(destination, dict) else 0
    if address is None or address == "":
        return None
    if isinstance(address, str) and len(address) <= ADDRESS_CHARS_MAX and address.isprintable():
        if address.startswith(("acs:", "kafka://")):
            return address
    raise invalid(f"destinationConfig.{member}.destination is invalid: it must be an ARN (acs:…) or kafka://topic")


def _destination(address: str | None) -> dict[str, str] | None:
    return None if address is None else {"destination": address}


def _missing(target: Target) -> Refused:
    return Refused(404, "AsyncConfigNotExists", f"AsyncConfig for {target.name}:{target.qualifier} does not exist.")


def shown_time(at_ms: int) -> str:
    """``2020-08-20T02:28:21Z`` [D]."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
