"""All that was seen from outside: topics read from their beginning, read committed, and what the functions wrote down.

It is read piece by piece, and given out as a `History` of some requests at a time, so that a run of hours needs no more
memory than one of minutes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from streams.cluster import Topic
from streams.commands.reading import Reader, Record, partitions_of
from streams.doctor.executions import Executions
from streams.doctor.inputs import DELIVERED, codec
from streams.doctor.load import Sent
from streams.engine.effects import WORKER_CRASHED
from streams.laws import Execution, History, Sample, Terminal
from streams.settings import Settings

_CREATE_TIME = 0
"""Timestamp type: the one who wrote a record says when, not the broker, whose clock may be another."""


class Case(NamedTuple):
    """What is judged: a history, and what the laws do not ask for."""

    history: History
    sent: Mapping[str, Sent]
    delivered: Mapping[str, int]
    """How often each id came to its destination."""
    committed_ms: Mapping[str, Sequence[int]]
    """When the steps of each id were committed (epoch milliseconds)."""
    crashed: Set[str]
    """Those whose dead letter says that they killed their worker."""


class Evidence:
    """What became of everything in one trial."""

    def __init__(self, settings: Settings, existing: Mapping[str, Topic], executions: Path) -> None:
        topics = settings.topics
        self._settings = settings
        self._topics = topics
        self._delivered_topic = topics.name(DELIVERED)
        watched = (*topics.records, topics.dlq, topics.facts, self._delivered_topic)
        self._partitions = partitions_of(watched, existing)
        self._positions: dict[TopicPartition, int] = {}
        self._executions = Executions(executions)
        self._terminals: defaultdict[str, list[Terminal]] = defaultdict(list)
        self._dead_letters: dict[str, bytes | None] = {}
        self._committed_ms: defaultdict[str, list[int]] = defaultdict(list)
        self._delivered: Counter[str] = Counter()
        self._crashed: set[str] = set()
        self._judged: set[int] = set()
        """Hashes of the ids that were given out."""
        self.late: list[Terminal] = []
        """Terminal records of requests that were given out before."""

    async def collect(self) -> None:
        """Take in all there is by now."""
        self._executions.read()  # first: what is in the topics has run before
        async with Reader(self._settings, self._partitions) as reader:
            first, end = await reader.bounds()
            async for records in reader.range(first | self._positions, end):
                for record in records:
                    self._add(record)
            self._positions = end
        self._executions.read()

    def case(self, sent: Mapping[str, Sent], kills: int, samples: Sequence[Sample] = ()) -> Case:
        """What is known of the requests in *sent*. It is forgotten here."""
        ids = sent.keys()
        unreadable: Any = {name: it.value for name, it in sent.items() if it.expected == "dead letter"}  # may be None
        terminals = [terminal for name in ids for terminal in self._terminals.pop(name, ())]
        history = History(
            produced=set(ids),
            executions=list(self._executions_of(ids)),
            terminals=terminals,
            kills=kills,
            deadlines_ms={name: it.deadline_ms for name, it in sent.items() if it.deadline_ms is not None},
            since_ms=self._executions.since_ms,
            samples=samples,
            unreadable=unreadable,
            dead_letters={
                named: self._dead_letters.pop(named)
                for name in ids
                for named in (name, _delivery(name))
                if named in self._dead_letters
            },
            destined={_delivery(name) for name, it in sent.items() if it.cloud == "aws"},
        )
        delivered = {name: self._delivered.pop(name) for name in ids & self._delivered.keys()}
        history.delivered = set(map(_delivery, delivered))
        committed_ms = {name: self._committed_ms.pop(name) for name in ids & self._committed_ms.keys()}
        self._judged.update(map(hash, ids))
        crashed = ids & self._crashed
        self._crashed -= crashed
        return Case(history, sent, delivered, committed_ms, crashed)

    def stray(self) -> list[str]:
        """Requests that ran again, or were delivered again, after they had been given out."""
        ran = (name for name, executions in self._executions.by_id.items() if executions)
        return sorted(name for name in {*ran, *self._delivered} if hash(name) in self._judged)

    def _executions_of(self, ids: Collection[str]) -> Iterator[Execution]:
        for name in ids:
            yield from self._executions.of(name)
            self._executions.by_id.pop(name, None)

    def _add(self, record: Record) -> None:
        request_id = (record.key or b"").decode()
        if record.topic == self._topics.facts:
            self._committed_ms[request_id].append(record.timestamp)
        elif record.topic == self._delivered_topic:
            self._delivered[request_id] += 1
        elif record.topic == self._topics.dlq:
            self._add_dead_letter(request_id, record)
        else:
            succeeded = record.topic.endswith(".success")
            attempts = int(dict(record.headers).get("attempts") or b"0")
            by_worker = record.timestamp if record.timestamp_type == _CREATE_TIME else None
            self._add_terminal(Terminal(request_id, "success" if succeeded else "failure", attempts, by_worker))

    def _add_dead_letter(self, request_id: str, record: Record) -> None:
        assert record.value is not None
        _, letter = codec().decode(record.value)
        undelivered = letter["reason"] == "DestinationDeliveryFailed"
        if letter["reason"] == WORKER_CRASHED:
            self._crashed.add(request_id)
        self._dead_letters[_delivery(request_id) if undelivered else request_id] = letter["value"]
        if letter["accepted_at_ms"] is None:  # it never became an invocation
            self._add_terminal(Terminal(request_id, "dead letter", 0))

    def _add_terminal(self, terminal: Terminal) -> None:
        if hash(terminal.request_id) in self._judged:
            self.late.append(terminal)
        else:
            self._terminals[terminal.request_id].append(terminal)


def _delivery(request_id: str) -> str:
    """What the delivery of a request's record is called in a `History`."""
    return f"{request_id} to {DELIVERED}"
