"""Puts invocations on Kafka. An invocation is accepted when every in-sync replica has it (acks=all), and not before."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from zlib import crc32

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from streams.cluster import RECORD_BYTES_MAX
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
    """An idempotent producer for `invocations`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.topics.invocations
        self._producer: AIOKafkaProducer | None = None
        self._partitions = 0
        self._waiting = 0
        self._closing = False

    async def start(self) -> None:
        """Connect. Raises `KafkaError`."""
        self._producer = await self._new_producer()
        self._partitions = len(await self._producer.partitions_for(self._topic))

    async def stop(self) -> None:
        """Accept nothing more; what is waiting is sent, as far as the broker takes it in time."""
        self._closing = True
        if self._producer is not None:
            with contextlib.suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(self._producer.stop(), ACCEPT_TIMEOUT_S)

    def partition_of(self, request_id: str) -> int:
        """The partition number that `accept` writes *request_id* to: the same id always to the same one."""
        return crc32(request_id.encode()) % self._partitions

    async def accept(self, request_id: str, event: bytes, headers: Sequence[tuple[str, bytes]]) -> tuple[int, int]:
        """Partition and offset of the invocation, when the broker has it for good.

        Raises `Unavailable`, `Overloaded` or `TooLarge`.
        """
        if self._closing or self._producer is None:
            raise Unavailable
        if self._waiting >= WAITING_MAX:
            raise Overloaded
        key = request_id.encode()
        self._waiting += 1
        try:
            async with asyncio.timeout(ACCEPT_TIMEOUT_S):
                sent = await self._producer.send(
                    self._topic, event, key, partition=crc32(key) % self._partitions, headers=headers
                )
                at = await sent
                return at.partition, at.offset
        except MessageSizeTooLargeError as error:
            raise TooLarge from error
        except TimeoutError as error:
            raise Unavailable from error
        except KafkaError as error:
            log.error("an invocation was not accepted: %r", error)
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
