"""Each checker fires on a history that breaks its law, and keeps silent on one that does not."""

from dataclasses import replace

import pytest

from streams.laws import LAWS, Execution, History, Sample, Terminal, Violation, judge


def run(request_id: str, attempt: int = 1, process: str = "p", start: float = 0, end: float | None = 1) -> Execution:
    return Execution(request_id, attempt, process, start, end)


def good() -> History:
    """Four invocations: one that succeeds at once, one at its second attempt, one that fails, and an unreadable one."""
    return History(
        produced={"a", "b", "c", "bad"},
        executions=[run("a"), run("b", 1), run("b", 2, start=5, end=6), run("c", start=2, end=3)],
        terminals=[
            Terminal("a", "success", 1),
            Terminal("b", "success", 2),
            Terminal("c", "failure", 1),
            Terminal("bad", "dead letter", 0),
        ],
        deadlines_ms={"a": 10, "b": 10, "c": 10},
        samples=[Sample(0, 0, 0, 0), Sample(3, 1, 1, 1), Sample(3, 0, 0, 3)],
        unreadable={"bad": b"\x00"},
        dead_letters={"bad": b"\x00", "c": b"{}"},
        destined={"a", "c"},
        delivered={"a"},
    )


def test_a_good_history_breaks_nothing() -> None:
    assert judge(good()) == []


BROKEN: list[tuple[str, str, History]] = [
    ("L1", "lost", replace(good(), produced=good().produced | {"lost"})),
    ("L2", "a", replace(good(), terminals=[*good().terminals, Terminal("a", "success", 1)])),
    ("L2", "c", replace(good(), terminals=[*good().terminals, Terminal("c", "dead letter", 1)])),
    ("L3", "d", replace(good(), terminals=[*good().terminals, Terminal("d", "success", 0)])),
    ("L4", "a", replace(good(), executions=[*good().executions, run("a", 2, start=7, end=8)])),
    ("L4", "c", replace(good(), executions=[e for e in good().executions if e.request_id != "c"])),
    ("L5", "sample 3", replace(good(), samples=[*good().samples, Sample(4, 1, 0, 2)])),
    ("L6", "a", replace(good(), deadlines_ms={"a": -1})),
    ("L6", "b", replace(good(), cancelled_ms={"b": 4.5})),
    ("L7", "b", replace(good(), executions=[run("a"), run("c"), run("b", 1, end=6), run("b", 2, start=5, end=7)])),
    ("L8", "bad", replace(good(), dead_letters={"c": b"{}"}, terminals=good().terminals)),
    ("L8", "bad", replace(good(), dead_letters={"bad": b"other", "c": b"{}"})),
    ("L8", "b", replace(good(), destined={"a", "b", "c"})),
]


@pytest.mark.parametrize(("law", "request_id", "history"), BROKEN, ids=[f"{law}-{name}" for law, name, _ in BROKEN])
def test_a_broken_law_is_named(law: str, request_id: str, history: History) -> None:
    assert [(found.law, found.request_id) for found in judge(history)] == [(law, request_id)]


def test_every_law_is_tried() -> None:
    assert {law for law, _, _ in BROKEN} == LAWS.keys()


def test_a_kill_may_hide_one_execution_each() -> None:
    history = good()
    history.executions.append(run("a", process="q", start=0.5, end=2))

    assert {violation.law for violation in judge(history)} == {"L4", "L7"}
    assert judge(replace(history, kills=1)) == []
    history.executions.append(run("a", process="r", start=3, end=4))
    assert [violation.law for violation in judge(replace(history, kills=1))] == ["L4"]


def test_no_kill_explains_a_process_that_runs_what_had_ended_before_it_began() -> None:
    history = replace(good(), kills=9)
    history.terminals[0] = Terminal("a", "success", 1, written_ms=2)
    history.executions.append(run("a", process="frozen", start=3, end=4))
    history.executions.append(run("c", process="frozen", start=1, end=2))

    assert judge(history) == []
    history.executions.append(run("a", process="q", start=3, end=4))
    assert [(found.law, found.request_id) for found in judge(history)] == [("L4", "a")]
    assert judge(replace(history, since_ms={"q": 1})) == []


def test_a_kill_may_come_before_a_counted_attempt_runs() -> None:
    history = good()
    history.executions = [execution for execution in history.executions if execution.request_id != "c"]

    assert {violation.law for violation in judge(history)} == {"L4"}
    assert judge(replace(history, kills=1)) == []


def test_a_cancel_may_cut_off_an_attempt_that_counts_or_not() -> None:
    history = replace(good(), cancelled_ms={"c": 2.5})

    assert (
        judge(replace(history, terminals=[*good().terminals[:2], Terminal("c", "failure", 0), *good().terminals[3:]]))
        == []
    )
    assert judge(replace(history, executions=[e for e in good().executions if e.request_id != "c"])) == []


def test_only_a_process_that_was_frozen_may_miss_a_cancel() -> None:
    history = replace(good(), cancelled_ms={"b": 4.5}, kills=1)

    assert judge(history) == []
    history.executions[2] = run("b", 2, "started later", start=5, end=6)
    assert [violation.law for violation in judge(history)] == ["L6"]


def test_an_execution_without_end_makes_no_success() -> None:
    history = replace(good(), executions=[run("a", end=None), *good().executions[1:]])

    assert judge(history) == [Violation("L3", "a", "has a success record and never ran")]


def test_a_killed_attempt_overlaps_only_in_its_own_process() -> None:
    killed = run("a", end=None)
    history = replace(
        good(), executions=[killed, run("a", process="q", start=3, end=4), *good().executions[1:]], kills=1
    )

    assert judge(history) == []
    again = replace(history, executions=[killed, run("a", start=3, end=4), *good().executions[1:]])
    assert [violation.law for violation in judge(again)] == ["L7"]
