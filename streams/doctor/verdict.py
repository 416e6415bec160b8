"""A verdict on a trial: the laws that all of Streams is judged by, and three of doctor's own.

| own law | what breaks it |
|---|---|
| endings | an invocation that ended otherwise than its function makes it end |
| delivery | a record that came to its destination twice |
| extra | more executions that their records do not count than kills x what one worker had in flight |
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from streams.doctor.evidence import Case
from streams.laws import Execution, Violation, judge

VIOLATIONS_MAX = 1_000
"""So many are remembered; the figures count all."""


@dataclass(slots=True)
class Figures:
    """What a trial came to, in numbers."""

    invocations: int = 0
    """Inputs that the broker acknowledged."""
    executions: int = 0
    extra_executions: int = 0
    """Executions that no record counts: a kill undid them, and they ran again."""
    in_flight: int = 0
    """Most attempts that one worker had begun and not committed, at one time."""
    lost: int = 0
    """Inputs without an outcome."""
    duplicate_outcomes: int = 0
    """Inputs with more than one."""
    violations: list[Violation] = field(default_factory=list)

    def add(self, case: Case) -> None:
        """Judge *case*."""
        history = case.history
        violations = [*judge(history), *_endings(case), *_delivery(case)]
        self.invocations += len(history.produced)
        self.executions += len(history.executions)
        self.extra_executions += _extra(case)
        self.in_flight = max(self.in_flight, most_in_flight(history.executions, case.committed_ms))
        self.lost += sum(violation.law == "L1" for violation in violations)
        self.duplicate_outcomes += sum(violation.law == "L2" for violation in violations)
        self.blame(*violations)

    def conclude(self, kills: int) -> None:
        """Judge what can be judged of the whole only."""
        if self.extra_executions > kills * self.in_flight:
            allowed = f"{kills} kills x {self.in_flight} in flight"
            self.blame(Violation("extra", "", f"{self.extra_executions} extra executions, more than {allowed}"))

    def blame(self, *violations: Violation) -> None:
        """Remember *violations*."""
        self.violations += violations[: VIOLATIONS_MAX - len(self.violations)]


def _extra(case: Case) -> int:
    """Executions of ended invocations that their records do not count."""
    ran = Counter(execution.request_id for execution in case.history.executions)
    counted: Counter[str] = Counter()
    for terminal in case.history.terminals:
        counted[terminal.request_id] = max(counted[terminal.request_id], terminal.attempts)
    return sum(max(0, ran[name] - attempts) for name, attempts in counted.items())


def _endings(case: Case) -> Iterator[Violation]:
    for terminal in case.history.terminals:
        expected, ending = case.sent[terminal.request_id].expected, str(terminal.ending)
        if expected == "crash" and terminal.request_id in case.crashed:
            ending = expected
        if ending != expected:
            yield Violation("endings", terminal.request_id, f"ended as {ending}, not as {expected}")


def _delivery(case: Case) -> Iterator[Violation]:
    for request_id, count in case.delivered.items():
        if count > 1:
            yield Violation("delivery", request_id, f"came to its destination {count} times")


def most_in_flight(executions: Sequence[Execution], committed_ms: Mapping[str, Sequence[int]]) -> int:
    """The most executions of one process that had begun, and whose outcome was not committed, at one time."""
    changes: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for execution in executions:
        ended_ms = execution.ended_ms if execution.ended_ms is not None else float("inf")
        later = [at_ms for at_ms in committed_ms.get(execution.request_id, ()) if at_ms > ended_ms - 1]
        changes[execution.process] += ((execution.started_ms, 1), (min(later, default=ended_ms), -1))
    return max(map(_highest, changes.values()), default=0)


def _highest(changes: list[tuple[float, int]]) -> int:
    level = highest = 0
    for _, change in sorted(changes):
        level += change
        highest = max(highest, level)
    return highest
