"""All that can go wrong with workers and their broker, without waiting for one fault to end before the next comes."""

from __future__ import annotations

import asyncio

from streams.doctor.inputs import mixed
from streams.doctor.scenarios.planning import chance, half_named, moments
from streams.doctor.scenarios.workers import JOURNAL_SOON
from streams.doctor.trial import Scenario, Size, Strike, Trial
from streams.errors import StreamsError

KILL, FREEZE, LEAVE, BROKER = "kill -9", "SIGSTOP", "SIGTERM", "kill -9 of the broker"
KINDS = (KILL, KILL, FREEZE, LEAVE, BROKER)
LASTS_MAX_S = 14.0
"""More than two sessions."""


def plan_mayhem(seed: int, size: Size) -> tuple[Strike, ...]:
    random = chance("mayhem", seed)
    return tuple(
        Strike(after, random.choice(KINDS), random.randrange(size.workers), random.uniform(0, LASTS_MAX_S))
        for after in moments(random, size.faults, size.invocations)
    )


async def mayhem(trial: Trial, plan: tuple[Strike, ...]) -> None:
    broker_lock = asyncio.Lock()
    try:
        async with asyncio.TaskGroup() as acts:
            for strike in plan:
                await trial.load.reached(strike.after)
                acts.create_task(_strike(trial, strike, broker_lock))
    except ExceptionGroup as group:  # what its reader can put right is to be said in a line
        raise next((error for error in group.exceptions if isinstance(error, StreamsError)), group) from None


async def _strike(trial: Trial, strike: Strike, broker_lock: asyncio.Lock) -> None:
    crew, slot = trial.crew, strike.slot
    match strike.kind:
        case kind if kind == KILL:
            crew.kill(slot, back_after_s=strike.lasts_s)
            trial.struck()
        case kind if kind == FREEZE:
            crew.freeze(slot)
            trial.struck()
            await asyncio.sleep(strike.lasts_s)
            crew.thaw(slot)
        case kind if kind == LEAVE:
            crew.terminate(slot)
            trial.struck()  # without a broker it may not be able to finish
            if await crew.gone(slot) is None:
                crew.kill(slot)
            if crew.slots[slot].pid is None:  # it may have been told twice
                crew.start(slot)
        case _:
            async with broker_lock:
                broker = trial.place.broker
                assert broker is not None, "this scenario is for a broker of our own"
                await asyncio.to_thread(broker.kill)
                trial.struck(trial.size.workers)
                await asyncio.sleep(strike.lasts_s)
                await asyncio.to_thread(broker.start)


MAYHEM = Scenario(
    name="mayhem",
    does="workers die, freeze and leave while the broker dies, faults overlapping as they like",
    short=Size(invocations=6_000, faults=10, per_second=100),
    full=Size(invocations=60_000, faults=100, per_second=100),
    plan=plan_mayhem,
    act=mayhem,
    inputs=mixed,
    names=half_named,
    settings=JOURNAL_SOON,
    kills_broker=True,
)
