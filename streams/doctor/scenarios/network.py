"""A network between workers and brokers that fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from streams.doctor.inputs import mixed
from streams.doctor.proxy import CLEAR, WEATHERS
from streams.doctor.scenarios.planning import chance, half_named, moments
from streams.doctor.trial import Scenario, Size, Strike, Trial
from streams.laws import Violation

SLOW = 0
"""This worker's network is slow throughout."""
DELAY_S = 0.04


def plan_cuts(seed: int, size: Size) -> tuple[Strike, ...]:
    """Every way to be cut off in turn, shorter or longer than a session; sometimes for everybody (slot -1)."""
    random = chance("network", seed)
    kinds = random.sample(tuple(WEATHERS), len(WEATHERS))
    return tuple(
        Strike(
            after,
            kinds[number % len(kinds)],
            random.choice((-1, *range(size.workers))),
            random.choice((random.uniform(0.5, 4), random.uniform(8, 14))),
        )
        for number, after in enumerate(moments(random, size.faults, size.invocations))
    )


async def cuts(trial: Trial, plan: tuple[Strike, ...]) -> None:
    def usual(slot: int) -> float:
        return DELAY_S if slot == SLOW else 0.0

    await trial.proxies[SLOW].change(replace(CLEAR, delay_s=DELAY_S))
    for strike in plan:
        await trial.load.reached(strike.after)
        slots = range(trial.size.workers) if strike.slot < 0 else (strike.slot,)
        for slot in slots:
            await trial.proxies[slot].change(replace(WEATHERS[strike.kind], delay_s=usual(slot)))
        trial.struck(len(slots))
        await asyncio.sleep(strike.lasts_s)
        for slot in slots:
            await trial.proxies[slot].change(replace(CLEAR, delay_s=usual(slot)))
        if strike.slot < 0:
            trial.watch.healed()  # before, nobody could have gone on
    for slot, proxy in enumerate(trial.proxies):
        if not proxy.carried:
            trial.figures.blame(Violation("network", "", f"worker {slot} did not connect through its proxy"))


NETWORK = Scenario(
    name="network",
    does="a slow network, lost connections, one-way cuts and black holes between workers and brokers",
    short=Size(invocations=5_000, faults=3, per_second=100),
    full=Size(invocations=20_000, faults=10, per_second=100),
    plan=plan_cuts,
    act=cuts,
    inputs=mixed,
    names=half_named,
    through_proxies=True,
)
