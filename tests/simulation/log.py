"""A Kafka cluster in memory: logs with transactions, and the coordinator that ends them.

What it takes over from the real one, because the engine relies on it or has to cope with it:

- Records of a transaction have offsets at once; a `read_committed` reader stops before the first one whose transaction
  has no marker in that partition yet (the last stable offset), and never sees those of an aborted one. A marker takes
  an offset, too.
- Ending a transaction is decided at one moment; its markers reach each partition, and the group's offsets, later and
  one by one. Until all have arrived the producer's next request is refused (CONCURRENT_TRANSACTIONS).
- Every end makes the producer's epoch one higher, and so does `init_producer`; whatever comes with an older epoch is
  refused. A transaction that stays open too long is aborted by the coordinator.
- Offsets in a transaction are pending until its marker reaches the group; who asks for stable ones waits so long.
- Requests take their time, on the way there and back, and arrive even if their sender is dead by then.

What it leaves out: brokers that fail, replication, and retention in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, NamedTuple, TypeAlias

from aiokafka import TopicPartition

from streams.engine.engine import TRANSACTION_TIMEOUT_MS
from streams.engine.transaction import Headers, Member, Outputs, Position

from .group import Group
from .loop import WORLD, VirtualLoop

EPOCH_MS = 1_800_000_000_000
"""When every world begins."""


Code: TypeAlias = str
"""Of a refused request; empty when it was granted."""


class Record(NamedTuple):
    """A record as a consumer gets it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


@dataclass(eq=False, slots=True)
class Transaction:
    """What a producer writes together."""

    producer: str
    started_s: float
    state: Literal["open", "committed", "aborted"] = "open"
    logs: dict[Log, None] = field(default_factory=dict)
    offsets: dict[TopicPartition, Position] = field(default_factory=dict)
    markers_missing: int = 0
    timer: asyncio.TimerHandle | None = None
    """Aborts it when it stays open too long."""


class Log:
    """One partition of a topic. Offsets are places in `entries`; a marker, or what compaction took, is None."""

    def __init__(self, topic: str, number: int) -> None:
        self.topic = topic
        self.number = number
        self.first = 0
        self.last_stable = 0
        """Readers of committed records get no further."""
        self.entries: list[tuple[Record, Transaction | None] | None] = []
        self.open: dict[Transaction, int] = {}
        """First offset of each transaction that has no marker here."""

    @property
    def high_watermark(self) -> int:
        return len(self.entries)

    def append(
        self,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        transaction: Transaction | None = None,
    ) -> Record:
        record = Record(self.topic, self.number, len(self.entries), timestamp, key, value, tuple(headers))
        if transaction is not None:
            self.open.setdefault(transaction, record.offset)
        self.entries.append((record, transaction))
        if not self.open:
            self.last_stable = len(self.entries)
        return record

    def mark(self, transaction: Transaction) -> None:
        """The marker of *transaction* arrives."""
        self.open.pop(transaction, None)
        self.entries.append(None)
        self.last_stable = min(self.open.values(), default=len(self.entries))

    def read(self, position: int, count_max: int = 1 << 30) -> tuple[list[Record], int]:
        """Committed records from *position* on, and the position after them."""
        records: list[Record] = []
        position, end = max(position, self.first), self.last_stable
        while position < end and len(records) < count_max:
            entry = self.entries[position]
            position += 1
            if entry is not None and (entry[1] is None or entry[1].state == "committed"):
                records.append(entry[0])
        return records, position

    def compact(self) -> None:
        """Take all but the last record of each key, below the last stable offset."""
        records, end = self.read(0)
        latest = {record.key: record.offset for record in records}
        kept = set(latest.values())
        for offset in range(self.first, end):
            if offset not in kept:
                self.entries[offset] = None


@dataclass(slots=True)
class _Producer:
    """What the coordinator knows of a transactional id."""

    epoch: int = 0
    transaction: Transaction | None = None
    ended: tuple[int, bool] | None = None
    """Epoch and result of the last one that its owner ended."""


@dataclass(slots=True)
class Weather:
    """What goes wrong at the brokers, as probabilities."""

    slow: float = 0.01
    """Of a request or an answer that takes seconds."""
    late_marker: float = 0.03
    abort: float = 0.0
    """Of a transaction that is refused for no fault of its producer's."""
    refuse: float = 0.0
    """Of a partition that is not ours and does not take what a transaction has for it."""
    answer_lost: float = 0.0
    """Of an EndTxn whose answer never arrives, so that it must be repeated."""


