"""What is fetched is what aiokafka would fetch, told to brokers in sessions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.cluster import ClusterMetadata
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11
from aiokafka.structs import PartitionMetadata

from streams.engine.fetch_sessions import Fetch, FetchSessions

LIMIT = 1 << 20
TIER_LIMIT = 1 << 10
TOPICS = ("a", "b", "tier")


class Buffered:
    """Records that nobody has taken yet."""

    def __init__(self, backoff: float) -> None:
        self.backoff = backoff

    def calculate_backoff(self) -> float:
        return self.backoff


class Bench:
    """A consumer that has a fetcher of aiokafka's, and brokers that answer what they are told to."""

    def __init__(self, partitions: int = 2, brokers: int = 1) -> None:
        self.tps = [TopicPartition(topic, number) for topic in TOPICS for number in range(partitions)]
        self.cluster = ClusterMetadata(bootstrap_servers=["127.0.0.1:1"])
        self.lead(lambda tp: 1 + tp.partition % brokers)
        self.assignment = Assignment(self.tps)
        for tp in self.tps:
            self.assignment.state_value(tp).seek(0)
        self.sent: list[Any] = []
        self.answers: list[Any] = []
        fetcher: Any = object.__new__(Fetcher)
        self.fetcher = fetcher
        fetcher._records, fetcher._in_flight, fetcher._preferred_read_replica = {}, set(), {}
        fetcher._client_rack, fetcher._fetcher_timeout, fetcher._max_partition_fetch_bytes = None, 0.2, LIMIT
        fetcher._fetch_max_wait_ms, fetcher._fetch_min_bytes, fetcher._fetch_max_bytes = 100, 1, 50 << 20
        fetcher._isolation_level = 1
        self.client = fetcher._client = SimpleNamespace(cluster=self.cluster, send=self.receive)
        self.usual = fetcher._get_actions_per_node
        FetchSessions(SimpleNamespace(_fetcher=fetcher, _client=self.client), {"tier": TIER_LIMIT})

    def lead(self, leader: Callable[[TopicPartition], int]) -> None:
        partitions: dict[str, dict[int, PartitionMetadata]] = {}
        for tp in self.tps:
            metadata = PartitionMetadata(tp.topic, tp.partition, leader(tp), [1], [1], None)
            partitions.setdefault(tp.topic, {})[tp.partition] = metadata
        self.cluster._partitions = partitions

    async def receive(self, node: int, request: Any, *, group: Any = None) -> Any:
        self.sent.append(request)
        answer = self.answers.pop(0) if self.answers else answered()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def state(self, topic: str, number: int = 0) -> Any:
        return self.assignment.state_value(TopicPartition(topic, number))

    async def fetch(self) -> dict[str, Any]:
        """Fetch from the one broker; what its request says."""
        [(node, fetch)] = self.fetcher._get_actions_per_node(self.assignment)[0]
        await self.client.send(node, fetch)
        return told(self.sent[-1])


def answered(*topics: Any, session: int = 7, error: int = 0) -> Any:
    return SimpleNamespace(error_code=error, session_id=session, topics=list(topics))


def told(request: Any) -> dict[str, Any]:
    """What a request says, read back from its bytes."""
    read = FetchRequest_v11.decode(request.build(FetchRequest_v11).encode())
    return {
        "session": (read.session_id, read.session_epoch),
        "wants": {(topic, p[0]): (p[2], p[4]) for topic, partitions in read.topics for p in partitions},
        "forgets": {(topic, number) for topic, numbers in read.forgotten_topics_data for number in numbers},
        "wait": (read.max_wait_time, read.min_bytes, read.max_bytes, read.isolation_level),
    }


async def test_the_first_fetch_names_all_and_later_ones_what_has_changed():
    bench = Bench()
    first = await bench.fetch()
    bench.state("a").consumed_to(5)
    second, third = await bench.fetch(), await bench.fetch()

    limits = {"a": LIMIT, "b": LIMIT, "tier": TIER_LIMIT}
    assert first == {
        "session": (0, 0),
        "wants": {(topic, number): (0, limits[topic]) for topic in TOPICS for number in range(2)},
        "forgets": set(),
        "wait": (100, 1, 50 << 20, 1),
    }
    assert (second["session"], second["wants"], second["forgets"]) == ((7, 1), {("a", 0): (5, LIMIT)}, set())
    assert (third["session"], third["wants"], third["forgets"]) == ((7, 2), {}, set())


