"""Inputs that mean harm."""

from __future__ import annotations

from streams.doctor.inputs import CULPRIT_ONE_IN, culprits
from streams.doctor.poison import poisoned
from streams.doctor.scenarios.planning import named
from streams.doctor.trial import Scenario, Size, Strike, Trial


def plan_nothing(seed: int, size: Size) -> tuple[Strike, ...]:
    return ()


async def nothing(trial: Trial, plan: tuple[Strike, ...]) -> None:
    """The inputs are fault enough."""


POISON = Scenario(
    name="poison",
    does="inputs that cannot be read, between others that can",
    short=Size(invocations=1_000, workers=2, per_second=100),
    full=Size(invocations=10_000, workers=2, per_second=100),
    plan=plan_nothing,
    act=nothing,
    inputs=poisoned,
    names=named,
    forbids_exits=True,
)

CULPRIT = Scenario(
    name="culprit",
    does="invocations that kill their worker (segmentation fault, exit, out of memory), between others that do not",
    short=Size(invocations=3 * CULPRIT_ONE_IN, per_second=50),
    full=Size(invocations=20 * CULPRIT_ONE_IN, per_second=50),
    plan=plan_nothing,
    act=nothing,
    inputs=culprits,
    names=named,
)
