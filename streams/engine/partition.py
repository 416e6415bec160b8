"""What a worker knows about one partition number: offsets, records in flight, effects not yet committed, state.

A partition number is one unit across all source topics: `invocations` 3, every `retry.*` 3 and the changelog's 3 belong
to the same worker, and every hop of one invocation stays there.

The committed offset of a source is a *watermark*: the first delivered record that is not finished. What finished above
it is remembered by the table, so redelivery after a crash re-emits nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from aiokafka import TopicPartition

from streams.codec.positions import position_value
from streams.engine.requests import Requests
from streams.engine.transaction import Foreign, Headers, Output, Position, Refusal

_NO_HEADERS: Headers = []
_HEADERS_FEW = 4
"""So many headers of ours are small. Retry records and dead letters have more, and among them those of the input."""


class SourceRecord(Protocol):
    """A record as aiokafka delivers it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class Owner(Protocol):
    """The worker, as a partition sees it."""

    era: int
    """Goes up at every revocation and assignment; whatever was fetched in an earlier one is void."""

    has_drained: bool
    """The last commit is under way; nothing may begin any more."""

    def now_ms(self) -> int:
        """The time, epoch milliseconds."""

    def changed(self, partition: Partition) -> None:
        """*partition* has something to commit."""

    def pause(self, partition: Partition) -> None:
        """Deliver nothing more from *partition* until `resume`."""

    def resume(self, partition: Partition) -> None: ...

    def die(self, reason: str) -> None:
        """Stop the process: going on could lose something."""

    def under_way(self) -> int:
        """Attempts under way in all partitions."""

    async def written(self, partition: Partition) -> None:
        """Returns once all that *partition* has emitted so far is committed."""

    def task_failed(self, error: BaseException) -> None:
        """A task of a partition raised; nothing may be acknowledged after that."""

    def held(self, partition: Partition, key: bytes) -> Sequence[SourceRecord]:
        """Records of request *key* that wait in the retry tiers of *partition*, as far as they are in memory."""


class Running(Protocol):
    """An attempt under way."""

    journaled: bool
    """The table holds all of it; its record is not in flight any more."""
    long: bool
    """It takes long: nobody waits for its end."""

    def abandon(self) -> None:
        """Its partition is not ours any more."""


