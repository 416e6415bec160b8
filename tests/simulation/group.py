"""The consumer group of the simulated cluster: members, generations, committed offsets.

As Kafka's: a rebalance begins when a member joins, leaves or is silent too long. It waits for all members to join
again, not for ever, then the generation is one higher and all get their partitions. Offsets of an older generation, or
of a member that is not one any more, are refused. A static member (with an instance id) that starts again takes its
own place, with a new member id and without a rebalance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from aiokafka import TopicPartition

from streams.engine.transaction import Member, Position

if TYPE_CHECKING:
    from .log import Cluster, Transaction
    from .loop import Process

SESSION_S = 15.0
HEARTBEAT_S = 3.0
REBALANCE_S = 30.0

NONE = Position(-1, "")


class Client(Protocol):
    """A member's process, as far as the group can reach it: through answers to its heartbeats."""

    process: Process

    def must_rejoin(self) -> None:
        """A rebalance is under way."""

    def is_unknown(self, member_id: str) -> None:
        """*member_id* is no member any more."""

    def is_fenced(self) -> None:
        """Another process has its instance id."""


@dataclass(eq=False, slots=True)
class _Member:
    id: str
    instance_id: str | None
    client: Client
    joining: asyncio.Future[Any] | None
    """Set while it waits for the others."""
    numbers: tuple[int, ...] = ()


