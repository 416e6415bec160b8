"""The functions of one AWS account and region, as the parts of its API look them up and change them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any, cast

from streams.core.model import Function
from streams.errors import BrokerError
from streams.functions.stored import CONFIGURATION, Entry, Key, merged, write_entry
from streams.gateway.aws.names import FUNCTION, NAMESPACED, Named, Rule, name_faults, parse, qualifier_faults
from streams.gateway.aws.shown import configuration
from streams.gateway.aws.wire import function_not_found, invalid, not_found, too_large, validation
from streams.gateway.edge import Refused, Request
from streams.gateway.intake import Unavailable
from streams.gateway.services import Services
from streams.providers.aws import Aws

LATEST = Aws.latest
ENTRY_BYTES_MAX = 900_000
"""Of what is stored of one function, its versions included: it is one record of Kafka, of at most a mebibyte."""
REFERENCES_MAX = 10_000
"""References whose meaning is remembered."""


class Account:
    """One for all parts of the API.

    A change reads, decides and writes under `changing`, one at a time in this gateway. Two gateways that change one
    function at the same moment may overwrite each other, as the topic knows no conditions: the last one wins.
    """

    def __init__(self, services: Services) -> None:
        self.services = services
        self.changing = asyncio.Lock()
        self._known: dict[tuple[str, str | None], Function] = {}
        self._known_in: object = None

    @property
    def described_at_ms(self) -> int:
        """When the functions file was written last."""
        return self.services.live.description.file_modified_at_ms

    @property
    def aws(self) -> Aws:
        return cast(Aws, self.services.provider(Aws.name))

    # -- names ---------------------------------------------------------------------------------------------------------

    def named(
        self, request: Request, rule: Rule = NAMESPACED, *, faults: list[str] | None = None, action: str | None = None
    ) -> Named:
        """The function that path and query of *request* name. Raises `Refused`, with *faults* among the reasons.

        The error of a foreign account names *action* if there is one; AWS's says nothing for most operations [V].
        """
        return self.named_by(request.parameters[0], request.query.get("Qualifier"), rule, faults, action)

    def named_by(
        self,
        reference: str,
        qualifier: str | None = None,
        rule: Rule = FUNCTION,
        faults: list[str] | None = None,
        action: str | None = None,
    ) -> Named:
        """The same for a name from elsewhere."""
        found = name_faults(reference, rule)
        if qualifier:
            found += qualifier_faults(qualifier)
        found += faults or []
        named = parse(reference)
        if found or named is None:
            raise validation(found)
        aws = self.aws
        if named.region is not None and named.region != aws.region:
            raise not_found(f"Functions from '{named.region}' are not reachable in this region ('{aws.region}')")
        if named.account is not None and named.account != aws.account:
            raise _foreign(action, self.arn(named.name, account=named.account))
        if qualifier and named.qualifier and named.qualifier != qualifier:
            raise invalid("The derived qualifier from the function name does not match the specified qualifier.")
        return named._replace(qualifier=qualifier or named.qualifier)

    def arn(self, name: str, qualifier: str | None = None, *, account: str | None = None) -> str:
        aws = self.aws
        arn = f"arn:{aws.partition}:lambda:{aws.region}:{account or aws.account}:function:{name}"
        return arn if qualifier is None else f"{arn}:{qualifier}"

    # -- reading -------------------------------------------------------------------------------------------------------

    def invoked(self, request: Request) -> Function:
        """The function that *request* invokes; what was found once is remembered until something changes."""
        functions = self.services.functions
        if self._known_in is not functions:
            self._known, self._known_in = {}, functions
        asked = request.parameters[0], request.query.get("Qualifier")
        function = self._known.get(asked)
        if function is None:
            named = self.named(request, action="InvokeFunction")
            function = self.function(named.name, named.qualifier)
            if function is None:
                raise function_not_found(self.arn(named.name, named.qualifier or LATEST))
            if len(self._known) >= REFERENCES_MAX:
                self._known.clear()
            self._known[asked] = function
        return function

    def function(self, name: str, qualifier: str | None = None) -> Function | None:
        """One qualifier of a function, as workers know it; None when there is none."""
        return self.qualifiers(name).get(qualifier or LATEST)

    def qualifiers(self, name: str) -> Mapping[str, Function]:
        """Every version and alias; empty when there is no such function."""
        return self.services.functions.qualifiers(Aws.name, name)

    def names(self) -> list[str]:
        return self.services.functions.of(Aws.name)

    def require(self, name: str, qualifier: str | None = None) -> Function:
        """The same, or `Refused`."""
        function = self.function(name, qualifier)
        if function is None:
            raise function_not_found(self.arn(name, qualifier))
        return function

    def shown(
        self, name: str, qualifier: str | None = None, *, qualified: bool = False, status: bool = True
    ) -> dict[str, Any]:
        """FunctionConfiguration of a function that must be there. Raises `Refused`."""
        function = self.require(name, qualifier)
        arn = self.arn(name, function.qualifier if qualified else None)
        return configuration(function, self.entry(name), arn, self.described_at_ms, status=status)

    def entry(self, name: str, qualifier: str | None = None) -> Entry:
        """What is stored of the function itself, or of the configuration of *qualifier*. (An empty one changes
        nothing.)"""
        return self.services.entry(Key(Aws.name, name, qualifier)) or Entry(settings={})

    def file_table(self, name: str) -> Mapping[str, Any] | None:
        """What the functions file says of a function, whatever has become of it."""
        return self.services.live.description.table(Key(Aws.name, name))

    def table(self, name: str) -> Mapping[str, Any]:
        """The settings of a function and its qualifiers, but for asynchronous configurations stored apart."""
        key = Key(Aws.name, name)
        entry = self.services.entry(key)
        entries = {key: entry} if entry is not None else {}
        return merged(self.file_table(name), entries, key, LATEST) or {}

    def configured_in_table(self, name: str, qualifier: str) -> dict[str, Any]:
        """The asynchronous configuration that is part of the function's own settings."""
        table = self.table(name)
        own = table if qualifier == LATEST else table.get("qualifiers", {}).get(qualifier, {})
        return {setting: own[setting] for setting in CONFIGURATION if setting in own}

    # -- changing ------------------------------------------------------------------------------------------------------

    async def store(self, name: str, qualifier: str | None, entry: Entry) -> None:
        """Store *entry* if the function can be used with it. Raises `Refused`."""
        size_bytes = len(write_entry(entry))
        if size_bytes > ENTRY_BYTES_MAX:
            raise too_large(
                f"Request must be smaller: the function with its versions has {size_bytes} bytes of configuration, and "
                f"{ENTRY_BYTES_MAX} are allowed. Delete versions"
            )
        faults = await self.services.store(Key(Aws.name, name, qualifier), entry)
        if faults:
            raise invalid("; ".join(faults))

    async def forget(self, name: str, qualifier: str | None) -> None:
        """What is stored about this is gone; the file's word holds again, if it has one."""
        key = Key(Aws.name, name, qualifier)
        if key in self.services.live.description.entries:
            await self._remove(key)

    async def forget_configurations(self, name: str) -> None:
        """A function, or one that will have its name, has no stored asynchronous configurations any more."""
        for key in [key for key in self.services.live.description.entries if key[:2] == (Aws.name, name)]:
            if key.qualifier is not None:
                await self._remove(key)

    async def _remove(self, key: Key) -> None:
        try:
            await self.services.live.put(key, None)
        except BrokerError as error:
            raise Unavailable from error


def new_revision() -> str:
    return str(uuid.uuid4())


def _foreign(action: str | None, arn: str) -> Refused:
    if action is None:
        return Refused(403, "AccessDeniedException", "")
    message = (
        f"User is not authorized to perform: lambda:{action} on resource: {arn} because no resource-based policy "
        f"allows the lambda:{action} action"
    )
    return Refused(403, "AccessDeniedException", message)
