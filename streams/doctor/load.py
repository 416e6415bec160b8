"""Produces what doctor invokes, at a steady rate, and remembers what the broker has acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from streams.cluster import RECORD_BYTES_MAX
from streams.codec.envelope import request_id_of
from streams.doctor.inputs import AGE_MAX_S, TIME_SCALE, Expected, Input, Inputs
from streams.doctor.poison import with_broken_header
from streams.engine import wire
from streams.settings import Settings

TICK_S = 0.01
STOP_S = 15.0


class Sent(NamedTuple):
    """An input that the broker has acknowledged."""

    expected: Expected
    cloud: str | None
    deadline_ms: float | None
    """When it was too old to start. None: it is no invocation."""
    value: bytes | None
    """None, too, for what is an invocation: nobody will ask for it."""


class _Record(NamedTuple):
    """An input where it landed (`codec.envelope.InputRecord`)."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class Load:
    """Produces *inputs* to `invocations`; use it as ``async with``."""

    def __init__(self, settings: Settings, inputs: Inputs, per_second: float) -> None:
        self.acknowledged: dict[str, Sent] = {}
        """By request id."""
        self.count = 0
        """Produced so far, acknowledged or not."""
        self.unacknowledged = 0
        """Given up: whether the broker has them nobody knows, so nothing is promised."""
        self._topic = settings.topics.invocations
        self._inputs = inputs
        self._per_second = per_second
        self._pending: set[asyncio.Future[Any]] = set()
        self._grown = asyncio.Condition()
        self._producer: Any = AIOKafkaProducer(
            **settings.kafka(),
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_request_size=RECORD_BYTES_MAX,
            request_timeout_ms=600_000,  # a broker that is away is waited for
        )

    async def __aenter__(self) -> Self:
        try:
            await self._producer.start()
        except BaseException:
            await self._producer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(TimeoutError):  # the broker may be away
            await asyncio.wait_for(self._producer.stop(), STOP_S if error is None else 1.0)

    async def run(self, goes_on: Callable[[], bool]) -> None:
        """Produce while *goes_on*, and return when the broker has all of it."""
        started = time.monotonic()
        while goes_on():
            due = int((time.monotonic() - started) * self._per_second) - self.count
            for _ in range(due):
                await self._produce(next(self._inputs))
            async with self._grown:
                self._grown.notify_all()
            await asyncio.sleep(TICK_S)
        while self._pending:
            await asyncio.wait(self._pending)

    async def reached(self, count: int) -> None:
        """Wait until *count* are produced."""
        async with self._grown:
            await self._grown.wait_for(lambda: self.count >= count)

    async def _produce(self, item: Input) -> None:
        self.count += 1
        try:
            if item.breaks_header:
                await self._produce_raw(item)
                return
            pending = await self._producer.send(self._topic, item.value, item.key, headers=list(item.headers))
        except KafkaError:
            self.unacknowledged += 1
            return
        self._pending.add(pending)
        pending.add_done_callback(lambda done: self._done(item, done))

    def _done(self, item: Input, pending: asyncio.Future[Any]) -> None:
        self._pending.discard(pending)
        if pending.cancelled():
            return
        if pending.exception() is not None:
            self.unacknowledged += 1
        else:
            at = pending.result()
            self._acknowledge(item, at.partition, at.offset, at.timestamp)

    def _acknowledge(self, item: Input, partition: int, offset: int, timestamp: int) -> None:
        record = _Record(self._topic, partition, offset, timestamp, item.key, item.value, item.headers)
        request_id = item.id if item.id is not None else request_id_of(record)
        if item.expected == "dead letter" or item.cloud is None:
            self.acknowledged[request_id] = Sent(item.expected, None, None, item.value)
        else:
            deadline_ms = timestamp + 1000 * AGE_MAX_S[item.cloud] * TIME_SCALE
            self.acknowledged[request_id] = Sent(item.expected, item.cloud, deadline_ms, None)

    async def _produce_raw(self, item: Input) -> None:
        """Write the batch as it is."""
        client, partition = self._producer.client, 0
        request = wire.Produce(
            None, -1, 15_000, [(self._topic, [(partition, with_broken_header(item, int(time.time() * 1000)), {})], {})]
        )
        node = client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
        [[_, [(_, code, offset, timestamp, *_)], _]] = (await client.send(node, request)).responses
        if code:
            self.unacknowledged += 1
        else:
            self._acknowledge(item, partition, offset, timestamp)
