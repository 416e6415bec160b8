"""Invocations that are cancelled, wherever they stand.

| where it stands | what happens |
|---|---|
| not read yet | the command waits for it, if it says at which offset it comes; then it does not start |
| not known | nothing: the command is for another partition, or too early, or too late. It is counted |
| over | nothing, likewise |
| an attempt is under way | that is cut off and counts for nothing; the record is written at once |
| about to start, but held back (`careful`) | it does not start; the record is written at once |
| waiting in a retry tier | the record is written at once if we have the event, else when the retry record comes |

The retry record of a cancelled invocation cannot be taken out of its topic. Until it has come the invocation is
remembered as cancelled (`codec.state`), however long that takes: were it forgotten, the record would be a riddle.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from streams.codec.commands import Cancellation
from streams.codec.envelope import Invocation
from streams.codec.errors import InputRejected
from streams.codec.retry import Waiting, read_retry
from streams.codec.state import is_cancelled, pack, unpack
from streams.core.lifecycle import Cancel, State
from streams.engine.partition import Partition, SourceRecord
from streams.engine.work import Work

if TYPE_CHECKING:
    from streams.engine.processor import Processor


EARLY_MAX = 10_000
"""So many commands of a partition wait for their invocations; more are passed over, as for what is not known."""

EARLY_MS = 15 * 60_000
"""A command waits at most so long when there is nothing more to read: a transaction that holds its invocation back is
over by then (transaction.max.timeout.ms). Nothing that ended meanwhile can be forgotten."""


class Cancels:
    """Cancels invocations of one worker."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor

    def cancel(
        self, partition: Partition, source: TopicPartition, record: SourceRecord, given: Cancellation, now_ms: int
    ) -> None:
        """Do what *record*, a command, wants."""
        key = given.request_id.encode()
        packed = partition.requests.get(key)
        running = partition.running.get(key)
        counters = self._processor.effects.counters
        if running is not None:
            assert isinstance(running, Work)
            running.cut_off()
            self._end(running, now_ms)
            self._processor.careful.cut_off(running)
        elif (held := self._processor.careful.take_held(partition, key)) is not None:
            self._end(held, now_ms)
        elif packed is None and self._is_early(partition, given):
            if (other := partition.early.pop(given.origin.offset, None)) is not None:
                partition.finish(other.source, other.offset)
            partition.wait_for(given.origin.offset, source, record)
            return
        elif packed is None:
            counters["unknown"]["cancel_ignored"] += 1
        elif unpack(packed).is_over:
            counters["over"]["cancel_ignored"] += 1
        else:
            self._cancel_waiting(partition, source, record, given, packed, now_ms)
        partition.finish(source, record.offset)

    def _is_early(self, partition: Partition, given: Cancellation) -> bool:
        """Whether the invocation is yet to be read."""
        invocations, origin = partition.sources[0], given.origin
        here = (origin.topic, origin.partition) == invocations
        return here and partition.accepted[invocations] <= origin.offset and len(partition.early) < EARLY_MAX

    def came_before(self, work: Work, now_ms: int) -> bool:
        """Whether *work*, just accepted, was to be cancelled already: then it is."""
        command = work.partition.early.get(work.record.offset)
        if command is None or command.key != work.key:
            return False
        del work.partition.early[work.record.offset]
        self._end(work, now_ms)
        work.partition.finish(command.source, command.offset)
        return True

    def forget_early(self, partition: Partition) -> None:
        """Let go of commands about offsets that have been read and had no such invocation."""
        read = partition.accepted[partition.sources[0]]
        self._forget(partition, [offset for offset in partition.early if offset < read])

    def give_up_early(self, partition: Partition, now_ms: int) -> None:
        """Let go of commands about offsets that do not come: all that there is has been read."""
        self._forget(partition, [at for at, command in partition.early.items() if command.since_ms < now_ms - EARLY_MS])

    def _forget(self, partition: Partition, offsets: list[int]) -> None:
        for offset in offsets:
            command = partition.early.pop(offset)
            self._processor.effects.counters["unknown"]["cancel_ignored"] += 1
            partition.finish(command.source, command.offset)

    def _cancel_waiting(
        self,
        partition: Partition,
        source: TopicPartition,
        record: SourceRecord,
        given: Cancellation,
        packed: bytes,
        now_ms: int,
    ) -> None:
        key, state = given.request_id.encode(), unpack(packed)
        waiting = _held(partition, key, state) or _given(given, state)
        try:
            if waiting is not None:
                work = self._work(waiting, state, partition, source, record)
                self._end(work, now_ms, record_to_come=True)
                return
        except InputRejected:  # the command names a function that there is not; the retry record may know better
            pass
        if not is_cancelled(packed):
            partition.put(key, pack(state, cancelled=True), over=False)

    def wake(
        self,
        waiting: Waiting,
        state: State,
        partition: Partition,
        source: TopicPartition,
        record: SourceRecord,
        now_ms: int,
    ) -> None:
        """*record*, the retry record of a cancelled invocation whose *state* is known, has come."""
        key = waiting.invocation.request_id.encode()
        if waiting.state.attempt != (state.attempt + 1 if state.is_over else state.attempt):
            partition.finish(source, record.offset)  # an earlier attempt's, delivered again
            return
        goes_on = waiting.state.due_at_ms > now_ms
        if goes_on:  # a tier is not the last one: records of this attempt may still be delivered again
            self._processor.hand_on(partition, key, record, waiting.state.due_at_ms, now_ms)
        if not state.is_over:
            self._end(self._work(waiting, state, partition, source, record), now_ms, record_to_come=goes_on)
        else:
            if not goes_on:
                partition.put(key, pack(replace(state, due_at_ms=now_ms)), over=True)
            partition.finish(source, record.offset)

    def _work(
        self, waiting: Waiting, state: State, partition: Partition, source: TopicPartition, record: SourceRecord
    ) -> Work:
        """Raises InputRejected when there is no such function."""
        invocation = waiting.invocation
        prepared = self._processor.prepare(invocation, waits=True)
        known = replace(state, last=waiting.state.last)
        key = invocation.request_id.encode()
        return Work(partition, source, record, key, invocation, prepared, known, waiting.origin)

    def _end(self, work: Work, now_ms: int, record_to_come: bool = False) -> None:
        work.apply(Cancel(now_ms))
        self._processor.effects.settle(((work, now_ms),), record_to_come)


def _held(partition: Partition, key: bytes, state: State) -> Waiting | None:
    """What the retry record says, if it is in memory."""
    for record in partition.owner.held(partition, key):
        try:
            waiting = read_retry(record)
        except InputRejected:
            continue  # whoever reads it when it is due will say so
        if waiting.state.attempt == state.attempt:
            return waiting
    return None


def _given(given: Cancellation, state: State) -> Waiting | None:
    """The same, as far as the sender of the command knows it."""
    if given.invocation is None:
        return None
    invocation: Invocation = given.invocation._replace(accepted_at_ms=state.accepted_at_ms, due_at_ms=state.due_at_ms)
    return Waiting(invocation, state, given.origin)
