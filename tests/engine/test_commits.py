"""What a commit does when there is nothing to write, and when something cannot be written."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import TopicPartition

from streams.core.model import KafkaDestination
from streams.engine.commits import Committer
from streams.engine.effects import SHUT_MS
from streams.engine.engine import Engine
from streams.engine.transaction import Member, Outputs, Position, Refused
from streams.settings import Settings

from .support import TOPICS, Bench, function
from .test_processor import succeed

DONE = TopicPartition("done", 0)


class Transactions:
    """Counts them."""

    count = 0

    async def commit(self, outputs: Outputs, offsets: Mapping[TopicPartition, Position], member: Member) -> None:
        self.count += 1


async def test_what_has_finished_without_a_trace_makes_room_although_no_offset_moves() -> None:
    bench, transactions = Bench(succeed), Transactions()
    any_transactions: Any = transactions
    committer = Committer(any_transactions, "token", 0.0, bench.owner.die)
    bench.partition.mark = None
    bench.partition.stable = {source: Position(0, "token") for source in bench.partition.sources}
    assert not bench.partition.positions("token", at_least_one=False)
    bench.cancel("id-0", offset=8)  # waits, and its offset with it
    for _ in range(3):  # each takes the place of the one before
        bench.cancel("id-1", offset=7)
    committer.changed(bench.partition)
    before = bench.partition.uncommitted_count

    await committer._commit(Member(1, "me", None))

    assert (before, bench.partition.uncommitted_count) == (2, 0)
    assert transactions.count == 0


async def test_a_worker_without_work_commits_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else Kafka forgets who it is after a week (transactional.id.expiration.ms)."""
    monkeypatch.setattr("streams.engine.engine.KNOWN_FOR_S", 0.0)
    committed: asyncio.Queue[Mapping[TopicPartition, Position]] = asyncio.Queue()

    class Quiet(Transactions):
        async def commit(self, outputs: Outputs, offsets: Mapping[TopicPartition, Position], member: Member) -> None:
            committed.put_nowait(offsets)

    engine = Engine(Settings(), token="token")
    engine.committer.transactions = Quiet()
    engine.committer.member = Member(1, "me", None)
    engine.partitions[0] = partition = Bench(succeed).partition
    partition.stable = {source: Position(0, "token") for source in partition.sources}
    engine.background(engine.committer.run())
    engine.background(engine._stay_known())

    for _ in range(2):
        offsets = await asyncio.wait_for(committed.get(), 10)
        assert offsets == {source: Position(0, "token") for source in partition.sources}
    for task in engine._background:
        task.cancel()


class Refuses:
    """Takes nothing for `DONE`."""

    def __init__(self, *, is_for_all: bool) -> None:
        self.is_for_all = is_for_all
        self.seen: list[set[str]] = []

    async def commit(self, outputs: Outputs, offsets: Mapping[TopicPartition, Position], member: Member) -> None:
        self.seen.append({target.topic for target in outputs})
        if DONE in outputs:
            raise Refused({DONE: "no"}, self.is_for_all)


@pytest.mark.parametrize("is_for_all", [False, True])
async def test_what_a_topic_of_others_refuses_is_a_dead_letter_and_the_rest_is_written(is_for_all: bool) -> None:
    bench = Bench(succeed, function(on_success=KafkaDestination(DONE.topic)))
    refuses = Refuses(is_for_all=is_for_all)
    any_transactions: Any = refuses
    committer = Committer(any_transactions, "token", 0.0, bench.owner.die)

    async def commit() -> None:
        committer.changed(bench.partition)
        await committer._commit(Member(1, "me", None))

    for source in bench.partition.sources:
        bench.partition.stable[source] = Position(0, "token")
    bench.produce(b"1", b"2", function="f")
    await bench.settled()
    await commit()  # refused
    letters = bench.records(TOPICS.dlq)
    assert [letter["value"] for letter in letters] == [b"1", b"2"]
    assert {letter["reason"] for letter in letters} == {"DestinationDeliveryFailed"}
    await commit()
    assert refuses.seen[1] == refuses.seen[0] - {DONE.topic} | {TOPICS.dlq}
    assert bench.partition.uncommitted_bytes == 0

    bench.produce(b"3", function="f")
    await bench.settled()
    assert bool(bench.written(DONE.topic)) == (not is_for_all), "what nobody may write is not tried for a while"
    assert bool(bench.written(TOPICS.dlq)) == is_for_all
    bench.owner.time_ms += SHUT_MS
    bench.produce(b"4", function="f")
    await bench.settled()
    assert bench.written(DONE.topic)


async def test_what_our_own_topics_refuse_is_kept() -> None:
    bench = Bench(succeed)
    bench.partition.stable = {source: Position(0, "token") for source in bench.partition.sources}
    bench.produce(b"1", function="f")
    await bench.settled()
    records = TopicPartition(TOPICS.name("aws.success"), 0)

    class RefusesOurs:
        async def commit(self, outputs: Outputs, offsets: Mapping[TopicPartition, Position], member: Member) -> None:
            raise Refused({records: "no"}, is_for_all=True)

    any_transactions: Any = RefusesOurs()
    committer = Committer(any_transactions, "token", 0.0, bench.owner.die)
    committer.changed(bench.partition)
    await committer._commit(Member(1, "me", None))
    assert len(bench.written(records.topic)) == 1
