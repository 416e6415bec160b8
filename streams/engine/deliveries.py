"""Deliveries: what ended invocations leave for services outside Kafka.

They come on the topic `deliveries`, written by the transaction in which their invocation ended. Each is tried, and
tried again for as long as its provider's rules allow, waiting on the retry topics in between, where it is in nobody's
way. In the end the service has it or there is a dead letter `DestinationDeliveryFailed`. A worker that dies between a
service's answer and its own next commit leaves the delivery to the next one: services may get it twice.

So that one service that does not answer does not keep the others waiting, only so many are under way to each place;
the rest waits on the retry topics as well, which uses up nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from aiokafka import TopicPartition

from streams.codec.delivery import read_delivery
from streams.core.model import Delivery, Refusal, Service
from streams.core.policy import DeliveryPolicy
from streams.engine.effects import Effects
from streams.engine.partition import Partition, SourceRecord
from streams.functions import Functions

log = logging.getLogger(__name__)

AT_ONCE = 32
"""Deliveries to one place that are tried at once."""
LINED_UP_MAX = 256
"""Deliveries to one place that are tried or wait in memory. They are in flight like everything else, and a partition
that has too much in flight is paused: so only `AT_ONCE` to a place that fails, which may take long to say so."""
LINED_UP_BYTES_MAX = 2 << 20
"""Bytes of them."""
TOLD_EVERY_MS = 10_000
"""A place is not in the log more often."""


Send: TypeAlias = Callable[[Delivery, Service], Awaitable[Refusal | None]]
"""Gives a delivery to a service; None once the service has it. It raises nothing and takes at most some seconds."""


@dataclass(slots=True)
class _Place:
    """One address, and what is on its way there."""

    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    lined_up: int = 0
    lined_up_bytes: int = 0
    is_failing: bool = False
    """The last try failed, for reasons that may pass."""
    told: str = ""
    """The error that was logged last; empty: it is well."""
    told_at_ms: int = 0

    def has_room(self, size: int) -> bool:
        """Whether another delivery of *size* bytes can be tried soon."""
        most = AT_ONCE if self.is_failing else LINED_UP_MAX
        return not self.lined_up or (self.lined_up < most and self.lined_up_bytes + size <= LINED_UP_BYTES_MAX)

    def enter(self, size: int) -> None:
        self.lined_up += 1
        self.lined_up_bytes += size

    def leave(self, size: int) -> None:
        self.lined_up -= 1
        self.lined_up_bytes -= size


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    """A delivery and the record it came in."""

    partition: Partition
    source: TopicPartition
    record: SourceRecord
    delivery: Delivery


class Deliveries:
    """The deliveries of one worker."""

    def __init__(self, effects: Effects, send: Send, functions: Callable[[], Functions]) -> None:
        """*functions* has the providers with their settings as they are now."""
        self._effects = effects
        self._send = send
        self._functions = functions
        self._places: defaultdict[str, _Place] = defaultdict(_Place)  # as many as functions name

    def take(self, partition: Partition, source: TopicPartition, record: SourceRecord, now_ms: int) -> None:
        """Try *record*, unless it is to wait. Raises InputRejected when it is no delivery."""
        delivery = read_delivery(record)
        item = _Item(partition, source, record, delivery)
        provider = self._functions().providers.get(delivery.provider)
        service = provider.parse_service(delivery.address, delivery.setting) if provider is not None else None
        if provider is None or service is None:
            self._end(item, Refusal(f"This version does not deliver to {delivery.address}.", may_pass=False))
        elif delivery.due_at_ms > now_ms:
            self._put_off(item, delivery)
        else:
            policy = provider.delivery_policy().scaled(self._functions().time_scale)
            self._line_up(item, service, policy, now_ms)

    def _line_up(self, item: _Item, service: Service, policy: DeliveryPolicy, now_ms: int) -> None:
        delivery = item.delivery
        place, size = self._places[delivery.address], len(delivery.body)
        if place.has_room(size):
            place.enter(size)
            task = item.partition.spawn(self._try(item, service, policy, place))
            task.add_done_callback(lambda _: place.leave(size))
        else:
            due_at_ms = policy.busy_until_ms(delivery.waits, now_ms)
            self._put_off(item, replace(delivery, waits=delivery.waits + 1, due_at_ms=due_at_ms))

    async def _try(self, item: _Item, service: Service, policy: DeliveryPolicy, place: _Place) -> None:
        partition, delivery = item.partition, item.delivery
        async with place.slots:
            if partition.owner.has_drained:
                return  # the next owner tries it
            tried_at_ms = delivery.tried_at_ms or partition.owner.now_ms()
            refusal = await self._send(delivery, service)
            place.is_failing = refusal is not None and refusal.may_pass
            self._tell(place, delivery.address, refusal, partition.owner.now_ms())
        if partition.closed:
            return  # another worker owns the partition now, and tries it again
        due_at_ms = None
        if refusal is not None and refusal.may_pass:
            due_at_ms = policy.next_at_ms(delivery.failures, tried_at_ms, partition.owner.now_ms())
        if due_at_ms is None:
            self._end(item, refusal)
        else:
            self._effects.counters[delivery.provider]["delivery_put_off"] += 1
            failures = delivery.failures + 1
            self._put_off(item, replace(delivery, failures=failures, tried_at_ms=tried_at_ms, due_at_ms=due_at_ms))

    def _tell(self, place: _Place, address: str, refusal: Refusal | None, now_ms: int) -> None:
        """Log what is new of *place*, not too often."""
        code = (refusal.code or "an error without a name") if refusal is not None else ""
        if code == place.told or now_ms - place.told_at_ms < TOLD_EVERY_MS:
            return
        place.told, place.told_at_ms = code, now_ms
        if refusal is None:
            log.info("%s takes deliveries again", address)
        elif refusal.may_pass:
            log.warning("%s does not take deliveries now, they are tried again: %s", address, refusal.message)
        else:
            log.warning("%s refuses a delivery, see the dead letters: %s", address, refusal.message)

    def _put_off(self, item: _Item, later: Delivery) -> None:
        """It waits on a retry topic until it is due."""
        self._effects.deliver_later(item.partition, item.record.key, later, self._functions().time_scale)
        item.partition.finish(item.source, item.record.offset)

    def _end(self, item: _Item, refusal: Refusal | None) -> None:
        """The service has it, or never will."""
        if refusal is None:
            self._effects.delivered(item.partition, item.delivery)
        else:
            self._effects.undelivered(item.partition, item.record, item.delivery, refusal)
        item.partition.finish(item.source, item.record.offset)
