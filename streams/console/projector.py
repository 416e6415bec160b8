"""Keeps a read model up to date: reads `facts` and the records' places from Kafka, read committed, into the store.

There is no consumer group: how far it has read is in the database. Several projectors on one database do no harm, one
of them is ahead and the others stand by (`store`). A broker or a database that is away is waited for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from streams.cluster import Cluster
from streams.codec.avro import Codec, load_schemas
from streams.codec.errors import AvroError, SchemaNeeded
from streams.codec.facts import FactsRecord, read_facts
from streams.codec.registry import Registry
from streams.console.projection import Located
from streams.console.store import FoundRecord, Move, Overtaken, ReadModel, RecordPlace
from streams.errors import BrokerError, ReadModelError
from streams.settings import Settings

log = logging.getLogger(__name__)

BATCH_RECORDS_MAX = 5_000
"""Records written in one transaction: enough to spread its cost, few enough to show progress."""

_POLL_MS = 200
_STAND_BY_S = 1.0
"""How long to let another projector go ahead before looking whether it still does."""
_WAIT_S = 1.0
_WAIT_MAX_S = 10.0
_PRUNE_S = 600.0
_ASK_S = 10.0
_REPORT_S = 10.0

Record: TypeAlias = ConsumerRecord[bytes | None, bytes | None]


class Projector:
    """Fills *store*, and forgets what is older than the retention."""

    def __init__(self, settings: Settings, store: ReadModel) -> None:
        self._settings = settings
        self._store = store
        self._decoder = _Decoder(settings)
        self._consumer: Any = None
        self._known: dict[TopicPartition, int] = {}  # where the database is, by partition
        self._pruned_at = self._asked_at = self._reported_at = float("-inf")
        self._behind: int | None = None
        self._wait_s = _WAIT_S
        self._complaint = ""
        self._cluster_id = ""

    @property
    def lag(self) -> int | None:
        """How many offsets the read model is behind Kafka, transaction markers included; None: not known yet."""
        return self._behind

    async def run(self) -> None:
        """Project until cancelled. Raises ConfigurationError for a read model of another version."""
        try:
            while True:
                try:
                    await self._project()
                except (KafkaError, BrokerError, ReadModelError, OSError) as error:
                    self._complain(str(error) or type(error).__name__)
                await asyncio.sleep(self._wait_s)
                self._wait_s = min(2 * self._wait_s, _WAIT_MAX_S)
        finally:
            await self._decoder.close()

    def _complain(self, complaint: str) -> None:
        """Say why it does not go on, once."""
        self._behind = None
        if complaint != self._complaint:
            self._complaint = complaint
            log.warning("the read model waits, and tries again: %s", complaint)

    async def _project(self) -> None:
        await asyncio.to_thread(self._store.prepare)
        partitions = await self._partitions()
        self._consumer = AIOKafkaConsumer(
            **self._settings.kafka(),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",  # what to do then is decided in `_seek`
        )
        try:
            await self._consumer.start()
            await self._consumer._client.set_topics({partition.topic for partition in partitions})
            self._consumer.assign(partitions)
            await self._seek()
            log.info("the read model %s is %d records behind", self._store.where, self._behind)
            while True:
                await self._step()
        finally:
            await _stop(self._consumer)

    def _claim(self) -> None:
        """See to it that the read model is that of our log. Raises ReadModelError when it is another's."""
        source = f"{self._cluster_id} {self._settings.prefix}"
        if self._store.claim(source) == source:
            return
        if self._settings.read_model is not None:
            raise ReadModelError(
                f"the read model {self._store.where} was made from another cluster, or from topics with another "
                "prefix: name another with STREAMS_READ_MODEL, or make it anew with `streams console --rebuild`"
            )
        log.warning("the read model %s was made from another cluster: it is made anew", self._store.where)
        self._store.rebuild()
        self._store.claim(source)

    async def _partitions(self) -> list[TopicPartition]:
        topics = self._settings.topics
        async with Cluster(self._settings) as cluster:
            self._cluster_id = await cluster.identity()
            existing = await cluster.topics()
        needed = (topics.facts, *topics.records)
        if missing := [name for name in needed if name not in existing]:
            raise BrokerError(f"the cluster has no topic {', '.join(missing)}: run `streams topics create`")
        return [TopicPartition(name, number) for name in needed for number in range(existing[name].partitions)]

    async def _seek(self) -> None:
        """Go to where the database is, or to the beginning of the log if that is later."""
        await asyncio.to_thread(self._claim)
        partitions = list(self._consumer.assignment())
        positions = await asyncio.to_thread(self._store.positions)
        first = await self._consumer.beginning_offsets(partitions)
        end = await self._consumer.end_offsets(partitions)
        self._behind = 0
        for partition in partitions:
            known = self._known[partition] = positions.get((partition.topic, partition.partition), 0)
            if known > end[partition]:
                raise BrokerError(
                    f"{partition.topic}, partition {partition.partition}, ends at {end[partition]}, but the read model "
                    f"{self._store.where} has read up to {known}. If the topic was made anew, or this is another "
                    "cluster: `streams console --rebuild`"
                )
            start = max(known, first[partition])
            self._consumer.seek(partition, start)
            self._behind += end[partition] - start

    async def _step(self) -> None:
        """Read a batch, write it, and look after the rest."""
        batches = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=BATCH_RECORDS_MAX)
        if batches:
            try:
                await self._write(batches)
            except Overtaken:
                log.info("another projector is ahead; this one stands by")
                await asyncio.sleep(_STAND_BY_S)
                await self._seek()
        now = time.monotonic()
        if now - self._pruned_at > _PRUNE_S:
            self._pruned_at = now
            before_ms = int((time.time() - self._settings.read_model_retention_s) * 1000)
            if count := await asyncio.to_thread(self._store.prune, before_ms):
                log.info("forgot %d invocations that are older than the retention", count)
        if now - self._asked_at > _ASK_S:
            self._asked_at = now
            await self._ask()
        await self._report(now)
        self._wait_s, self._complaint = _WAIT_S, ""

    async def _ask(self) -> None:
        """Raise BrokerError if Kafka does not answer any more: a fetch that fails only means no records."""
        try:
            async with asyncio.timeout(_ASK_S):
                await self._consumer.end_offsets([next(iter(self._known))])
        except TimeoutError:
            raise BrokerError(f"Kafka at {self._settings.broker} does not answer") from None

    async def _write(self, batches: dict[TopicPartition, list[Record]]) -> None:
        topic = self._settings.topics.facts
        moves = [
            Move(partition.topic, partition.partition, self._known[partition], records[-1].offset + 1)
            for partition, records in batches.items()
        ]
        facts = await self._decoder.facts(
            record for partition, records in batches.items() if partition.topic == topic for record in records
        )
        places = [
            found
            for partition, records in batches.items()
            if partition.topic != topic
            for record in records
            if (found := _found(record)) is not None
        ]
        await asyncio.to_thread(self._store.write, moves, facts, places)
        for move in moves:
            self._known[TopicPartition(move.topic, move.partition)] = move.end

    async def _report(self, now: float) -> None:
        """Take the lag; say how it goes while there is one, and when there is none any more."""
        behind = 0
        for partition in self._known:
            if (end := self._consumer.last_stable_offset(partition)) is not None:
                behind += max(0, end - await self._consumer.position(partition))
        before, self._behind = self._behind, behind
        if behind and now - self._reported_at > _REPORT_S:
            self._reported_at = now
            log.info("the read model is %d records behind", behind)
        elif before and not behind and self._reported_at > float("-inf"):
            self._reported_at = float("-inf")
            log.info("the read model is up to date")


