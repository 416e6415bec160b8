"""What the APIs of a gateway share: functions, the intake, invokers, and what both they and Kafka need to be told."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from aiokafka.errors import KafkaError

from streams.cluster import Cluster
from streams.core.model import Function, Outcome
from streams.errors import BrokerError
from streams.functions import Functions
from streams.functions.file import kafka_topic
from streams.functions.live import LiveFunctions
from streams.functions.stored import Entry, Key
from streams.gateway.intake import Intake
from streams.gateway.keys import Keys
from streams.gateway.statuses import Statuses
from streams.invokers import Call, Invokers, Runner
from streams.providers.base import Provider
from streams.settings import Settings

_DESTINATIONS = ("on_success", "on_failure", "dead_letter")
"""Settings that may name a topic."""


def epoch_ms() -> int:
    """The time, epoch milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True, kw_only=True)
class Services:
    """Shared by all APIs of one gateway."""

    live: LiveFunctions
    intake: Intake
    invokers: Invokers
    statuses: Statuses
    keys: Keys = field(default_factory=Keys)
    settings: Settings = field(default_factory=Settings)
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

    async def put(self, key: Key, entry: Entry | None) -> None:
        """Store *entry*, for everybody; topics that it names and that are missing are made first.

        Raises `BrokerError` when the broker has not taken it.
        """
        addresses = [(entry.settings or {}).get(name) for name in _DESTINATIONS] if entry is not None else []
        topics = {topic for address in addresses if address and (topic := kafka_topic(address)) is not None}
        missing = topics - self.functions.kafka_topics()
        if missing:
            await self.make_topics(missing)
        await self.live.put(key, entry)

    async def make_topics(self, names: Collection[str]) -> None:
        """Make topics for destinations, as `streams topics create` does. Raises `BrokerError`."""
        try:
            async with Cluster(self.settings) as cluster:
                await cluster.create(self.settings.topics, names)
        except KafkaError as error:
            raise BrokerError(f"topics could not be created: {error}") from error

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
