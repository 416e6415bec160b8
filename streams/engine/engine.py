"""A worker's hold on its partitions: taking them over, letting them go, and stopping when going on is not safe.

Order of an acquisition, every step needed:

1. no transaction of ours is open (the committer's lock) and the gate is closed;
2. *stable* committed offsets: this waits for a previous owner's open transaction, and fences it when its owner is dead;
3. the high watermark of the changelog, then everything up to it, read committed;
4. still the same generation? then the gate opens for it, and a first commit claims the partitions;
5. every source partition is sought to an explicit offset. aiokafka's `seek_to_committed` skips partitions with no
   committed offset, and whatever it had fetched of them before the rebalance would be lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.codec.positions import position_key, read_positions
from streams.engine.commits import Committer
from streams.engine.crashpoints import reach
from streams.engine.delays import Deliver, TierQueue
from streams.engine.partition import Partition, SourceRecord, is_idle, is_landed
from streams.engine.recovery import StateReader
from streams.engine.transaction import Member, Position, TransactionalProducer
from streams.errors import StreamsError
from streams.settings import Settings

log = logging.getLogger(__name__)

EXIT_UNSAFE = 70
"""Exit status when the process stopped rather than risk a loss; its supervisor starts it again (EX_SOFTWARE)."""
STUCK_AFTER_S = 2.0
"""A new owner waits so long for another worker's open transaction before it fences it."""
FINISH_EVERY_S = 2.0
"""So often we look for transactions to finish, while there may be some."""
KNOWN_FOR_S = 86_400.0
"""So often at least a worker with partitions commits (transactional.id.expiration.ms is seven days)."""
CLOCKS_DIFFER_MS = 60_000
"""The clocks of two workers differ by less."""
REVOKE_DRAIN_S = 3.0
"""A revocation waits for what is in flight: whatever ends in time is not run again by the next owner. The whole group
waits with us, so not for long attempts, which are in the journal, and not longer than this when nothing ends."""
REVOKE_DRAIN_MAX_S = 9.0
"""Nor longer than this when something does."""
REVOKE_FLUSH_S = 3.0
"""A revocation waits so long for the last commit."""
TRANSACTION_TIMEOUT_MS = 300_000
"""A longer transaction is aborted by the broker and its worker exits: so it outlives a broker that is away for minutes.
A dead worker's is fenced by whoever takes its name or its partitions; only when nobody does, readers wait so long."""
CLEAN = "~"
"""Ends the metadata of offsets that were committed by a worker letting go in good order."""


def exit_process(reason: str) -> NoReturn:
    """Stop at once. Nothing uncommitted is visible, and whoever starts next takes over where the last commit ended."""
    log.critical("stopping: %s", reason)
    logging.shutdown()
    os._exit(EXIT_UNSAFE)


def _epoch_ms() -> int:
    return time.time_ns() // 1_000_000


class LogTruncated(StreamsError):
    """A source ends before the offset up to which it was read."""


