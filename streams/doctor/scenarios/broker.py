"""A broker that dies."""

from __future__ import annotations

import asyncio

from streams.doctor.inputs import mixed
from streams.doctor.scenarios.planning import chance, half_named, moments
from streams.doctor.trial import Scenario, Size, Strike, Trial


def plan_outages(seed: int, size: Size) -> tuple[Strike, ...]:
    """Some are shorter than a session, some longer."""
    random = chance("broker", seed)
    return tuple(
        Strike(after, "kill -9 of the broker", -1, random.uniform(0, 10))
        for after in moments(random, size.faults, size.invocations)
    )


async def outages(trial: Trial, plan: tuple[Strike, ...]) -> None:
    """Every worker is interrupted."""
    broker = trial.place.broker
    assert broker is not None, "this scenario is for a broker of our own"
    for strike in plan:
        await trial.load.reached(strike.after)
        await asyncio.to_thread(broker.kill)
        trial.struck(trial.size.workers)
        await asyncio.sleep(strike.lasts_s)
        await asyncio.to_thread(broker.start)
        trial.watch.healed()  # before, nobody could have gone on


BROKER = Scenario(
    name="broker",
    does="kill -9 of the broker under load, and its return",
    short=Size(invocations=4_000, faults=2, per_second=100),
    full=Size(invocations=60_000, faults=20, per_second=100),
    plan=plan_outages,
    act=outages,
    inputs=mixed,
    names=half_named,
    kills_broker=True,
)
