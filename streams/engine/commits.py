"""Group commit: whenever no transaction is under way and something is pending, one transaction writes all of it.

One at a time per worker. It carries the outputs of every owned partition, their state changes and their offsets, so a
reader with `read_committed` sees an outcome, its state and its acknowledgement together or not at all.

An abort re-emits in order; an outcome that is not known stops the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from aiokafka import TopicPartition

from streams.engine.crashpoints import reach
from streams.engine.partition import Partition
from streams.engine.transaction import (
    Aborted,
    Fenced,
    Foreign,
    GroupMoved,
    Member,
    Output,
    Outputs,
    Position,
    Refused,
)

log = logging.getLogger(__name__)

ABORTS_IN_ROW_MAX = 50
"""So many refused transactions in a row mean that repeating does not help."""


class Transactions(Protocol):
    """What writes a transaction (`TransactionalProducer`)."""

    async def commit(self, outputs: Outputs, offsets: dict[TopicPartition, Position], member: Member) -> None: ...


@dataclass(slots=True)
class CommitStatistics:
    """Counters since the worker started; seconds for durations."""

    transactions: int = 0
    aborted: int = 0
    records: int = 0
    busy_s: float = 0.0


class _Taken(NamedTuple):
    """What a transaction takes from one partition."""

    partition: Partition
    outputs: dict[TopicPartition, list[Output]]
    positions: dict[TopicPartition, Position]
    puts: int
    mark: str | None
    finished: int
    effects_bytes: int


class Committer:
    """The commit loop of a worker. `member` None closes the gate: between a revocation and the next acquisition
    nothing is written, effects wait in their partitions.
    """

    def __init__(self, transactions: Transactions, token: str, interval_s: float, die: Callable[[str], None]) -> None:
        self.transactions = transactions
        self.token = token
        """Names this process in the metadata of committed offsets."""
        self.interval_s = interval_s
        self.member: Member | None = None
        self.lock = asyncio.Lock()
        """Held by a transaction and by an acquisition: they exclude each other."""
        self.statistics = CommitStatistics()
        self._die = die
        self._changed: set[Partition] = set()
        self._wake = asyncio.Event()
        self._flushed: asyncio.Future[None] | None = None
        self._aborts_in_row = 0

    def changed(self, partition: Partition) -> None:
        """*partition* has something to commit."""
        self._changed.add(partition)
        self._wake.set()

    def discard(self, partition: Partition) -> None:
        self._changed.discard(partition)

    async def flush(self, timeout_s: float) -> bool:
        """Commit what is finished now. Returns whether that was done within *timeout_s*."""
        if self._flushed is None:
            self._flushed = asyncio.get_running_loop().create_future()
        flushed = self._flushed
        self._wake.set()
        await asyncio.wait([flushed], timeout=timeout_s)
        return flushed.done()

    async def run(self) -> None:
        """The loop; ends only by cancellation or with the process."""
        clock = asyncio.get_running_loop().time
        started = 0.0
        while True:
            await self._wake.wait()
            pause_s = started + self.interval_s - clock()
            if pause_s > 0 and self._flushed is None:
                await asyncio.sleep(pause_s)
            self._wake.clear()
            flushed, self._flushed = self._flushed, None
            started = clock()
            async with self.lock:
                if self.member is not None and self._changed:
                    await self._commit(self.member)
                    self.statistics.busy_s += clock() - started
            if flushed is not None and not flushed.done():
                flushed.set_result(None)

    async def _commit(self, member: Member) -> None:
        taken = self._take()
        offsets = {source: position for take in taken for source, position in take.positions.items()}
        if not offsets:  # what has finished left nothing, and no watermark has moved
            _finished(taken)
            return
        outputs = {target: records for take in taken for target, records in take.outputs.items()}
        if len(outputs) < sum(len(take.outputs) for take in taken):
            outputs = _merge(taken)
        try:
            await self.transactions.commit(outputs, offsets, member)
        except (GroupMoved, Aborted) as error:
            self._put_back(taken, error)
            if isinstance(error, Refused):
                _give_up(taken, error)
            if isinstance(error, GroupMoved):
                self.member = None  # opened again by the next acquisition
            else:
                await asyncio.sleep(0.05)
                self._wake.set()
        except Fenced as error:
            self._die(f"another process has this worker's name, or a transaction took too long: {error}")
        except Exception as error:
            log.exception("a transaction ended in an unknown way")
            self._die(f"the outcome of a transaction is not known: {error!r}")
        else:
            reach("before-bookkeeping")
            self._committed(taken, outputs)

    def _take(self) -> list[_Taken]:
        partitions, self._changed = self._changed, set()
        taken = []
        for partition in partitions:
            if not partition.closed:
                outputs, partition.outputs = partition.outputs, defaultdict(list)
                positions = partition.positions(self.token, bool(outputs))
                if written := partition.write_positions(positions):
                    outputs[partition.changelog].extend(written)
                taken.append(
                    _Taken(
                        partition,
                        outputs,
                        positions,
                        partition.puts,
                        partition.mark,
                        partition.uncommitted_count,
                        partition.uncommitted_bytes,
                    )
                )
                partition.mark = None
        return taken

    def _committed(self, taken: list[_Taken], outputs: Outputs) -> None:
        self._aborts_in_row = 0
        self.statistics.transactions += 1
        self.statistics.records += sum(map(len, outputs.values()))
        for take in taken:
            take.partition.stable.update(take.positions)
        _finished(taken)

    def _put_back(self, taken: list[_Taken], error: Exception) -> None:
        """Nothing of it is visible: effects return to the head of their partition's outputs, in order."""
        log.warning("transaction aborted, its effects are written again: %r", error)
        self.statistics.aborted += 1
        self._aborts_in_row += 1
        if self._aborts_in_row > ABORTS_IN_ROW_MAX:
            self._die(f"{self._aborts_in_row} transactions in a row were refused, the last one with {error!r}")
        for take in taken:
            for target, records in take.outputs.items():
                take.partition.outputs[target][:0] = records
            if take.partition.mark is None:
                take.partition.mark = take.mark
            if not take.partition.closed:
                self._changed.add(take.partition)


def _give_up(taken: list[_Taken], refused: Refused) -> None:
    """What topics that are not ours do not take is not written to them. Ours must take everything."""
    for target, why in refused.reasons.items():
        owners = [take.partition for take in taken if target in take.outputs]
        if all(isinstance(output, Foreign) for partition in owners for output in partition.outputs[target]):
            for partition in owners:
                partition.give_up(target, why, refused.is_for_all)


def _finished(taken: list[_Taken]) -> None:
    """Nothing of it is in memory any more."""
    for take in taken:
        take.partition.committed(take.puts, take.finished, take.effects_bytes)


def _merge(taken: list[_Taken]) -> dict[TopicPartition, list[Output]]:
    """Outputs by target when several partitions write to the same one (destination topics)."""
    merged: dict[TopicPartition, list[Output]] = defaultdict(list)
    for take in taken:
        for target, records in take.outputs.items():
            merged[target] = merged[target] + records
    return merged