class Partition:
    """One partition number of this worker, from the moment it is acquired until it is dropped."""

    def __init__(
        self,
        owner: Owner,
        number: int,
        sources: Sequence[str],
        changelog: str,
        in_flight_max: int,
        in_flight_bytes_max: int = 1 << 62,
    ) -> None:
        """*sources* are the topics `invocations`, `commands` and `deliveries`, then the retry tiers."""
        self.owner = owner
        self.number = number
        self.sources = tuple(TopicPartition(topic, number) for topic in sources)
        self.tiers = self.sources[3:]
        self.changelog = TopicPartition(changelog, number)
        self.in_flight_max = in_flight_max
        self.in_flight_bytes_max = in_flight_bytes_max
        self.accepted: dict[TopicPartition, int] = {}
        """Next offset to accept, by source."""
        self.delivered: dict[TopicPartition, int] = {}
        """Next offset to hand to an agent, by source."""
        self.fetched: dict[TopicPartition, int] = {}
        """Next offset to take from the fetcher, by source."""
        self.stable: dict[TopicPartition, Position] = {}
        """What the group has committed, by source."""
        self.last_at_start: dict[TopicPartition, int] = {}
        """High watermark when the partition was acquired, by source."""
        self.acquired_at_ms = 0
        self.in_flight: dict[TopicPartition, dict[int, int]] = {source: {} for source in self.sources}
        """Offsets accepted and not finished, in order, with their records' sizes, by source."""
        self.in_flight_count = 0
        self.in_flight_bytes = 0
        self.uncommitted_count = 0
        """Records finished and not yet committed: their effects are still in memory."""
        self.uncommitted_bytes = 0
        """Bytes of effects: a record may leave several times what it came with."""
        self.running: dict[bytes, Running] = {}
        """Attempts under way by request id, the oldest first."""
        self.careful_until: dict[TopicPartition, int] = {}
        """Records before these offsets may have been under way when the last owner died, by source."""
        self.held: set[bytes] = set()
        """Request ids whose attempt is due and waits for a suspect to end (`careful`)."""
        self.early: dict[int, Early] = {}
        """Commands about invocations that are not read yet, by their offsets on `invocations`. They stay in flight."""
        self.requests = Requests()
        self.position_keys: dict[TopicPartition, bytes] = {}
        """Where the changelog keeps the offset of each source."""
        self.positions_written: dict[bytes, int] = {}
        """What it has there."""
        self.mark: str | None = None
        """The next commit carries every offset, with this metadata."""
        self.puts = 0
        """State changes emitted so far."""
        self.puts_committed = 0
        self._writing: deque[tuple[int, asyncio.Future[None]]] = deque()
        """Who waits until so many state changes are committed, in order."""
        self.known = 0
        """Invocations and rejected inputs that are accounted for here."""
        self.outputs: dict[TopicPartition, list[Output]] = defaultdict(list)
        """Effects not yet committed, in order."""
        self.paused = False
        self.closed = False
        self._own: dict[str, TopicPartition] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- effects: written by the next transaction ----------------------------------------------------------------

    def emit(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers = _NO_HEADERS) -> None:
        """Write a record to this partition's number of *topic*."""
        target = self._own.get(topic)
        if target is None:
            target = self._own[topic] = TopicPartition(topic, self.number)
        self.outputs[target].append((key, value, headers))
        self.uncommitted_bytes += len(value) if value is not None else 0
        if len(headers) > _HEADERS_FEW:
            self.uncommitted_bytes += sum(len(name) + len(header or b"") for name, header in headers)

    def emit_to(self, target: TopicPartition, key: bytes, value: bytes, headers: Headers, refused: Refusal) -> None:
        """Write a record to any partition of a topic that is not ours. *refused* is called if it does not take it."""
        output = Foreign((key, value, headers))
        output.refused = refused
        self.outputs[target].append(output)
        self.uncommitted_bytes += len(value)

    def give_up(self, target: TopicPartition, why: str, is_for_all: bool) -> None:
        """*target*, which is not ours, does not take what we have for it."""
        for output in self.outputs.pop(target, ()):
            assert isinstance(output, Foreign)
            self.uncommitted_bytes -= len(output[1] or b"")
            output.refused(why, is_for_all)

    def put(self, key: bytes, packed: bytes, over: bool) -> None:
        """Set the state of request *key*; *over*: its invocation has ended."""
        self.puts += 1
        self.requests.put(key, packed, over)
        self.outputs[self.changelog].append((key, packed, _NO_HEADERS))
        self.uncommitted_bytes += len(packed)

    def forget_ended(self, ended_before_ms: int, ended_max: int) -> None:
        """Forget finished requests that are old, or too many."""
        committed = {source: self.stable[source].offset for source in self.sources}
        keys = self.requests.evict(ended_before_ms, ended_max, self.accepted, committed)
        if keys:
            self.known -= len(keys)
            self.outputs[self.changelog].extend((key, None, _NO_HEADERS) for key in keys)
            self.owner.changed(self)

    def drift(self) -> int:
        """Known less waiting, running and ended: 0, or something was lost or made up."""
        started = sum(not self.requests.is_open(key) for key in (*self.running, *self.held))
        return self.known - started - len(self.requests)

    def landing(self) -> int:
        """What a revocation waits for: records in flight, and journaled attempts that do not take long."""
        journaled = sum(attempt.journaled and not attempt.long for attempt in self.running.values())
        return self.in_flight_count - len(self.early) + journaled

    def has_landed(self) -> bool:
        """Whether `landing` is 0. (Asked thousands of times: attempts are in the order in which they began.)"""
        if self.in_flight_count > len(self.early):
            return False
        return not self.running or next(reversed(self.running.values())).long

    def is_busy(self, key: bytes) -> bool:
        """Whether an attempt of request *key* is under way or about to start."""
        return key in self.running or key in self.held

    # -- records in flight ---------------------------------------------------------------------------------------

    def accept(self, batch: Batch) -> Sequence[SourceRecord]:
        """Take responsibility for a batch; nothing when it is void (what was taken away is fetched again)."""
        if self.closed or batch.era != self.owner.era:
            return ()
        if batch.start != self.accepted[batch.source]:
            expected = self.accepted[batch.source]
            self.owner.die(f"batch out of order: {batch.source} starts at {batch.start}, expected {expected}")
        in_flight = self.in_flight[batch.source]
        for record in batch.records:
            size = len(record.value or b"") + len(record.key or b"")
            for name, value in record.headers:
                size += len(name) + len(value or b"")
            in_flight[record.offset] = size
            self.in_flight_bytes += size
        self.accepted[batch.source] = batch.end
        self.in_flight_count += len(batch.records)
        if not batch.records:  # only markers or aborted records: the watermark moves all the same
            self.owner.changed(self)
        if not self.paused and not self._has_room(1):
            self.paused = True
            self.owner.pause(self)
        return batch.records

    def finish(self, source: TopicPartition, offset: int) -> None:
        """The record is finished: everything emitted so far is committed with or before its offset."""
        size = self.in_flight[source].pop(offset, None)
        if size is not None:
            self.in_flight_count -= 1
            self.in_flight_bytes -= size
            self.uncommitted_count += 1
        self.owner.changed(self)

    async def written(self) -> None:
        """Returns once all state changes emitted so far are committed. (Thousands may wait for the same commit.)"""
        if self.puts_committed < self.puts:
            waiting = asyncio.get_running_loop().create_future()
            self._writing.append((self.puts, waiting))
            await waiting

    def committed(self, puts: int, count: int, size: int) -> None:
        """The first *puts* state changes have been committed, *count* finished records and *size* bytes of effects."""
        self.puts_committed = puts
        while self._writing and self._writing[0][0] <= puts:
            _, waiting = self._writing.popleft()
            if not waiting.done():
                waiting.set_result(None)
        self.uncommitted_count -= count
        self.uncommitted_bytes -= size
        self._resume_if_there_is_room()

    def wait_for(self, offset: int, source: TopicPartition, record: SourceRecord) -> None:
        """*record*, a command, waits for *offset* of `invocations`. It does not count as in flight: else such commands
        could keep us from reading what they wait for. Nor do its bytes, which are not kept.
        """
        self.early[offset] = Early(source, record.offset, record.key, self.owner.now_ms())
        self.in_flight_bytes -= self.in_flight[source][record.offset]
        self.in_flight[source][record.offset] = 0
        self._resume_if_there_is_room()

    def _resume_if_there_is_room(self) -> None:
        if self.paused and self._has_room(2):
            self.paused = False
            self.owner.resume(self)

    def _has_room(self, parts: int) -> bool:
        """Whether what is in memory is at most one of *parts* of what may be."""
        count = self.in_flight_count - len(self.early) + self.uncommitted_count
        few = count <= self.in_flight_max // parts
        return few and self.in_flight_bytes + self.uncommitted_bytes <= self.in_flight_bytes_max // parts

    def watermark(self, source: TopicPartition) -> int:
        """The offset to commit for *source*."""
        return next(iter(self.in_flight[source]), self.accepted[source])

    def positions(self, token: str, at_least_one: bool) -> dict[TopicPartition, Position]:
        """Watermarks that moved since the last commit, or all of them when there is a `mark` to set.

        With *at_least_one*, one of them even if none moved: a transaction that writes for a partition must carry an
        offset of it, else a new owner reading stable offsets would not wait for that transaction.
        """
        if self.mark is not None:
            return {source: Position(self.watermark(source), self.mark) for source in self.sources}
        moved = {
            source: Position(watermark, token)
            for source in self.sources
            if (watermark := self.watermark(source)) != self.stable[source].offset
        }
        if at_least_one and not moved:
            source = self.sources[0]
            moved[source] = Position(self.watermark(source), token)
        return moved

    def is_claimed(self, token: str) -> bool:
        """Whether the group knows that process *token* holds it."""
        return all(position.metadata == token for position in self.stable.values())

    def write_positions(self, positions: Mapping[TopicPartition, Position]) -> list[Output]:
        """What the changelog is to get with these *positions*, so that they are known for longer than Kafka does."""
        written = self.positions_written
        outputs: list[Output] = []
        for source, (offset, _) in positions.items():
            key = self.position_keys.get(source)
            if key is not None and written.get(key) != offset:
                written[key] = offset
                outputs.append((key, position_value(offset), _NO_HEADERS))
        return outputs

    # -- life ----------------------------------------------------------------------------------------------------

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run *coroutine* beside the others, and `adopt` its task."""
        return self.adopt(asyncio.get_running_loop().create_task(coroutine))

    def adopt(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """*task* is one of ours from now on: an exception in it is fatal for the worker."""
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.owner.task_failed(error)

    def drop(self) -> None:
        """Let go: running functions are cancelled, nothing they do is written any more."""
        self.closed = True
        for attempt in self.running.values():
            attempt.abandon()
        for task in self._tasks:
            task.cancel()


class Early(NamedTuple):
    """A command that waits for its invocation."""

    source: TopicPartition
    offset: int
    key: bytes | None
    """The request id."""
    since_ms: int


class Batch:
    """The *records* of one source between *start* and *end* (exclusive), on their way to an agent."""

    __slots__ = ("end", "era", "partition", "records", "source", "start")

    def __init__(self, partition: Partition, source: TopicPartition, records: Sequence[SourceRecord], end: int) -> None:
        self.partition = partition
        self.source = source
        self.records = records
        self.era = partition.owner.era
        self.start = partition.delivered[source]
        self.end = end
        partition.delivered[source] = end


def is_idle(partitions: Iterable[Partition]) -> bool:
    """Whether nothing is under way in any of them."""
    return not any(partition.in_flight_count > len(partition.early) or partition.running for partition in partitions)


def is_landed(partitions: Iterable[Partition]) -> bool:
    """Whether nothing is under way in any of them but what takes long, which the journal has."""
    return all(partition.has_landed() for partition in partitions)