async def test_what_is_paused_is_forgotten_and_named_again_when_it_goes_on():
    bench = Bench()
    await bench.fetch()
    bench.state("b", 1).pause()
    paused = await bench.fetch()
    bench.state("b", 1).resume()
    resumed = await bench.fetch()

    assert (paused["wants"], paused["forgets"]) == ({}, {("b", 1)})
    assert (resumed["wants"], resumed["forgets"]) == ({("b", 1): (0, LIMIT)}, set())


@pytest.mark.parametrize("failure", [answered(error=70), RuntimeError(), asyncio.CancelledError()])
async def test_after_a_failure_everything_is_named_again(failure: Any):
    bench = Bench()
    await bench.fetch()
    bench.answers = [failure]
    with pytest.raises(type(failure)) if isinstance(failure, BaseException) else contextlib.nullcontext():
        await bench.fetch()

    again = await bench.fetch()
    assert again["session"][1] == 0
    assert len(again["wants"]) == len(bench.tps)


async def test_a_broker_without_sessions_is_told_everything_each_time():
    bench = Bench()
    bench.answers = [answered(session=0), answered(session=0)]
    assert (await bench.fetch())["wants"] == (await bench.fetch())["wants"]


async def test_the_fetcher_finds_the_offsets_of_what_is_in_an_answer():
    bench = Bench()
    bench.state("a", 1).consumed_to(9)
    bench.answers = [answered(("a", [(1, 0, 12, 12, 0, [], -1, b"")]))]
    [(node, fetch)] = bench.fetcher._get_actions_per_node(bench.assignment)[0]
    await bench.client.send(node, fetch)

    assert fetch.topics == [("a", [(1, 9, 0)])]


async def test_a_request_of_aiokafkas_own_goes_in_the_session_too():
    bench = Bench()
    await bench.fetch()
    own = FetchRequest(100, 1, 50 << 20, 1, [("a", [(0, 3, LIMIT)])])
    await bench.client.send(1, own)

    assert told(bench.sent[-1])["wants"] == {("a", 0): (3, LIMIT)}
    assert len(told(bench.sent[-1])["forgets"]) == len(bench.tps) - 1


async def test_other_requests_pass():
    bench = Bench()
    other = object()
    await bench.client.send(1, other)

    assert bench.sent == [other]


def strange(bench: Bench, random: Random) -> None:
    """Put *bench* into any state: paused, buffered, without position, in flight, without leader."""
    for tp in bench.tps:
        state = bench.assignment.state_value(tp)
        state.resume()
        state.seek(random.randrange(3))
        if random.random() < 0.2:
            state.pause()
        if random.random() < 0.03:
            state.await_reset(1)
    fetcher = bench.fetcher
    fetcher._records = {tp: Buffered(random.choice((0.0, 0.1, 0.3))) for tp in bench.tps if random.random() < 0.1}
    if random.random() < 0.1:
        fetcher._records[TopicPartition("gone", 0)] = Buffered(0.3)
    fetcher._in_flight = {node for node in (1, 2, 3) if random.random() < 0.2}
    if random.random() < 0.3:
        bench.lead(lambda tp: random.choice((1, 2, 3, 3, -1) if random.random() < 0.1 else (1, 2, 3)))


def compared(actions: Any) -> Any:
    fetches, resets, timeout, no_leader, resumptions = actions
    wanted = {}
    for node, request in fetches:
        if isinstance(request, Fetch):
            wanted[node] = request.wanted
        else:
            wanted[node] = {TopicPartition(topic, p[0]): p[1] for topic, ps in request.topics for p in ps}
    return wanted, {node: set(tps) for node, tps in resets.items()}, timeout, no_leader, set(resumptions)


async def test_what_is_fetched_is_what_aiokafka_would_fetch():
    random, bench = Random(1), Bench(partitions=3, brokers=3)
    ours = 0
    for _ in range(2_000):
        strange(bench, random)
        actions = bench.fetcher._get_actions_per_node(bench.assignment)
        assert compared(actions) == compared(bench.usual(bench.assignment))
        ours += any(isinstance(request, Fetch) for _, request in actions[0])
    assert ours > 500


async def test_another_assignment_is_another_plan():
    bench = Bench()
    bench.fetcher._get_actions_per_node(bench.assignment)
    bench.assignment = Assignment(bench.tps[:1])
    bench.assignment.state_value(bench.tps[0]).seek(4)

    [(_, fetch)] = bench.fetcher._get_actions_per_node(bench.assignment)[0]
    assert fetch.wanted == {bench.tps[0]: 4}