REFUSES = "not to "
"""Begins the code of a refusal; then comes the partition."""


class Cluster:
    """All brokers. Methods without ``async`` are what a broker does with a request; `send` takes them there."""

    accepts_any_generation = False
    commits_offsets_early = False

    def __init__(
        self,
        loop: VirtualLoop,
        rng: Random,
        note: Callable[..., None],
        partitions: int,
        topics: Collection[str],
        others: Collection[str] = (),
    ) -> None:
        self.loop = loop
        self.rng = rng
        self.note = note
        self.partitions = partitions
        self.weather = Weather()
        self.others = others
        self.logs = {
            (topic, number): Log(topic, number) for topic in (*topics, *others) for number in range(partitions)
        }
        self.group = Group(self, partitions)
        self.on_append: Callable[[], None] = lambda: None
        """Called when there may be something to read."""
        self.on_commit: Callable[[Transaction], None] = lambda _: None
        """Called when a transaction is decided to be committed, before anybody can see it."""
        self.on_step: Callable[[str, str], None] = lambda producer, step: None
        """Called with a transactional id after a step of its transaction."""
        self._producers: dict[str, _Producer] = {}

    # -- time ----------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        return EPOCH_MS + round(self.loop.time() * 1000)

    def delay_s(self) -> float:
        """How long a message travels."""
        if self.rng.random() < self.weather.slow:
            return self.rng.random() * 4.0
        return self.rng.random() * 0.003

    def later(self, delay_s: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """Call *callback* in the world, whatever becomes of the process that asks for it."""
        return self.loop.call_later(delay_s, callback, *args, context=WORLD)

    def send(self, request: Callable[..., Any], *args: object) -> asyncio.Future[Any]:
        """Take *request* to a broker and its answer back."""
        answer: asyncio.Future[Any] = self.loop.create_future()
        self.later(self.delay_s(), self._arrive, answer, request, args)
        return answer

    def _arrive(self, answer: asyncio.Future[Any], request: Callable[..., Any], args: tuple[object, ...]) -> None:
        self.reply(answer, request(*args))

    def reply(self, answer: asyncio.Future[Any], result: object) -> None:
        """Send the answer *result* back."""
        self.later(self.delay_s(), self._answer, answer, result)

    def _answer(self, answer: asyncio.Future[Any], result: object) -> None:
        if not answer.done():
            answer.set_result(result)

    # -- records -------------------------------------------------------------------------------------------------

    def log(self, topic: str, number: int) -> Log:
        return self.logs[topic, number]

    def topic(self, name: str) -> list[Log]:
        """All partitions of a topic."""
        return [self.logs[name, number] for number in range(self.partitions)]

    def partition_count(self, topic: str) -> int:
        return self.partitions if (topic, 0) in self.logs else 0

    def produce(
        self, topic: str, number: int, key: bytes | None, value: bytes | None, headers: Headers | tuple[Any, ...]
    ) -> Record:
        """A record of a producer without transactions, such as a client of ours."""
        record = self.log(topic, number).append(self.now_ms(), key, value, headers)
        self.on_append()
        return record

    def bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """First offset and high watermark of each."""
        return {source: (self.log(*source).first, self.log(*source).high_watermark) for source in partitions}

    # -- transactions --------------------------------------------------------------------------------------------

    def init_producer(self, name: str) -> int | None:
        """Fence whoever holds *name*; its new epoch, or None while an earlier transaction is still ending."""
        producer = self._producers.setdefault(name, _Producer())
        if producer.transaction is not None:
            if producer.transaction.state == "open":
                self._decide(producer, producer.transaction, committed=False)
            return None
        producer.epoch += 1
        return producer.epoch

    def stuck(self, prefix: str, older_s: float) -> list[str]:
        """Transactional ids that begin with *prefix* and have had a transaction open for *older_s*."""
        before_s = self.loop.time() - older_s
        return [
            name
            for name, producer in self._producers.items()
            if name.startswith(prefix)
            and producer.transaction is not None
            and producer.transaction.state == "open"
            and producer.transaction.started_s <= before_s
        ]

    def add_records(self, name: str, epoch: int, outputs: Outputs) -> Code:
        """Produce."""
        transaction = self._open(name, epoch)
        if isinstance(transaction, str):
            return transaction
        now_ms = self.now_ms()
        refused = ""
        for (topic, number), records in outputs.items():
            if topic in self.others and self.rng.random() < self.weather.refuse:
                refused = f"{REFUSES}{topic}-{number}"
                continue
            log = self.log(topic, number)
            transaction.logs[log] = None
            for key, value, headers in records:
                log.append(now_ms, key, value, headers, transaction)
        self.note(name, "produced", sum(map(len, outputs.values())))
        self.on_step(name, "produced")
        return refused or self._misfortune()

    def add_offsets(self, name: str, epoch: int, offsets: Mapping[TopicPartition, Position], member: Member) -> Code:
        """TxnOffsetCommit."""
        transaction = self._open(name, epoch)
        if isinstance(transaction, str):
            return transaction
        refused = "" if self.accepts_any_generation else self.group.refuse(member)
        if not refused:
            self.note(name, "offsets", {f"{topic}-{number}": p.offset for (topic, number), p in offsets.items()})
            transaction.offsets.update(offsets)
            if self.commits_offsets_early:
                self.group.commit(offsets)
            else:
                self.group.pend(transaction, offsets)
            self.on_step(name, "offsets sent")
            refused = self._misfortune()
        return refused

    def end(self, name: str, epoch: int, committed: bool) -> tuple[Code, int]:
        """EndTxn; the producer's next epoch."""
        producer = self._producers[name]
        if producer.ended == (epoch, committed) and producer.epoch == epoch + 1:
            return "", producer.epoch  # repeated, because the answer was lost
        if producer.epoch != epoch:
            return "fenced", 0
        transaction = producer.transaction
        if transaction is None or transaction.state != "open":
            return ("nothing to end" if transaction is None else "concurrent"), 0
        producer.ended = (epoch, committed)
        self._decide(producer, transaction, committed)
        self.on_step(name, "ended")
        return "", producer.epoch

    def _misfortune(self) -> Code:
        return "refused" if self.rng.random() < self.weather.abort else ""

    def _open(self, name: str, epoch: int) -> Transaction | Code:
        """The open transaction of *name*, or why there is none. The first request of a transaction opens it."""
        producer = self._producers[name]
        if producer.epoch != epoch:
            return "fenced"
        if producer.transaction is None:
            transaction = producer.transaction = Transaction(name, self.loop.time())
            limit_s = TRANSACTION_TIMEOUT_MS / 1000 * (1 + self.rng.random())
            transaction.timer = self.later(limit_s, self._time_out, producer, transaction)
        return producer.transaction if producer.transaction.state == "open" else "concurrent"

    def _time_out(self, producer: _Producer, transaction: Transaction) -> None:
        self.note(transaction.producer, "is open too long")
        self._decide(producer, transaction, committed=False)

    def _decide(self, producer: _Producer, transaction: Transaction, committed: bool) -> None:
        """From here on the result is certain; its markers are on their way."""
        transaction.state = "committed" if committed else "aborted"
        producer.epoch += 1
        if transaction.timer is not None:
            transaction.timer.cancel()
        self.note(transaction.producer, transaction.state)
        if committed:
            self.on_commit(transaction)
        transaction.markers_missing = len(transaction.logs) + 1
        for log in transaction.logs:
            self.later(self._marker_delay_s(), self._mark, producer, transaction, log)
        self.later(self._marker_delay_s(), self._mark, producer, transaction, None)

    def _marker_delay_s(self) -> float:
        return self.rng.random() * (3.0 if self.rng.random() < self.weather.late_marker else 0.004)

    def _mark(self, producer: _Producer, transaction: Transaction, log: Log | None) -> None:
        """A marker arrives, at *log* or at the group's offsets."""
        if log is not None:
            log.mark(transaction)
        else:
            self.group.settle(transaction, transaction.state == "committed")
        transaction.markers_missing -= 1
        if not transaction.markers_missing:
            producer.transaction = None
        self.on_append()

    @property
    def is_quiet(self) -> bool:
        """Whether every record that workers read is committed by them, and no transaction is under way."""
        return not any(producer.transaction for producer in self._producers.values())
