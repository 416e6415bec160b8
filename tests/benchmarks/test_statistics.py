"""Percentiles and spreads."""

from benchmarks.statistics import latencies, percentile, spread


def test_percentiles_are_nearest_ranks():
    ordered = list(range(1, 101))

    assert [percentile(ordered, percent) for percent in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7], 50) == percentile([7], 99) == 7
    assert percentile([1, 2, 3], 50) == 2


def test_a_spread_is_the_median_and_the_range():
    assert spread([3, 1, 2, 100, 0]) == (2, 0, 100, 5)
    assert spread([1, 2]) == (1.5, 1, 2, 2)


def test_latencies_are_in_milliseconds_and_in_any_order():
    assert latencies([0.004, 0.001, 0.002, 0.003]) == {"p50_ms": 2, "p95_ms": 4, "p99_ms": 4, "max_ms": 4}


def test_an_outcome_seen_before_its_acknowledgement_has_no_latency():
    assert latencies([-0.001, -0.002])["p50_ms"] == 0
