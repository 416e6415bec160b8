"""A provider's rules as numbers: how often, how long, how far apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

_WAITS_MAX = 40
"""From there on no wait grows: it is longer than anybody's time budget."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that grow by *factor* from *first_ms*, at most *cap_ms* each (None: no cap)."""

    first_ms: int
    factor: int = 2
    cap_ms: int | None = None

    def delay_ms(self, count: int) -> int:
        """The wait after failure number *count*, counted from 1."""
        delay_ms: int = self.first_ms * self.factor ** (count - 1)
        return delay_ms if self.cap_ms is None else min(delay_ms, self.cap_ms)


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """What a provider does about a service that does not take a delivery, for reasons that may pass."""

    backoff: Backoff
    """Waits after failures."""
    budget_ms: int
    """So long after the first try there is no further one."""
    busy: Backoff = Backoff(1_000, cap_ms=60_000)
    """Waits while too many others are to go to the same place. Not a provider's rule: it never ends anything."""

    def next_at_ms(self, failures: int, tried_at_ms: int, failed_at_ms: int) -> int | None:
        """When to try again after a failure, with *failures* before it. None: not any more."""
        due_at_ms = failed_at_ms + self.backoff.delay_ms(1 + min(failures, _WAITS_MAX))
        return due_at_ms if due_at_ms - tried_at_ms <= self.budget_ms else None

    def busy_until_ms(self, waits: int, now_ms: int) -> int:
        """When to look again whether there is room, after *waits* times that there was none."""
        return now_ms + self.busy.delay_ms(1 + min(waits, _WAITS_MAX))

    def scaled(self, time_scale: float) -> DeliveryPolicy:
        """The same rules with every delay multiplied by *time_scale*; ratios stay."""
        if time_scale == 1:
            return self
        return DeliveryPolicy(
            _scale_backoff(self.backoff, time_scale),
            _scale(self.budget_ms, time_scale),
            _scale_backoff(self.busy, time_scale),
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """The values a provider accepts for a setting, and the one it uses when the setting is absent."""

    minimum: int
    maximum: int
    default: int

    def __contains__(self, value: int) -> bool:
        return self.minimum <= value <= self.maximum


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a provider does about failures of one function, all of it decided in `lifecycle`."""

    attempts_max: int
    """Attempts that may fail: the provider's retries plus the first one."""
    age_max_ms: int
    """No attempt starts this long after acceptance."""
    failure_backoff: Backoff
    """Waits after function errors."""
    throttle_backoff: Backoff
    """Waits after throttles and system errors, which use no attempts."""
    throttle_budget_ms: int | None = None
    """Throttles and system errors end the invocation so long after acceptance; None: only the age does."""
    throttled: Literal["retry", "end"] = "retry"
    """Whether a throttled invocation waits for its turn or is discarded."""
    zero_concurrency: Literal["end", "throttle"] = "throttle"
    """What reserved concurrency 0 means for an invocation that is already accepted."""
    target_missing: Literal["retry", "end"] = "end"
    """*retry*: looking for a deleted function counts as a failed attempt."""
    depth_max: int = 16
    """Links of a chain function -> destination -> function before it is cut."""

    def scaled(self, time_scale: float) -> Policy:
        """The same rules with every age and delay multiplied by *time_scale*; ratios stay."""
        if time_scale == 1:
            return self
        return replace(
            self,
            age_max_ms=_scale(self.age_max_ms, time_scale),
            failure_backoff=_scale_backoff(self.failure_backoff, time_scale),
            throttle_backoff=_scale_backoff(self.throttle_backoff, time_scale),
            throttle_budget_ms=None if self.throttle_budget_ms is None else _scale(self.throttle_budget_ms, time_scale),
        )


def _scale(value_ms: int, time_scale: float) -> int:
    return max(1, round(value_ms * time_scale))


def _scale_backoff(backoff: Backoff, time_scale: float) -> Backoff:
    cap_ms = None if backoff.cap_ms is None else _scale(backoff.cap_ms, time_scale)
    return Backoff(_scale(backoff.first_ms, time_scale), backoff.factor, cap_ms)
