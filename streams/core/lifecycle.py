"""An invocation's life: `decide` turns a command into facts, `evolve` turns facts into state.

    None --Accept--> waiting --Start--> running --Report--> succeeded
                        ^                  |                 failed
                        '-- RetryScheduled-'

    waiting or running --Cancel--> failed

Everything that decides whether an invocation runs, waits or ends is in this file. Rules:

1. A function error counts against the attempts budget; a throttle or a system error does not, it waits longer and
   longer until the age (or the provider's own time budget) ends.
2. Expiry looks ahead: when the next attempt could only start at or after the deadline, the invocation ends now.
   AWS was measured doing this (age 60 s: one attempt, dropped right after it). An invocation that is picked up late,
   after an outage for instance, expires when it is picked up.
3. The attempts budget is checked before the age: an invocation with no attempts left has exhausted its retries.
4. Every command may arrive twice: Kafka redelivers. Commands carry the attempt they are about, and old news decides
   nothing: `decide` answers ``()``.
5. A cancel ends whatever is not over, at once. An attempt that it cuts off counts as an execution, and has no outcome.

`decide` never changes anything, `evolve` never refuses. Times are epoch milliseconds and always arguments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, TypeAlias, assert_never

from streams.core.facts import Accepted, AttemptFailed, AttemptStarted, Fact, Failed, RetryScheduled, Succeeded
from streams.core.model import Ending, Outcome
from streams.core.policy import Policy
from streams.core.values import value

Status: TypeAlias = Literal["waiting", "running", "succeeded", "failed"]


@value
class State:
    """Where an invocation stands."""

    status: Status
    attempt: int
    """The attempt that is running, else the next one (waiting) or the last one (over), counted from 1."""
    executions: int
    """Attempts in which the function ran to some end."""
    failures: int
    """Attempts that counted against the budget."""
    throttles: int
    """Attempts that were throttled or met a system error."""
    accepted_at_ms: int
    due_at_ms: int
    """When the next attempt is due (waiting), when the current one began (running), when it ended (over)."""
    last: Outcome | None = None
    """How the latest finished attempt ended."""

    @property
    def is_over(self) -> bool:
        return self.status == "succeeded" or self.status == "failed"


@value
class Accept:
    """Take responsibility for a new invocation, at link *depth* of a chain (from 1), not to run before *due_at_ms*."""

    at_ms: int
    accepted_at_ms: int
    due_at_ms: int
    depth: int = 1


@value
class Start:
    """Begin attempt *attempt* if it is the one that is due.

    *running* attempts of this function are under way; at most *reserved* may be (None: no limit). A *parked*
    invocation cannot start for reasons of ours, and tries again after `PARK_MS`; that costs it nothing.
    """

    attempt: int
    at_ms: int
    running: int = 0
    reserved: int | None = None
    parked: bool = False


@value
class Report:
    """Attempt *attempt* ended with *outcome*."""

    attempt: int
    at_ms: int
    outcome: Outcome


@value
class Cancel:
    """Somebody wants the invocation to end now."""

    at_ms: int


Command: TypeAlias = Accept | Start | Report | Cancel

PARK_MS = 1_000
THROTTLED = Outcome("throttled", 429, error_message="Rate Exceeded.")


def decide(state: State | None, command: Command, policy: Policy) -> tuple[Fact, ...]:
    """What happens because of *command*; ``()`` for old news."""
    match command:
        case Accept():
            return _accept(command, policy) if state is None else ()
        case Start():
            return _start(state, command, policy) if state is not None else ()
        case Report():
            return _report(state, command, policy) if state is not None else ()
        case Cancel():
            return _cancel(state, command) if state is not None else ()
        case _:
            assert_never(command)


def evolve(state: State | None, fact: Fact) -> State:
    """The state after *fact*."""
    if isinstance(fact, Accepted):
        return State("waiting", 1, 0, 0, 0, fact.accepted_at_ms, fact.due_at_ms)
    assert state is not None, "nothing can happen to an invocation before it is accepted"
    match fact:
        case AttemptStarted():
            return _moved(state, "running", fact.attempt, fact.at_ms)
        case AttemptFailed():
            return _after_failure(state, fact)
        case RetryScheduled():
            return _moved(state, "waiting", fact.attempt, fact.due_at_ms)
        case Succeeded():
            return _succeeded(state, fact.attempt, fact.at_ms, fact.outcome)
        case Failed(attempt, at_ms, ending):
            if ending == "cancelled" and state.status == "running":
                state = replace(state, executions=state.executions + 1, last=None)
            return _moved(state, "failed", attempt, at_ms)
        case _:
            assert_never(fact)


def accept_and_start(
    at_ms: int, accepted_at_ms: int, due_at_ms: int, depth: int, running: int, reserved: int | None, policy: Policy
) -> tuple[tuple[Accepted, AttemptStarted], State] | None:
    """What `Accept` and then `Start` come to for an invocation that may run at once; None: decide one after the other.

    Nearly every invocation may, and this takes 3 us less than two commands that are decided and evolved.
    """
    if due_at_ms > at_ms or at_ms >= accepted_at_ms + policy.age_max_ms or depth > policy.depth_max:
        return None
    if reserved is not None and running >= reserved:
        return None
    facts = Accepted(at_ms, accepted_at_ms, due_at_ms, depth), AttemptStarted(1, at_ms)
    return facts, State("running", 1, 0, 0, 0, accepted_at_ms, at_ms)


def succeed(state: State, at_ms: int, outcome: Outcome) -> tuple[Succeeded, State]:
    """What a `Report` comes to when the attempt that is *running* has returned; likewise."""
    return Succeeded(state.attempt, at_ms, outcome), _succeeded(state, state.attempt, at_ms, outcome)


def fold(state: State | None, facts: Iterable[Fact]) -> State | None:
    """The state after *facts*, in order."""
    for fact in facts:
        state = evolve(state, fact)
    return state


def _accept(command: Accept, policy: Policy) -> tuple[Fact, ...]:
    accepted = Accepted(command.at_ms, command.accepted_at_ms, command.due_at_ms, command.depth)
    if command.depth > policy.depth_max:
        return (accepted, Failed(0, command.at_ms, "loop"))
    if command.due_at_ms <= command.at_ms:
        return (accepted,)
    if command.due_at_ms >= command.accepted_at_ms + policy.age_max_ms:
        return (accepted, Failed(0, command.at_ms, "expired"))
    return (accepted, RetryScheduled(1, command.at_ms, command.due_at_ms))


def _start(state: State, command: Start, policy: Policy) -> tuple[Fact, ...]:
    if state.status != "waiting" or state.attempt != command.attempt:
        return ()
    if command.at_ms >= state.accepted_at_ms + policy.age_max_ms:
        return (Failed(command.attempt - 1, command.at_ms, "expired"),)
    if command.reserved == 0 and policy.zero_concurrency == "end":
        return (Failed(command.attempt - 1, command.at_ms, "zero_concurrency"),)
    if command.reserved is not None and command.running >= command.reserved:
        return _fail(state, command.attempt, command.at_ms, THROTTLED, policy)
    if command.parked:
        return (RetryScheduled(command.attempt, command.at_ms, command.at_ms + PARK_MS),)
    return (AttemptStarted(command.attempt, command.at_ms),)


def _report(state: State, command: Report, policy: Policy) -> tuple[Fact, ...]:
    if state.status != "running" or state.attempt != command.attempt:
        return ()
    if command.outcome.kind == "returned":
        return (Succeeded(command.attempt, command.at_ms, command.outcome),)
    return _fail(state, command.attempt, command.at_ms, command.outcome, policy)


def _cancel(state: State, command: Cancel) -> tuple[Fact, ...]:
    if state.is_over:
        return ()
    begun = state.attempt if state.status == "running" else state.attempt - 1
    return (Failed(begun, command.at_ms, "cancelled"),)


def _fail(state: State, attempt: int, at_ms: int, outcome: Outcome, policy: Policy) -> tuple[Fact, ...]:
    """The attempt did not succeed: try again later, or end."""
    failed = AttemptFailed(attempt, at_ms, outcome)
    ending, delay_ms = _ending_or_delay(state, outcome, policy)
    due_at_ms = at_ms + delay_ms
    if ending is None:
        ending = _too_late(state, due_at_ms, outcome, policy)
    if ending is not None:
        return (failed, Failed(attempt, at_ms, ending))
    return (failed, RetryScheduled(attempt + 1, at_ms, due_at_ms))


def _ending_or_delay(state: State, outcome: Outcome, policy: Policy) -> tuple[Ending | None, int]:
    """Why the invocation may not be tried again whatever the time, else how long it waits."""
    if outcome.kind == "target_missing" and policy.target_missing == "end":
        return "target_missing", 0
    if _counts(outcome):
        failures = state.failures + 1
        return (
            ("retries_exhausted", 0)
            if failures >= policy.attempts_max
            else (None, policy.failure_backoff.delay_ms(failures))
        )
    if outcome.kind == "throttled" and policy.throttled == "end":
        return "budget_spent", 0
    return None, policy.throttle_backoff.delay_ms(state.throttles + 1)


def _too_late(state: State, due_at_ms: int, outcome: Outcome, policy: Policy) -> Ending | None:
    """The look-ahead: why an attempt at *due_at_ms* would be too late, or None."""
    if due_at_ms >= state.accepted_at_ms + policy.age_max_ms:
        return "expired"
    budget_ms = policy.throttle_budget_ms
    if budget_ms is not None and not _counts(outcome) and due_at_ms >= state.accepted_at_ms + budget_ms:
        return "budget_spent"
    return None


def _counts(outcome: Outcome) -> bool:
    """Whether *outcome* uses up one of the attempts the policy allows."""
    return outcome.kind == "function_error" or outcome.kind == "target_missing"


def _moved(state: State, status: Status, attempt: int, due_at_ms: int) -> State:
    """The same counts elsewhere. (Built whole: `dataclasses.replace` takes ten times as long.)"""
    executions, failures, throttles = state.executions, state.failures, state.throttles
    return State(status, attempt, executions, failures, throttles, state.accepted_at_ms, due_at_ms, state.last)


def _succeeded(state: State, attempt: int, at_ms: int, outcome: Outcome) -> State:
    executions, failures, throttles = state.executions + 1, state.failures, state.throttles
    return State("succeeded", attempt, executions, failures, throttles, state.accepted_at_ms, at_ms, outcome)


def _after_failure(state: State, fact: AttemptFailed) -> State:
    counts = _counts(fact.outcome)
    return replace(
        state,
        attempt=fact.attempt,
        executions=state.executions + (fact.outcome.kind == "function_error"),
        failures=state.failures + counts,
        throttles=state.throttles + (not counts),
        last=fact.outcome,
    )
