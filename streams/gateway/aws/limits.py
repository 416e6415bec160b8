"""Reserved concurrency, recursion and account settings."""

from __future__ import annotations

import dataclasses
from typing import Any

from streams.gateway.aws.account import LATEST, Account
from streams.gateway.aws.names import FUNCTION, Named
from streams.gateway.aws.wire import Members, function_not_found, invalid, no_content, reply
from streams.gateway.edge import Refused, Reply, Request, Route

UNRESERVED_MIN = 100
"""So much of an account's concurrency cannot be reserved [D]."""
TOTAL_CODE_BYTES_MAX, CODE_UNZIPPED_BYTES_MAX, CODE_ZIPPED_BYTES_MAX = 80_530_636_800, 262_144_000, 52_428_800
"""What AWS allows of code [V]; nothing is kept here."""

_RECURSION = {"Terminate": "terminate", "Allow": "allow"}


class Limits:
    """The operations, by AWS's names."""

    def __init__(self, account: Account) -> None:
        self._account = account
        function = "functions/{FunctionName}"
        self.routes = (
            Route("PUT", f"/2017-10-31/{function}/concurrency", self.put_function_concurrency),
            Route("DELETE", f"/2017-10-31/{function}/concurrency", self.delete_function_concurrency),
            Route("GET", f"/2019-09-30/{function}/concurrency", self.get_function_concurrency),
            Route("PUT", f"/2024-08-31/{function}/recursion-config", self.put_function_recursion_config),
            Route("GET", f"/2024-08-31/{function}/recursion-config", self.get_function_recursion_config),
            Route("GET", "/2016-08-19/account-settings", self.get_account_settings),
        )

    async def put_function_concurrency(self, request: Request) -> Reply:
        body = Members.of(request)
        reserved = body.integer("ReservedConcurrentExecutions", required=True)
        named = self._function_alone(request, body.faults)
        assert reserved is not None
        async with self._account.changing:
            self._require(named)
            possible = self._unreserved(without=named.name) - UNRESERVED_MIN
            if reserved > max(0, possible):
                raise Refused(
                    400,
                    "InvalidParameterValueException",
                    "Specified ReservedConcurrentExecutions for function decreases account's "
                    f"UnreservedConcurrentExecution below its minimum value of [{UNRESERVED_MIN}].",
                )
            await self._set(named.name, reserved)
        return reply(request, 200, {"ReservedConcurrentExecutions": reserved})

    async def get_function_concurrency(self, request: Request) -> Reply:
        named = self._function_alone(request)
        reserved = self._account.require(named.name).reserved_concurrency
        return reply(request, 200, {} if reserved is None else {"ReservedConcurrentExecutions": reserved})

    async def delete_function_concurrency(self, request: Request) -> Reply:
        named = self._function_alone(request)
        async with self._account.changing:
            self._require(named)
            await self._set(named.name, None)
        return no_content(request)

    async def put_function_recursion_config(self, request: Request) -> Reply:
        body = Members.of(request)
        choice = body.text("RecursiveLoop", required=True, choices=tuple(_RECURSION))
        named = self._function_alone(request, body.faults)
        assert choice is not None
        async with self._account.changing:
            self._account.require(named.name)
            entry = self._account.entry(named.name)
            settings = {**(entry.settings or {}), "recursion": _RECURSION[choice]}
            await self._account.store(named.name, None, dataclasses.replace(entry, settings=settings))
        return reply(request, 200, {"RecursiveLoop": choice})

    async def get_function_recursion_config(self, request: Request) -> Reply:
        named = self._function_alone(request)
        self._account.require(named.name)
        setting = self._account.table(named.name).get("recursion")
        choice = next((choice for choice, ours in _RECURSION.items() if ours == setting), "Terminate")
        return reply(request, 200, {"RecursiveLoop": choice})

    async def get_account_settings(self, request: Request) -> Reply:
        document: dict[str, Any] = {
            "AccountLimit": {
                "TotalCodeSize": TOTAL_CODE_BYTES_MAX,
                "CodeSizeUnzipped": CODE_UNZIPPED_BYTES_MAX,
                "CodeSizeZipped": CODE_ZIPPED_BYTES_MAX,
                "ConcurrentExecutions": self._account.aws.concurrent_executions,
                "UnreservedConcurrentExecutions": max(0, self._unreserved()),
            },
            "AccountUsage": {"TotalCodeSize": 0, "FunctionCount": len(self._account.names())},
        }
        return reply(request, 200, document)

    def _function_alone(self, request: Request, faults: list[str] | None = None) -> Named:
        """The function, which must be named without a version or an alias. Raises `Refused`."""
        named = self._account.named(request, FUNCTION, faults=faults)
        if named.qualifier is not None:
            raise invalid(
                "This operation is permitted on Lambda functions only. Aliases and versions do not support this "
                "operation. Please specify either a function name or an unqualified function ARN."
            )
        return named

    def _require(self, named: Named) -> None:
        if self._account.function(named.name) is None:
            raise function_not_found(self._account.arn(named.name, LATEST))

    def _unreserved(self, without: str | None = None) -> int:
        """What is left of the account's concurrency, if function *without* reserves nothing."""
        functions = (self._account.function(name) for name in self._account.names() if name != without)
        reserved = sum(function.reserved_concurrency or 0 for function in functions if function is not None)
        return self._account.aws.concurrent_executions - reserved

    async def _set(self, name: str, reserved: int | None) -> None:
        entry = self._account.entry(name)
        settings = {**(entry.settings or {}), "reserved_concurrency": reserved}
        await self._account.store(name, None, dataclasses.replace(entry, settings=settings))
