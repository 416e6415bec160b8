"""Where a retry waits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.policy import Backoff
from streams.core.tiers import TIERS, Tier, tier_for, wake_at_ms
from streams.providers import PROVIDERS
from streams.providers.base import Provider

LONGEST_MS = TIERS[-1].delay_ms


def test_tiers_are_ordered_and_each_has_its_topic() -> None:
    delays_ms = [tier.delay_ms for tier in TIERS]

    assert delays_ms == sorted(set(delays_ms))
    assert len({tier.topic for tier in TIERS}) == len(TIERS)


@pytest.mark.parametrize(("delay_ms", "topic"), [(500, "retry.500ms"), (60_000, "retry.60s"), (1000, "retry.1s")])
def test_a_tiers_topic_says_how_long_it_waits(delay_ms: int, topic: str) -> None:
    assert Tier(delay_ms).topic == topic


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_every_wait_of_a_provider_up_to_the_longest_tier_is_one_tier(provider: Provider) -> None:
    policy = provider.policy(provider.retries.maximum, provider.age_s.maximum)
    waits_ms = {policy.failure_backoff.delay_ms(count) for count in range(1, policy.attempts_max)}
    waits_ms |= {policy.throttle_backoff.delay_ms(count) for count in range(1, 20)}

    assert {wait for wait in waits_ms if wait <= LONGEST_MS} <= {tier.delay_ms for tier in TIERS}


@pytest.mark.parametrize(
    ("remaining_ms", "delay_ms"),
    [
        (-5, 500),
        (0, 500),
        (499, 500),
        (500, 500),
        (999, 500),
        (1000, 1000),
        (60_000, 60_000),
        (63_999, 60_000),
        (64_000, 64_000),
        (2_048_000, 1_800_000),
        (10**9, 1_800_000),
    ],
)
def test_a_retry_waits_in_the_largest_tier_that_fits_else_in_the_shortest(remaining_ms: int, delay_ms: int) -> None:
    assert tier_for(remaining_ms) == Tier(delay_ms)


def test_a_tier_is_left_when_its_delay_is_over() -> None:
    assert wake_at_ms(1_000_000, 1_000_000 + 90_000, 1.0) == (Tier(64_000), 1_064_000)


def test_a_tier_is_never_left_after_the_retry_is_due() -> None:
    assert wake_at_ms(1000, 1200, 1.0) == (Tier(500), 1200)


def test_a_time_scale_changes_the_wait_and_not_the_tier() -> None:
    assert wake_at_ms(1000, 1060, 0.001) == (Tier(60_000), 1060)
    assert wake_at_ms(1000, 1000 + 600_000, 10) == (Tier(60_000), 601_000)


@given(wait_ms=st.integers(1, 7 * 24 * 3600 * 1000), time_scale=st.sampled_from([0.001, 0.5, 1.0, 3.0]))
@settings(deadline=None)
def test_any_wait_is_made_of_tiers_and_ends_when_it_is_due(wait_ms: int, time_scale: float) -> None:
    now_ms, due_at_ms, hops = 0, max(1, round(wait_ms * time_scale)), 0
    while now_ms < due_at_ms:
        _, woken_at_ms = wake_at_ms(now_ms, due_at_ms, time_scale)
        assert now_ms < woken_at_ms <= due_at_ms
        now_ms, hops = woken_at_ms, hops + 1

    # All of the longest tier, then at most a handful for the rest: each hop takes at least half of it.
    assert hops <= wait_ms / LONGEST_MS + 16


def test_the_uncapped_waits_of_fc_are_made_of_several_tiers() -> None:
    wait_ms = Backoff(500).delay_ms(15)
    now_ms, tiers = 0, []
    while now_ms < wait_ms:
        tier, now_ms = wake_at_ms(now_ms, wait_ms, 1.0)
        tiers.append(tier.topic)

    assert tiers == ["retry.1800s"] * 4 + [
        "retry.512s",
        "retry.300s",
        "retry.128s",
        "retry.32s",
        "retry.16s",
        "retry.4s",
    ]
