"""What `streams demo` invokes, what must come of it, and the count of what did."""

from __future__ import annotations

import os
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import orjson

from streams.codec.avro import Codec
from streams.codec.facts import read_facts
from streams.commands.reading import Decoder, Record
from streams.core.facts import AttemptFailed, Failed, RetryScheduled, Succeeded
from streams.topics import Topics

Ends: TypeAlias = Literal["succeeded", "failed", "rejected"]
"""*rejected*: it is no invocation, and a dead letter says why."""
Headers: TypeAlias = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Case:
    """A function, and how each of its invocations must end."""

    group: str
    """Row of the table."""
    function: str
    count: int
    ends: Ends
    copy: str | None = None
    """Topic, without prefix, that gets a copy of each: its destination or dead-letter queue."""


AWS, FC3, FC2, GRAPH = "AWS Lambda", "Function Compute 3.0", "Function Compute 2.0", "FunctionGraph"
INPUTS = "(not an invocation)"

CASES = (
    Case(AWS, "aws-succeeds", 250, "succeeded", "demo-results"),
    Case(AWS, "aws-fails-once", 40, "succeeded"),
    Case(AWS, "aws-always-fails", 20, "failed", "demo-dead-letters"),
    Case(AWS, "aws-times-out", 4, "failed"),
    Case(AWS, "aws-throttled", 10, "succeeded"),
    Case(AWS, "aws-zero-concurrency", 4, "failed"),
    Case(AWS, "aws-crashes", 1, "failed"),
    Case(AWS, "aws-http", 20, "succeeded"),
    Case(FC3, "fc-succeeds", 250, "succeeded"),
    Case(FC3, "fc-fails-once", 40, "succeeded"),
    Case(FC3, "fc-always-fails", 20, "failed"),
    Case(FC3, "fc-times-out", 4, "failed"),
    Case(FC3, "fc-throttled", 10, "succeeded"),
    Case(FC3, "fc-zero-concurrency", 4, "failed"),
    Case(FC3, "fc-crashes", 1, "failed"),
    Case(FC3, "fc-http", 20, "succeeded"),
    Case(FC2, "demo/succeeds", 50, "succeeded"),
    Case(FC2, "demo/fails-once", 20, "succeeded"),
    Case(FC2, "demo/always-fails", 10, "failed"),
    Case(GRAPH, "fg-succeeds", 250, "succeeded"),
    Case(GRAPH, "fg-fails-once", 40, "succeeded"),
    Case(GRAPH, "fg-always-fails", 20, "failed"),
    Case(GRAPH, "fg-times-out", 4, "failed"),
    Case(GRAPH, "fg-throttled", 10, "succeeded"),
    Case(GRAPH, "fg-zero-concurrency", 4, "failed"),
    Case(GRAPH, "fg-crashes", 1, "failed"),
    Case(GRAPH, "fg-http", 20, "succeeded"),
)

REJECTED: tuple[tuple[str, bytes | None, Headers], ...] = (
    ("bytes that are nothing", os.urandom(64), []),
    ("a null value", None, [("function", b"aws-succeeds")]),
    ("JSON without a function", b'{"payload": 1}', []),
    ("Avro that is cut off", b"\xc3\x01\x00", []),
    ("an unknown function", b"{}", [("function", b"nobody-wrote-this")]),
    ("an event that AWS refuses", b"{not JSON", [("function", b"aws-succeeds")]),
    ("an event that FunctionGraph refuses", b"[1, 2]", [("function", b"fg-succeeds")]),
)
"""What it is, value, headers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A record to produce. *request_id* is None when it has none: its coordinates in Kafka will give one."""

    case: Case
    request_id: str | None
    value: bytes | None
    headers: Headers


def mix(codec: Codec) -> list[Planned]:
    """All there is to produce. Functions that succeed take turns with the encodings that producers may choose."""
    encodings = (_raw, _raw_without_id, _cloudevent, _json, lambda *of: _avro(codec, *of))
    planned = []
    for case in CASES:
        for number in range(case.count):
            encode = encodings[number % len(encodings)] if case.function.endswith("succeeds") else _raw
            event = orjson.dumps({"number": number, "function": case.function})
            planned.append(encode(case, str(uuid.uuid4()), event))
    for name, value, headers in REJECTED:
        case = Case(INPUTS, name, 1, "rejected")
        planned.append(Planned(case=case, request_id=None, value=value, headers=headers))
    return planned


def _raw(case: Case, request_id: str, event: bytes) -> Planned:
    headers = [("function", case.function.encode()), ("request-id", request_id.encode())]
    return Planned(case=case, request_id=request_id, value=event, headers=headers)


def _raw_without_id(case: Case, request_id: str, event: bytes) -> Planned:
    return Planned(case=case, request_id=None, value=event, headers=[("function", case.function.encode())])


