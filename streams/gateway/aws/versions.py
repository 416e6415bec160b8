"""Versions and aliases. A version keeps the target it was published with; an alias has the target of its version.

Time limit, concurrency and dead-letter queue are the function's own, for all of its versions and aliases.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from streams.core.model import Function
from streams.functions.stored import Entry
from streams.gateway.aws import shown
from streams.gateway.aws.account import LATEST, Account, new_revision
from streams.gateway.aws.names import (
    ALIAS_PATTERN,
    FUNCTION,
    NAMESPACED,
    QUALIFIER_CHARS_MAX,
    Named,
    is_alias,
    is_version,
)
from streams.gateway.aws.wire import (
    Members,
    conflict,
    fault,
    invalid,
    no_content,
    not_found,
    page,
    paged,
    pattern_fault,
    reply,
    stale_revision,
)
from streams.gateway.edge import Reply, Request, Route

LIST_MAX = 10_000
DESCRIPTION_CHARS_MAX = 256
VERSION = re.compile(r"\$LATEST|[0-9]+")
_TARGET = ("target", "url", "runtime_api")


class Versions:
    """The operations, by AWS's names."""

    def __init__(self, account: Account) -> None:
        self._account = account
        function = "/2015-03-31/functions/{FunctionName}"
        self.routes = (
            Route("POST", f"{function}/versions", self.publish_version),
            Route("GET", f"{function}/versions", self.list_versions_by_function),
            Route("POST", f"{function}/aliases", self.create_alias),
            Route("GET", f"{function}/aliases", self.list_aliases),
            Route("GET", f"{function}/aliases/{{Name}}", self.get_alias),
            Route("PUT", f"{function}/aliases/{{Name}}", self.update_alias),
            Route("DELETE", f"{function}/aliases/{{Name}}", self.delete_alias),
        )

    # -- versions ------------------------------------------------------------------------------------------------------

    async def publish_version(self, request: Request) -> Reply:
        body = Members.of(request)
        sha256, revision = body.text("CodeSha256"), body.text("RevisionId")
        description = body.text("Description", chars_max=DESCRIPTION_CHARS_MAX)
        named = self._account.named(request, FUNCTION, faults=body.faults)
        async with self._account.changing:
            current = self._account.shown(named.name)
            if revision and revision != current["RevisionId"]:
                raise stale_revision()
            if sha256 and sha256 != current["CodeSha256"]:
                raise invalid(
                    f"CodeSHA256 ({sha256}) is different from current CodeSHA256 in $LATEST ({current['CodeSha256']}). "
                    "Please try again with the CodeSHA256 in $LATEST."
                )
            version = await publish(self._account, named.name, description)
        return reply(request, 201, self._account.shown(named.name, version, qualified=True))

    async def list_versions_by_function(self, request: Request) -> Reply:
        name = self._account.named(request, NAMESPACED).name
        self._account.require(name)
        order = {_sorted(q): q for q in self._account.qualifiers(name) if q == LATEST or is_version(q)}
        keys, marker = page(request, order, LIST_MAX)
        versions = [self._account.shown(name, order[key], qualified=True, status=False) for key in keys]
        return reply(request, 200, paged({"Versions": versions}, marker))

    # -- aliases -------------------------------------------------------------------------------------------------------

    async def create_alias(self, request: Request) -> Reply:
        body = Members.of(request)
        alias = body.text("Name", required=True, chars_max=QUALIFIER_CHARS_MAX)
        if alias is not None and not is_alias(alias):
            body.fault(pattern_fault(alias, "name", ALIAS_PATTERN))
        version = body.text("FunctionVersion", required=True, pattern=VERSION, shown_pattern=r"(\$LATEST|[0-9]+)")
        description = body.text("Description", chars_max=DESCRIPTION_CHARS_MAX) or ""
        named = self._account.named(request, FUNCTION, faults=body.faults)
        _refuse_weights(body)
        assert alias is not None and version is not None
        async with self._account.changing:
            self._account.require(named.name, version)
            arn = self._account.arn(named.name, alias)
            if self._account.function(named.name, alias) is not None:
                raise conflict(f"Alias already exists: {arn}")
            await self._account.forget(named.name, alias)
            await self._store(named, alias, version, description)
        return reply(request, 201, self._shown(named.name, alias))

    async def update_alias(self, request: Request) -> Reply:
        body = Members.of(request)
        version = body.text("FunctionVersion", pattern=VERSION, shown_pattern=r"(\$LATEST|[0-9]+)")
        description = body.text("Description", chars_max=DESCRIPTION_CHARS_MAX)
        revision = body.text("RevisionId")
        named, alias = self._named(request, body)
        _refuse_weights(body)
        async with self._account.changing:
            current = self._require_alias(named.name, alias)
            before = self._shown(named.name, alias)
            if revision and revision != before["RevisionId"]:
                raise stale_revision()
            if version is not None:
                self._account.require(named.name, version)
            described = before["Description"] if description is None else description
            await self._store(named, alias, version or shown.version_of(current), described)
        return reply(request, 200, self._shown(named.name, alias))

    async def get_alias(self, request: Request) -> Reply:
        named, alias = self._named(request)
        self._account.require(named.name)
        self._require_alias(named.name, alias)
        return reply(request, 200, self._shown(named.name, alias))

    async def list_aliases(self, request: Request) -> Reply:
        name = self._account.named(request, FUNCTION).name
        self._account.require(name)
        version = request.query.get("FunctionVersion")
        aliases = [
            qualifier
            for qualifier, function in self._account.qualifiers(name).items()
            if is_alias(qualifier) and version in (None, shown.version_of(function))
        ]
        names, marker = page(request, aliases, LIST_MAX)
        return reply(request, 200, paged({"Aliases": [self._shown(name, alias) for alias in names]}, marker))

    async def delete_alias(self, request: Request) -> Reply:
        """One that is not there is no error [V]."""
        named, alias = self._named(request)
        async with self._account.changing:
            self._account.require(named.name)
            if self._account.function(named.name, alias) is not None:
                entry = self._account.entry(named.name)
                aliases = {name: own for name, own in entry.api.get("aliases", {}).items() if name != alias}
                await self._account.store(named.name, None, _without(entry, alias, aliases=aliases))
                await self._account.forget(named.name, alias)
        return no_content(request)

    def _named(self, request: Request, body: Members | None = None) -> tuple[Named, str]:
        alias = request.parameters[1]
        faults = list(body.faults) if body is not None else []
        if len(alias) > QUALIFIER_CHARS_MAX:
            faults.append(fault(alias, "name", f"have length less than or equal to {QUALIFIER_CHARS_MAX}"))
        elif not is_alias(alias):
            faults.append(pattern_fault(alias, "name", ALIAS_PATTERN))
        return self._account.named(request, FUNCTION, faults=faults), alias

    def _require_alias(self, name: str, alias: str) -> Function:
        function = self._account.function(name, alias)
        if function is None:
            raise not_found(f"Cannot find alias arn: {self._account.arn(name, alias)}")
        return function

    async def _store(self, named: Named, alias: str, version: str, description: str) -> None:
        entry = self._account.entry(named.name)
        own = {"Description": description, "RevisionId": new_revision()}
        settings = {"version": version, **target(self._account.table(named.name), version)}
        # What the file says of this alias besides is its asynchronous configuration: it stays.
        settings = self._account.configured_in_table(named.name, alias) | settings
        await self._account.store(
            named.name,
            None,
            dataclasses.replace(
                entry,
                qualifiers={**entry.qualifiers, alias: settings},
                api={**entry.api, "aliases": {**entry.api.get("aliases", {}), alias: own}},
            ),
        )

    def _shown(self, name: str, alias: str) -> dict[str, Any]:
        function = self._require_alias(name, alias)
        return shown.alias(function, self._account.entry(name), self._account.arn(name, alias))


