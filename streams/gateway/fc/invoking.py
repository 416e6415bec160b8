"""Invocations: asynchronous ones, which may be tasks with an id of the client's choice, and synchronous ones.

A task that the client named has a request id made of the function and that name, so that its task id can be read from
the request id wherever that is stored, and two tasks of one name are two records of one id. What is promised of
duplicates follows:

- A gateway refuses a task id (409) that it has accepted itself, or that the read model knows. The read model forgets a
  task seven days after its end, and then the id is free again.
- Two gateways may accept the same id within the tens of milliseconds that the read model takes. Both say 202, and it
  runs once: both records have one id and one partition, and a worker passes over the second, as it does over every id
  that it still remembers (`terminal_retention_s`).
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from hashlib import sha256

from streams.errors import ReadModelError
from streams.gateway.edge import Refused, Reply, Request
from streams.gateway.fc.configs import Configs
from streams.gateway.fc.targets import PROVIDER, Target, Targets, integer, invalid
from streams.gateway.intake import TooLarge
from streams.gateway.services import Services

log = logging.getLogger(__name__)

SYNC_BYTES_MAX = 32 << 20
"""Of the event of a synchronous invocation: 32 MB [D]."""
DELAY_S_MAX = 3600
"""Of X-Fc-Async-Delay [D]."""
REQUEST_ID = "X-Fc-Request-Id"
OCTETS = "application/octet-stream"

_TASK_ID = re.compile("[A-Za-z_][A-Za-z0-9_-]{0,127}")


@dataclass(frozen=True, slots=True)
class Invoking:
    """InvokeFunction, for one version of the API."""

    services: Services
    targets: Targets
    configs: Configs

    async def invoke(self, request: Request) -> Reply:
        """Run a function, now or later."""
        target = self.targets.find(request)
        kind = request.headers.get("X-Fc-Invocation-Type", "Sync")
        if kind == "Async":
            return await self._asynchronously(target, request)
        if kind == "Sync":
            return await self._synchronously(target, request)
        raise invalid(f"X-Fc-Invocation-Type is invalid: '{kind}' is neither Sync nor Async")

    async def _asynchronously(self, target: Target, request: Request) -> Reply:
        headers, version = request.headers, self.targets.version
        bytes_max = self.services.provider(PROVIDER).payload_bytes_max
        if len(request.body) > bytes_max:
            raise too_large(bytes_max)
        delay = headers.get("X-Fc-Async-Delay")
        delay_s = integer(delay, "X-Fc-Async-Delay", 0, DELAY_S_MAX) if delay is not None else 0
        task_id = headers.get(version.task_header)
        request_id = request.request_id
        if task_id:
            request_id = await self._of_new_task(target, task_id)
        traceparent = headers.get("traceparent")
        try:
            await self.services.accept(
                target.function,
                request.body,
                request_id,
                delay_ms=round(1000 * delay_s * self.services.functions.time_scale),
                traceparent=traceparent if traceparent is not None and traceparent.isascii() else None,
            )
        except TooLarge:
            raise too_large(bytes_max) from None
        reply = Reply(202, headers={REQUEST_ID: request_id})
        if task_id or self._is_task(target, request):
            reply.headers[version.task_header] = task_id or request_id
        return reply

    def _is_task(self, target: Target, request: Request) -> bool:
        """[G] Whoever names a task wants one, whatever the configuration says; this is about the others."""
        enable_header = self.targets.version.enable_header
        enabled = request.headers.get(enable_header, "") if enable_header is not None else ""
        return enabled.lower() == "true" or self.configs.is_task(target)

    async def _of_new_task(self, target: Target, task_id: str) -> str:
        """The request id of task *task_id*. Raises `Refused` when there is such a task."""
        if not _TASK_ID.fullmatch(task_id):
            raise invalid(
                f"{self.targets.version.task_header} is invalid: it must begin with a letter or an underscore, and "
                "have at most 128 letters, digits, underscores and hyphens"
            )
        request_id = request_id_of(self.services, target.name, task_id)
        try:
            known = await self.services.statuses.known(PROVIDER, request_id)
        except ReadModelError as error:
            log.error("whether a task is a duplicate is for the workers to find out: %s", error)
            known = None
        if known is not None:
            # The code is documented (task deduplication), the text is not [G].
            message = f"the stateful async invocation '{task_id}' of function '{target.name}' already exists"
            raise Refused(409, "StatefulAsyncInvocationAlreadyExists", message)
        return request_id

    async def _synchronously(self, target: Target, request: Request) -> Reply:
        body = request.body  # what a handler gets: bytes
        outcome = await self.services.run(target.function, body, body, request.request_id)
        if outcome is None or outcome.kind == "throttled":
            raise Refused(429, "ResourceExhausted", f"the concurrency of function '{target.name}' is used up")  # [G]
        if outcome.kind == "target_missing":
            raise Refused(404, "FunctionNotFound", f"function '{target.name}' has nothing to run")
        if outcome.kind == "system_error":
            status = 503 if outcome.status_code == 503 else 500
            raise Refused(status, "InternalServerError", outcome.error_message or "An internal error occurred.")
        reply = Reply(200, outcome.payload or b"", OCTETS, {REQUEST_ID: request.request_id})
        if request.headers.get("X-Fc-Log-Type") == "Tail":
            reply.headers["X-Fc-Log-Result"] = ""  # what a function prints is not kept here
        if outcome.kind == "function_error":
            kind = "HandledInvocationError" if outcome.handled else "UnhandledInvocationError"
            reply.headers["X-Fc-Error-Type"] = kind
            reply.content_type = "application/json"
        return reply


def request_id_of(services: Services, name: str, task_id: str) -> str:
    """The request id of the task *task_id* of function *name*, if the client chose that id."""
    return task_id_mark(services, name) + task_id


def task_id_mark(services: Services, name: str) -> str:
    """How request ids of tasks begin whose id the client chose; the rest is the task id.

    It is of the function, not of its version: a task is looked for without one. There is no dot in a task id, nor in a
    UUID.
    """
    resource = services.provider(PROVIDER).resource(name, "LATEST")
    return sha256(resource.encode(errors="replace")).hexdigest()[:16] + "."


def too_large(bytes_max: int) -> Refused:
    """The refusal of an event larger than *bytes_max* [D]."""
    return Refused(400, "EntityTooLarge", f"payload size exceeds maximum allowed size ({bytes_max} bytes)")