def _cloudevent(case: Case, request_id: str, event: bytes) -> Planned:
    attributes = {"specversion": "1.0", "id": request_id, "source": "/demo", "type": "demo", "subject": case.function}
    headers = [(f"ce_{name}", value.encode()) for name, value in attributes.items()]
    return Planned(case=case, request_id=request_id, value=event, headers=headers)


def _json(case: Case, request_id: str, event: bytes) -> Planned:
    envelope = {"function": case.function, "id": request_id, "payload": orjson.Fragment(event)}
    return Planned(case=case, request_id=request_id, value=orjson.dumps(envelope), headers=[])


def _avro(codec: Codec, case: Case, request_id: str, event: bytes) -> Planned:
    datum = {"function": case.function, "id": request_id, "event": event}
    return Planned(case=case, request_id=request_id, value=codec.encode("Invocation", datum), headers=[])


@dataclass(slots=True)
class Life:
    """What the topics say of one request."""

    successes: int = 0
    """Records on `<provider>.success`."""
    failures: int = 0
    """Records on `<provider>.failure`."""
    dead_letters: int = 0
    copies: int = 0
    """Records on a topic of its function's destinations."""
    ends: int = 0
    """Facts that say it is over."""
    retries: int = 0
    throttles: int = 0


@dataclass(slots=True)
class Tally:
    """Counts what happens to the requests in *cases* (by request id)."""

    topics: Topics
    cases: Mapping[str, Case]
    lives: defaultdict[str, Life] = field(default_factory=lambda: defaultdict(Life))
    missing: set[str] = field(init=False)
    """Requests of which something is still to come."""
    samples: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    """By row of the table, the latest record (schema and content) of a function that always fails."""

    def __post_init__(self) -> None:
        self.missing = set(self.cases)

    async def read(self, records: Iterable[Record], decoder: Decoder) -> None:
        """Count *records*."""
        for record in records:
            request_id = (record.key or b"").decode(errors="replace")
            await self._count(self.lives[request_id], record, decoder)
            case = self.cases.get(request_id)
            if case is not None and self.fault(case, self.lives[request_id]) is None:
                self.missing.discard(request_id)
            if case is not None and case.function.endswith("always-fails") and record.topic in self.topics.records:
                self.samples[case.group] = await decoder.decode(record.value or b"")

    async def _count(self, life: Life, record: Record, decoder: Decoder) -> None:
        if record.topic == self.topics.facts:
            _, datum = await decoder.decode(record.value or b"")
            for fact in read_facts(datum).facts:
                life.ends += isinstance(fact, Succeeded | Failed)
                life.retries += isinstance(fact, RetryScheduled)
                life.throttles += isinstance(fact, AttemptFailed) and fact.outcome.kind == "throttled"
        elif record.topic == self.topics.dlq:
            life.dead_letters += 1
        elif record.topic not in self.topics.records:
            life.copies += 1
        elif record.topic.endswith(".success"):
            life.successes += 1
        else:
            life.failures += 1

    def fault(self, case: Case, life: Life) -> str | None:
        """What is wrong with *life*, None if it is what *case* expects: no more and no less."""
        is_invocation = case.ends != "rejected"
        wanted = {
            "success records": (life.successes, int(case.ends == "succeeded")),
            "failure records": (life.failures, int(case.ends == "failed")),
            "dead letters": (life.dead_letters, int(case.ends != "succeeded")),
            "ends in facts": (life.ends, int(is_invocation)),
            "copies": (life.copies, int(case.copy is not None)),
        }
        wrong = [f"{is_} {what} instead of {should}" for what, (is_, should) in wanted.items() if is_ != should]
        if case.function.endswith("fails-once") and not life.retries:
            wrong.append("no retry")
        return ", ".join(wrong) or None

    def faults(self) -> Iterator[str]:
        """All that is not as it should be, a line each."""
        for request_id, case in self.cases.items():
            fault = self.fault(case, self.lives[request_id])
            if fault is not None:
                yield f"{case.function}, request {request_id}: {fault}"
        for request_id in self.lives.keys() - self.cases.keys():
            yield f"request {request_id}: nobody asked for it"

    def rows(self) -> Iterator[tuple[str, list[int]]]:
        """For each row of the table how many were invoked, succeeded, retried, throttled, failed, dead-lettered."""
        groups: dict[str, list[Life]] = {}
        for request_id, case in self.cases.items():
            groups.setdefault(case.group, []).append(self.lives[request_id])
        tests: tuple[Callable[[Life], int], ...] = (
            lambda life: 1,
            lambda life: life.successes,
            lambda life: life.retries > 0,
            lambda life: life.throttles > 0,
            lambda life: life.failures,
            lambda life: life.dead_letters,
        )
        for group, lives in groups.items():
            yield group, [sum(map(test, lives)) for test in tests]
