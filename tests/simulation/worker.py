"""One worker process of the simulation: the real engine and processor, with stand-ins for what connects them to Kafka.

The stand-ins do what the originals do, at the same moments and with the same doubts in between: `Producer` that of
`TransactionalProducer`, `Reader` that of `StateReader`, `Consumer` that of `transport.Consumer`, `table.StateRecovery`
and what is below them in Faust and aiokafka (positions of a new assignment, callbacks at a rebalance, active and paused
partitions, a flow that stops and resumes).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from random import Random
from typing import Any, NoReturn

from aiokafka import TopicPartition

from streams.codec.positions import TopicId
from streams.engine.engine import REVOKE_DRAIN_S, Engine
from streams.engine.partition import Batch, Partition, SourceRecord
from streams.engine.recovery import _apply
from streams.engine.transaction import Aborted, Fenced, GroupMoved, Member, Outputs, Position, Refused, Waiting
from streams.laws import Violation

from .log import REFUSES, Cluster, Code
from .loop import Killed, Process

POLL_S = 0.005
PAUSE_S = 0.003
HOPS_S = (*(0.0,) * 70, *(0.02,) * 29, 8.0)
"""How long a batch may be on its way to its agent, each as likely as the others."""
MOVED = ("illegal generation", "unknown member")
UNKNOWN_S = 60.0


class Producer:
    """`TransactionalProducer`, on the simulated cluster."""

    def __init__(self, cluster: Cluster, name: str, unknown: float) -> None:
        self.name = name
        self.is_troubled = True
        self.committed = asyncio.Event()
        """Set by every transaction."""
        self._cluster = cluster
        self._unknown = unknown
        self._epoch = -1

    async def start(self, topics: Iterable[str]) -> None:
        self._epoch = await self._init(self.name)

    async def close(self) -> None:
        """Nothing to close."""

    def partition_count(self, topic: str) -> int:
        return self._cluster.partition_count(topic)

    async def finish_skipped(self, prefix: str) -> None:
        """The simulated cluster tells all partitions."""
        self.is_troubled = False

    async def _init(self, name: str) -> int:
        epoch: int | None = None
        while epoch is None:
            epoch = await self._cluster.send(self._cluster.init_producer, name)
        return epoch

    async def fence_stuck(self, prefix: str, older_ms: int) -> None:
        for name in await self._cluster.send(self._cluster.stuck, prefix, older_ms / 1000):
            if name != self.name:
                self._cluster.note(self.name, "fences", name)
                await self._init(name)

    async def stable_offsets(
        self, partitions: Collection[TopicPartition], waiting: Waiting
    ) -> dict[TopicPartition, Position]:
        loop = asyncio.get_running_loop()
        started = loop.time()
        while True:
            offsets: dict[TopicPartition, Position] | None
            stable = not self._cluster.accepts_any_generation
            offsets = await self._cluster.send(self._cluster.group.fetch, list(partitions), stable)
            if offsets is not None:
                return offsets
            await asyncio.sleep(0.02)
            await waiting(loop.time() - started)

    async def commit(self, outputs: Outputs, offsets: Mapping[TopicPartition, Position], member: Member) -> None:
        cluster = self._cluster
        requests = self._requests(outputs)
        answers = [cluster.send(cluster.add_records, self.name, self._epoch, request) for request in requests]
        codes = [await self._repeated(None, cluster.add_offsets, self.name, self._epoch, offsets, member)]
        for answer, request in zip(answers, requests, strict=True):
            codes.append(await self._repeated(answer, cluster.add_records, self.name, self._epoch, request))
        if any(code.startswith("fenced") for code in codes):
            raise Fenced(", ".join(codes))
        if any(codes):
            await self._end(committed=False)
            if codes[0] in MOVED:
                raise GroupMoved(codes[0])
            if refused := [code.removeprefix(REFUSES) for code in codes if code.startswith(REFUSES)]:
                targets = (text.rpartition("-") for text in refused)
                reasons = {TopicPartition(topic, int(number)): "no" for topic, _, number in targets}
                raise Refused(reasons, is_for_all=cluster.rng.random() < 0.5)
            raise Aborted(", ".join(codes))
        await self._end(committed=True)
        self.committed.set()

    def _requests(self, outputs: Outputs) -> list[Outputs]:
        """To one broker or to two."""
        targets = list(outputs)
        cut = self._cluster.rng.randint(0, len(targets))
        parts = ({target: outputs[target] for target in part} for part in (targets[:cut], targets[cut:]))
        return [part for part in parts if part]

    async def _repeated(self, answer: asyncio.Future[Code] | None, request: Any, *args: Any) -> Code:
        """The answer to *request*, which is repeated while the last transaction is still ending."""
        code = await (answer or self._cluster.send(request, *args))
        pause_s = PAUSE_S
        while code == "concurrent":
            await asyncio.sleep(pause_s)
            pause_s = min(1.5 * pause_s, 0.5)
            code = await self._cluster.send(request, *args)
        return str(code)

    async def _end(self, committed: bool) -> None:
        cluster = self._cluster
        code, epoch = await cluster.send(cluster.end, self.name, self._epoch, committed)
        while cluster.rng.random() < cluster.weather.answer_lost:
            code, epoch = await cluster.send(cluster.end, self.name, self._epoch, committed)
        if cluster.rng.random() < self._unknown:
            await asyncio.sleep(UNKNOWN_S)
            raise TimeoutError("no answer to EndTxn")
        if code == "fenced":
            raise Fenced("EndTxn")
        if code == "nothing to end" and not committed:
            return
        assert not code, code
        self._epoch = epoch


class Reader:
    """`StateReader`, on the simulated cluster."""

    def __init__(self, cluster: Cluster, point: Any) -> None:
        self._cluster = cluster
        self._point = point

    async def __aenter__(self) -> Reader:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to close."""

    async def bounds(self, sources: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        bounds: dict[TopicPartition, tuple[int, int]] = await self._cluster.send(self._cluster.bounds, sources)
        return bounds

    async def topic_ids(self) -> dict[str, TopicId]:
        return {
            topic: TopicId(0, number) for number, topic in enumerate(sorted({topic for topic, _ in self._cluster.logs}))
        }

    async def tables(
        self, changelogs: Sequence[TopicPartition], waiting: Waiting
    ) -> AsyncIterator[tuple[TopicPartition, dict[bytes, bytes], int]]:
        bounds = await self.bounds(changelogs)
        for changelog in changelogs:
            table: dict[bytes, bytes] = {}
            yield changelog, table, await self._read(changelog, *bounds[changelog], table, waiting)

    async def _read(
        self, changelog: TopicPartition, position: int, end: int, table: dict[bytes, bytes], waiting: Waiting
    ) -> int:
        loop = asyncio.get_running_loop()
        count, progress = 0, loop.time()
        while position < end:
            self._point("recovering")
            records, position = await self._cluster.send(self._fetch, changelog, position)
            if read := _apply(table, records):
                count, progress = count + read, loop.time()
            if position < end:
                await waiting(loop.time() - progress)
                await asyncio.sleep(0.01)
        return count

    def _fetch(self, changelog: TopicPartition, position: int) -> tuple[list[Any], int]:
        return self._cluster.log(*changelog).read(position, self._cluster.rng.randint(1, 100))


class NumberedPartition(Partition):
    """A partition whose place in a set does not depend on its address, and that tells the world what it does."""

    owner: Any

    def __hash__(self) -> int:
        return self.number

    def emit(self, topic: str, key: bytes | None, value: bytes | None, headers: Any = ()) -> None:
        if "retry." in topic:
            self.owner.worker.point("scheduling")
        super().emit(topic, key, value, list(headers))

    def drop(self) -> None:
        self.owner.worker.dropped(self)
        super().drop()


class SimulatedEngine(Engine):
    """The engine, told to keep quiet while nothing happens: hours of idle seconds would cost most of the time."""

    producer: Any
    worker: Worker
    model: Any

    def _new_partition(self, number: int) -> Partition:
        settings = self.settings
        bounds = settings.in_flight_max, settings.in_flight_bytes_max
        partition: Partition = self.model.partition(self, number, self.sources, self.topics.changelog, *bounds)
        partition.requests = self.model.requests()
        return partition

    async def _forget_ended(self) -> None:
        """As the original, but only after transactions, and sooner."""
        while True:
            await self.producer.committed.wait()
            self.producer.committed.clear()
            await asyncio.sleep(self.worker.rng.random())
            self.forget_ended()


class Consumer:
    """What is between the group and the engine: `transport.Consumer`, `table.StateRecovery`, Faust and aiokafka."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.engine = worker.engine
        self.generation = -1
        """The coordinator's."""
        self.adopted = 0
        """The app's: that of the last assignment."""
        self.member_id = ""
        self.assigned: list[TopicPartition] = []
        self.positions: dict[TopicPartition, int] = {}
        """The fetcher's, of partitions that have one."""
        self.flow = False
        self.active: set[TopicPartition] = set()
        self.paused: set[TopicPartition] = set()
        self.rng = worker.rng
        self._cluster = worker.cluster
        self._resumed = asyncio.Event()
        self._news = asyncio.Event()
        self._rejoin = asyncio.Event()
        self._recovery = asyncio.Event()
        self._recovery_generation = 0
        self._revoked = False
        self._inboxes: defaultdict[str, deque[Batch]] = defaultdict(deque)

    # -- what the engine asks ------------------------------------------------------------------------------------

    def member(self) -> Member | None:
        if self._revoked or self.generation != self.adopted:
            return None
        return Member(self.generation, self.member_id, self.worker.instance_id)

    def pause_sources(self, sources: Iterable[TopicPartition]) -> None:
        self.active.difference_update(sources)
        self.paused.update(sources)

    def resume_sources(self, sources: Iterable[TopicPartition]) -> None:
        self.active.update(sources)
        self.paused.difference_update(sources)
        self._news.set()

    async def deliver(self, batch: Batch) -> None:
        """Into the agent's queue; it comes out of it in order, and a little later."""
        topics = self.engine.topics
        agents = {topics.invocations: "invocations", topics.commands: "commands", topics.deliveries: "deliver"}
        agent = agents.get(batch.source.topic, "retries")
        self._inboxes[agent].append(batch)
        self.worker.process.call_later(self.rng.random() * self.rng.choice(HOPS_S), self._process, agent)

    def _process(self, agent: str) -> None:
        batch = self._inboxes[agent].popleft()
        self.worker.point("delivered")
        try:
            getattr(self.worker.processor, agent)(batch)
        except Exception as error:
            self.engine.task_failed(error)

    # -- the group -----------------------------------------------------------------------------------------------

    def must_rejoin(self) -> None:
        self._rejoin.set()

    def is_unknown(self, member_id: str) -> None:
        if member_id == self.member_id:
            self.generation, self.member_id = -1, ""
            self._rejoin.set()

    async def coordinate(self) -> None:
        """aiokafka's coordination routine, with the callbacks of Faust and our transport."""
        while not self.worker.is_stopping:
            self._revoked = True
            self.engine.era += 1
            self._stop_flow()
            began_s = asyncio.get_running_loop().time()
            await self.engine.release()
            self.worker.released(asyncio.get_running_loop().time() - began_s)
            self.worker.point("revoked")
            numbers = await self._join()
            self._assign(numbers)
            await asyncio.sleep(self.rng.random() * 0.01)
            self.pause_sources(self.assigned)
            if self.generation == self.adopted:
                self._recovery_generation = self.generation
                self._recovery.set()
            await self._rejoin.wait()

    async def _join(self) -> tuple[int, ...]:
        group = self._cluster.group
        while True:
            joined = await group.join(self.member_id, self.worker.instance_id, self.worker)
            if joined is None:
                self.generation, self.member_id = -1, ""
                continue
            self.member_id, self.generation = joined
            self._rejoin.clear()
            numbers: tuple[int, ...] | None
            numbers = await self._cluster.send(group.sync, self.member_id, self.generation)
            if numbers is not None:
                return numbers

    def _assign(self, numbers: Iterable[int]) -> None:
        self.assigned = [TopicPartition(topic, number) for topic in self.engine.sources for number in numbers]
        self.adopted = self.generation
        self._revoked = False
        self.positions = {}
        self.paused.intersection_update(self.assigned)
        self.active = set(self.assigned) - self.paused
        self.worker.process.spawn(self._find_positions(self.positions))

    async def _find_positions(self, positions: dict[TopicPartition, int]) -> None:
        """aiokafka's own idea of where to read on: the committed offset, stable or not, or the beginning."""
        offsets = await self._cluster.send(self._cluster.group.fetch, list(self.assigned), False)
        for source, position in offsets.items():
            positions.setdefault(source, max(0, position.offset))
        self._news.set()

    async def recover(self) -> None:
        """`StateRecovery._restart_recovery`."""
        while True:
            await self._recovery.wait()
            self._recovery.clear()
            generation = self._recovery_generation
            if generation != self.adopted:
                continue
            try:
                if await self.engine.acquire(generation, self.assigned, self.deliver):
                    self.worker.point("acquired")
                    await self._resume(generation)
            except Exception as error:
                self.engine.die(f"taking partitions over failed: {error!r}")

    async def _resume(self, generation: int) -> None:
        await asyncio.sleep(0)
        if self.adopted != generation or self._recovery.is_set():
            return
        self.resume_sources(self.assigned)
        if self.perform_seek() and not self._revoked and not self.engine.is_draining:
            self.flow = True
            self._resumed.set()
            self._news.set()

    def perform_seek(self) -> bool:
        """Every source partition to an explicit offset; False when one of them is not assigned any more."""
        for partition in self.engine.partitions.values():
            for source, offset in partition.accepted.items():
                if source not in self.assigned:
                    return False
                self.positions[source] = offset
        return True

    def _stop_flow(self) -> None:
        self.flow = False
        self._resumed.clear()

    # -- reading -------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """There may be something to read."""
        self._news.set()

    async def read(self) -> None:
        """`transport.Consumer._read`."""
        engine = self.engine
        while True:
            if not self.flow:
                await self._resumed.wait()
                continue
            era = engine.era
            self._news.clear()
            taken = self._take()
            if not taken:
                await self._news.wait()
                continue
            self.worker.point("polled")
            for source, records, end in taken:
                await self._route(source, records, end)
                if era != engine.era or not self.flow:
                    break
            await asyncio.sleep(POLL_S * self.rng.random())

    async def _route(self, source: TopicPartition, records: list[SourceRecord], end: int) -> None:
        queue = self.engine.queues.get(source)
        if queue is not None:
            await queue.add(records, end)
        else:
            await self.deliver(Batch(self.engine.partitions[source.partition], source, records, end))

    def _take(self) -> list[tuple[TopicPartition, list[Any], int]]:
        """What has arrived, in any order of partitions and in pieces of any size."""
        ready = [
            source
            for source, position in self.positions.items()
            if source in self.active and position < self._cluster.log(*source).last_stable
        ]
        self.rng.shuffle(ready)
        room, taken = self.rng.choice((1, 5, 50, 500)), []
        for source in ready:
            if room > 0:
                records, end = self._cluster.log(*source).read(self.positions[source], room)
                room -= len(records)
                self._check(source, self.positions[source], end)
                self.positions[source] = end
                taken.append((source, records, end))
        return taken

    def _check(self, source: TopicPartition, position: int, end: int) -> None:
        partition = self.engine.partitions[source.partition]
        if position != partition.fetched[source]:
            self.engine.die(f"gap: {source} was read from {position}, expected {partition.fetched[source]}")
        partition.fetched[source] = end


class Worker:
    """A process, from its start to its end."""

    is_stopping = False
    has_let_go = False
    """It has drained; whatever begins from now on begins a second time at the next owner."""

    def __init__(self, world: Any, name: str, process: Process, instance_id: str | None) -> None:
        self.world = world
        self.name = name
        self.process = process
        self.instance_id = instance_id
        self.cluster: Cluster = world.cluster
        self.rng: Random = world.rng
        self.began_ms: float = world._clock_ms()
        self.drops = 0
        """Partitions given up, and with them what ran for them."""
        self.engine: SimulatedEngine = world.new_engine(self)
        self.consumer = world.model.consumer(self)
        self.engine.consumer = self.consumer
        self.processor = world.new_processor(self)
        self.engine.on_owned.append(self._owned)
        self.engine.on_letting_go.append(self.processor.careful.let_go)

    def point(self, name: str) -> None:
        """A place where the process may be struck."""
        self.world.point(self, name)

    def must_rejoin(self) -> None:
        self.consumer.must_rejoin()

    def is_unknown(self, member_id: str) -> None:
        self.consumer.is_unknown(member_id)

    def is_fenced(self) -> None:
        self.die(f"another process has this worker's name: {self.instance_id}")

    def dropped(self, partition: Partition) -> None:
        """What ran for *partition* is cancelled, what is not committed of it is lost."""
        self.drops += 1
        if partition.running or partition.outputs:
            self.world.interruptions += 1
        self.world.note(self.process.name, "drops", partition.number)

    def released(self, within_s: float) -> None:
        """A revocation may go on: what was under way has ended, takes long, or would not end.

        A suspect whose turn came just now is not under way: it waits to be written down, and then nobody runs it.
        """
        if within_s < REVOKE_DRAIN_S - 0.001:
            ours = f"{self.process.name}-"
            runs = {
                run.request_id
                for run in self.world.ledger.runs
                if run.ended_ms is None and run.process.startswith(ours)
            }
            for partition in self.engine.partitions.values():
                for key, attempt in partition.running.items():
                    if not attempt.long and key.decode() in runs:
                        self.world.ledger.faults.append(
                            Violation("handover", key.decode(), "nobody waited for its end")
                        )

    def die(self, reason: str) -> NoReturn:
        """In place of `engine.exit_process`."""
        self.world.died(self, reason)
        self.process.die()
        raise AssertionError("the dead do not go on")

    def journal(self) -> None:
        """As `StreamsApp._journal_long_attempts`."""
        before_ms = self.engine.now_ms() - int(self.engine.settings.hold_s * 1000)
        for partition in list(self.engine.partitions.values()):
            self.processor.careful.journal(partition, before_ms)
            self.processor.careful.show(partition, before_ms + self.engine.settings.hold_s * 500)

    async def run(self) -> None:
        """Start everything, in the order of the original."""
        await self.engine.start()
        for routine in (self.consumer.coordinate, self.consumer.recover, self.consumer.read):
            self.process.spawn(self._guarded(routine))

    async def stop(self) -> None:
        """SIGTERM: drain, leave, exit."""
        self.is_stopping = True
        self.consumer._stop_flow()
        await self.engine.drain()
        self.has_let_go = True
        await asyncio.sleep(self.rng.random() * 0.5)  # Faust stops its services one after the other
        if self.instance_id is None:
            await self.cluster.send(self.cluster.group.leave, self.consumer.member_id)
        self.world.exited(self)
        self.process.die()

    async def _guarded(self, routine: Any) -> None:
        try:
            await routine()
        except (asyncio.CancelledError, GeneratorExit, Killed):
            raise
        except BaseException as error:
            self.engine.die(f"{routine.__name__} failed: {error!r}")

    def _owned(self, new: list[Partition]) -> None:
        """As `StreamsApp._owned`."""
        self.processor.set_share(len(self.engine.partitions) / self.cluster.partitions)
        for partition in new:
            self.processor.careful.rearm(partition)