async def publish(account: Account, name: str, description: str | None) -> str:
    """Publish $LATEST, and give the version's number: that of the last one if nothing has changed since [V]."""
    entry, table = account.entry(name), account.table(name)
    settings = {key: table[key] for key in _TARGET if key in table}
    content = {**settings, "changed": entry.api.get("changed")}
    versions, last = entry.api.get("versions", {}), entry.api.get("last_version", 0)
    if versions.get(str(last), {}).get("content") == content:
        return str(last)
    number = 1 + max([last, *(int(qualifier) for qualifier in table["qualifiers"] if is_version(qualifier))])
    latest = account.shown(name)
    configuration = {**shown.kept(entry, LATEST), "LastModified": latest["LastModified"], "RevisionId": new_revision()}
    if description is not None:
        configuration["Description"] = description
    version = {"configuration": configuration, "content": content}
    api = {
        **entry.api,
        "configuration": {**shown.kept(entry, LATEST), "RevisionId": new_revision()},  # publishing changes it, too [V]
        "versions": {**versions, str(number): version},
        "last_version": number,
    }
    qualifiers = {**entry.qualifiers, str(number): {"version": str(number), **settings}}
    await account.store(name, None, dataclasses.replace(entry, qualifiers=qualifiers, api=api))
    return str(number)


def without_version(entry: Entry, version: str) -> Entry:
    """*entry* when *version* is deleted."""
    versions = {number: own for number, own in entry.api.get("versions", {}).items() if number != version}
    return _without(entry, version, versions=versions)


def target(table: Mapping[str, Any], version: str) -> dict[str, Any]:
    """What the table of a function says that *version* runs; empty when that is what the function itself runs."""
    own = table["qualifiers"].get(version, {})
    return {key: own[key] for key in _TARGET if key in own}


def _without(entry: Entry, qualifier: str, **api: Any) -> Entry:
    return dataclasses.replace(entry, qualifiers={**entry.qualifiers, qualifier: None}, api={**entry.api, **api})


def _refuse_weights(body: Members) -> None:
    if body.structure("RoutingConfig").structure("AdditionalVersionWeights"):
        raise invalid("Aliases with AdditionalVersionWeights are not supported here: an alias runs one version.")


def _sorted(version: str) -> str:
    """A key under which numbers stand in their order, and $LATEST first [V]."""
    return "!" if version == LATEST else version.rjust(20, "0")
