"""A world made from one seed: a cluster, workers, their functions, what is sent to them, and all that goes wrong.

Chance has three streams, all from the seed: the shape of the world, the order of events in it, and what becomes of each
attempt. So the same seed gives the same trace, to the last line.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from aiokafka import TopicPartition

from streams.codec.avro import Codec, load_schemas
from streams.codec.retry import Origin, origin_headers
from streams.core.facts import Fact
from streams.core.model import Delivery
from streams.engine.commits import Committer
from streams.engine.effects import Effects
from streams.engine.processor import Processor
from streams.engine.requests import Requests
from streams.functions import Functions
from streams.invokers import Call
from streams.laws import Violation
from streams.topics import Topics

from .functions import DESTINATIONS, Invokers, Plan, Run, Services, catalogue
from .judgement import Ledger, history, verdict
from .log import EPOCH_MS, Cluster, Transaction
from .loop import PROCESS, Deadlock, Process, VirtualLoop
from .registry import Registry
from .shape import PRODUCED_AT, Fault, Input, Shape, shape
from .worker import Consumer, NumberedPartition, Producer, Reader, SimulatedEngine, Worker

TOPICS = Topics()
HOURS_MAX = 100
TURNS_MAX = 400_000

EXPECTED_DEATHS = ("another process has this worker's name", "the outcome of a transaction is not known")
EXPECTED_ERRORS = ("a task failed", "a transaction ended in an unknown way", "invocation ")

LIVES = ("starts", "is killed", "stops", "goes on", "dies", "exits", "drops", "fences", "outage", "generation", "logs")
"""Lines of the trace that tell of processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The parts of the engine and its surroundings of which a test may bring a broken variant."""

    engine: type[SimulatedEngine] = SimulatedEngine
    partition: type[NumberedPartition] = NumberedPartition
    committer: type[Committer] = Committer
    requests: type[Requests] = Requests
    consumer: type[Consumer] = Consumer
    cluster: type[Cluster] = Cluster


@dataclass(slots=True)
class Report:
    """What a world came to."""

    seed: int
    violations: list[Violation]
    trace: list[tuple[Any, ...]]
    ledger: Ledger
    statistics: Counter[str]

    def lines(self, names: Collection[str] = ()) -> Iterator[str]:
        """The trace to be read by a human; only the lives of processes and what concerns *names*, if there are any."""
        for at_s, who, what, *rest in self.trace:
            text = " ".join(map(str, rest))
            if not names or what in LIVES or any(name in text or name == who for name in names):
                yield f"{at_s:12.4f} {who:14} {what} {text}"


class World:
    """One run from a seed."""

    def __init__(
        self, seed: int, model: Model = Model(), reshape: Callable[[Shape], None] = lambda shape: None
    ) -> None:
        self.seed = seed
        self.model = model
        self.loop = VirtualLoop()
        self.rng = Random(f"{seed} order")
        self.trace: list[tuple[Any, ...]] = []
        self.statistics: Counter[str] = Counter()
        shaping = Random(f"{seed} shape")
        self.functions = Functions(catalogue(shaping))
        self.shape = shape(shaping, list(self.functions))
        reshape(self.shape)
        self.cluster = model.cluster(
            self.loop, self.rng, self.note, self.shape.partitions, TOPICS.all, others=DESTINATIONS
        )
        self.cluster.weather = self.shape.weather
        self.ledger = Ledger()
        self.interruptions = 0
        """Deaths of processes and losses of partitions: each may hide one execution of an attempt."""
        self.workers: dict[str, Worker] = {}
        """The latest process of each name."""
        self._replaced: list[Worker] = []
        """Earlier ones that were stopped while another process got their name."""
        self._inputs_left = len(self.shape.inputs) + len(self.shape.commands)
        self._points: Counter[str] = Counter()
        self._traps: dict[str, list[Fault]] = defaultdict(list)
        self._produced: dict[bytes | None, Any] = {}
        """The latest record with each key on `invocations`."""
        self._starts: Counter[str] = Counter()
        self._looking: set[str] = set()
        self._done = self.loop.create_future()

    def run(self) -> Report:
        """Until all is quiet, or it is clear that it never will be."""
        with _logs(self._logged):
            self._prepare()
            try:
                self.loop.run_until_complete(self._live())
                faults = verdict(self)
            except Deadlock:
                faults = [Violation("end", "-", "the world stands still, and not all is done")]
        faults += [Violation("exception", "-", error) for error in self.loop.errors]
        self.loop.close()
        self.statistics["turns"] += self.loop.turns
        seen = history(self)
        return Report(self.seed, faults + self.ledger.judged(seen), self.trace, self.ledger, self.statistics)

    def _logged(self, record: logging.LogRecord) -> None:
        """The engine's own warnings and errors are lines of the trace; an error that nothing explains is a fault."""
        process = PROCESS.get()
        who, text = process.name if process else "world", record.getMessage()
        self.note(who, "logs", text)
        if record.exc_info and record.exc_info[1] is not None:
            self.note(who, "logs", repr(record.exc_info[1]))
        if record.levelno == logging.ERROR and not text.startswith(EXPECTED_ERRORS):
            self.ledger.faults.append(Violation("log", who, text))

    def note(self, who: str, what: str, *rest: object) -> None:
        """A line of the trace."""
        self.trace.append((round(self.loop.time(), 6), who, what, *rest))

    # -- life ----------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self.loop.turns_max, self.loop.end_s = TURNS_MAX, HOURS_MAX * 3600.0
        self.cluster.on_append = self._news
        self.cluster.on_commit = self._committed
        self.cluster.on_step = self._step
        for name in self.shape.names:
            self.cluster.later(self.rng.random() * 3.0, self.start, name)
        for sent in self.shape.inputs:
            self.cluster.later(sent.at_s, self._send, TOPICS.invocations, sent)
        for sent in self.shape.commands:
            self.cluster.later(sent.at_s, self._send, TOPICS.commands, sent)
        for fault in self.shape.faults:
            if fault.point:
                self._traps[fault.point].append(fault)
            else:
                self.cluster.later(fault.at_s, self._strike_somebody, fault)

    async def _live(self) -> None:
        await self._done
        await asyncio.sleep(80.0)  # answers that are still on their way or never arrive, requests that are forgotten
        while not self.cluster.is_quiet:  # noqa: ASYNC110  # a late rebalance, for instance
            await asyncio.sleep(5.0)

    def _send(self, topic: str, sent: Input) -> None:
        self._inputs_left -= 1
        headers = sent.headers
        if ("origin", PRODUCED_AT) in headers:
            at = self._produced.get(sent.key)
            headers = tuple(header for header in headers if header[0] != "origin")
            headers += tuple(origin_headers(Origin.of(at))) if at is not None else ()
        record = self.cluster.produce(topic, sent.number, sent.key, sent.value, headers)
        if topic == TOPICS.invocations:
            self._produced[sent.key] = record
        what = "sends" if topic == TOPICS.invocations else "cancels"
        self.note("client", what, record.key, record.partition, record.offset, dict(sent.headers), sent.value)

    def _news(self) -> None:
        """Tell the workers, soon, that there may be something to read; and see whether all is done."""
        for worker in (*self.workers.values(), *self._replaced):
            if worker.process.name not in self._looking and worker.process.state != "dead":
                self._looking.add(worker.process.name)
                worker.process.call_later(self.rng.random() * 0.02, self._look, worker)
        if not self._inputs_left and not self._done.done() and self._is_quiet():
            self._done.set_result(None)

    def _look(self, worker: Worker) -> None:
        self._looking.discard(worker.process.name)
        worker.consumer.look()

    def _is_quiet(self) -> bool:
        """Whether all is done with: no invocation waits or runs, no transaction is open, every offset is committed."""
        cluster = self.cluster
        return (
            not self.ledger.open
            and cluster.is_quiet
            and all(
                cluster.group.offsets.get(TopicPartition(topic, number), (0,))[0]
                >= cluster.log(topic, number).high_watermark
                for topic in TOPICS.sources
                for number in range(cluster.partitions)
            )
        )

    def _committed(self, transaction: Transaction) -> None:
        for request_id, facts in self.ledger.add(transaction, self._clock_ms()):
            self.note(transaction.producer, "writes", request_id, " ".join(map(_brief, facts)))
        self.statistics["transactions"] += 1
        for worker in self.workers.values():
            for partition in worker.engine.partitions.values():
                if partition.drift() and worker.process.state != "dead":
                    fault = f"partition {partition.number} has a drift of {partition.drift()} at {self.loop.time()}"
                    self.ledger.faults.append(Violation("L5", worker.process.name, fault))

    # -- processes -----------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a process; its predecessor of the same name is dead."""
        self._starts[name] += 1
        process = Process(self.loop, f"{name}.{self._starts[name]}")
        self.note(process.name, "starts")
        worker = process.context.run(Worker, self, name, process, name if self.shape.static else None)
        self.workers[name] = worker
        process.spawn(worker.run())

    def new_engine(self, worker: Worker) -> SimulatedEngine:
        """The real engine, on this world's cluster and clock."""
        model, cluster = self.model, self.cluster
        settings = replace(self.shape.settings, worker_name=worker.instance_id)
        engine = model.engine(
            settings,
            worker.die,
            token=worker.process.name,
            clock_ms=cluster.now_ms,
            new_producer=lambda kafka, name, group, timeout_ms: Producer(cluster, name, self.shape.unknown),  # type: ignore[arg-type,return-value]
            new_reader=lambda kafka, topics: Reader(cluster, worker.point),  # type: ignore[arg-type,return-value]
        )
        engine.worker = worker
        engine.model = model
        engine.committer = model.committer(
            engine.producer, engine.token, settings.commit_interval_ms / 1000, engine.die
        )
        return engine

    def new_processor(self, worker: Worker) -> Processor:
        def begin(call: Call, plan: Plan) -> Run:
            return self._run(worker, call, plan)

        registry = Registry(self.rng)
        codec = Codec(load_schemas(), lookup=registry.fetched)
        return Processor(
            self.functions,
            Invokers(self.seed, self._clock_ms, worker.point, begin),  # type: ignore[arg-type]
            registry,  # type: ignore[arg-type]
            Effects(codec, TOPICS, 1.0, self._locate, {}),
            worker.engine.settings.long_max,
            Services(self.seed, self.rng, worker.point, self._arrived).send,
        )

    def _arrived(self, delivery: Delivery) -> None:
        self.ledger.arrived.add(f"{delivery.request_id} to {delivery.address}")

    def _clock_ms(self) -> float:
        return EPOCH_MS + self.loop.time() * 1000

    def _locate(self, topic: str, key: bytes) -> TopicPartition | None:
        count = self.cluster.partition_count(topic)
        return TopicPartition(topic, sum(key) % count) if count else None

    def _run(self, worker: Worker, call: Call, plan: Plan) -> Run:
        """A function begins. A process that has given a partition up is another one from then on."""
        process = f"{worker.process.name}-{worker.drops}"
        self.note(worker.process.name, "runs", call.request_id, call.attempt, plan.kind, round(plan.duration_s, 3))
        if worker.has_let_go:
            fault = f"began in {worker.process.name} after that had let go of everything"
            self.ledger.faults.append(Violation("stop", call.request_id, fault))
        run = Run(call.request_id, call.attempt, process, self._clock_ms())
        self.ledger.runs.append(run)
        self.ledger.since_ms[process] = worker.began_ms
        member = worker.consumer.member()
        if call.request_id in self.ledger.cancelled_ms and member is not None and not self.cluster.group.refuse(member):
            self.ledger.faults.append(Violation("L6", call.request_id, "started although it was cancelled"))
        hold_s = worker.engine.settings.hold_s
        for after_s in (hold_s / 2, hold_s):
            if plan.duration_s > after_s:
                worker.process.call_later(after_s + self.rng.random(), worker.journal)
        return run

    # -- what goes wrong -----------------------------------------------------------------------------------------

    def point(self, worker: Worker, name: str) -> None:
        """*worker* has come to a place where it may be struck."""
        self._points[name] += 1
        for fault in self._traps.get(name, ()):
            if fault.nth == self._points[name]:
                self._strike(worker, fault)

    def _step(self, transactional_id: str, step: str) -> None:
        """A step of a transaction was taken at the broker, and its producer does not know yet."""
        worker = self.workers[transactional_id.rpartition(":")[2].partition(".")[0]]
        if worker.engine.producer.name == transactional_id:
            self.point(worker, step)

    def _strike_somebody(self, fault: Fault) -> None:
        if fault.strike == "outage":
            self.note("world", "outage", fault.lasts_s)
            for worker in list(self.workers.values()):
                self._kill(worker, fault.lasts_s)
            self.cluster.later(0.9 * fault.lasts_s, self.cluster.group.forget_offsets)
        elif self.workers:
            self._strike(self.rng.choice(list(self.workers.values())), fault)

    def _strike(self, worker: Worker, fault: Fault) -> None:
        if worker.process.state != "running":
            return
        self.statistics[fault.strike] += 1
        match fault.strike:
            case "crash" | "outage":
                self._kill(worker, fault.lasts_s)
            case "stop":
                self.loop.when_idle(lambda: self._stop(worker, fault.lasts_s))
            case "replace":
                self.loop.when_idle(lambda: self._replace(worker, fault.lasts_s))
            case "quit":
                worker.process.spawn(worker.stop())
            case "rebalance":
                self.cluster.group.rebalance("for no reason")
            case "compact":
                for log in self.cluster.topic(TOPICS.changelog):
                    log.compact()

    def _kill(self, worker: Worker, lasts_s: float) -> None:
        """SIGKILL; a supervisor starts it again."""
        if worker.process.state == "dead":
            return
        self.note(worker.process.name, "is killed")
        self.gone(worker, lasts_s)
        if PROCESS.get() is worker.process:
            worker.process.die()
        worker.process.kill()

    def _stop(self, worker: Worker, lasts_s: float) -> None:
        if worker.process.state == "running":
            self.note(worker.process.name, "stops", lasts_s)
            worker.process.stop()
            self.interruptions += 1
            self.cluster.group.silent(worker)
            self.cluster.later(lasts_s, self._go_on, worker)

    def _replace(self, worker: Worker, lasts_s: float) -> None:
        if worker.process.state == "running" and self.workers[worker.name] is worker:
            self._stop(worker, lasts_s)
            self._replaced.append(worker)
            self.start(worker.name)

    def _go_on(self, worker: Worker) -> None:
        if worker.process.state == "stopped":
            self.note(worker.process.name, "goes on")
            worker.process.go_on()

    def died(self, worker: Worker, reason: str) -> None:
        """The engine has stopped its process."""
        self.note(worker.process.name, "dies", reason)
        self.statistics["deaths"] += 1
        if not reason.startswith(EXPECTED_DEATHS):
            self.ledger.faults.append(Violation("death", worker.process.name, reason))
        self.gone(worker, self.rng.random() * 5.0)

    def exited(self, worker: Worker) -> None:
        """The process has ended in peace."""
        self.note(worker.process.name, "exits")
        self.gone(worker, self.rng.random() * 20.0)

    def gone(self, worker: Worker, restart_s: float) -> None:
        """The process of *worker* will not run again: its heartbeats end, and it is started anew."""
        self.interruptions += 1
        self.cluster.group.silent(worker)
        if self.workers[worker.name] is worker:
            self.cluster.later(restart_s, self.start, worker.name)


def _brief(fact: Fact) -> str:
    attempt = getattr(fact, "attempt", None)
    return type(fact).__name__ if attempt is None else f"{type(fact).__name__}/{attempt}"


@contextmanager
def _logs(emit: Callable[[logging.LogRecord], None]) -> Iterator[None]:
    """Take what the engine logs."""
    log = logging.getLogger("streams")
    handler = logging.Handler(logging.WARNING)
    handler.emit = emit  # type: ignore[assignment,method-assign]
    propagate, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagate
