"""Events and records, fetched one by one from where the read model says they are: it keeps no payloads itself.

One fetch request gets one batch of records, so a consumer with its prefetching would only be in the way; requests for
different records run side by side on one connection per broker.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest

from streams.codec.avro import Codec, load_schemas
from streams.codec.envelope import Invocation, read_invocation
from streams.codec.errors import AvroError, InputRejected, SchemaNeeded
from streams.codec.registry import Registry
from streams.codec.retry import Origin
from streams.console.store import InvocationStatus, RecordPlace
from streams.engine.fetched import LenientRecords
from streams.errors import BrokerError
from streams.settings import Settings

_REQUEST_TIMEOUT_MS = 10_000
_TRIES = 3
"""How often a partition's leader is looked for."""
_PAUSE_S = 0.1
_READ_COMMITTED = 1
_ONE_BATCH = 1
"""Bytes asked for: Kafka sends the first batch whole, however large it is, and then no second one."""
_GONE = (kafka_errors.OffsetOutOfRangeError, kafka_errors.UnknownTopicOrPartitionError)


class Payloads:
    """Fetches payloads; use it as ``async with``, and for as many as there are: it holds the connections.

    Every method raises BrokerError when Kafka does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._registry = Registry(settings.schema_registry) if settings.schema_registry else None
        self._codec = Codec(load_schemas(), lookup=self._registry.fetched if self._registry else None)
        self._client: Any = None

    async def __aenter__(self) -> Self:
        topics = self._settings.topics
        self._client = AIOKafkaClient(**self._settings.kafka(), request_timeout_ms=_REQUEST_TIMEOUT_MS)
        try:
            await self._client.bootstrap()
            await self._client.set_topics({topics.invocations, *topics.records})
        except kafka_errors.KafkaError as error:
            await self._client.close()
            raise BrokerError(f"no Kafka broker answers at {self._settings.broker}: {error}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()
        if self._registry is not None:
            await self._registry.close()

    async def event(self, status: InvocationStatus) -> bytes | None:
        """The event of the invocation; None when it is not there any more (retention), or its place is not known."""
        if status.offset is None:
            return None
        record = await self._fetch(self._settings.topics.invocations, status.partition, status.offset)
        if record is None:
            return None
        try:
            invocation = await self._invocation(record)
        except (InputRejected, AvroError):
            return None  # another record has the place: the topic was made anew
        return invocation.event if invocation.request_id == status.request_id else None

    async def record(self, request_id: str, place: RecordPlace) -> tuple[str, dict[str, Any]] | None:
        """The name of the record's schema, and the record (its provider's `document` makes the JSON of it).

        None when it is not there any more, or is about another request.
        """
        record = await self._fetch(place.topic, place.partition, place.offset)
        if record is None or record.key != request_id.encode() or record.value is None:
            return None
        try:
            return self._codec.decode(record.value)
        except SchemaNeeded as needed:
            await self._learn(needed)
            return self._codec.decode(record.value)

    async def _invocation(self, record: Origin) -> Invocation:
        now_ms = int(time.time() * 1000)
        try:
            return read_invocation(record, now_ms, self._codec)
        except SchemaNeeded as needed:
            await self._learn(needed)
            return read_invocation(record, now_ms, self._codec)

    async def _learn(self, needed: SchemaNeeded) -> None:
        assert self._registry is not None, "no lookup, no need"
        await self._registry.schema(needed.schema_id)

    async def _fetch(self, topic: str, partition: int, offset: int) -> Origin | None:
        """The record there; None when there is none (any more)."""
        for _ in range(_TRIES):
            leader = self._client.cluster.leader_for_partition(TopicPartition(topic, partition))
            if leader is not None and leader != -1:
                try:
                    return await self._fetch_from(leader, topic, partition, offset)
                except _GONE:
                    return None
                except kafka_errors.KafkaError as error:
                    if not error.retriable:
                        raise BrokerError(f"{topic} cannot be read: {error}") from error
            await asyncio.sleep(_PAUSE_S)
            await self._client.force_metadata_update()
        raise BrokerError(f"no Kafka broker leads {topic}, partition {partition}; is the cluster in trouble?")

    async def _fetch_from(self, leader: int, topic: str, partition: int, offset: int) -> Origin | None:
        wait_ms, bytes_min = 0, 0  # what is not there now is not waited for
        wanted = [(topic, [(partition, offset, _ONE_BATCH)])]
        request = FetchRequest(wait_ms, bytes_min, _ONE_BATCH, _READ_COMMITTED, wanted, rack_id="")
        response = await self._client.send(leader, request)
        [(_, [(_, error_code, *_, batches)])] = response.topics
        if error_code:
            raise kafka_errors.for_code(error_code)()
        records: Any = LenientRecords(batches or b"")
        while records.has_next():
            for record in records.next_batch():
                if record.offset == offset:
                    key, headers = record.key, tuple(record.headers)
                    return Origin(topic, partition, offset, record.timestamp, key, headers, record.value)
        return None
