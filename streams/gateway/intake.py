"""Puts invocations, and commands about them, on Kafka. Either is accepted when every in-sync replica has it (acks=all),
and not before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from zlib import crc32

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError
from aiokafka.protocol.produce import ProduceRequest

from streams.cluster import RECORD_BYTES_MAX
from streams.codec.commands import cancel_headers
from streams.codec.envelope import Invocation
from streams.codec.retry import Origin
from streams.console.store import InvocationStatus
from streams.engine.compiled import quicken
from streams.settings import Settings

log = logging.getLogger(__name__)

ACCEPT_TIMEOUT_S = 10.0
"""An invocation that the broker has not acknowledged by then was not accepted. (It may still arrive, and then runs: the
client does not know, and tries again. Clouds accept at least once, too.)"""
WAITING_MAX = 10_000
"""So many unacknowledged invocations at once; more are refused."""
LINGER_MS = 2
"""Wait for company: thousands of invocations per second share requests to the broker."""


class Unavailable(Exception):
    """The broker did not acknowledge, or we are shutting down."""


class Overloaded(Exception):
    """Too much is waiting for the broker already."""


class TooLarge(Exception):
    """No record of the topic can be so large."""


class Intake:
    """An idempotent producer for `invocations` and `commands`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.topics.invocations
        self._commands = settings.topics.commands
        self._producer: AIOKafkaProducer | None = None
        self._partitions = 0
        self._waiting = 0
        self._closing = False

    async def start(self) -> None:
        """Connect. Raises `KafkaError`."""
        quicken(ProduceRequest)  # there may be a request for every few invocations
        self._producer = await self._new_producer()
        self._partitions = len(await self._producer.partitions_for(self._topic))

    async def stop(self) -> None:
        """Accept nothing more; what is waiting is sent, as far as the broker takes it in time."""
        self._closing = True
        if self._producer is not None:
            with contextlib.suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(self._producer.stop(), ACCEPT_TIMEOUT_S)

    async def accept(
        self, request_id: str, event: bytes, headers: Sequence[tuple[str, bytes | None]]
    ) -> tuple[int, int]:
        """Partition and offset of the invocation, when the broker has it for good. One id always has one partition.

        Raises `Unavailable`, `Overloaded` or `TooLarge`.
        """
        key = request_id.encode()
        return await self._send(self._topic, crc32(key) % self._partitions, key, event, headers)

    async def cancel(self, status: InvocationStatus, event: bytes | None) -> None:
        """Returns when the broker has the command to cancel an invocation, with its *event* if that is known.

        Raises as `accept` does.
        """
        invocation = origin = None
        if status.offset is not None:
            origin = Origin(self._topic, status.partition, status.offset, status.accepted_at_ms, None, ())
        if event is not None:
            invocation = Invocation(
                status.request_id, status.resource, None, event, 0, 0, status.depth, status.traceparent
            )
        headers = cancel_headers(invocation, origin)
        await self._send(self._commands, status.partition, status.request_id.encode(), event, headers)

    async def _send(
        self, topic: str, partition: int, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
    ) -> tuple[int, int]:
        if self._closing or self._producer is None:
            raise Unavailable
        if self._waiting >= WAITING_MAX:
            raise Overloaded
        self._waiting += 1
        try:
            async with asyncio.timeout(ACCEPT_TIMEOUT_S):
                sent = await self._producer.send(topic, value, key, partition=partition, headers=headers)
                at = await sent
                return at.partition, at.offset
        except MessageSizeTooLargeError as error:
            raise TooLarge from error
        except TimeoutError as error:
            raise Unavailable from error
        except KafkaError as error:
            log.error("%s has not taken a record: %r", topic, error)
            if not isinstance(error, KafkaTimeoutError) and not error.retriable:
                await self._renew()
            raise Unavailable from error
        finally:
            self._waiting -= 1

    async def _renew(self) -> None:
        """An idempotent producer that has met a fatal error takes nothing any more: another one takes its place."""
        broken, self._producer = self._producer, None
        if broken is None:
            return  # somebody is at it
        try:
            self._producer = await self._new_producer()
        except KafkaError as error:
            log.error("no new producer: %r", error)
            self._producer = broken
            return
        with contextlib.suppress(KafkaError):
            await broken.stop()

    async def _new_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._settings.kafka(),
            acks="all",
            enable_idempotence=True,
            linger_ms=LINGER_MS,
            max_batch_size=256 * 1024,
            max_request_size=RECORD_BYTES_MAX,
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer
