"""The promises of Streams, and a checker for each. Simulation, crash tests and chaos runs are judged by the same code.

A `History` is what was seen from outside: what was produced, what the functions wrote down themselves when they ran,
and what a `read_committed` consumer found. Each checker gives the ids that break its law, with a sentence each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias


class Execution(NamedTuple):
    """One run of a function, as the function itself recorded it."""

    request_id: str
    attempt: int
    process: str
    """Names the worker process: a new one after every kill."""
    started_ms: float
    ended_ms: float | None
    """None when it never got to its end."""


class Terminal(NamedTuple):
    """A record that says how an invocation ended."""

    request_id: str
    ending: Literal["success", "failure", "dead letter"]
    """*dead letter*: an input that never became an invocation."""
    attempts: int
    """How often the function ran, as the record's header says."""
    written_ms: float | None = None
    """When its worker wrote it, by the clock of the executions; None: not known."""


class Sample(NamedTuple):
    """The counters of one moment, for conservation."""

    accepted: int
    waiting: int
    running: int
    ended: int


@dataclass(slots=True)
class History:
    """What happened, seen from outside."""

    produced: set[str] = field(default_factory=set)
    """Ids whose produce was acknowledged."""
    executions: list[Execution] = field(default_factory=list)
    terminals: list[Terminal] = field(default_factory=list)
    kills: int = 0
    """Processes killed while functions may have been running."""
    deadlines_ms: Mapping[str, float] = field(default_factory=dict)
    """When each id was too old to start."""
    cancelled_ms: Mapping[str, float] = field(default_factory=dict)
    """When the record of each cancelled id was seen."""
    since_ms: Mapping[str, float] = field(default_factory=dict)
    """When processes began, where that is known; else their first execution says so."""
    samples: Sequence[Sample] = ()
    unreadable: Mapping[str, bytes] = field(default_factory=dict)
    """Inputs that cannot be read, by id of their coordinates, with their bytes."""
    dead_letters: Mapping[str, bytes | None] = field(default_factory=dict)
    """Bytes in the dead letters, by id."""
    destined: set[str] = field(default_factory=set)
    """Ids whose record was to reach a destination."""
    delivered: set[str] = field(default_factory=set)
    """Ids found at the destination."""


class Violation(NamedTuple):
    """A law that was broken."""

    law: str
    request_id: str
    fault: str


Check: TypeAlias = Callable[[History], Iterator[tuple[str, str]]]


def every_id_ends(history: History) -> Iterator[tuple[str, str]]:
    """L1: every produced id gets a terminal record."""
    ended = {terminal.request_id for terminal in history.terminals}
    for request_id in sorted(history.produced - ended):
        yield request_id, "has no terminal record"


def every_id_ends_once(history: History) -> Iterator[tuple[str, str]]:
    """L2: no id gets two."""
    for request_id, count in Counter(terminal.request_id for terminal in history.terminals).items():
        if count > 1:
            yield request_id, f"has {count} terminal records"


def successes_ran(history: History) -> Iterator[tuple[str, str]]:
    """L3: every success record has an execution that came to its end."""
    ran = {execution.request_id for execution in history.executions if execution.ended_ms is not None}
    for terminal in history.terminals:
        if terminal.ending == "success" and terminal.request_id not in ran:
            yield terminal.request_id, "has a success record and never ran"


def attempts_are_counted(history: History) -> Iterator[tuple[str, str]]:
    """L4: the attempts of the record are those that ran, in-flight kills aside.

    Each kill can hide one execution from the record, or come between an attempt's start and the function's: then the
    record counts an attempt that never ran. A cancel is the same to the attempt that it cuts off. No kill explains an
    execution in a process that began when the record had been written: its state says that it has ended.
    """
    written_ms = {it.request_id: it.written_ms for it in history.terminals if it.written_ms is not None}
    there_since_ms = _there_since_ms(history)
    for execution in history.executions:
        ended_ms = written_ms.get(execution.request_id)
        if ended_ms is not None and ended_ms < there_since_ms[execution.process]:
            yield execution.request_id, f"ran again in {execution.process}, which began after its record was written"
    ran = Counter(execution.request_id for execution in history.executions)
    for terminal in history.terminals:
        extra = ran[terminal.request_id] - terminal.attempts
        if abs(extra) > history.kills + (terminal.request_id in history.cancelled_ms):
            yield terminal.request_id, f"ran {ran[terminal.request_id]} times, its record says {terminal.attempts}"


def nothing_is_unaccounted(history: History) -> Iterator[tuple[str, str]]:
    """L5: accepted = waiting + running + ended, at every moment."""
    for number, sample in enumerate(history.samples):
        drift = sample.accepted - sample.waiting - sample.running - sample.ended
        if drift:
            yield f"sample {number}", f"drift of {drift}: {sample}"


def nothing_starts_late(history: History) -> Iterator[tuple[str, str]]:
    """L6: no execution starts after the age limit or a cancel.

    A worker that was frozen may have been replaced without knowing it, and another one has seen to the cancel. So where
    processes were killed or frozen, one that was there before the cancel may not know of it.
    """
    there_since_ms = _there_since_ms(history)
    for execution in history.executions:
        deadline_ms = history.deadlines_ms.get(execution.request_id)
        if deadline_ms is not None and execution.started_ms > deadline_ms:
            late_ms = execution.started_ms - deadline_ms
            yield execution.request_id, f"attempt {execution.attempt} started {late_ms:.0f} ms after its age limit"
        cancelled_ms = history.cancelled_ms.get(execution.request_id)
        if cancelled_ms is None or execution.started_ms <= cancelled_ms:
            continue
        if not history.kills or there_since_ms[execution.process] > cancelled_ms:
            late_ms = execution.started_ms - cancelled_ms
            yield execution.request_id, f"attempt {execution.attempt} started {late_ms:.0f} ms after it was cancelled"


def _there_since_ms(history: History) -> dict[str, float]:
    """When each process was there at the latest."""
    there_since_ms = dict(history.since_ms)
    for execution in history.executions:
        since_ms = there_since_ms.setdefault(execution.process, execution.started_ms)
        there_since_ms[execution.process] = min(since_ms, execution.started_ms)
    return there_since_ms


def attempts_do_not_overlap(history: History) -> Iterator[tuple[str, str]]:
    """L7: attempts of one id never overlap within a process, and another process runs one only after a kill."""
    by_id: dict[str, list[Execution]] = defaultdict(list)
    for execution in history.executions:
        by_id[execution.request_id].append(execution)
    for request_id, executions in by_id.items():
        executions.sort(key=lambda execution: execution.started_ms)
        for earlier, later in pairwise(executions):
            ends_ms = earlier.ended_ms if earlier.ended_ms is not None else float("inf")
            if later.started_ms < ends_ms and (later.process == earlier.process or not history.kills):
                yield request_id, f"attempts {earlier.attempt} and {later.attempt} overlap"


def nothing_gets_lost_outside(history: History) -> Iterator[tuple[str, str]]:
    """L8: every record reaches its destination or a dead letter; every unreadable input is a dead letter, unchanged."""
    for request_id, value in history.unreadable.items():
        if request_id not in history.dead_letters:
            yield request_id, "cannot be read and is no dead letter"
        elif history.dead_letters[request_id] != value:
            yield request_id, "is a dead letter with other bytes"
    for request_id in sorted(history.destined - history.delivered - history.dead_letters.keys()):
        yield request_id, "reached neither its destination nor a dead letter"


LAWS: dict[str, Check] = {
    "L1": every_id_ends,
    "L2": every_id_ends_once,
    "L3": successes_ran,
    "L4": attempts_are_counted,
    "L5": nothing_is_unaccounted,
    "L6": nothing_starts_late,
    "L7": attempts_do_not_overlap,
    "L8": nothing_gets_lost_outside,
}


def judge(history: History) -> list[Violation]:
    """Every violation of every law."""
    return [Violation(law, *found) for law, check in LAWS.items() for found in check(history)]
