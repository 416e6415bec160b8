"""Asynchronous tasks: list, get, stop. A task is an asynchronous invocation that can be asked for by its id.

[G] Here every asynchronous invocation can be, also those that were made before the function was told to make tasks, or
written to Kafka by others. The ten states are made of what the read model knows:

| state | the invocation |
|---|---|
| Enqueued | waits, no attempt was made |
| Dequeued | never seen: an attempt begins as soon as its event is read |
| Running | an attempt is under way |
| Retrying | the next attempt waits |
| Stopping | this gateway sent a stop, and its end has not been seen |
| Succeeded, Stopped | over, in these ways |
| Expired | over because of its age |
| Invalid | over without a function to run: it is gone, or the chain of functions was too long |
| Failed | over, in any other way |
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import orjson

from streams.console.store import InvalidToken, InvocationStatus, Query, Status
from streams.core.facts import Accepted, AttemptFailed, AttemptStarted, Failed, Happened, RetryScheduled, Succeeded
from streams.core.model import Ending, Function, FunctionDestination, KafkaDestination, Outcome
from streams.gateway.edge import Refused, Reply, Request
from streams.gateway.fc.configs import Configs
from streams.gateway.fc.invoking import request_id_of, task_id_mark
from streams.gateway.fc.targets import LATEST, PROVIDER, Target, Targets, integer, invalid, limit, listed, page
from streams.gateway.fc.versions import Version
from streams.gateway.services import Services
from streams.providers.fc import FunctionCompute

RETURN_BYTES_MAX = 1 << 20
"""Of *returnPayload* [D]; the rest is cut off [G]."""
STOP_WITHIN_S = 2.0
"""A stop waits so long to see the end; most come within some tens of milliseconds."""
STOPPING_MAX = 10_000
"""Tasks with a stop under way that a gateway remembers."""
LOOK_EVERY_S = 0.05
_TIME_MS_MAX = 2**63 - 1

_ENDINGS: Mapping[Ending, str] = MappingProxyType(
    {
        "succeeded": "Succeeded",
        "cancelled": "Stopped",
        "expired": "Expired",
        "target_missing": "Invalid",
        "loop": "Invalid",
        "retries_exhausted": "Failed",
        "budget_spent": "Failed",
        "zero_concurrency": "Failed",
    }
)
_UNENDED: Mapping[Status, str] = MappingProxyType({"waiting": "Enqueued", "running": "Running", "retrying": "Retrying"})
_UNSEEN = ("Dequeued", "Stopping")
"""States that no list has."""


@dataclass(slots=True)
class Stopping:
    """Request ids of the tasks that are to stop, as far as this gateway knows."""

    _ids: dict[str, None] = field(default_factory=dict)

    def add(self, request_id: str) -> None:
        if len(self._ids) >= STOPPING_MAX:
            del self._ids[next(iter(self._ids))]
        self._ids[request_id] = None

    def has(self, status: InvocationStatus) -> bool:
        """Whether *status* is to stop and has not."""
        if status.ending is not None:
            self._ids.pop(status.request_id, None)
        return status.request_id in self._ids


@dataclass(frozen=True, slots=True)
class Tasks:
    """The operations on tasks, for one version of the API."""

    services: Services
    targets: Targets
    configs: Configs
    stopping: Stopping
    """Shared by all versions."""

    async def get(self, request: Request) -> Reply:
        """GetAsyncTask."""
        status = await self._find(request)
        events = await self.services.statuses.events(status) if status.first_offset >= 0 else ()
        return Reply.of(200, await self._shown(status, events, payloads=True))

    async def stop(self, request: Request) -> Reply:
        """StopAsyncTask: a task that is over stays as it is, but one that was stopped cannot be stopped again [D]."""
        status = await self._find(request)
        if status.ending == "cancelled":
            text = f"The async invocation for {_path(status)}:{self._task_id(status)} has been stopped"
            raise Refused(412, "AsyncInvocationStopped", text)
        if status.ending is None:
            await self._stop(status)
        return Reply(204)

    async def list(self, request: Request) -> Reply:
        """ListAsyncTasks."""
        name, qualifier = self.targets.named(request)
        query = self._query(name, qualifier, request)
        if not self.services.functions.qualifiers(PROVIDER, name):
            raise self.targets.missing(name, LATEST)
        if query is None:
            return Reply.of(200, listed(self.targets.version.task_list, (), None))
        await self.services.statuses.until_seen(PROVIDER, name, self.services.now_ms() - 1000)
        try:
            found = await self.services.statuses.list(query)
        except InvalidToken:
            raise invalid("nextToken is invalid") from None
        payloads = request.query.get("includePayload", "").lower() == "true"
        shown = await asyncio.gather(*(self._shown(status, (), payloads=payloads) for status in found.items))
        return Reply.of(200, listed(self.targets.version.task_list, shown, found.token))

    async def functions(self, request: Request) -> Reply:
        """ListStatefulAsyncInvocationFunctions: those whose every asynchronous invocation is a task."""
        found = {
            f"{function.name}:{function.qualifier}": function
            for function in self.services.functions
            if function.provider == PROVIDER
            and "/" in function.name
            and self.configs.is_task(Target(function.name, function.qualifier, function))
        }
        keys, token = page(sorted(found), request)
        data = [{**_names(found[key].name), "qualifier": found[key].qualifier} for key in keys]
        return Reply.of(200, listed("data", data, token))

    # -- finding -------------------------------------------------------------------------------------------------

    async def _find(self, request: Request) -> InvocationStatus:
        """The task of the path. Raises `Refused`."""
        name, qualifier = self.targets.named(request)
        task_id = request.parameters[-1]
        ids = (request_id_of(self.services, name, task_id), task_id)
        status = await self.services.statuses.get(PROVIDER, *ids)
        if status is None or status.function != name or qualifier not in (None, status.qualifier):
            if not self.services.functions.qualifiers(PROVIDER, name):
                raise self.targets.missing(name, LATEST)
            text = f"the stateful async invocation '{task_id}' of function '{name}' does not exist"  # [G]
            raise Refused(404, "StatefulAsyncInvocationNotFound", text)
        return status

    def _query(self, name: str, qualifier: str | None, request: Request) -> Query | None:
        """What a list is asked for; None when nothing can be found. Raises `Refused`."""
        given = request.query.get
        order = given("sortOrderByTime") or "desc"
        if order not in ("asc", "desc"):
            raise invalid(f"sortOrderByTime is invalid: '{order}' is neither asc nor desc")
        begin, end = (
            integer(text, parameter, 0, _TIME_MS_MAX) if (text := given(parameter)) else None
            for parameter in ("startedTimeBegin", "startedTimeEnd")
        )
        state, prefix = given("status"), given(self.targets.version.task_prefix)
        statuses: frozenset[Status] = frozenset()
        endings: frozenset[Ending] = frozenset()
        if state and state not in _UNSEEN:
            statuses = frozenset(status for status, word in _UNENDED.items() if word == state)
            endings = frozenset(ending for ending, word in _ENDINGS.items() if word == state)
            if not statuses and not endings:
                states = ", ".join(sorted({*_UNENDED.values(), *_ENDINGS.values(), *_UNSEEN}))
                raise invalid(f"status is invalid: '{state}' is not one of {states}")
        if endings:
            statuses = frozenset(("succeeded",) if endings == {"succeeded"} else ("failed",))
        query = Query(
            provider=PROVIDER,
            function=name,
            qualifier=qualifier,
            statuses=statuses,
            endings=endings,
            started_from_ms=begin,
            started_to_ms=None if end is None else end + 1,  # [G] inclusive
            id_prefix=(prefix, task_id_mark(self.services, name) + prefix) if prefix else "",
            order="asc" if order == "asc" else "desc",
            limit=limit(request),
            token=given("nextToken") or None,
        )
        return None if state in _UNSEEN else query

    # -- stopping ------------------------------------------------------------------------------------------------

    async def _stop(self, status: InvocationStatus) -> None:
        """Have its worker end it; most have on return."""
        await self.services.cancel(status)
        self.stopping.add(status.request_id)
        deadline = asyncio.get_running_loop().time() + STOP_WITHIN_S
        while asyncio.get_running_loop().time() < deadline:
            now = await self.services.statuses.get(PROVIDER, status.request_id)
            if now is None or now.ending is not None:
                return
            await asyncio.sleep(LOOK_EVERY_S)

    # -- showing -------------------------------------------------------------------------------------------------

    async def _shown(self, status: InvocationStatus, events: Sequence[Happened], *, payloads: bool) -> dict[str, Any]:
        """The document of a task. *payloads*: with event and response, which Kafka must be asked for."""
        provider = self.services.provider(PROVIDER)
        assert isinstance(provider, FunctionCompute)
        started_at_ms = status.accepted_at_ms if status.started_at_ms is None else status.started_at_ms
        task: dict[str, Any] = {
            "taskId": self._task_id(status),
            "requestId": status.request_id,
            **self._identity(status),
            "qualifier": status.qualifier,
            "status": "Stopping" if self.stopping.has(status) else state_of(status),
            "startedTime": started_at_ms,  # [G] of one that has not started: when it was accepted
            "alreadyRetriedTimes": max(0, status.attempts - 1),
            "taskErrorMessage": error_of(status, provider),
        }
        if status.ended_at_ms is not None:
            task |= {"endTime": status.ended_at_ms, "durationMs": max(0, status.ended_at_ms - started_at_ms)}
        if (destination := self._destination_status(status)) is not None:
            task["destinationStatus"] = destination
        if events:
            task["events"] = events_of(events, provider)
        if payloads:
            event, response = await self.services.statuses.payloads(status)
            if event is not None:
                task["taskPayload"] = _text(event)
            if response is not None:
                task["returnPayload"] = _text(response[:RETURN_BYTES_MAX])
        return renamed(task, self.targets.version)

    def _task_id(self, status: InvocationStatus) -> str:
        return status.request_id.removeprefix(task_id_mark(self.services, status.function))

    def _identity(self, status: InvocationStatus) -> dict[str, str]:
        return _names(status.function) if self.targets.version.has_services else {"functionArn": status.resource}

    def _destination_status(self, status: InvocationStatus) -> str | None:
        """*Succeeded* once the destination has it: Kafka topics and functions have it in the transaction of the end.

        *Failed* [G] when a service will not get it any more. None when there is no destination, or it has it not yet.
        """
        if status.destination is not None:
            return "Succeeded" if status.destination == "delivered" else "Failed"
        function = self.services.functions.qualifiers(PROVIDER, status.function).get(status.qualifier)
        if status.ending in (None, "cancelled") or not isinstance(function, Function):
            return None
        destination = function.on_success if status.ending == "succeeded" else function.on_failure
        return "Succeeded" if isinstance(destination, KafkaDestination | FunctionDestination) else None


def state_of(status: InvocationStatus) -> str:
    """The state of a task."""
    return _UNENDED[status.status] if status.ending is None else _ENDINGS[status.ending]


def error_of(status: InvocationStatus, provider: FunctionCompute) -> str:
    """Why a task failed, or is retried: an error code like ``UnhandledInvocationError`` [D]."""
    error = ""
    if status.outcome_kind is not None:
        error = _error(Outcome(status.outcome_kind, status.status_code or 0, error_type=status.error_type), provider)
    return error if status.ending is None else _ended_by(status.ending, error, provider)


def events_of(facts: Sequence[Happened], provider: FunctionCompute) -> list[dict[str, Any]]:
    """The events of a task."""
    events: list[tuple[str, int, str]] = []
    error = ""
    for fact in facts:
        match fact:
            case Accepted():
                events.append(("Enqueued", fact.accepted_at_ms, ""))
            case AttemptStarted():
                events.append(("Running", fact.at_ms, ""))
            case AttemptFailed():
                error = _error(fact.outcome, provider)
            case RetryScheduled() if error:  # without one it waits for something else than a retry
                events.append(("Retrying", fact.at_ms, error))
            case Succeeded():
                events.append(("Succeeded", fact.at_ms, ""))
            case Failed():
                events.append((_ENDINGS[fact.ending], fact.at_ms, _ended_by(fact.ending, error, provider)))
    return [
        {"eventId": number, "status": state, "timestamp": at_ms, "eventDetail": _detail(error)}
        for number, (state, at_ms, error) in enumerate(events, 1)
    ]


def renamed(task: Mapping[str, Any], version: Version) -> dict[str, Any]:
    """*task* with the names that its members have in *version*."""
    return {version.task_members.get(name, name): value for name, value in task.items()}


def _detail(error: str) -> str:
    """``{"Error":"UnhandledInvocationError"}`` [D]."""
    return orjson.dumps({"Error": error}).decode() if error else ""


def _ended_by(ending: Ending, error: str, provider: FunctionCompute) -> str:
    """The error code of an end; *error* is that of the last attempt."""
    match ending:
        case "succeeded" | "cancelled":
            return ""
        case "expired":
            return provider.expired_condition
        case "loop":
            return provider.loop_condition
        case "zero_concurrency":
            return "FunctionResourceExhausted"
        case "retries_exhausted" | "budget_spent" | "target_missing":
            return error


def _error(outcome: Outcome, provider: FunctionCompute) -> str:
    """Facts do not say whether a function reported an error itself, but what it reports so has a type of its own."""
    handled = outcome.error_type == "HandledInvocationError"
    return provider.error_condition(Outcome(outcome.kind, outcome.status_code, handled=handled))


def _names(name: str) -> dict[str, str]:
    service, _, function = name.rpartition("/")
    return {"serviceName": service, "functionName": function}


def _path(status: InvocationStatus) -> str:
    return f"{status.function}:{status.qualifier}".replace("/", ":")


def _text(payload: bytes) -> str:
    """[G] Bytes that are not UTF-8 in Base64."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return b64encode(payload).decode()
