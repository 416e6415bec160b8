"""The asynchronous configuration of a function, version or alias: FunctionEventInvokeConfig.

Put replaces, Update merges. One that `streams.toml` describes shows here like one that was put.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from streams.core.model import DestinationSetting
from streams.functions.file import kafka_topic
from streams.functions.stored import Entry, Key
from streams.gateway.aws.account import LATEST, Account
from streams.gateway.aws.names import NAMESPACED, Named
from streams.gateway.aws.wire import Members, invalid, no_content, not_found, page, paged, pattern_fault, reply
from streams.gateway.edge import Reply, Request, Route
from streams.providers.aws import Aws

DESTINATION_CHARS_MAX = 350
DESTINATION_PATTERN = (
    r"$|kafka://([^.]([a-zA-Z0-9\-_.]{0,248}))|arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:"
    r"((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1})?:(\d{12})?:(.*)"
)
_DESTINATION = re.compile(DESTINATION_PATTERN, re.ASCII)
LIST_MAX = 50

_ROUTES: dict[str, DestinationSetting] = {"OnSuccess": "on_success", "OnFailure": "on_failure"}
"""Member of DestinationConfig, and our setting."""


class Configuration(NamedTuple):
    """What is set, under the names of `streams.toml`."""

    settings: Mapping[str, Any]
    modified_at_ms: int


class Asked(NamedTuple):
    """What a Put or an Update says."""

    retries: int | None
    age_max_s: int | None
    destinations: dict[DestinationSetting, str]
    """By setting. Empty: no destination there. A route that is absent or an empty structure is not here."""
    says_something: bool


class Configurations:
    """The operations, by AWS's names."""

    def __init__(self, account: Account) -> None:
        self._account = account
        path = "/2019-09-25/functions/{FunctionName}/event-invoke-config"
        self.routes = (
            Route("PUT", path, self.put_function_event_invoke_config),
            Route("POST", path, self.update_function_event_invoke_config),
            Route("GET", path, self.get_function_event_invoke_config),
            Route("DELETE", path, self.delete_function_event_invoke_config),
            Route("GET", f"{path}/list", self.list_function_event_invoke_configs),
        )

    async def put_function_event_invoke_config(self, request: Request) -> Reply:
        asked, named = self._read(request)
        async with self._account.changing:
            self._require_function(named)
            self._check_destinations(named.name, asked.destinations)
            settings = {name: address for name, address in asked.destinations.items() if address}
            return await self._store(request, named, settings | _numbers(asked))

    async def update_function_event_invoke_config(self, request: Request) -> Reply:
        asked, named = self._read(request)
        async with self._account.changing:
            if not self._account.qualifiers(named.name):
                raise not_found("The function doesn't exist.")
            settings = dict(self._require_configuration(named).settings)
            self._check_destinations(named.name, asked.destinations)
            for name, address in asked.destinations.items():
                settings.pop(name, None)
                if address:
                    settings[name] = address
            return await self._store(request, named, settings | _numbers(asked))

    async def get_function_event_invoke_config(self, request: Request) -> Reply:
        named = self._account.named(request)
        return reply(request, 200, self._shown(named.name, _qualifier(named), self._require_configuration(named)))

    async def delete_function_event_invoke_config(self, request: Request) -> Reply:
        named = self._account.named(request)
        async with self._account.changing:
            self._require_configuration(named)
            qualifier = _qualifier(named)
            if self._account.configured_in_table(named.name, qualifier):
                await self._account.store(named.name, qualifier, Entry(settings=None))
            else:
                await self._account.forget(named.name, qualifier)
        return no_content(request)

    async def list_function_event_invoke_configs(self, request: Request) -> Reply:
        named = self._account.named(request)
        qualifiers = self._account.qualifiers(named.name)
        if not qualifiers:
            raise not_found("The function doesn't exist.")
        found = {q: configuration for q in qualifiers if (configuration := self._find(named.name, q)) is not None}
        names, marker = page(request, found, LIST_MAX)
        configurations = [self._shown(named.name, name, found[name]) for name in names]
        return reply(request, 200, paged({"FunctionEventInvokeConfigs": configurations}, marker))

    # -- the request ---------------------------------------------------------------------------------------------------

    def _read(self, request: Request) -> tuple[Asked, Named]:
        """What a Put or an Update says, and of which function. That it says something is checked first [V]."""
        body = Members.of(request)
        destinations, names_a_route = {}, False
        config = body.structure("DestinationConfig")
        for member, setting in _ROUTES.items():
            names_a_route |= member in config
            route = config.structure(member)
            address = route.text("Destination", chars_max=DESTINATION_CHARS_MAX)
            if address is not None:
                destinations[setting] = address
                if _DESTINATION.fullmatch(address) is None:
                    route.fault(pattern_fault(address, route.at("Destination"), DESTINATION_PATTERN))
        aws = self._account.aws
        retries = body.integer("MaximumRetryAttempts", aws.retries.minimum, aws.retries.maximum)
        age_max_s = body.integer("MaximumEventAgeInSeconds", aws.age_s.minimum, aws.age_s.maximum)
        asked = Asked(retries, age_max_s, destinations, names_a_route or (retries, age_max_s) != (None, None))
        if not asked.says_something and not body.faults:
            raise invalid("You must specify at least one of error handling or destination setting.")
        return asked, self._account.named(request, NAMESPACED, faults=body.faults)

    def _check_destinations(self, name: str, destinations: Mapping[DestinationSetting, str]) -> None:
        """Whether something can be sent there, as far as that can be seen now. Raises `Refused`."""
        for address in destinations.values():
            self._check_function(name, address)
        if not all(self._is_possible(setting, address) for setting, address in destinations.items()):
            routes = ", ".join(_as_java_writes(*route, destinations) for route in _ROUTES.items())
            raise invalid(f"The provided destination config DestinationConfig({routes}) is invalid.")
        for address in destinations.values():
            self._check_topic(address)

    def _check_function(self, name: str, address: str) -> None:
        if not address.startswith("arn:") or address.split(":")[2] != "lambda":
            return
        target = self._account.aws.parse_destination(address)
        if target is None or self._account.function(target.name, target.qualifier) is None:
            raise invalid(f"The destination ARN {address} is invalid.")
        if target.name == name:
            raise invalid("You can't specify the function as a destination for itself.")

    def _is_possible(self, setting: DestinationSetting, address: str) -> bool:
        """Whether Lambda sends records of this kind to such a service at all."""
        if not address or address.startswith("kafka:") or address.split(":")[2] == "lambda":
            return True
        return self._account.aws.parse_service(address, setting) is not None

    def _check_topic(self, address: str) -> None:
        if address.startswith("kafka:") and kafka_topic(address) is None:
            raise invalid(f"The destination ARN {address} is invalid.")

    # -- the function --------------------------------------------------------------------------------------------------

    def _require_function(self, named: Named) -> None:
        if self._account.function(named.name, named.qualifier) is None:
            raise not_found("The function doesn't exist.")

    def _require_configuration(self, named: Named) -> Configuration:
        qualifier = _qualifier(named)
        found = self._find(named.name, qualifier)
        if found is None:
            arn = self._account.arn(named.name, qualifier)
            raise not_found(f"The function {arn} doesn't have an EventInvokeConfig")
        return found

    def _find(self, name: str, qualifier: str) -> Configuration | None:
        """What is stored, or else what the function's own settings say; None when there is neither."""
        if self._account.function(name, qualifier) is None:
            return None
        entry = self._account.services.entry(Key(Aws.name, name, qualifier))
        if entry is not None:
            return Configuration(entry.settings, entry.modified_at_ms) if entry.settings is not None else None
        own = self._account.configured_in_table(name, qualifier)
        return Configuration(own, self._account.described_at_ms) if own else None

    async def _store(self, request: Request, named: Named, settings: dict[str, Any]) -> Reply:
        stored = Configuration(settings, self._account.services.now_ms())
        entry = Entry(settings=settings, modified_at_ms=stored.modified_at_ms)
        await self._account.store(named.name, _qualifier(named), entry)
        return reply(request, 200, self._shown(named.name, _qualifier(named), stored))

    def _shown(self, name: str, qualifier: str, configuration: Configuration) -> dict[str, Any]:
        """Both routes are always there, numbers only when they are set [V]."""
        settings = configuration.settings
        routes = {
            member: {"Destination": settings[setting]} if settings.get(setting) else {}
            for member, setting in _ROUTES.items()
        }
        shown = {
            "LastModified": configuration.modified_at_ms / 1000,
            "FunctionArn": self._account.arn(name, qualifier),
            "MaximumRetryAttempts": settings.get("retries"),
            "MaximumEventAgeInSeconds": settings.get("age_max_s"),
            "DestinationConfig": routes,
        }
        return {member: value for member, value in shown.items() if value is not None}


def _qualifier(named: Named) -> str:
    return named.qualifier or LATEST


def _as_java_writes(member: str, setting: DestinationSetting, destinations: Mapping[DestinationSetting, str]) -> str:
    address = destinations.get(setting)
    return f"{member[0].lower()}{member[1:]}=" + (f"{member}(destination={address})" if address else "null")


def _numbers(asked: Asked) -> dict[str, int]:
    numbers = {"retries": asked.retries, "age_max_s": asked.age_max_s}
    return {name: value for name, value in numbers.items() if value is not None}
