"""Waits, bounds and the time scale."""

from typing import Literal

import pytest

from streams.core.policy import Backoff, Bounds, Policy

POLICY = Policy(
    attempts_max=3,
    age_max_ms=21_600_000,
    failure_backoff=Backoff(60_000),
    throttle_backoff=Backoff(1000, cap_ms=300_000),
    throttle_budget_ms=18_000_000,
)


def test_waits_double_from_the_first() -> None:
    assert [Backoff(500).delay_ms(count) for count in (1, 2, 3, 4)] == [500, 1000, 2000, 4000]


def test_waits_stop_growing_at_the_cap() -> None:
    backoff = Backoff(1000, cap_ms=300_000)

    assert [backoff.delay_ms(count) for count in (8, 9, 10, 100)] == [128_000, 256_000, 300_000, 300_000]


def test_a_factor_of_one_waits_the_same_every_time() -> None:
    assert [Backoff(7, factor=1).delay_ms(count) for count in (1, 2, 9)] == [7, 7, 7]


@pytest.mark.parametrize(("value", "accepted"), [(-1, False), (0, True), (2, True), (3, False)])
def test_bounds_include_both_ends(value: int, accepted: bool) -> None:
    assert (value in Bounds(0, 2, 1)) == accepted


def test_a_time_scale_of_one_changes_nothing() -> None:
    assert POLICY.scaled(1) is POLICY


def test_a_time_scale_multiplies_ages_and_waits_and_leaves_counts() -> None:
    assert POLICY.scaled(0.001) == Policy(
        attempts_max=3,
        age_max_ms=21_600,
        failure_backoff=Backoff(60),
        throttle_backoff=Backoff(1, cap_ms=300),
        throttle_budget_ms=18_000,
    )


def test_a_scaled_wait_is_at_least_a_millisecond() -> None:
    assert POLICY.scaled(0.000_001).throttle_backoff == Backoff(1, cap_ms=1)


@pytest.mark.parametrize("throttled", ["retry", "end"])
def test_a_time_scale_keeps_the_rules(throttled: Literal["retry", "end"]) -> None:
    policy = Policy(
        attempts_max=1,
        age_max_ms=1000,
        failure_backoff=Backoff(1),
        throttle_backoff=Backoff(1),
        throttled=throttled,
        zero_concurrency="end",
        target_missing="retry",
        depth_max=7,
    )
    scaled = policy.scaled(2)

    assert (scaled.throttled, scaled.zero_concurrency, scaled.target_missing) == (throttled, "end", "retry")
    assert (scaled.depth_max, scaled.throttle_budget_ms, scaled.throttle_backoff.cap_ms) == (7, None, None)
