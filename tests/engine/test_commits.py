"""What a commit does when there is nothing to write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition

from streams.engine.commits import Committer
from streams.engine.transaction import Member, Outputs, Position

from .support import Bench
from .test_processor import succeed


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