async def _stop(consumer: Any) -> None:
    """Stop *consumer*, also when Kafka is away."""
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        # A fetcher that is stopped in its pause after a failed fetch raises this in who stops it.
        await consumer._client.close()
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise


def _found(record: Record) -> FoundRecord | None:
    """The record's place; None when its key is no request id, so that we did not write it."""
    try:
        request_id = (record.key or b"").decode()
    except UnicodeDecodeError:
        return None
    if not request_id or "\0" in request_id:
        return None
    return FoundRecord(request_id, RecordPlace(record.topic, record.partition, record.offset), record.timestamp)


class _Decoder:
    """Decodes facts, in a thread, with the schema registry's schemas if there is one."""

    def __init__(self, settings: Settings) -> None:
        self._registry = Registry(settings.schema_registry) if settings.schema_registry else None
        self._codec = Codec(load_schemas(), lookup=self._registry.fetched if self._registry else None)
        self._unknown: set[int] = set()  # ids of schemas that the registry does not have

    async def close(self) -> None:
        if self._registry is not None:
            await self._registry.close()

    async def facts(self, records: Iterable[Record]) -> list[Located]:
        """The facts in *records*. What cannot be read is logged by its place and left out. Raises BrokerError."""
        wanted = list(records)
        while True:
            try:
                return await asyncio.to_thread(self._facts, wanted)
            except SchemaNeeded as needed:
                assert self._registry is not None, "no lookup, no need"
                try:
                    await self._registry.schema(needed.schema_id)
                except AvroError:
                    self._unknown.add(needed.schema_id)

    def _facts(self, records: Sequence[Record]) -> list[Located]:
        found = []
        for record in records:
            try:
                found.append(Located(record.partition, record.offset, self._read(record.value or b"")))
            except SchemaNeeded:
                raise
            except AvroError as error:
                log.error(
                    "facts at %s, partition %d, offset %d are left out, they cannot be read: %s",
                    record.topic,
                    record.partition,
                    record.offset,
                    error,
                )
        return found

    def _read(self, value: bytes) -> FactsRecord:
        try:
            name, datum = self._codec.decode(value)
        except SchemaNeeded as needed:
            if needed.schema_id in self._unknown:
                raise AvroError(f"The schema registry has no schema {needed.schema_id}.") from None
            raise
        if name != "Facts":
            raise AvroError(f"This is an Avro {name}.")
        return read_facts(datum)