class Group:
    """One consumer group that reads all source topics; a member owns the same partition numbers of each."""

    def __init__(self, cluster: Cluster, partitions: int) -> None:
        self.generation = 0
        self.members: dict[str, _Member] = {}
        self.offsets: dict[TopicPartition, Position] = {}
        self._pending: dict[TopicPartition, dict[Transaction, Position]] = {}
        self._cluster = cluster
        self._partitions = partitions
        self._rebalancing = False
        self._rebalances = 0
        self._ids = 0
        self._owners: dict[int, str] = {}
        """Names of the processes that had each partition number last."""

    # -- offsets -------------------------------------------------------------------------------------------------

    def refuse(self, member: Member) -> str:
        """Why offsets of *member* are refused; empty when they are not."""
        known = self.members.get(member.member_id)
        if known is None:
            instances = {other.instance_id for other in self.members.values()} - {None}
            return "fenced instance" if member.instance_id in instances else "unknown member"
        return "" if member.generation == self.generation else "illegal generation"

    def commit(self, offsets: Mapping[TopicPartition, Position]) -> None:
        self.offsets.update(offsets)

    def pend(self, transaction: Transaction, offsets: Mapping[TopicPartition, Position]) -> None:
        """Remember *offsets* until *transaction* has ended."""
        for source, position in offsets.items():
            self._pending.setdefault(source, {})[transaction] = position

    def settle(self, transaction: Transaction, committed: bool) -> None:
        """The marker of *transaction* has arrived."""
        for source in transaction.offsets:
            position = self._pending.get(source, {}).pop(transaction, None)
            if committed and position is not None:
                self.offsets[source] = position

    def fetch(self, sources: Sequence[TopicPartition], stable: bool) -> dict[TopicPartition, Position] | None:
        """Committed offsets; None when they are to be *stable* and a transaction that would change them is open."""
        if stable and any(self._pending.get(source) for source in sources):
            return None
        return {source: self.offsets.get(source, NONE) for source in sources}

    def forget_offsets(self) -> None:
        """As Kafka does when the group has had no member for long."""
        if not self.members and not any(self._pending.values()):
            self._cluster.note("group", "forgets its offsets")
            self.offsets.clear()

    # -- members -------------------------------------------------------------------------------------------------

    def join(self, member_id: str, instance_id: str | None, client: Client) -> asyncio.Future[Any]:
        """Ask to be a member, or to stay one. The answer comes when all others have joined: (member id, generation),
        or None when *member_id* is unknown.
        """
        answer: asyncio.Future[Any] = self._cluster.loop.create_future()
        self._cluster.later(self._cluster.delay_s(), self._join, member_id, instance_id, client, answer)
        return answer

    def sync(self, member_id: str, generation: int) -> tuple[int, ...] | None:
        """The partition numbers of a member; None when the group has gone on without it."""
        member = self.members.get(member_id)
        if member is None or generation != self.generation or self._rebalancing:
            return None
        return member.numbers

    def leave(self, member_id: str) -> None:
        if self.members.pop(member_id, None) is not None:
            self.rebalance(f"{member_id} left")
            self._complete_if_all_joined()

    def silent(self, client: Client) -> None:
        """The process of *client* is dead or stopped: it loses its place after a while."""
        self._cluster.later(SESSION_S, self._expire, client)

    def rebalance(self, reason: str) -> None:
        if self._rebalancing:
            return
        self._rebalancing = True
        self._rebalances += 1
        self._cluster.note("group", "rebalance", reason)
        for member in self.members.values():
            if member.joining is None:
                member.client.process.call_later(self._heartbeat_s(), member.client.must_rejoin)
        self._cluster.later(REBALANCE_S, self._give_up, self._rebalances)
        self._complete_if_all_joined()

    def _heartbeat_s(self) -> float:
        return self._cluster.rng.random() * HEARTBEAT_S

    def _join(self, member_id: str, instance_id: str | None, client: Client, answer: asyncio.Future[Any]) -> None:
        known = self.members.get(member_id)
        if member_id and known is None:
            self._cluster.reply(answer, None)
            return
        if known is not None:
            known.joining = answer
        elif not self._take_own_place(instance_id, client, answer):
            member = _Member(self._new_id(client), instance_id, client, answer)
            self.members[member.id] = member
        self._start_over()

    def _start_over(self) -> None:
        """Rebalance, if somebody waits for it."""
        if any(member.joining for member in self.members.values()):
            self.rebalance("a member joins")
            self._complete_if_all_joined()

    def _take_own_place(self, instance_id: str | None, client: Client, answer: asyncio.Future[Any]) -> bool:
        """A static member that starts again; False when it is a new one."""
        former = next((m for m in self.members.values() if instance_id and m.instance_id == instance_id), None)
        if former is None:
            return False
        del self.members[former.id]
        if former.client is not client:
            former.client.process.call_later(self._heartbeat_s(), former.client.is_fenced)
        member = _Member(self._new_id(client), instance_id, client, None, former.numbers)
        self.members[member.id] = member
        if self._rebalancing or self._cluster.rng.random() < 0.3:  # its subscription may differ in details
            member.joining = answer
        else:
            self._cluster.reply(answer, (member.id, self.generation))
        return True

    def _new_id(self, client: Client) -> str:
        self._ids += 1
        return f"{client.process.name}/{self._ids}"

    def _expire(self, client: Client) -> None:
        if client.process.state == "running":
            return
        for member in [member for member in self.members.values() if member.client is client]:
            if member.joining is not None:  # who waits for the others need not send heartbeats
                self._cluster.later(SESSION_S, self._expire, client)
            else:
                self._remove(member, "is silent")

    def _remove(self, member: _Member, why: str) -> None:
        del self.members[member.id]
        member.client.process.call_later(self._heartbeat_s(), member.client.is_unknown, member.id)
        self.rebalance(f"{member.id} {why}")
        self._complete_if_all_joined()

    def _give_up(self, rebalance: int) -> None:
        """Go on without those who have not joined."""
        if self._rebalancing and rebalance == self._rebalances:
            for member in [member for member in self.members.values() if member.joining is None]:
                self._remove(member, "did not join")

    def _complete_if_all_joined(self) -> None:
        if self._rebalancing and all(member.joining for member in self.members.values()):
            self._rebalancing = False
            self.generation += 1
            self._assign()
            for member in self.members.values():
                assert member.joining is not None
                self._cluster.reply(member.joining, (member.id, self.generation))
                member.joining = None

    def _assign(self) -> None:
        """Share the partition numbers out, mostly to those who had them."""
        shares: dict[_Member, list[int]] = {member: [] for member in self.members.values()}
        if not shares:
            return
        most = -(-self._partitions // len(shares))
        rng = self._cluster.rng
        for number in range(self._partitions):
            former = [m for m in shares if m.client.process.name == self._owners.get(number) and len(shares[m]) < most]
            fewest = min(map(len, shares.values()))
            owner = former[0] if former and rng.random() < 0.8 else rng.choice(
                [member for member, share in shares.items() if len(share) == fewest]
            )  # fmt: skip
            shares[owner].append(number)
        for member, numbers in shares.items():
            member.numbers = tuple(numbers)
            self._owners.update(dict.fromkeys(numbers, member.client.process.name))
        self._cluster.note("group", "generation", self.generation, {m.id: m.numbers for m in shares})
