"""From facts to where an invocation stands."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.console.projection import InvocationStatus, Located, advance, earlier, project
from streams.core.facts import (
    Accepted,
    AttemptFailed,
    AttemptStarted,
    Delivered,
    DeliveryFailed,
    Fact,
    Failed,
    RetryScheduled,
    Succeeded,
)
from streams.core.model import Outcome

from .samples import ARN, NOW, RAISED, accepted, at, delivery, exhausted, failed_once, succeeded


def after(*batch: Located) -> InvocationStatus:
    """The one row that *batch* makes."""
    [status], _ = project({}, batch)
    return status


def test_a_success_in_one_transaction_is_a_whole_row():
    assert after(at(7, "a", *succeeded(), partition=3)) == InvocationStatus(
        partition=3,
        first_offset=7,
        last_offset=7,
        offset=1007,
        request_id="a",
        provider="aws",
        resource=ARN,
        function="resize",
        qualifier="prod",
        traceparent=None,
        depth=1,
        status="succeeded",
        ending="succeeded",
        attempts=1,
        accepted_at_ms=NOW,
        due_at_ms=None,
        started_at_ms=NOW + 3,
        ended_at_ms=NOW + 8,
        changed_at_ms=NOW + 8,
        outcome_kind="returned",
        status_code=200,
        error_type="",
        error_message="",
    )


DELIVERED = Delivered(NOW + 20, "arn:q", is_event=False)
UNDELIVERED = DeliveryFailed(NOW + 30, "arn:q", False, "NonExistentQueue", "no")


def test_what_became_of_its_record_is_known_after_its_end():
    assert after(at(0, "a", *succeeded())).destination is None
    row = after(at(0, "a", *succeeded()), delivery(1, "a", DELIVERED))
    assert (row.destination, row.status, row.last_offset, row.changed_at_ms) == ("delivered", "succeeded", 1, NOW + 20)
    assert after(at(0, "a", *succeeded()), delivery(1, "a", UNDELIVERED)).destination == "failed"


def test_a_dead_letter_queue_is_no_destination():
    events = (replace(DELIVERED, is_event=True), replace(UNDELIVERED, is_event=True))

    assert after(at(0, "a", *succeeded()), delivery(1, "a", *events)).destination is None
    assert after(at(0, "a", *succeeded()), delivery(1, "a", DELIVERED), delivery(2, "a", events[1])).destination == (
        "delivered"
    )


def test_a_delivery_of_which_nothing_else_is_kept_is_a_row_all_the_same():
    row = after(delivery(9, "a", DELIVERED))

    assert (row.first_offset, row.destination, row.accepted_at_ms) == (9, "delivered", NOW + 20)


THROTTLED = AttemptFailed(1, NOW, Outcome("throttled", 429))


@pytest.mark.parametrize(
    ("facts", "status", "ending", "attempts", "due_in_ms"),
    [
        ([accepted()], "waiting", None, 0, 0),
        ([accepted(NOW, NOW + 9), RetryScheduled(1, NOW, NOW + 9)], "waiting", None, 0, 9),
        ([accepted(), AttemptStarted(1, NOW)], "running", None, 1, None),
        ([accepted(), THROTTLED, RetryScheduled(2, NOW, NOW + 5)], "retrying", None, 1, 5),
        (failed_once(), "retrying", None, 1, 60_005),
        ([*failed_once(), AttemptStarted(2, NOW)], "running", None, 2, None),
        ([*failed_once(), *exhausted()], "failed", "retries_exhausted", 2, None),
        ([*failed_once(), Failed(1, NOW, "expired")], "failed", "expired", 1, None),
        ([accepted(), Failed(0, NOW, "loop")], "failed", "loop", 0, None),
    ],
)
def test_the_facts_so_far_say_where_it_stands(facts, status, ending, attempts, due_in_ms):
    row = after(at(0, "a", *facts))

    due_at_ms = None if due_in_ms is None else NOW + due_in_ms
    assert (row.status, row.ending, row.attempts, row.due_at_ms) == (status, ending, attempts, due_at_ms)


def test_the_start_is_that_of_the_first_attempt_and_the_outcome_that_of_the_last():
    row = after(at(0, "a", *failed_once()), at(1, "a", *exhausted()))

    assert (row.started_at_ms, row.ended_at_ms) == (NOW + 3, NOW + 60_010)
    assert (row.outcome_kind, row.status_code) == ("function_error", 200)
    assert (row.error_type, row.error_message) == ("ValueError", "no such key")


def test_a_late_success_leaves_no_error():
    row = after(at(0, "a", *failed_once()), at(1, "a", AttemptStarted(2, NOW), Succeeded(2, NOW, Outcome("returned"))))

    assert (row.status, row.attempts, row.error_type, row.error_message) == ("succeeded", 2, "", "")


def test_lists_are_ordered_by_start_or_by_acceptance_while_there_was_none():
    assert after(at(0, "a", accepted())).order_ms == NOW
    assert after(at(0, "a", *succeeded())).order_ms == NOW + 3


def test_one_id_on_two_partitions_is_two_invocations():
    rows, _ = project({}, [at(4, "a", accepted(), partition=0), at(4, "a", *succeeded(), partition=1)])

    assert [(row.partition, row.status) for row in rows] == [(0, "waiting"), (1, "succeeded")]


def test_an_id_that_is_accepted_again_is_another_invocation():
    rows, events = project({}, [at(4, "a", *succeeded()), at(9, "a", *failed_once(NOW + 1)), at(11, "a", *exhausted())])

    assert [(row.first_offset, row.last_offset, row.status) for row in rows] == [(4, 4, "succeeded"), (9, 11, "failed")]
    assert [event.first_offset for event in events] == [4, 9, 9]


def test_facts_whose_beginning_is_gone_make_a_row_all_the_same():
    row = after(at(5, "a", *exhausted()))

    assert (row.first_offset, row.offset, row.status) == (5, None, "failed")
    assert row.accepted_at_ms == NOW + 60_006


def test_only_what_a_batch_does_not_begin_must_be_known():
    batch = [at(0, "a", *failed_once()), at(1, "b", *exhausted()), at(2, "a", *exhausted()), at(3, "c", partition=1)]

    assert earlier(batch) == {(0, "b"), (1, "c")}


def test_a_record_without_facts_says_nothing():
    assert project({}, [at(0, "a")]) == ([], [])


@pytest.mark.parametrize(
    ("provider", "resource", "function", "qualifier"),
    [
        ("aws", "arn:aws:lambda:eu-west-1:999999999999:function:f:$LATEST", "f", "$LATEST"),
        ("fc", "acs:fc:cn-hangzhou:123:functions/f", "f", "LATEST"),
        ("fc", "acs:fc:::services/s.prod/functions/f", "s/f", "prod"),
        ("functiongraph", "urn:fss:cn-north-4:p:function:default:f:!live", "f", "!live"),
        ("functiongraph", "something else", "something else", ""),
        ("unheard-of", "f", "f", ""),
    ],
)
def test_function_and_qualifier_are_read_from_the_resource(provider, resource, function, qualifier):
    row = after(at(0, "a", accepted(), provider=provider, resource=resource))

    assert (row.function, row.qualifier) == (function, qualifier)


def test_text_is_free_of_what_postgresql_does_not_store():
    row = after(at(0, "a", accepted(), AttemptFailed(1, NOW, replace(RAISED, error_message="a\0b"))))

    assert row.error_message == "a\ufffdb"


LIVES: list[list[tuple[Fact, ...]]] = [
    [succeeded()],
    [failed_once(), exhausted()],
    [(accepted(),), (AttemptStarted(1, NOW),), exhausted()],
    [succeeded(), failed_once(), exhausted()],
]


@given(st.data())
def test_reading_on_from_anywhere_again_changes_nothing(data: st.DataObject):
    lives = {request_id: list(data.draw(st.sampled_from(LIVES))) for request_id in "abc"}
    log: list[Located] = []
    while any(lives.values()):
        request_id = data.draw(st.sampled_from([name for name, rest in lives.items() if rest]))
        log.append(at(len(log), request_id, *lives[request_id].pop(0)))
    once = stored({}, log)

    again = stored(once, log[data.draw(st.integers(0, len(log))) :])

    assert again == once


def test_old_news_leave_the_row_as_it_is():
    row = after(at(0, "a", *failed_once()), at(3, "a", *exhausted()))

    assert advance(row, at(3, "a", *exhausted())) is row
    assert advance(row, at(0, "a", Accepted(0, 0, 0, 1))) is row


def stored(
    rows: dict[tuple[int, int], InvocationStatus], batch: list[Located]
) -> dict[tuple[int, int], InvocationStatus]:
    """*rows* after *batch*, as the store keeps them: a row is replaced by one that knows more."""
    known = {(row.partition, row.request_id): row for _, row in sorted(rows.items())}
    wanted = earlier(batch)
    changed, _ = project({key: row for key, row in known.items() if key in wanted}, batch)
    kept = dict(rows)
    for row in changed:
        before = kept.get((row.partition, row.first_offset))
        if before is None or row.last_offset > before.last_offset:
            kept[row.partition, row.first_offset] = row
    return kept
