"""Transactions that the cluster has ended without telling all of their partitions.

To end a transaction, its coordinator writes a marker to every partition in it. Kafka (seen with 4.3.1) leaves out those
that have no leader at that moment, as if they were deleted: after a kill -9 of the only broker that has a replica, that
is the first thing that its coordinator does. The transaction counts as ended, and to readers it is open for ever: what
it wrote stays unseen, offsets unstable, and nobody can take over. An operator would look for it with
``kafka-transactions.sh find-hanging`` and abort it, and with it what was committed.

We can do better: the coordinator still knows how it has ended, and we write the missing markers. That is safe at any
time: a marker says which producer epoch it ends, and a partition refuses one that is not of its latest.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from aiokafka import TopicPartition

from streams.engine import wire

log = logging.getLogger(__name__)

OPEN_MS = 2_000
"""A transaction that wrote something later is taken to be under way."""
OFFSETS = "__consumer_offsets"

COMMITTED = {"CompleteCommit": True, "CompleteAbort": False}
"""By the state of a transaction that has ended."""


class Open(NamedTuple):
    """A transaction as a partition has it."""

    partition: TopicPartition
    producer_id: int
    producer_epoch: int
    coordinator_epoch: int


class Described(NamedTuple):
    """What a coordinator says of a transactional id."""

    state: str
    """Of its latest transaction."""
    producer_id: int
    producer_epoch: int


class Ended(NamedTuple):
    """The latest transaction of a transactional id."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    committed: bool


Describe: TypeAlias = Callable[[str], Awaitable[Described]]


async def finish_skipped(client: Any, describe: Describe, prefix: str, topics: Iterable[str]) -> int:
    """Write the markers that partitions of *topics* (and committed offsets) lack, of transactional ids in *prefix*.

    *describe* asks the coordinator of an id. Returns how many of those partitions have a transaction that has been open
    for a while, whether or not it could be ended. Raises KafkaError.
    """
    named = sorted({*topics, OFFSETS})
    found = await _open(client, named)
    if not found:
        return 0
    ours = await _ours(client, prefix, {each.producer_id for each in found})
    ended = {producer_id: _ended(name, await describe(name)) for producer_id, name in ours.items()}
    still = set(await _open(client, named))  # the markers may just have been on their way
    left = [each for each in found if each in still and each.producer_id in ours]
    for each in left:
        became = ended[each.producer_id]
        if became is not None and _is_of(each, became):
            await _mark(client, each, became)
    return len(left)


def _is_of(one: Open, ended: Ended) -> bool:
    """Whether *ended* is what became of *one*. (Each end bumps the producer's epoch.)"""
    return (ended.producer_id, ended.producer_epoch) == (one.producer_id, one.producer_epoch + 1)


async def _open(client: Any, topics: Sequence[str]) -> list[Open]:
    """Transactions that have been open for a while."""
    before_ms = time.time_ns() // 1_000_000 - OPEN_MS
    found: list[Open] = []
    for node, wanted in _by_leader(client, topics).items():
        response = await client.send(node, wire.DescribeProducers(wanted))
        found += (
            Open(TopicPartition(topic, index), producer_id, epoch, coordinator_epoch)
            for topic, partitions, _ in response.topics
            for index, _, _, producers, _ in partitions
            for producer_id, epoch, _, last_ms, coordinator_epoch, start, _ in producers
            if start >= 0 and last_ms < before_ms
        )
    return found


def _by_leader(client: Any, topics: Sequence[str]) -> dict[int, list[Any]]:
    led: dict[int, list[Any]] = defaultdict(list)
    for topic in topics:
        partitions: dict[int, list[int]] = defaultdict(list)
        for number in sorted(client.cluster.partitions_for_topic(topic) or ()):
            leader = client.cluster.leader_for_partition(TopicPartition(topic, number))
            if leader is not None and leader >= 0:
                partitions[leader].append(number)
        for leader, numbers in partitions.items():
            led[leader].append((topic, numbers, {}))
    return led


async def _ours(client: Any, prefix: str, producer_ids: set[int]) -> dict[int, str]:
    """The transactional ids of those producers whose ids begin with *prefix*."""
    ours: dict[int, str] = {}
    for broker in client.cluster.brokers():
        listed = await client.send(broker.nodeId, wire.ListTransactions([], sorted(producer_ids), -1))
        ours |= {producer_id: name for name, producer_id, *_ in listed.transactions if name.startswith(prefix)}
    return ours


def _ended(transactional_id: str, described: Described) -> Ended | None:
    """How its latest transaction has ended, if it has."""
    if described.state not in COMMITTED:
        return None
    return Ended(transactional_id, described.producer_id, described.producer_epoch, COMMITTED[described.state])


async def _mark(client: Any, one: Open, ended: Ended) -> None:
    topic, number = one.partition
    topics: list[Any] = [(topic, [number], {})]
    marker: tuple[Any, ...] = (
        one.producer_id,
        one.producer_epoch,
        ended.committed,
        topics,
        max(0, one.coordinator_epoch),
        {},
    )
    leader = client.cluster.leader_for_partition(one.partition)
    response = await client.send(leader, wire.WriteTxnMarkers([marker]))
    [[_, [[_, [[_, error, *_]], *_]], *_]] = response.markers
    what = f"the {'commit' if ended.committed else 'abort'} of {ended.transactional_id} to {topic}-{number}"
    if error:
        log.error(
            "Kafka never told %s, and refuses it from us (error %d): see kafka-transactions.sh find-hanging",
            what,
            error,
        )
    else:
        log.warning("Kafka never told %s; now it is", what)
