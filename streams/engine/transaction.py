"""One transactional producer, one transaction at a time: Produce and TxnOffsetCommit in parallel, then EndTxn.

Two round trips make a transaction (KIP-890). These exceptions end one, and each is certain:

- `GroupMoved`: the group generation is over; the broker has aborted the transaction, nothing of it will be visible.
- `Aborted`: it failed for another reason and has been aborted; `Refused`: because of some partitions.
- `Fenced`: another process holds our transactional id; this process must exit.

Any other exception means that the outcome is unknown, and that the process must exit rather than go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from struct import Struct
from typing import Any, NamedTuple, TypeAlias

from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams.cluster import answered
from streams.engine import wire
from streams.engine.crashpoints import reach, reach_next
from streams.engine.skipped import COMMITTED, OFFSETS, Described, finish_skipped
from streams.errors import BrokerError

log = logging.getLogger(__name__)

Headers: TypeAlias = list[tuple[str, bytes | None]]


Output: TypeAlias = tuple[bytes | None, bytes | None, Headers]
"""A record to be written: key, value (None deletes the key from a compacted topic), headers. (A plain tuple: hot path.)
"""


Refusal: TypeAlias = Callable[[str, bool], None]
"""What is to be done when a topic does not take a record: why, and whether the same goes for any record."""


class Foreign(tuple[bytes | None, bytes | None, Headers]):
    """An `Output` for a topic that is not ours, which may refuse it."""

    refused: Refusal


class Position(NamedTuple):
    """A committed offset. *metadata* names the process that committed it."""

    offset: int
    metadata: str


class Member(NamedTuple):
    """Who we are in the consumer group; the broker refuses offsets of an older generation."""

    generation: int
    member_id: str
    instance_id: str | None


class GroupMoved(Exception):
    """The group generation is over; the transaction has been aborted (certain)."""


class Aborted(Exception):
    """The transaction failed and has been aborted (certain)."""


class Refused(Aborted):
    """These partitions do not take what was written to them, and will not when it is repeated."""

    def __init__(self, reasons: Mapping[TopicPartition, str], is_for_all: bool) -> None:
        """*is_for_all*: no other record fares better."""
        super().__init__("; ".join(sorted({f"Produce to {target.topic}: {why}" for target, why in reasons.items()})))
        self.reasons = reasons
        self.is_for_all = is_for_all


class Fenced(Exception):
    """Another process took our transactional id; this process must exit."""


Outputs: TypeAlias = Mapping[TopicPartition, list[Output]]
Waiting: TypeAlias = Callable[[float], Awaitable[None]]
"""Called with the seconds waited so far, while another worker's open transaction is in the way."""

REFUSALS = {
    10: "the record is too large for it (max.message.bytes)",
    17: "nobody may write to this topic",
    18: "the record is too large for its segments (segment.bytes)",
    29: "we may not write to this topic (its ACLs lack Write)",
    32: "the record's time is out of its bounds (message.timestamp.*.max.ms)",
    44: "a policy of the cluster refuses the record",
    87: "the broker finds the record invalid",
}
"""Answers to Produce that stay the same however often it is repeated, in an operator's words."""
_TOO_LARGE = (10, 18)
_FOR_ALL = (17, 29)

REQUEST_BYTES_MAX = 8 << 20
"""Produce requests are split there; a broker takes 100 MB at once (socket.request.max.bytes)."""
_BATCH_BYTES = 900_000
_RECORD_COUNT, _RECORD_COUNT_AT = Struct(">i"), 57
"""Where a batch says how many records are in it."""
_PAUSE_S = 0.001
"""First wait after a code that says "not yet": transactions answer so for a few milliseconds."""
_ANSWER_LIMIT_S = 300.0
"""A broker that is away is waited for so long; then the process exits, and its supervisor goes on waiting."""
_PRODUCE_LIMIT_S = 30.0
_GONE_AFTER_S = 5.0
"""A topic that the cluster does not know for so long is gone."""
_NO_LEADER = -1
_TRANSIENT = (
    kafka_errors.KafkaConnectionError,
    kafka_errors.NodeNotReadyError,
    kafka_errors.RequestTimedOutError,
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.CoordinatorLoadInProgressError,
    kafka_errors.StaleMetadata,
)


