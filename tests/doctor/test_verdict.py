"""The judge is judged: each of doctor's own laws can be broken, and a broken law is exit code 1."""

import json
from collections.abc import Sequence

import pytest

from streams.commands.doctor import EXIT_BROKEN, conclude
from streams.doctor import report
from streams.doctor.evidence import Case
from streams.doctor.load import Sent
from streams.doctor.report import Options, Report
from streams.doctor.trial import Result
from streams.doctor.verdict import Figures, most_in_flight
from streams.laws import Execution, History, Terminal, Violation

OPTIONS = Options(seed=7, full=False, scale=0.5)


def ran(
    request_id: str, attempt: int = 1, process: str = "a", began: float = 10, ended: float | None = 20
) -> Execution:
    return Execution(request_id, attempt, process, began, ended)


def case(executions: Sequence[Execution], terminals: Sequence[Terminal], kills: int = 0, delivered: int = 1) -> Case:
    """Of one invocation `x`, which was to succeed."""
    history = History(produced={"x"}, executions=list(executions), terminals=list(terminals), kills=kills)
    return Case(history, {"x": Sent("success", "aws", None, None)}, {"x": delivered}, {"x": [21]}, set())


GOOD = case([ran("x")], [Terminal("x", "success", 1)])


def figures(*cases: Case, kills: int = 0) -> Figures:
    judged = Figures()
    for each in cases:
        judged.add(each)
    judged.conclude(kills)
    return judged


def result(judged: Figures) -> Result:
    return Result("kill", judged, 2, [70], 3.25, None, 61.0, 0)


def test_a_good_history_breaks_no_law() -> None:
    judged = figures(GOOD)

    assert judged.violations == []
    assert (judged.invocations, judged.executions, judged.extra_executions, judged.lost) == (1, 1, 0, 0)


def test_what_never_ended_is_lost() -> None:
    judged = figures(case([ran("x")], []))

    assert (judged.lost, [violation.law for violation in judged.violations]) == (1, ["L1"])


def test_two_outcomes_are_one_too_many() -> None:
    judged = figures(case([ran("x")], 2 * [Terminal("x", "success", 1)]))

    assert (judged.duplicate_outcomes, [violation.law for violation in judged.violations]) == (1, ["L2"])


def test_an_ending_that_its_function_did_not_make_is_wrong() -> None:
    judged = figures(case([ran("x")], [Terminal("x", "failure", 1)]))

    assert judged.violations == [Violation("endings", "x", "ended as failure, not as success")]


@pytest.mark.parametrize(("crashed", "laws"), [({"x"}, []), (set(), ["endings"])])
def test_who_kills_the_worker_must_be_said_to_have_done_so(crashed: set[str], laws: list[str]) -> None:
    failed = case([ran("x", ended=None)], [Terminal("x", "failure", 1)])._replace(
        sent={"x": Sent("crash", "fc", None, None)}, crashed=crashed
    )

    assert [violation.law for violation in figures(failed).violations] == laws


def test_a_delivery_comes_once() -> None:
    judged = figures(case([ran("x")], [Terminal("x", "success", 1)], delivered=2))

    assert judged.violations == [Violation("delivery", "x", "came to its destination 2 times")]


def test_a_kill_excuses_as_many_executions_as_were_in_flight() -> None:
    twice = case([ran("x"), ran("x", 2, "b", 30, 40)], [Terminal("x", "success", 1)], kills=1)

    assert figures(twice, kills=1).violations == []
    assert figures(twice, kills=1).extra_executions == 1
    assert [violation.law for violation in figures(twice, kills=0).violations] == ["extra"]


def test_in_flight_is_what_has_begun_and_is_not_committed() -> None:
    executions = [ran("x", began=10, ended=20), ran("y", began=25, ended=40), ran("z", process="b", began=12)]

    assert most_in_flight(executions, {"x": [30], "y": [41]}) == 2
    assert most_in_flight(executions, {"x": [5, 21], "y": [41]}) == 1
    assert most_in_flight([], {}) == 0


def test_a_run_without_violations_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert conclude(Report(OPTIONS, [result(figures(GOOD))])) == 0
    out = capsys.readouterr().out
    assert "ok" in out
    assert "Seed: 7" in out


def test_a_doctored_history_ends_with_exit_code_1_and_says_how_to_repeat_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    judged = figures(GOOD, case([], [Terminal("x", "success", 1)]))

    assert conclude(Report(OPTIONS, [result(judged)])) == EXIT_BROKEN == 1
    out = capsys.readouterr().out
    assert "BROKEN" in out
    assert "L3: x has a success record and never ran" in out
    assert "streams doctor --scenario kill --seed 7 --scale 0.5" in out


def test_a_line_of_json_has_the_figures_and_what_was_tested() -> None:
    line = json.loads(report.json_line(result(figures(case([ran("x")], []))), OPTIONS, "4.3.1"))

    assert line["scenario"] == "kill"
    assert (line["seed"], line["lost"], line["verdict"]) == (7, 1, "broken")
    assert (line["kills"], line["exits"], line["time_to_resume_s"]) == (2, [70], 3.25)
    assert line["violations"] == [{"law": "L1", "request_id": "x", "fault": "has no terminal record"}]
    assert line["versions"]["kafka"] == "4.3.1"
    assert line["versions"].keys() == {"streams", "kafka", "faust", "aiokafka", "python", "system"}
