"""What the crash gate concludes, and what that does to the tables."""

from benchmarks import tables
from benchmarks.bars import judge as judge_bars
from benchmarks.contenders import CONTENDERS
from benchmarks.gate import Verdict, judge
from benchmarks.results import Sample, Samples

SAMPLES = Samples(
    Sample(workload="W1", contender=name, repeat=repeat, figures={"per_s": per_s + repeat, "cpu_us": 40, "rss_mb": 80})
    for name, per_s in (("streams", 20_000), ("faust", 2_000), ("aiokafka", 40_000), ("celery", 500))
    for repeat in (1, 2)
)


def line_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if f" {name} " in line)


def test_a_request_without_an_outcome_is_lost():
    verdict = judge(5, sent=10, failed=0, seen=set(range(8)), duplicates=3)

    assert verdict == Verdict(kills=5, requests=10, lost=2, duplicates=3)
    assert not verdict.passes


def test_duplicates_alone_do_not_fail():
    assert judge(5, sent=10, failed=0, seen=set(range(10)), duplicates=3).passes


def test_what_the_carrier_refused_is_nobodys_loss():
    assert judge(5, sent=10, failed=2, seen=set(range(8)), duplicates=0).passes


def test_a_refused_request_that_was_run_all_the_same_hides_no_negative_loss():
    assert judge(5, sent=10, failed=2, seen=set(range(9)), duplicates=0).lost == 0


def test_who_loses_and_who_promises_nothing_are_listed_apart():
    gate = {
        "streams": Verdict(5, 1000, 0, 0),
        "faust": Verdict(5, 1000, 0, 12),
        "aiokafka": Verdict(5, 1000, 0, 0),
        "celery": Verdict(5, 1000, 3, 0),
    }

    assert tables.is_in_main(CONTENDERS["faust"], gate)
    assert not tables.is_in_main(CONTENDERS["aiokafka"], gate)
    assert not tables.is_in_main(CONTENDERS["celery"], gate)
    text = tables.results(SAMPLES, gate)
    names = [line.split()[0 if line.startswith(" ") else 1] for line in text.splitlines()[2:]]
    assert names == ["streams", "faust", "aiokafka", "celery"]
    assert "[by hand; no promise]" in line_of(text, "aiokafka")
    assert "[loses on a crash: 3]" in line_of(text, "celery")


def test_a_line_has_the_median_and_the_range():
    samples = Samples(
        Sample(workload="W1", contender="faust", repeat=repeat, figures={"per_s": 1_000 * repeat, "cpu_us": 50.0})
        for repeat in (1, 2, 4)
    )

    line = line_of(tables.results(samples, {}), "faust")

    assert line.split() == ["faust", "2,000", "1,000-4,000", "50.0", "50.0-50.0"]


def test_verdicts_name_the_losers():
    text = tables.verdicts({"streams": Verdict(5, 12_000, 0, 0), "celery": Verdict(5, 1000, 3, 1)})

    assert line_of(text, "celery").endswith("loses on a crash")
    assert "exactly once" in line_of(text, "streams") and "12,000" in line_of(text, "streams")


def test_bars_are_printed_with_pass_and_fail():
    text = tables.bars(judge_bars(SAMPLES))

    assert line_of(text, "stock").count("FAIL") == 1
    assert "pass" in line_of(text, "CPU")
    assert "-" in line_of(text, "parked")


def test_a_run_on_a_busy_machine_says_so():
    quiet, busy = (
        Samples([Sample(workload="W1", contender="streams", repeat=1, figures={"core_wait_percent": percent})])
        for percent in (2.0, 61.0)
    )

    assert tables.busy(quiet) is None
    assert "up to 61 % of the time" in (tables.busy(busy) or "")