class TransactionalProducer:
    """Writes transactions under one transactional id. No background tasks of its own besides the client's metadata."""

    def __init__(self, kafka: Mapping[str, Any], transactional_id: str, group: str, timeout_ms: int = 10_000) -> None:
        self.transactional_id = transactional_id
        self.group = group
        self.timeout_ms = timeout_ms
        self.retries: dict[int, int] = defaultdict(int)
        """How often a request was repeated, by Kafka error code."""
        self.is_troubled = True
        """Something went wrong between the cluster and us, or we are new: there may be transactions to finish."""
        self._kafka = dict(kafka)
        self._client: Any = None
        self._coordinators: dict[tuple[CoordinationType, str], int] = {}
        self._producer_id = -1
        self._epoch = -1
        self._batch_bytes: dict[str, int] = {}
        """Largest batch of a topic that does not take `_BATCH_BYTES`."""

    async def start(self, topics: Iterable[str]) -> None:
        """Connect, fence every earlier holder of our transactional id and abort its open transaction.

        Raises `BrokerError` when the cluster is older than Kafka 4.0.
        """
        self._client = AIOKafkaClient(
            **self._kafka, client_id=self.transactional_id, request_timeout_ms=15_000, retry_backoff_ms=50
        )
        await self._client.bootstrap()
        await self._require_transactions()
        await self._client.set_topics(list(topics))
        await self._know_the_last_end()
        self._producer_id, self._epoch = await self._init_producer_id(self.transactional_id)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    @property
    def learning(self) -> asyncio.Task[None]:
        """What keeps the metadata up to date while we are connected."""
        task: asyncio.Task[None] = self._client._sync_task
        return task

    async def add_topics(self, topics: Iterable[str]) -> None:
        """Learn of more topics that are written to. Before `start`, which is told of all, there is nothing to do."""
        if self._client is not None:
            for topic in topics:
                await self._client.add_topic(topic)

    def partition_count(self, topic: str) -> int:
        """Partitions of *topic* in the latest metadata; 0 when it is not known, and then it is asked for again."""
        partitions = self._client.cluster.partitions_for_topic(topic)
        if not partitions:
            self._client.add_topic(topic)
            self._client.force_metadata_update()
        return len(partitions or ())

    async def _require_transactions(self) -> None:
        """Refuse a cluster that does not speak transaction version 2."""
        client = self._client
        versions = await answered(client, lambda: client.send(client.get_random_node(), wire.ApiVersions()))
        features = wire.finalized_features(versions)
        if features.get("transaction.version", 0) < 2:
            raise BrokerError(
                "this cluster does not have transaction.version 2: Streams needs Apache Kafka 4.0 or newer "
                "(on an upgraded cluster run: kafka-features.sh upgrade --feature transaction.version=2)"
            )

    # -- coordinators --------------------------------------------------------------------------------------------

    async def _call(
        self, kind: CoordinationType, key: str, request: Any, retry: Collection[int] = ()
    ) -> tuple[Any, int]:
        """Ask the coordinator of *key*; repeat on transport and coordinator errors and on the codes in *retry*."""
        end, pause_s = time.monotonic() + _ANSWER_LIMIT_S, _PAUSE_S
        while True:
            try:
                response = await self._client.send(
                    await self._coordinator(kind, key), request, group=ConnectionGroup.COORDINATION
                )
                code = _error_code(response)
                if code not in wire.COORDINATOR_ERRORS and code not in retry:
                    return response, code
                if code in wire.COORDINATOR_ERRORS:
                    self._coordinators.pop((kind, key), None)
                self.retries[code] += 1
            except kafka_errors.KafkaError as error:
                if not isinstance(error, _TRANSIENT) and not error.retriable:
                    raise
                log.warning("%s repeated: %r", type(request).__name__, error)
                self.is_troubled = True
                self._coordinators.pop((kind, key), None)
                pause_s = max(pause_s, 0.1)
                self._client.force_metadata_update()
            if time.monotonic() > end:
                raise TimeoutError(f"no answer to {type(request).__name__} for {_ANSWER_LIMIT_S:.0f} s")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.5)

    async def _coordinator(self, kind: CoordinationType, key: str) -> int:
        node = self._coordinators.get((kind, key))
        if node is None:
            node = self._coordinators[kind, key] = await self._client.coordinator_lookup(kind, key)
        return node

    async def _init_producer_id(self, transactional_id: str) -> tuple[int, int]:
        """Fence every holder of *transactional_id* and abort its open transaction."""
        request = wire.InitProducerId(transactional_id, self.timeout_ms, -1, -1)
        response, code = await self._call(
            CoordinationType.TRANSACTION, transactional_id, request, retry=(wire.CONCURRENT_TRANSACTIONS,)
        )
        if code:
            raise kafka_errors.for_code(code)(transactional_id)
        return response.producer_id, response.producer_epoch

    async def _know_the_last_end(self) -> None:
        """Finish the latest transaction of our transactional id if it has ended; from the next epoch on nobody knows
        any more how it did.
        """
        while True:
            described = await self._described(self.transactional_id)
            if described.state not in ("PrepareCommit", "PrepareAbort"):
                break
            await asyncio.sleep(0.05)
        if described.state in COMMITTED:
            await self.finish_skipped(self.transactional_id)

    async def _described(self, transactional_id: str) -> Described:
        request = wire.DescribeTransactions([transactional_id])
        response, _ = await self._call(CoordinationType.TRANSACTION, transactional_id, request)
        [[_, _, state, _, _, producer_id, epoch, *_]] = response.states
        return Described(state, producer_id, epoch)

    async def finish_skipped(self, prefix: str) -> None:
        """Finish transactions of ids in *prefix* that the cluster has ended and left open (`skipped`)."""
        self.is_troubled = False
        await self._client.add_topic(OFFSETS)
        if await finish_skipped(self._client, self._described, prefix, self._client._topics):
            self.is_troubled = True

    async def fence_stuck(self, prefix: str, older_ms: int) -> None:
        """Abort transactions of other workers whose ids begin with *prefix* and that are open for *older_ms*.

        Their owner is dead or stopped; a slow but live one is fenced and exits, having lost nothing visible.
        """
        for broker in self._client.cluster.brokers():
            try:
                response = await self._client.send(broker.nodeId, wire.ListTransactions(["Ongoing"], [], older_ms))
            except kafka_errors.KafkaError as error:
                if not error.retriable:
                    raise
                continue  # it is away: another broker coordinates its transactions soon
            for transactional_id, *_ in response.transactions:
                if transactional_id.startswith(prefix) and transactional_id != self.transactional_id:
                    log.warning("fencing the open transaction of %s", transactional_id)
                    await self._init_producer_id(transactional_id)

    async def stable_offsets(
        self, partitions: Collection[TopicPartition], waiting: Waiting
    ) -> dict[TopicPartition, Position]:
        """Committed offsets (-1: none), once no transaction that would change them is open."""
        by_topic: dict[str, list[int]] = defaultdict(list)
        for topic, partition in partitions:
            by_topic[topic].append(partition)
        request = wire.OffsetFetch(self.group, [(topic, ids, {}) for topic, ids in by_topic.items()], True)
        started = time.monotonic()
        while True:
            response, code = await self._call(CoordinationType.GROUP, self.group, request)
            codes = {code} | {entry[4] for _, entries, _ in response.topics for entry in entries}
            if codes == {0}:
                return {
                    TopicPartition(topic, partition): Position(offset, metadata or "")
                    for topic, entries, _ in response.topics
                    for partition, offset, _, metadata, _, _ in entries
                }
            if codes - {0, wire.UNSTABLE_OFFSET_COMMIT, *wire.COORDINATOR_ERRORS}:
                raise kafka_errors.KafkaError(f"OffsetFetch answered {sorted(codes)}")
            self.retries[wire.UNSTABLE_OFFSET_COMMIT] += 1
            await asyncio.sleep(0.01)
            await waiting(time.monotonic() - started)

    # -- the transaction -----------------------------------------------------------------------------------------

    async def commit(self, outputs: Outputs, offsets: Mapping[TopicPartition, Position], member: Member) -> None:
        """Write *outputs* and *offsets* together. Raises `GroupMoved`, `Aborted`, `Fenced`, or something unknown.

        Offsets first: while the last transaction is still being ended, the coordinator answers "not yet" to them at
        once, and to records only after 20 ms (add.partitions.to.txn.retry.backoff.ms). That saves more than sending
        both at the same time would.
        """
        try:
            await self._commit_offsets(offsets, member)
            await self._produce(outputs)
        except (GroupMoved, Aborted):
            await self._end(committed=False)
            raise
        reach("mid-transaction")
        reach_next("before-acknowledgement")
        await self._end(committed=True)

    async def _commit_offsets(self, offsets: Mapping[TopicPartition, Position], member: Member) -> None:
        by_topic: dict[str, list[Any]] = defaultdict(list)
        for (topic, partition), (offset, metadata) in offsets.items():
            by_topic[topic].append((partition, offset, -1, metadata, {}))
        topics: list[Any] = [(topic, entries, {}) for topic, entries in by_topic.items()]
        request = wire.TxnOffsetCommit(
            self.transactional_id, self.group, self._producer_id, self._epoch, *member, topics
        )
        retry = (wire.CONCURRENT_TRANSACTIONS, wire.UNKNOWN_TOPIC_OR_PARTITION, wire.REQUEST_TIMED_OUT)
        _, code = await self._call(CoordinationType.GROUP, self.group, request, retry)
        if code in wire.FENCED:
            raise Fenced(f"TxnOffsetCommit: {wire.FENCED[code]}")
        if code in wire.GROUP_MOVED:
            raise GroupMoved(wire.GROUP_MOVED[code])
        if code:
            raise Aborted(f"TxnOffsetCommit: {_name(code)}")

    async def _produce(self, outputs: Outputs) -> None:
        for batches in self._build(outputs):
            await self._produce_round(batches)

    def _build(self, outputs: Outputs) -> Iterator[dict[TopicPartition, bytes]]:
        """Rounds of one record batch per partition; one round unless a partition has more than a batch holds."""
        timestamp_ms = int(time.time() * 1000)
        done = {partition: 0 for partition, records in outputs.items() if records}
        while done:
            batches: dict[TopicPartition, bytes] = {}
            for partition, first in list(done.items()):
                size = self._batch_bytes.get(partition.topic, _BATCH_BYTES)
                builder = DefaultRecordBatchBuilder(2, 0, 1, self._producer_id, self._epoch, first, size)
                count = 0  # a builder takes its first record whatever its size
                for key, value, headers in islice(outputs[partition], first, None):
                    if builder.append(count, timestamp_ms, key, value, headers) is None:
                        break
                    count += 1
                batches[partition] = bytes(builder.build())
                done[partition] += count
                if done[partition] == len(outputs[partition]):
                    del done[partition]
            yield batches

    async def _produce_round(self, batches: dict[TopicPartition, bytes]) -> None:
        """Send until every batch is acknowledged by all replicas."""
        started, pause_s = time.monotonic(), _PAUSE_S
        while True:
            stale = await self._send_batches(batches)
            if not batches:
                return
            self._give_up(batches, time.monotonic() - started)
            if stale:
                pause_s = max(pause_s, 0.05)
                await self._client.force_metadata_update()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 0.2)

    def _give_up(self, batches: Collection[TopicPartition], waited_s: float) -> None:
        """Raise when *batches* have not been acknowledged for too long."""
        leaders = {self._client.cluster.leader_for_partition(partition) for partition in batches}
        if leaders == {None} and waited_s > _GONE_AFTER_S:
            raise Refused(dict.fromkeys(batches, "the topic is gone"), is_for_all=True)
        if waited_s > _PRODUCE_LIMIT_S:
            if leaders <= {None, _NO_LEADER}:
                raise Refused(dict.fromkeys(batches, "it has no leader"), is_for_all=True)
            raise Aborted(f"Produce: no acknowledgement for {_PRODUCE_LIMIT_S:.0f} s")

    async def _send_batches(self, batches: dict[TopicPartition, bytes]) -> bool:
        """One attempt for all *batches*; acknowledged ones are removed. Returns whether metadata looks stale."""
        by_node: dict[int, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
        stale = False
        for partition, data in batches.items():
            leader = self._client.cluster.leader_for_partition(partition)
            if leader in (None, _NO_LEADER):
                self._client.add_topic(partition.topic)
                stale = True
            else:
                by_node[leader][partition.topic].append((partition.partition, data, {}))
        answers = await asyncio.gather(
            *(
                self._client.send(node, wire.Produce(self.transactional_id, -1, 15_000, topics))
                for node, by_topic in by_node.items()
                for topics in _split(by_topic)
            ),
            return_exceptions=True,
        )
        for answer in answers:
            if isinstance(answer, kafka_errors.KafkaError):
                log.warning("Produce repeated: %r", answer)
                stale = self.is_troubled = True
            elif isinstance(answer, BaseException):
                raise answer
            else:
                stale |= self._settle(answer, batches)
        return stale

    def _settle(self, response: Any, batches: dict[TopicPartition, bytes]) -> bool:
        """Remove what was acknowledged. Returns whether metadata looks stale; raises when the transaction is lost."""
        stale = False
        refused: dict[TopicPartition, int] = {}
        for topic, entries, _ in response.responses:
            for index, code, *_ in entries:
                if code in (0, wire.DUPLICATE_SEQUENCE):  # duplicate of a request whose answer was lost
                    batches.pop(TopicPartition(topic, index), None)
                elif code in _TOO_LARGE and self._smaller(topic, batches[TopicPartition(topic, index)]):
                    raise Aborted(f"Produce to {topic}-{index}: {_name(code)}, smaller batches are next")
                elif code in REFUSALS:
                    refused[TopicPartition(topic, index)] = code
                elif code in wire.FENCED:
                    raise Fenced(f"Produce: {wire.FENCED[code]}")
                elif code == wire.CONCURRENT_TRANSACTIONS or kafka_errors.for_code(code).retriable:
                    self.retries[code] += 1
                    stale |= code in (wire.UNKNOWN_TOPIC_OR_PARTITION, wire.LEADER_NOT_AVAILABLE, wire.NOT_LEADER)
                elif code in wire.NOT_ENOUGH_REPLICAS:
                    self.retries[code] += 1
                else:
                    raise Aborted(f"Produce to {topic}-{index}: {_name(code)}")
        if refused:
            reasons = {target: REFUSALS[code] for target, code in refused.items()}
            raise Refused(reasons, all(code in _FOR_ALL for code in refused.values()))
        return stale

    def _smaller(self, topic: str, batch: bytes) -> bool:
        """Send smaller batches to *topic* from now on, if that can help: *batch* has more than one record."""
        [count] = _RECORD_COUNT.unpack_from(batch, _RECORD_COUNT_AT)
        if count > 1:
            self._batch_bytes[topic] = len(batch) // 2
            log.info("%s takes no batch of %d bytes: half of it from now on", topic, len(batch))
        return bool(count > 1)

    async def _end(self, committed: bool) -> None:
        """Repeated until the answer is certain: the coordinator recognises a repeated EndTxn by its epoch."""
        request = wire.EndTxn(self.transactional_id, self._producer_id, self._epoch, committed)
        response, code = await self._call(
            CoordinationType.TRANSACTION, self.transactional_id, request, retry=(wire.CONCURRENT_TRANSACTIONS,)
        )
        if code in wire.FENCED:
            raise Fenced(f"EndTxn: {wire.FENCED[code]}")
        if code == wire.INVALID_TXN_STATE and not committed:  # nothing had been added, there is nothing to abort
            return
        if code:
            raise kafka_errors.for_code(code)(f"EndTxn answered {code}")
        self._producer_id, self._epoch = response.producer_id, response.producer_epoch


def _error_code(response: Any) -> int:
    """The response's own error code, else that of the only transaction, or the first one of its partitions."""
    if hasattr(response, "error_code"):
        return int(response.error_code)
    if hasattr(response, "states"):
        return int(response.states[0][0])
    return next((code for _, entries, _ in response.topics for _, code, _ in entries if code), 0)


def _name(code: int) -> str:
    return f"{kafka_errors.for_code(code).__name__} ({code})"


def _split(by_topic: Mapping[str, list[Any]]) -> list[list[Any]]:
    """The topics arrays of Produce requests of at most about `REQUEST_BYTES_MAX` each."""
    requests: list[list[Any]] = [[]]
    size = 0
    for topic, entries in by_topic.items():
        for entry in entries:
            if size and size + len(entry[1]) > REQUEST_BYTES_MAX:
                requests.append([])
                size = 0
            size += len(entry[1])
            if not requests[-1] or requests[-1][-1][0] != topic:
                requests[-1].append((topic, [], {}))
            requests[-1][-1][1].append(entry)
    return requests
