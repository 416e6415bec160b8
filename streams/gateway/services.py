"""What the APIs of a gateway share: functions, the intake, invokers, and what both they and Kafka need to be told."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from streams.cluster import reserved
from streams.console.store import InvocationStatus
from streams.core.model import Function, KafkaDestination, Outcome
from streams.errors import BrokerError
from streams.functions import Functions
from streams.functions.live import LiveFunctions
from streams.functions.stored import Entry, Key
from streams.gateway.intake import Intake, Unavailable
from streams.gateway.keys import Keys
from streams.gateway.statuses import Statuses
from streams.invokers import Call, Invokers, Runner
from streams.providers.base import Provider
from streams.settings import Settings


def epoch_ms() -> int:
    """The time, epoch milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True, kw_only=True)
class Services:
    """Shared by all APIs of one gateway."""

    settings: Settings
    live: LiveFunctions
    intake: Intake
    invokers: Invokers
    statuses: Statuses
    keys: Keys = field(default_factory=Keys)
    now_ms: Callable[[], int] = epoch_ms
    _runners: dict[str, tuple[Function, Runner]] = field(default_factory=dict)
    _running: defaultdict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))

    @property
    def functions(self) -> Functions:
        """The functions as they are now."""
        return self.live.functions

    def provider(self, name: str) -> Provider:
        """The provider with the settings of its table."""
        return self.live.functions.provider(name)

    def entry(self, key: Key) -> Entry | None:
        """What an API has stored last."""
        return self.live.description.entries.get(key)

    async def accept(
        self,
        function: Function,
        event: bytes,
        request_id: str,
        *,
        delay_ms: int = 0,
        traceparent: str | None = None,
    ) -> None:
        """Invoke *function* asynchronously. Raises what `Intake.accept` raises."""
        headers = [("function", function.resource.encode()), ("request-id", request_id.encode())]
        if delay_ms:
            headers.append(("delay-ms", b"%d" % delay_ms))
        if traceparent is not None:
            headers.append(("traceparent", traceparent.encode()))
        partition, offset = await self.intake.accept(request_id, event, headers)
        self.statuses.remember(function, request_id, partition, offset, self.now_ms())

    async def cancel(self, status: InvocationStatus) -> None:
        """End an invocation that is not over, as soon as its worker hears of it. Raises what `Intake.cancel` raises.

        One that no worker has read yet does not start when it is read.
        """
        try:
            event = await self.statuses.event(status) if status.status != "running" else None
        except BrokerError:
            event = None  # then its record is written when its retry record comes
        await self.intake.cancel(status, event)

    async def store(self, key: Key, entry: Entry) -> list[str]:
        """Store *entry* for everybody, and make the Kafka topics that it names as destinations.

        Returns what is wrong with it; then nothing is stored. Raises `Unavailable`.
        """
        functions, faults = self.live.description.read(key, {**self.live.description.entries, key: entry})
        if faults:
            return faults
        targets = (
            t for function in functions for t in (function.on_success, function.on_failure, function.dead_letter)
        )
        topics = {target.topic for target in targets if isinstance(target, KafkaDestination)}
        if faults := [why for name in sorted(topics) if (why := reserved(self.settings.topics, name)) is not None]:
            return faults
        try:
            await self.live.make_topics(topics - self.functions.kafka_topics())
            await self.live.put(key, entry)
        except BrokerError as error:
            raise Unavailable from error
        return []

    async def run(self, function: Function, event: bytes, value: object, request_id: str) -> Outcome | None:
        """Invoke *function* synchronously, here: *event* is what was sent, *value* what its provider reads in it.

        None when its reserved concurrency is used up by this gateway.
        """
        of = function.provider, function.name
        if function.reserved_concurrency is not None and self._running[of] >= function.reserved_concurrency:
            return None
        run = self._runner(function)
        self._running[of] += 1
        try:
            return await run(Call(request_id, event, value, 1, self.now_ms()))
        finally:
            self._running[of] -= 1

    def _runner(self, function: Function) -> Runner:
        known = self._runners.get(function.resource)
        if known is None or (known[0].target, known[0].timeout_ms) != (function.target, function.timeout_ms):
            if known is not None:
                self.invokers.release(known[1])
            run = self.invokers.prepare(function, self.provider(function.provider))
            known = self._runners[function.resource] = function, run
        return known[1]