class Engine:
    """All partitions of one worker, its transactional producer and its committer.

    All arguments but *settings* are there for the simulation, which brings its own Kafka, clock and names.
    """

    def __init__(
        self,
        settings: Settings,
        die: Callable[[str], NoReturn] = exit_process,
        *,
        token: str | None = None,
        clock_ms: Callable[[], int] = _epoch_ms,
        new_producer: Callable[[Mapping[str, Any], str, str, int], TransactionalProducer] = TransactionalProducer,
        new_reader: Callable[[Mapping[str, Any], Collection[str]], StateReader] = StateReader,
    ) -> None:
        self.settings = settings
        self.topics = settings.topics
        self.sources = self.topics.sources
        self.die = die
        self.era = 0
        self.partitions: dict[int, Partition] = {}
        self.queues: dict[TopicPartition, TierQueue] = {}
        self.token = token or uuid.uuid4().hex[:12]
        """Names this process."""
        self.consumer: Any = None
        """Faust's consumer (`transport.Consumer`), set when it is created."""
        self.on_owned: list[Callable[[list[Partition]], None]] = []
        """Called after every acquisition, with the partitions that are new."""
        self.on_letting_go: list[Callable[[Partition], None]] = []
        """Called for every partition before it may be given up in good order."""
        self.has_drained = False
        """The last commit is under way: what begins now would begin a second time at the next owner."""
        self.is_draining = False
        """Told to stop: nothing is acquired any more, nothing more is read."""
        name = settings.worker_name or self.token
        # ':' cannot be part of a consumer group made from a topic prefix, so no other application's ids match it
        self.transactional_id_prefix = f"{self.topics.app_id}:"
        self.producer = new_producer(
            settings.kafka(), self.transactional_id_prefix + name, self.topics.app_id, TRANSACTION_TIMEOUT_MS
        )
        self.committer = Committer(self.producer, self.token, settings.commit_interval_ms / 1000, self.die)
        self.output_topics: tuple[str, ...] = (*self.topics.records, self.topics.dlq, self.topics.facts)
        """What is written besides the sources and the changelog."""
        self._clock_ms = clock_ms
        self._new_reader = new_reader
        self._awaited: dict[asyncio.Event, Callable[[Iterable[Partition]], bool]] = {}
        """While draining: what is to be set, and when."""
        self._fresh: list[Partition] = []
        """Acquired, and not yet announced to `on_owned`."""
        self._tiers_full: set[TopicPartition] = set()
        self._background: set[asyncio.Task[None]] = set()

    # -- start and stop ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Fence whoever held our name before, and begin to commit."""
        try:
            await self.producer.start((*self.sources, self.topics.changelog, *self.output_topics))
        except (TimeoutError, KafkaError) as error:
            self.die(f"the broker is away, or in trouble: {error}")
        self.background(self.committer.run())
        self.background(self._finish_skipped())
        self.background(self._forget_ended())
        self.background(self._stay_known())

    async def write_to(self, topics: Collection[str]) -> None:
        """Be ready to write to more *topics*, now or when we start."""
        self.output_topics = tuple(dict.fromkeys((*self.output_topics, *topics)))
        await self.producer.add_topics(topics)

    async def stop(self) -> None:
        for task in self._background:
            task.cancel()
        await self.producer.close()

    async def drain(self) -> None:
        """Graceful stop: accept nothing more, let running functions end (bounded), commit, let go."""
        self.is_draining = True  # an acquisition may be under way; what it would start could not end in good order
        self.era += 1
        await self._drained(is_idle, self.settings.drain_s)
        reach("during-drain")
        self.has_drained = True
        await self._let_go()

    async def _drained(self, condition: Callable[[Iterable[Partition]], bool], within_s: float) -> None:
        """Wait until our partitions meet *condition*, at most *within_s*."""
        met = asyncio.Event()
        if not condition(self.partitions.values()):
            self._awaited[met] = condition
            try:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(met.wait(), within_s)
            finally:
                del self._awaited[met]

    def background(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run *coroutine* for the life of the worker; an exception in it is fatal."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.task_failed(error)

    async def _forget_ended(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.forget_ended()

    async def _stay_known(self) -> None:
        """Commit now and then though nothing happens: Kafka forgets a producer after a week without a transaction."""
        while True:
            await asyncio.sleep(KNOWN_FOR_S)
            if self.committer.member is not None:
                for partition in self.partitions.values():
                    partition.mark = self.token
                    self.changed(partition)

    async def _finish_skipped(self) -> None:
        """After trouble, finish what the cluster has ended and left open."""
        while True:
            await asyncio.sleep(FINISH_EVERY_S)
            if self.producer.is_troubled:
                try:
                    await self.producer.finish_skipped(self.transactional_id_prefix)
                except KafkaError as error:
                    self.producer.is_troubled = True
                    log.info("the cluster cannot be asked for open transactions: %r", error)

    def forget_ended(self) -> None:
        """Forget finished requests that are old or too many."""
        for queue in self.queues.values():
            _bound_reading(queue)
        before_ms = self.now_ms() - int(self.settings.terminal_retention_s * 1000)
        for partition in self.partitions.values():
            partition.forget_ended(before_ms, self.settings.terminal_max)

    # -- what partitions ask of their owner ------------------------------------------------------------------------

    def now_ms(self) -> int:
        return self._clock_ms()

    def changed(self, partition: Partition) -> None:
        self.committer.changed(partition)
        for met, condition in self._awaited.items():
            if condition(self.partitions.values()):
                met.set()

    def task_failed(self, error: BaseException) -> None:
        log.error("a task failed", exc_info=error)
        self.die(f"a task failed: {error!r}")

    def pause(self, partition: Partition) -> None:
        self.consumer.pause_sources(partition.sources)

    def resume(self, partition: Partition) -> None:
        self.consumer.resume_sources([source for source in partition.sources if source not in self._tiers_full])

    def tier_full(self, source: TopicPartition, full: bool) -> None:
        """A tier partition holds all it may: the rest of it waits in Kafka."""
        if full:
            self._tiers_full.add(source)
            self.consumer.pause_sources([source])
        else:
            self._tiers_full.discard(source)
            if not self.partitions[source.partition].paused:
                self.consumer.resume_sources([source])

    def under_way(self) -> int:
        return sum(len(partition.running) for partition in self.partitions.values())

    async def written(self, partition: Partition) -> None:
        await partition.written()

    def held(self, partition: Partition, key: bytes) -> Sequence[SourceRecord]:
        queues = (self.queues[source] for source in partition.tiers if source in self.queues)
        return [record for queue in queues for record in queue.of(key)]

    def has_lag(self) -> bool:
        """Whether something that should be processed is not: accepted and unfinished, or fetched and not accepted."""
        return any(
            partition.in_flight_count > len(partition.early) or self.consumer.lag(partition.sources[0])
            for partition in self.partitions.values()
        )

    # -- ownership -----------------------------------------------------------------------------------------------

    async def release(self) -> None:
        """Before partitions are given up: let what is in flight end (bounded), publish it. The rest keeps running."""
        await self._landed()
        await self._let_go()

    async def _let_go(self) -> None:
        """Publish what has ended, as the last commit of this generation."""
        for partition in self.partitions.values():
            partition.mark = self.token + CLEAN
            self.changed(partition)
            for callback in self.on_letting_go:
                callback(partition)
        flushed = await self.committer.flush(REVOKE_FLUSH_S) if self.partitions else True
        if not flushed:
            log.warning("partitions are revoked with a commit still under way; it is fenced if it is late")
        self.committer.member = None
        for met in self._awaited:  # what a stop still waits for is the next owner's
            met.set()

    async def _landed(self) -> None:
        """Wait for what is to land for as long as it gets less, within bounds."""
        clock = asyncio.get_running_loop().time
        end, left, before = clock() + REVOKE_DRAIN_MAX_S, self._landing(), 1 << 60
        while 0 < left < before and clock() < end:
            await self._drained(is_landed, REVOKE_DRAIN_S)
            before, left = left, self._landing()

    def _landing(self) -> int:
        return sum(partition.landing() for partition in self.partitions.values())

    async def acquire(self, generation: int, assigned: Iterable[TopicPartition], deliver: Deliver) -> bool:
        """Take over the partition numbers of *assigned* and let go of all others.

        False when *generation* was over before that was done: the next one is on its way. Or we are told to stop.
        """
        started = time.monotonic()
        async with self.committer.lock:
            if self.is_draining:
                return False
            self.committer.member = None
            self.era += 1
            wanted = whole_numbers(assigned, self.sources)
            for number in self.partitions.keys() - wanted:
                self._drop(number)
            sources = [TopicPartition(topic, number) for number in sorted(wanted) for topic in self.sources]
            stable = await self.producer.stable_offsets(sources, self._fence_stuck) if sources else {}
            self._drop_taken_meanwhile(stable)
            new = [self._new_partition(number) for number in sorted(wanted - self.partitions.keys())]
            read = await self._recover(new, stable) if new else 0
            member = self.consumer.member()
            if self.is_draining or member is None or member.generation != generation:
                log.info("generation %d was over before it was acquired, or we are told to stop", generation)
                for partition in new:
                    partition.drop()
                return False
            self._own(new, member, deliver)
        if not await self._claim() or self.is_draining or self.consumer.member() != member:
            return False  # what is new stays so until the next acquisition
        reach("after-claim")
        fresh, self._fresh = [partition for partition in self._fresh if not partition.closed], []
        for callback in self.on_owned:
            callback(fresh)
        log.info(
            "generation %d: %d partitions (%d new), %d state records read, %.2f s",
            generation, len(self.partitions), len(new), read, time.monotonic() - started,
        )  # fmt: skip
        return True

    def _own(self, new: list[Partition], member: Member, deliver: Deliver) -> None:
        self.partitions.update((partition.number, partition) for partition in new)
        self._fresh += new
        for partition in new:
            partition.acquired_at_ms = self.now_ms()
            _check_offsets(partition)  # not earlier: a new owner may have been at work already
            _check_waiting(partition)
        for queue in self.queues.values():
            queue.close()
        self._tiers_full.clear()
        for partition in self.partitions.values():
            partition.paused = False  # Faust resumes everything after a rebalance
            partition.delivered = dict(partition.accepted)
            partition.fetched = dict(partition.accepted)
            partition.mark = self.token  # until we let go in good order
            self.changed(partition)
        self.queues = {
            source: TierQueue(
                partition, source, self.settings.hold_max, self.settings.hold_bytes_max, deliver, self.tier_full
            )
            for partition in self.partitions.values()
            for source in partition.tiers
        }
        self.committer.member = member

    async def _claim(self) -> bool:
        """Write down that we hold our partitions before anything of them runs: who dies now has died holding them.

        False when the generation is over.
        """
        while not all(partition.is_claimed(self.token) for partition in self.partitions.values()):
            if self.committer.member is None:
                return False
            await self.committer.flush(1.0)
        return True

    def _new_partition(self, number: int) -> Partition:
        settings = self.settings
        bounds = settings.in_flight_max, settings.in_flight_bytes_max
        return Partition(self, number, self.sources, self.topics.changelog, *bounds)

    def _drop(self, number: int) -> None:
        partition = self.partitions.pop(number)
        partition.drop()
        self.committer.discard(partition)

    def _drop_taken_meanwhile(self, stable: dict[TopicPartition, Position]) -> None:
        """A partition is kept only if nobody else has committed it: our token is in its offsets' metadata."""
        for number, partition in list(self.partitions.items()):
            if any(stable[source] != partition.stable[source] for source in partition.sources):
                log.warning("partition %d was owned by another worker meanwhile, its state is read again", number)
                self._drop(number)

    async def _fence_stuck(self, waited_s: float) -> None:
        if waited_s > STUCK_AFTER_S:
            self.producer.is_troubled = True
            await self.producer.fence_stuck(self.transactional_id_prefix, int(STUCK_AFTER_S * 1000))

    def _be_careful(self, partition: Partition) -> None:
        """The last owner died: what it may have had under way is started with care (`careful`)."""
        for source in partition.sources:
            end = partition.accepted[source] + self.settings.in_flight_max
            partition.careful_until[source] = min(partition.last_at_start[source], end)

    async def _recover(self, new: list[Partition], stable: dict[TopicPartition, Position]) -> int:
        """Set the offsets of *new* partitions and read their state. Returns how many records that took."""
        sources = [source for partition in new for source in partition.sources]
        async with self._new_reader(self.settings.kafka(), (*self.sources, self.topics.changelog)) as reader:
            bounds = await reader.bounds(sources)
            ids = await reader.topic_ids()
            for partition in new:
                keys = {source: position_key(ids[source.topic]) for source in partition.sources if source.topic in ids}
                partition.position_keys = keys
                partition.stable = {source: stable[source] for source in partition.sources}
                partition.last_at_start = {source: bounds[source][1] for source in partition.sources}
            owned = {partition.changelog: partition for partition in new}
            count = 0
            async for changelog, table, read in reader.tables(list(owned), self._fence_stuck):
                partition = owned[changelog]
                partition.positions_written = read_positions(table)
                for key in partition.positions_written:
                    del table[key]
                partition.accepted = {
                    source: _start(partition, source, bounds[source][0]) for source in partition.sources
                }
                if any(_is_unclean(position) for position in partition.stable.values()):
                    self._be_careful(partition)
                partition.requests.restore(table, partition.last_at_start)
                partition.known = len(partition.requests)
                count += read
        return count


def whole_numbers(assigned: Iterable[TopicPartition], sources: Collection[str]) -> set[int]:
    """The partition numbers of which all *sources* are assigned to us. While workers of two versions share a group, one
    may know a topic that the other does not; a number that is only partly ours is nobody's until the older one is gone.
    """
    counts = Counter(number for topic, number in assigned if topic in sources)
    partly = sorted(number for number, count in counts.items() if count < len(sources))
    if partly:
        log.warning(
            "partitions %s are left alone: other workers, of another version, have some of their topics", partly
        )
    return counts.keys() - set(partly)


def _bound_reading(queue: TierQueue) -> None:
    """Earlier owners have read their tiers as far as records were due, and no further. Without that, nothing that had
    ended could be forgotten after a takeover before the longest tier has turned over, after half an hour.
    """
    partition, source = queue.partition, queue.source
    if partition.requests.is_unsure and queue.waits_until_ms() > partition.acquired_at_ms + CLOCKS_DIFFER_MS:
        partition.requests.read_at_most(source, partition.accepted[source])


def _check_waiting(partition: Partition) -> None:
    """Every invocation that waits for a retry has its record in a tier; say so if some have not."""
    waiting = len(partition.requests.waiting)
    records = sum(partition.last_at_start[tier] - partition.accepted[tier] for tier in partition.tiers)
    if waiting > records:
        log.error(
            "partition %d: %d invocations wait for a retry, but the retry topics hold %d records; was their retention "
            "shorter than the time all workers were away?",
            partition.number, waiting, records,
        )  # fmt: skip


def _is_unclean(position: Position) -> bool:
    """Whether the process that committed *position* has died with the partition in its hands."""
    return bool(position.metadata) and not position.metadata.endswith(CLEAN)


def _start(partition: Partition, source: TopicPartition, first: int) -> int:
    """Where to begin reading: at the offset that the group has, else the changelog; at the beginning without any."""
    offset = partition.stable[source].offset
    if offset < 0:
        offset = _kept(partition, source)
    if 0 <= offset < first:
        missed = first - offset
        log.error("%d records of %s were deleted before they were read: its retention is too short", missed, source)
    return max(offset, first)


def _kept(partition: Partition, source: TopicPartition) -> int:
    """The offset of *source* in the changelog; -1: there is none."""
    return partition.positions_written.get(partition.position_keys.get(source, b""), -1)


def _check_offsets(partition: Partition) -> None:
    """Say so if the group has forgotten where reading stood. Raises `LogTruncated`."""
    for source, start in partition.accepted.items():
        end = partition.last_at_start[source]
        if start > end:
            raise LogTruncated(
                f"{source} ends at {end}, but was read up to {start}: it has lost records (an unclean election?). "
                "Where those begin that were appended since is not known. Choose where to go on, and tell the group "
                "(kafka-consumer-groups.sh --reset-offsets --to-latest or --to-datetime)"
            )
        if partition.stable[source].offset < 0 <= _kept(partition, source):
            log.warning("the group has no offset of %s any more: going on at %d, where reading stood", source, start)
