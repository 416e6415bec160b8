"""The bars against a run."""

from benchmarks.bars import BARS, judge
from benchmarks.results import Sample, Samples


def run(**medians: tuple[str, str, float]) -> Samples:
    """Samples from ``figure=(workload, contender, value)`` with the figure's name up to ``__``."""
    return Samples(
        Sample(workload=workload, contender=contender, repeat=1, figures={name.partition("__")[0]: value})
        for name, (workload, contender, value) in medians.items()
    )


def judged(samples: Samples, measure: str):
    return next(one for one in judge(samples) if one.bar.measure == measure)


def test_a_ratio_is_of_two_contenders_of_the_same_run():
    samples = run(per_s__ours=("W1", "streams", 24_000), per_s__theirs=("W1", "faust", 2_000))

    beside = judged(samples, "W1 beside stock Faust")

    assert beside.value == 12
    assert beside.meets(beside.bar.bar) is True
    assert beside.meets(12.1) is False


def test_less_is_better_for_time_and_memory():
    samples = run(cpu_us=("W1", "streams", 40))

    cpu = judged(samples, "W1 CPU a request")

    assert cpu.meets(cpu.bar.bar) is True
    assert cpu.meets(cpu.bar.stretch) is False


def test_what_a_run_did_not_measure_neither_passes_nor_fails():
    samples = run(per_s=("W1", "streams", 24_000))

    beside = judged(samples, "W1 beside stock Faust")

    assert beside.value is None
    assert beside.meets(beside.bar.bar) is None


def test_a_bar_without_a_limit_is_not_judged():
    samples = run(per_s__ours=("W1", "streams", 24_000), per_s__theirs=("W1", "aiokafka", 30_000))

    beside = judged(samples, "W1 beside aiokafka without a promise")

    assert beside.meets(beside.bar.bar) is None
    assert beside.meets(beside.bar.stretch) is False


def test_partitions_are_compared_by_the_median_latency():
    samples = run(p50_ms__many=("W6-1000-p32", "streams", 30), p50_ms__few=("W6-1000-p4", "streams", 20))

    assert judged(samples, "W6 p50 with 32 partitions beside 4").value == 1.5


def test_a_stretch_is_never_easier_than_its_bar():
    for bar in BARS:
        if bar.bar is not None and bar.stretch is not None:
            assert (bar.stretch > bar.bar) is bar.at_least, bar.measure
