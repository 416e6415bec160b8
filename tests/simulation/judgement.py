"""What a world looks like from outside: the `History` that `streams.laws` judges, and a few promises more.

Besides L1 to L8 these must hold: the facts of every invocation tell one life; the state in memory is what the changelog
gives; nothing is counted as running when nothing runs; no exception went unnoticed; no process stopped for a reason
that the world did not give it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streams.codec.commands import read_command
from streams.codec.dead_letter import DELIVERY_FAILED
from streams.codec.envelope import read_invocation, request_id_of
from streams.codec.errors import InputRejected, SchemaNeeded
from streams.codec.facts import read_facts
from streams.codec.positions import is_position, read_positions
from streams.codec.state import is_cancelled, unpack
from streams.core.facts import Accepted, AttemptFailed, AttemptStarted, Fact, Failed, Succeeded
from streams.core.model import Function, KafkaDestination, ServiceDestination
from streams.engine.effects import WORKER_CRASHED
from streams.laws import Execution, History, Sample, Terminal, Violation, judge
from streams.topics import Topics

from .functions import DESTINATIONS, Run
from .log import Log, Record, Transaction
from .registry import codec

if TYPE_CHECKING:
    from .worker import Worker
    from .world import World

TOPICS = Topics()


@dataclass(slots=True)
class Ledger:
    """Kept while the world runs."""

    runs: list[Run] = field(default_factory=list)
    faults: list[Violation] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    facts: dict[str, list[Fact]] = field(default_factory=lambda: defaultdict(list))
    accepted: int = 0
    ended: int = 0
    open: set[tuple[int, bytes]] = field(default_factory=set)
    """Invocations that wait or run, as the changelog has them."""
    since_ms: dict[str, float] = field(default_factory=dict)
    """When each process began that ran something."""
    arrived: set[str] = field(default_factory=set)
    """Deliveries that services outside Kafka have."""
    cancelled_ms: dict[str, float] = field(default_factory=dict)
    """When it was decided that each of them is cancelled, be it that its end is still to be written."""

    def add(self, transaction: Transaction, now_ms: float) -> list[tuple[str, tuple[Fact, ...]]]:
        """What *transaction* makes true, at the moment in which it is decided; its facts by request id."""
        written = []
        for log in transaction.logs:
            if log.topic in (TOPICS.facts, TOPICS.changelog):
                for record in _records_of(log, transaction):
                    if log.topic == TOPICS.facts:
                        written.append(self._add_facts(record, now_ms))
                    elif not is_position(record.key or b""):
                        self._add_state(record, now_ms)
        self.samples.append(Sample(self.accepted, len(self.open), 0, self.ended))
        return written

    def judged(self, history: History) -> list[Violation]:
        """All that is wrong."""
        return self.faults + judge(history)

    def _add_facts(self, record: Record, now_ms: float) -> tuple[str, tuple[Fact, ...]]:
        assert record.value is not None
        read = read_facts(codec().decode(record.value)[1])
        self.facts[read.request_id] += read.facts
        self.accepted += sum(isinstance(fact, Accepted) for fact in read.facts)
        self.ended += sum(isinstance(fact, Succeeded | Failed) for fact in read.facts)
        if _is_cancelled(read.facts):
            self.cancelled_ms.setdefault(read.request_id, now_ms)
        return read.request_id, read.facts

    def _add_state(self, record: Record, now_ms: float) -> None:
        assert record.key is not None
        key = (record.partition, record.key)
        if record.value is not None and is_cancelled(record.value):
            self.cancelled_ms.setdefault(record.key.decode(), now_ms)
        if record.value is not None and not unpack(record.value).is_over:
            self.open.add(key)
        else:
            self.open.discard(key)


def _is_cancelled(facts: Sequence[Fact]) -> bool:
    return bool(facts) and isinstance(facts[-1], Failed) and facts[-1].ending == "cancelled"


def _records_of(log: Log, transaction: Transaction) -> Iterator[Record]:
    first = log.open[transaction]
    return (entry[0] for entry in log.entries[first:] if entry is not None and entry[1] is transaction)


# -- the history -----------------------------------------------------------------------------------------------------


def history(world: World) -> History:
    """What a `read_committed` reader finds, and what functions wrote down themselves."""
    seen = History(
        executions=[run.seen() for run in world.ledger.runs],
        kills=world.interruptions,
        samples=world.ledger.samples,
        cancelled_ms=world.ledger.cancelled_ms,
        since_ms=world.ledger.since_ms,
    )
    seen.executions += _unseen(world)
    deadlines_ms: dict[str, float] = {}
    unreadable: dict[str, Any] = {}
    for record in _committed(world, TOPICS.invocations):
        _add_input(world, record, seen.produced, deadlines_ms, unreadable)
    for record in _committed(world, TOPICS.commands):
        _add_command(record, seen.produced, unreadable)
    dead_letters = _dead_letters(world, seen)
    _add_records(world, seen)
    seen.deadlines_ms, seen.unreadable, seen.dead_letters = deadlines_ms, unreadable, dead_letters
    _add_deliveries(world, seen)
    return seen


def _unseen(world: World) -> Iterator[Execution]:
    """Attempts that were found to have killed their worker, maybe before the function could write down that it ran."""
    seen = {(run.request_id, run.attempt) for run in world.ledger.runs}
    for request_id, facts in world.ledger.facts.items():
        started_ms = 0
        for fact in facts:
            if isinstance(fact, AttemptStarted):
                started_ms = fact.at_ms
            elif isinstance(fact, AttemptFailed) and fact.outcome.error_type == WORKER_CRASHED:
                if (request_id, fact.attempt) not in seen:
                    yield Execution(request_id, fact.attempt, f"killed by {request_id}", started_ms, started_ms)


def _committed(world: World, topic: str) -> list[Record]:
    return [record for log in world.cluster.topic(topic) for record in log.read(0)[0]]


def _add_input(
    world: World, record: Record, produced: set[str], deadlines_ms: dict[str, float], unreadable: dict[str, Any]
) -> None:
    try:
        invocation = read_invocation(record, record.timestamp, codec())
        function = world.functions.resolve(invocation.function, invocation.qualifier)
        if isinstance(function, str) or record.value == b"not json":
            raise InputRejected("UnknownFunction", "It cannot be run.")
    except (InputRejected, SchemaNeeded):
        unreadable[request_id_of(record)] = record.value
        produced.add(request_id_of(record))
    else:
        produced.add(invocation.request_id)
        deadline_ms = invocation.accepted_at_ms + function.policy.age_max_ms
        deadlines_ms.setdefault(invocation.request_id, deadline_ms)


def _add_command(record: Record, produced: set[str], unreadable: dict[str, Any]) -> None:
    try:
        read_command(record)
    except InputRejected:
        unreadable[request_id_of(record)] = record.value
        produced.add(request_id_of(record))


_KAFKA = re.compile(r"kafka://(\S+)")


def _dead_letters(world: World, seen: History) -> dict[str, bytes | None]:
    """Bytes by id; those of inputs that never became invocations are terminal records, too."""
    dead_letters: dict[str, bytes | None] = {}
    for record in _committed(world, TOPICS.dlq):
        assert record.value is not None
        datum = codec().decode(record.value)[1]
        if datum["reason"] != DELIVERY_FAILED:
            dead_letters[datum["request_id"]] = datum["value"]
        if datum["accepted_at_ms"] is None:
            seen.terminals.append(Terminal(datum["request_id"], "dead letter", 0))
        if datum["reason"] == DELIVERY_FAILED:
            address = next((h["value"].decode() for h in datum["headers"] if h["name"] == "destination"), "nowhere")
            if (topic := _KAFKA.match(datum["error_message"])) is not None:
                address = topic[1]
            dead_letters[f"{datum['request_id']} to {address}"] = datum["value"]
    return dead_letters


def _add_records(world: World, seen: History) -> None:
    """Terminal records, and where else each of them was to go."""
    for topic in TOPICS.records:
        for record in _committed(world, topic):
            assert record.key is not None
            request_id, headers = record.key.decode(), dict(record.headers)
            succeeded = topic.endswith("success")
            attempts = int(headers["attempts"] or b"")
            seen.terminals.append(
                Terminal(request_id, "success" if succeeded else "failure", attempts, record.timestamp)
            )
            function = world.functions.resolve((headers["function"] or b"").decode(), None)
            assert isinstance(function, Function)
            cancelled = _is_cancelled(world.ledger.facts[request_id])
            if not cancelled or world.functions.provider(function.provider).cancelled_is_sent:
                seen.destined.update(f"{request_id} to {target}" for target in _targets(function, succeeded))


def _targets(function: Function, succeeded: bool) -> Iterator[str]:
    destination = function.on_success if succeeded else function.on_failure
    if isinstance(destination, KafkaDestination):
        yield destination.topic
    elif isinstance(destination, ServiceDestination):
        yield destination.address
    elif destination is not None:
        yield "chain"
    if function.dead_letter is not None and not succeeded:
        queue = function.dead_letter
        yield queue.topic if isinstance(queue, KafkaDestination) else queue.address


def _add_deliveries(world: World, seen: History) -> None:
    arrived = Counter(_delivery(record, topic) for topic in DESTINATIONS for record in _committed(world, topic))
    links = (record for record in _committed(world, TOPICS.invocations) if dict(record.headers).get("depth"))
    arrived.update(_delivery(record, "chain") for record in links)
    seen.delivered = set(arrived) | world.ledger.arrived
    for delivery, count in arrived.items():
        if count > 1:
            world.ledger.faults.append(Violation("destination", delivery, f"arrived {count} times"))


def _delivery(record: Record, target: str) -> str:
    return f"{(record.key or b'').decode()} to {target}"


# -- promises that the laws do not have ------------------------------------------------------------------------------


def verdict(world: World) -> list[Violation]:
    """What is wrong inside, when all is quiet."""
    faults: list[Violation] = []
    for request_id, facts in world.ledger.facts.items():
        faults += [Violation("facts", request_id, fault) for fault in _faults_of_life(facts)]
    for worker in world.workers.values():
        committer = worker.engine.committer
        if worker.process.state == "running" and committer.member is not None and not committer.lock.locked():
            faults += [Violation("state", worker.process.name, fault) for fault in _faults_of_state(world, worker)]
    return faults


def _faults_of_life(facts: list[Fact]) -> Iterator[str]:
    """An invocation is accepted once, first of all, and ends once, last of all; attempts are counted up one by one."""
    if [isinstance(fact, Accepted) for fact in facts] != [True] + [False] * (len(facts) - 1):
        yield f"accepted not first, or not once: {facts}"
    if [isinstance(fact, Succeeded | Failed) for fact in facts] != [False] * (len(facts) - 1) + [True]:
        yield f"ended not last, or not once: {facts}"
    started = [fact.attempt for fact in facts if isinstance(fact, AttemptStarted)]
    if sorted(started) != started:
        yield f"attempts started in the order {started}"


def _faults_of_state(world: World, worker: Worker) -> Iterator[str]:
    for prepared in worker.processor._prepared.values():
        load = prepared.load
        if load.running or load.long:
            yield f"{prepared.function.name} has {load.running} running and {load.long} long attempts"
    for number, partition in worker.engine.partitions.items():
        if partition.in_flight_count or partition.running:
            yield f"{partition.in_flight_count} records are in flight, {len(partition.running)} attempts run"
        if partition.drift():
            yield f"partition {number} has a drift of {partition.drift()}"
        if partition.requests.open_count:
            left = [key for key, _ in partition.requests.items() if partition.requests.is_open(key)]
            yield f"partition {number} waits for records that do not come: {left}"
        if not partition.outputs:
            table = _table(world.cluster.log(TOPICS.changelog, number))
            kept = read_positions(table)
            for key in kept:
                del table[key]
            committed = world.cluster.group.fetch(partition.sources, stable=False) or {}
            if kept != {partition.position_keys[source]: position.offset for source, position in committed.items()}:
                yield f"the changelog of partition {number} keeps other offsets than the group: {kept}"
            ended = [key for key in table if key in partition.requests.ended]
            if table != dict(partition.requests.items()) or ended != list(partition.requests.ended):
                yield f"the table of partition {number} is not what its changelog says"
        committed = world.cluster.group.fetch(partition.sources, stable=False)
        if committed != partition.stable:
            yield f"partition {number} believes in other committed offsets: {partition.stable}"


def _table(changelog: Log) -> dict[bytes, bytes]:
    """What a changelog leaves, in the order of the last changes."""
    table: dict[bytes, bytes] = {}
    for record in changelog.read(0)[0]:
        assert record.key is not None
        table.pop(record.key, None)
        if record.value is not None:
            table[record.key] = record.value
    return table
