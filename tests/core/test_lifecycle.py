"""An invocation's life under the providers' real policies: given facts, when a command, then facts."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.facts import Accepted, AttemptFailed, AttemptStarted, Fact, Failed, RetryScheduled, Succeeded
from streams.core.lifecycle import (
    THROTTLED,
    Accept,
    Cancel,
    Command,
    Report,
    Start,
    State,
    accept_and_start,
    decide,
    evolve,
    fold,
    succeed,
)
from streams.core.model import Ended, Ending, Outcome
from streams.core.policy import Policy
from streams.providers.aws import Aws
from streams.providers.fc import FunctionCompute
from streams.providers.functiongraph import FunctionGraph

AWS, FC, FG = Aws(), FunctionCompute(), FunctionGraph()
AWS_DEFAULT, FC_DEFAULT, FG_DEFAULT = AWS.policy(None, None), FC.policy(None, None), FG.policy(None, None)
EVERY_POLICY = pytest.mark.parametrize("policy", [AWS_DEFAULT, FC_DEFAULT, FG_DEFAULT], ids=["aws", "fc", "fg"])

OK = Outcome("returned", 200, b"{}")
ERROR = Outcome("function_error", 200, b"{}", "ValueError", "no")
MISSING = Outcome("target_missing", 404)
BROKEN = Outcome("system_error", 500)

HOUR_MS = 3_600_000
ACCEPT = Accept(at_ms=0, accepted_at_ms=0, due_at_ms=0)
ACCEPTED = Accepted(at_ms=0, accepted_at_ms=0, due_at_ms=0, depth=1)


def given_(*facts: Fact) -> State | None:
    """The state after *facts*."""
    return fold(None, facts)


@dataclass(frozen=True)
class Life:
    """What became of an invocation."""

    attempts_at_s: list[float]
    """When each attempt was made, seconds after acceptance, throttled ones included."""
    state: State
    ending: Ending
    facts: list[Fact]

    @property
    def ended_at_s(self) -> float:
        return self.state.due_at_ms / 1000


def live(policy: Policy, *answers: Outcome, duration_ms: int = 0) -> Life:
    """A whole life: each attempt is made when it is due and gets the next answer; the last answer repeats.

    `THROTTLED` is what the function's own concurrency limit answers; the function does not run then.
    """
    facts: list[Fact] = list(decide(None, ACCEPT, policy))
    state = fold(None, facts)
    attempts_at_s = []
    for answer in chain(answers, repeat(answers[-1])):
        assert state is not None
        if state.is_over:
            break
        at_ms = state.due_at_ms
        attempts_at_s.append(at_ms / 1000)
        commands = commands_of(answer, state.attempt, at_ms, duration_ms)
        for command in commands:
            happened = decide(state, command, policy)
            facts += happened
            state = fold(state, happened)
    assert state is not None
    return Life(attempts_at_s, state, ending_of(facts), facts)


def commands_of(answer: Outcome, attempt: int, at_ms: int, duration_ms: int) -> tuple[Command, ...]:
    if answer is THROTTLED:
        return (Start(attempt, at_ms, running=1, reserved=1),)
    return Start(attempt, at_ms), Report(attempt, at_ms + duration_ms, answer)


def ending_of(facts: Iterable[Fact]) -> Ending:
    endings: list[Ending] = []
    for fact in facts:
        if isinstance(fact, Succeeded):
            endings.append("succeeded")
        elif isinstance(fact, Failed):
            endings.append(fact.ending)
    (ending,) = endings  # an invocation ends once
    return ending


def ended(life: Life) -> Ended:
    return Ended(
        request_id="id",
        resource="arn",
        executed_version="1",
        event=b"{}",
        ending=life.ending,
        ended_at_ms=life.state.due_at_ms,
        accepted_at_ms=life.state.accepted_at_ms,
        attempts=life.state.attempt,
        executions=life.state.executions,
        failures=life.state.failures,
        started_at_ms=None,
        outcome=life.state.last,
    )


# --- acceptance


@EVERY_POLICY
def test_an_accepted_invocation_waits_for_its_first_attempt(policy: Policy) -> None:
    assert decide(None, ACCEPT, policy) == (ACCEPTED,)
    assert given_(ACCEPTED) == State("waiting", 1, 0, 0, 0, 0, 0)


@EVERY_POLICY
def test_a_delayed_invocation_is_scheduled(policy: Policy) -> None:
    assert decide(None, Accept(at_ms=5, accepted_at_ms=5, due_at_ms=3005), policy) == (
        Accepted(5, 5, 3005, 1),
        RetryScheduled(1, 5, 3005),
    )


@EVERY_POLICY
def test_a_delay_beyond_the_age_ends_at_once(policy: Policy) -> None:
    late_ms = policy.age_max_ms

    assert decide(None, Accept(0, 0, late_ms), policy)[1:] == (Failed(0, 0, "expired"),)
    assert decide(None, Accept(0, 0, late_ms - 1), policy)[1:] == (RetryScheduled(1, 0, late_ms - 1),)


@pytest.mark.parametrize(
    ("policy", "links_max"), [(AWS_DEFAULT, 16), (FC_DEFAULT, 100), (FG_DEFAULT, 100)], ids=["aws", "fc", "fg"]
)
def test_a_chain_of_functions_is_cut_after_its_last_link(policy: Policy, links_max: int) -> None:
    assert decide(None, Accept(0, 0, 0, links_max), policy) == (Accepted(0, 0, 0, links_max),)
    assert decide(None, Accept(0, 0, 0, links_max + 1), policy) == (
        Accepted(0, 0, 0, links_max + 1),
        Failed(0, 0, "loop"),
    )


# --- attempts


@EVERY_POLICY
def test_an_attempt_begins(policy: Policy) -> None:
    assert decide(given_(ACCEPTED), Start(1, 7), policy) == (AttemptStarted(1, 7),)


@EVERY_POLICY
def test_a_returned_result_is_success(policy: Policy) -> None:
    state = given_(ACCEPTED, AttemptStarted(1, 7))

    assert decide(state, Report(1, 9, OK), policy) == (Succeeded(1, 9, OK),)


@EVERY_POLICY
def test_a_result_after_the_deadline_is_still_success(policy: Policy) -> None:
    state = given_(ACCEPTED, AttemptStarted(1, 7))
    late_ms = policy.age_max_ms + 1

    assert decide(state, Report(1, late_ms, OK), policy) == (Succeeded(1, late_ms, OK),)


def test_a_first_failure_waits_one_minute_at_aws() -> None:
    state = given_(ACCEPTED, AttemptStarted(1, 7))

    assert decide(state, Report(1, 9, ERROR), AWS_DEFAULT) == (
        AttemptFailed(1, 9, ERROR),
        RetryScheduled(2, 9, 60_009),
    )


def test_a_function_at_its_reserved_concurrency_is_throttled_without_running() -> None:
    assert decide(given_(ACCEPTED), Start(1, 7, running=2, reserved=2), AWS_DEFAULT) == (
        AttemptFailed(1, 7, THROTTLED),
        RetryScheduled(2, 7, 1007),
    )
    assert decide(given_(ACCEPTED), Start(1, 7, running=1, reserved=2), AWS_DEFAULT) == (AttemptStarted(1, 7),)


@EVERY_POLICY
def test_an_invocation_picked_up_at_or_after_its_deadline_expires(policy: Policy) -> None:
    deadline_ms = policy.age_max_ms

    assert decide(given_(ACCEPTED), Start(1, deadline_ms), policy) == (Failed(0, deadline_ms, "expired"),)
    assert decide(given_(ACCEPTED), Start(1, deadline_ms - 1), policy) == (AttemptStarted(1, deadline_ms - 1),)


def test_a_retry_picked_up_late_expires_with_the_count_it_had() -> None:
    facts = (ACCEPTED, AttemptStarted(1, 0), AttemptFailed(1, 0, ERROR), RetryScheduled(2, 0, 60_000))
    happened = decide(given_(*facts), Start(2, 7 * HOUR_MS), AWS_DEFAULT)
    state = fold(given_(*facts), happened)

    assert happened == (Failed(1, 7 * HOUR_MS, "expired"),)
    assert state is not None
    assert (state.attempt, state.failures, state.last) == (1, 1, ERROR)


def test_the_age_counts_from_acceptance_and_not_from_the_delays_end() -> None:
    policy = AWS.policy(0, 60)
    state = given_(Accepted(0, 0, 30_000, 1), RetryScheduled(1, 0, 30_000))

    assert decide(state, Start(1, 60_000), policy) == (Failed(0, 60_000, "expired"),)


# --- AWS, §1 and §4 of its facts: answers to each attempt, then what the record says

AWS_LIVES: dict[str, tuple[Policy, tuple[Outcome, ...], tuple[Ending, list[float], str, int, int | None]]] = {
    # policy, answers: ending, attempts at (s), condition, approximateInvokeCount, statusCode
    "success at once": (AWS_DEFAULT, (OK,), ("succeeded", [0], "Success", 1, 200)),
    "success after one failure": (AWS_DEFAULT, (ERROR, OK), ("succeeded", [0, 60], "Success", 1, 200)),
    "success after a throttle": (AWS_DEFAULT, (THROTTLED, OK), ("succeeded", [0, 1], "Success", 1, 200)),
    "failures without retries": (
        AWS.policy(0, None),
        (ERROR,),
        ("retries_exhausted", [0], "RetriesExhausted", 1, 200),
    ),
    "failures with one retry": (
        AWS.policy(1, None),
        (ERROR,),
        ("retries_exhausted", [0, 60], "RetriesExhausted", 2, 200),
    ),
    "failures with the default retries": (
        AWS_DEFAULT,
        (ERROR,),
        ("retries_exhausted", [0, 60, 180], "RetriesExhausted", 3, 200),
    ),
    "age 60 leaves room for one attempt": (
        AWS.policy(None, 60),
        (ERROR,),
        ("expired", [0], "EventAgeExceeded", 1, 200),
    ),
    "age 90 leaves room for two": (
        AWS.policy(None, 90),
        (ERROR,),
        ("expired", [0, 60], "EventAgeExceeded", 2, 200),
    ),
    "age 60 without retries: retries are checked first": (
        AWS.policy(0, 60),
        (ERROR,),
        ("retries_exhausted", [0], "RetriesExhausted", 1, 200),
    ),
    "only throttled, age 60: the measured schedule": (
        AWS.policy(None, 60),
        (THROTTLED,),
        ("expired", [0, 1, 3, 7, 15, 31], "EventAgeExceeded", 0, 429),
    ),
    "a system error waits like a throttle": (
        AWS.policy(None, 60),
        (BROKEN,),
        ("expired", [0, 1, 3, 7, 15, 31], "EventAgeExceeded", 0, 500),
    ),
    "throttles use up no retries": (
        AWS_DEFAULT,
        (THROTTLED, THROTTLED, ERROR, THROTTLED, ERROR, ERROR),
        ("retries_exhausted", [0, 1, 3, 63, 67, 187], "RetriesExhausted", 3, 200),
    ),
    "throttled after a failure until the age ends": (
        AWS.policy(None, 90),
        (ERROR, THROTTLED),
        ("expired", [0, 60, 61, 63, 67, 75], "EventAgeExceeded", 1, 429),
    ),
    "deleted before it ran, no retries": (
        AWS.policy(0, None),
        (MISSING,),
        ("retries_exhausted", [0], "RetriesExhausted", 1, 404),
    ),
    "deleted before it ran, one retry": (
        AWS.policy(1, None),
        (MISSING,),
        ("retries_exhausted", [0, 60], "RetriesExhausted", 2, 404),
    ),
    "deleted after a failure, one retry": (
        AWS.policy(1, None),
        (ERROR, MISSING),
        ("retries_exhausted", [0, 60], "RetriesExhausted", 2, 404),
    ),
}


@pytest.mark.parametrize("case", AWS_LIVES)
def test_a_life_at_aws(case: str) -> None:
    policy, answers, (ending, attempts_at_s, condition, count, status_code) = AWS_LIVES[case]

    life = live(policy, *answers)
    record = AWS.record(ended(life))

    assert (life.ending, life.attempts_at_s) == (ending, attempts_at_s)
    assert record["requestContext"]["condition"] == condition
    assert record["requestContext"]["approximateInvokeCount"] == count
    assert record["responseContext"]["statusCode"] == status_code


def test_throttles_at_aws_wait_five_minutes_at_most_and_six_hours_in_all() -> None:
    life = live(AWS_DEFAULT, THROTTLED)
    waits_s = [b - a for a, b in zip(life.attempts_at_s, life.attempts_at_s[1:], strict=False)]

    assert waits_s[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert set(waits_s[9:]) == {300}
    assert life.ending == "expired"
    assert 6 * 3600 - 300 <= life.ended_at_s < 6 * 3600


def test_the_wait_begins_when_the_attempt_ends() -> None:
    assert live(AWS_DEFAULT, ERROR, duration_ms=10_000).attempts_at_s == [0, 70, 200]


def test_reserved_concurrency_0_ends_an_invocation_at_aws_before_any_attempt() -> None:
    happened = decide(given_(ACCEPTED), Start(1, 7, running=0, reserved=0), AWS_DEFAULT)

    assert happened == (Failed(0, 7, "zero_concurrency"),)


def test_reserved_concurrency_0_between_attempts_ends_an_invocation_with_the_count_it_had() -> None:
    state = given_(ACCEPTED, AttemptStarted(1, 0), AttemptFailed(1, 0, ERROR), RetryScheduled(2, 0, 60_000))

    assert decide(state, Start(2, 60_000, reserved=0), AWS_DEFAULT) == (Failed(1, 60_000, "zero_concurrency"),)


# --- Function Compute and FunctionGraph


@pytest.mark.parametrize("policy", [FC_DEFAULT, FG_DEFAULT], ids=["fc", "fg"])
def test_reserved_concurrency_0_throttles_elsewhere(policy: Policy) -> None:
    happened = decide(given_(ACCEPTED), Start(1, 7, reserved=0), policy)

    assert happened[0] == AttemptFailed(1, 7, THROTTLED)
    assert isinstance(happened[1], RetryScheduled)


@pytest.mark.parametrize("policy", [FC_DEFAULT, FG_DEFAULT], ids=["fc", "fg"])
def test_a_deleted_function_ends_an_invocation_elsewhere(policy: Policy) -> None:
    life = live(policy, MISSING)

    assert (life.ending, life.attempts_at_s) == ("target_missing", [0])


def test_function_errors_at_fc_are_limited_by_count() -> None:
    life = live(FC_DEFAULT, ERROR)

    assert (life.ending, life.attempts_at_s) == ("retries_exhausted", [0, 0.5, 1.5, 3.5])


@pytest.mark.parametrize("answer", [THROTTLED, BROKEN])
def test_five_hours_at_fc_have_room_for_fifteen_retries(answer: Outcome) -> None:
    life = live(FC_DEFAULT, answer)

    assert life.ending == "budget_spent"
    assert len(life.attempts_at_s) == 1 + 15
    assert life.attempts_at_s[:5] == [0, 0.5, 1.5, 3.5, 7.5]
    assert life.ended_at_s == 16_383.5
    assert life.state.failures == 0


def test_throttles_at_fc_end_with_the_age_if_that_is_shorter() -> None:
    life = live(FC.policy(None, 60), THROTTLED)

    assert (life.ending, life.ended_at_s) == ("expired", 31.5)


def test_the_five_hours_at_fc_do_not_limit_function_errors() -> None:
    state = given_(ACCEPTED, AttemptStarted(1, 6 * HOUR_MS))

    assert decide(state, Report(1, 6 * HOUR_MS, ERROR), FC_DEFAULT)[1:] == (
        RetryScheduled(2, 6 * HOUR_MS, 6 * HOUR_MS + 500),
    )
    assert decide(state, Report(1, 6 * HOUR_MS, BROKEN), FC_DEFAULT)[1:] == (Failed(1, 6 * HOUR_MS, "budget_spent"),)


@pytest.mark.parametrize(
    ("policy", "attempts_at_s"),
    [
        (FG.policy(None, None), [0]),
        (FG.policy(None, 3600), [0, 1]),
        (FG.policy(3, None), [0, 1, 3, 7]),
    ],
    ids=["no configuration", "configuration without retries", "three retries"],
)
def test_function_errors_at_functiongraph_are_limited_by_count(policy: Policy, attempts_at_s: list[float]) -> None:
    life = live(policy, ERROR)

    assert (life.ending, life.attempts_at_s) == ("retries_exhausted", attempts_at_s)


def test_throttles_at_functiongraph_wait_a_minute_at_most_until_the_age_ends() -> None:
    life = live(FG_DEFAULT, THROTTLED)

    assert life.attempts_at_s[:9] == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    assert life.ending == "expired"
    assert 3600 - 60 <= life.ended_at_s < 3600


def test_otc_can_discard_a_throttled_invocation_but_retries_system_errors() -> None:
    policy = FunctionGraph(variant="otc", throttled="end").policy(None, None)

    assert live(policy, THROTTLED).ending == "budget_spent"
    assert live(policy, THROTTLED).attempts_at_s == [0]
    assert live(policy, BROKEN, OK).attempts_at_s == [0, 1]


# --- old news


@pytest.mark.parametrize(
    ("facts", "command"),
    [
        ((), Start(1, 0)),
        ((), Report(1, 0, OK)),
        ((ACCEPTED,), ACCEPT),
        ((ACCEPTED,), Start(2, 0)),
        ((ACCEPTED,), Report(1, 0, OK)),
        ((ACCEPTED, AttemptStarted(1, 0)), Start(1, 1)),
        ((ACCEPTED, AttemptStarted(1, 0)), Report(2, 1, OK)),
        ((ACCEPTED, AttemptStarted(1, 0), AttemptFailed(1, 0, ERROR), RetryScheduled(2, 0, 9)), Report(1, 1, OK)),
        ((ACCEPTED, AttemptStarted(1, 0), AttemptFailed(1, 0, ERROR), RetryScheduled(2, 0, 9)), Start(1, 1)),
        ((ACCEPTED, AttemptStarted(1, 0), Succeeded(1, 1, OK)), Report(1, 1, OK)),
        ((ACCEPTED, AttemptStarted(1, 0), Succeeded(1, 1, OK)), Start(1, 1)),
        ((ACCEPTED, Failed(0, 1, "expired")), Start(1, 1)),
        ((ACCEPTED, Failed(0, 1, "loop")), ACCEPT),
        ((ACCEPTED, Failed(0, 1, "cancelled")), Start(1, 1)),
        ((ACCEPTED, AttemptStarted(1, 0), Failed(1, 1, "cancelled")), Report(1, 1, OK)),
        ((ACCEPTED, AttemptStarted(1, 0), Failed(1, 1, "cancelled")), Cancel(2)),
        ((ACCEPTED, AttemptStarted(1, 0), Succeeded(1, 1, OK)), Cancel(2)),
    ],
)
def test_old_news_decides_nothing(facts: tuple[Fact, ...], command: Command) -> None:
    assert decide(given_(*facts), command, AWS_DEFAULT) == ()


# --- cancels


def test_a_cancel_ends_what_waits() -> None:
    state = given_(ACCEPTED, AttemptStarted(1, 0), AttemptFailed(1, 5, ERROR), RetryScheduled(2, 5, 60_005))

    assert decide(state, Cancel(9), AWS_DEFAULT) == (Failed(1, 9, "cancelled"),)
    assert fold(state, decide(state, Cancel(9), AWS_DEFAULT)) == State("failed", 1, 1, 1, 0, 0, 9, ERROR)


def test_a_cancel_before_the_first_attempt_leaves_none() -> None:
    assert decide(given_(ACCEPTED), Cancel(9), AWS_DEFAULT) == (Failed(0, 9, "cancelled"),)


def test_an_attempt_that_is_cut_off_counts_and_has_no_outcome() -> None:
    state = given_(
        ACCEPTED, AttemptStarted(1, 0), AttemptFailed(1, 5, ERROR), RetryScheduled(2, 5, 9), AttemptStarted(2, 9)
    )

    assert decide(state, Cancel(11), AWS_DEFAULT) == (Failed(2, 11, "cancelled"),)
    assert fold(state, decide(state, Cancel(11), AWS_DEFAULT)) == State("failed", 2, 2, 1, 0, 0, 11, None)


def test_what_is_not_known_cannot_be_cancelled() -> None:
    assert decide(None, Cancel(9), AWS_DEFAULT) == ()


# --- whatever happens

policies = st.one_of(
    st.builds(AWS.policy, st.none() | st.integers(0, 2), st.none() | st.integers(60, 600)),
    st.builds(FC.policy, st.none() | st.integers(0, 8), st.none() | st.integers(1, 600)),
    st.builds(FG.policy, st.none() | st.integers(0, 3), st.none() | st.integers(1, 600)),
    st.builds(FunctionGraph(throttled="end").policy, st.none() | st.integers(0, 3), st.none() | st.integers(1, 600)),
)
outcomes = st.sampled_from([OK, ERROR, MISSING, BROKEN, THROTTLED, Outcome("throttled", 429)])
cancels = st.sampled_from([False] * 9 + [True])
steps = st.tuples(outcomes, st.integers(0, 90_000), st.integers(0, 30_000), st.sampled_from([None, 0, 1]), cancels)
"""The answer, how late the attempt is, how long it runs, the reserved concurrency, whether it is cancelled."""


@given(policy=policies, delay_ms=st.integers(0, 700_000), steps=st.lists(steps, min_size=1, max_size=30))
@settings(deadline=None)
def test_a_life_with_every_command_delivered_again_and_again(
    policy: Policy, delay_ms: int, steps: list[tuple[Outcome, int, int, int | None, bool]]
) -> None:
    delivered: list[Command] = []
    facts: list[Fact] = []
    state: State | None = None

    def deliver(command: Command) -> None:
        """*command*, and then everything that was delivered so far once more, which must do nothing."""
        nonlocal state
        happened = decide(state, command, policy)
        facts.extend(happened)
        state = fold(state, happened)
        delivered.append(command)
        for old in delivered:
            assert decide(state, old, policy) == ()

    deliver(Accept(0, 0, delay_ms))
    for answer, late_ms, duration_ms, reserved, cancelled in steps:
        assert state is not None
        if state.is_over:
            break
        start_ms = state.due_at_ms + late_ms
        running = 1 if answer is THROTTLED and reserved is not None else 0
        deliver(Start(state.attempt, start_ms, running, reserved))
        if cancelled:
            deliver(Cancel(start_ms))
        elif state.status == "running":
            deliver(Report(state.attempt, start_ms + duration_ms, answer))

    check_promises(facts, policy)
    assert fold(None, facts) == state


commands = st.one_of(
    st.builds(Accept, st.just(0), st.just(0), st.integers(0, 700_000), st.integers(1, 120)),
    st.builds(Start, st.integers(1, 4), st.integers(0, 700_000), st.integers(0, 2), st.sampled_from([None, 0, 1, 2])),
    st.builds(Report, st.integers(1, 4), st.integers(0, 700_000), outcomes),
    st.builds(Cancel, st.integers(0, 700_000)),
)


@given(policy=policies, commands=st.lists(commands, max_size=30))
@settings(deadline=None)
def test_a_life_of_commands_in_any_order(policy: Policy, commands: list[Command]) -> None:
    facts: list[Fact] = []
    state: State | None = None
    for command in commands:
        happened = decide(state, command, policy)
        facts += happened
        state = fold(state, happened)

    check_promises(facts, policy)


@given(
    policy=policies,
    at_ms=st.integers(0, 700_000),
    accepted_before_ms=st.integers(0, 700_000),
    due_before_ms=st.integers(-1, 1),
    depth=st.integers(1, 120),
    running=st.integers(0, 2),
    reserved=st.sampled_from([None, 0, 1, 2]),
)
def test_beginning_at_once_is_to_accept_and_then_to_start(
    policy: Policy,
    at_ms: int,
    accepted_before_ms: int,
    due_before_ms: int,
    depth: int,
    running: int,
    reserved: int | None,
) -> None:
    accepted_at_ms, due_at_ms = at_ms - accepted_before_ms, at_ms - due_before_ms
    accepted = decide(None, Accept(at_ms, accepted_at_ms, due_at_ms, depth), policy)
    waiting = fold(None, accepted)
    assert waiting is not None
    is_due = waiting.status == "waiting" and waiting.due_at_ms <= at_ms
    started = decide(waiting, Start(1, at_ms, running, reserved), policy) if is_due else ()
    state = fold(waiting, started)
    assert state is not None

    begun = accept_and_start(at_ms, accepted_at_ms, due_at_ms, depth, running, reserved, policy)

    assert begun == (((*accepted, *started), state) if state.status == "running" else None)


@given(policy=policies, executions=st.integers(0, 5), failures=st.integers(0, 5), throttles=st.integers(0, 5))
def test_succeeding_is_to_report_what_was_returned(
    policy: Policy, executions: int, failures: int, throttles: int
) -> None:
    running = State("running", 1 + failures + throttles, executions, failures, throttles, 1, 2, ERROR)
    facts = decide(running, Report(running.attempt, 3, OK), policy)

    assert (*succeed(running, 3, OK),) == (*facts, fold(running, facts))


def check_promises(facts: list[Fact], policy: Policy) -> None:
    """One end at most and nothing after it; no attempt too many, too late or beside another."""
    ends = [index for index, fact in enumerate(facts) if isinstance(fact, Succeeded | Failed)]
    starts = [fact for fact in facts if isinstance(fact, AttemptStarted)]
    failed = [fact for fact in facts if isinstance(fact, AttemptFailed)]
    counted = [fact for fact in failed if fact.outcome.kind in ("function_error", "target_missing")]

    assert len(ends) <= 1
    assert all(index == len(facts) - 1 for index in ends)
    assert sum(isinstance(fact, Accepted) for fact in facts) <= 1
    assert len(counted) <= policy.attempts_max
    assert len({fact.attempt for fact in starts}) == len(starts)
    assert all(fact.at_ms < policy.age_max_ms for fact in starts)
    assert all(fact.due_at_ms < policy.age_max_ms for fact in facts if isinstance(fact, RetryScheduled))
    running: list[Any] = []
    for fact in facts:
        if isinstance(fact, AttemptStarted):
            assert running == []
            running.append(fact.attempt)
        elif isinstance(fact, AttemptFailed | Succeeded) and running:
            assert running.pop() == fact.attempt


def test_facts_of_every_kind_leave_a_state() -> None:
    state = given_(ACCEPTED)
    for fact in (AttemptStarted(1, 1), AttemptFailed(1, 2, BROKEN), RetryScheduled(2, 2, 9), AttemptStarted(2, 9)):
        state = evolve(state, fact)

    assert evolve(state, Succeeded(2, 10, OK)) == State("succeeded", 2, 1, 0, 1, 0, 10, OK)
    assert evolve(state, Failed(2, 10, "expired")) == State("failed", 2, 0, 0, 1, 0, 10, BROKEN)
