"""Workers that are killed, come and go, or freeze."""

from __future__ import annotations

import asyncio

from streams.doctor.inputs import mixed
from streams.doctor.scenarios.planning import chance, half_named, moments
from streams.doctor.trial import SESSION_TIMEOUT_MS, Scenario, Size, Strike, Trial

JOURNAL_SOON = {"STREAMS_HOLD_S": "1"}
"""Slow executions are journaled, so that faults strike journaled ones, too."""

# -- kill ------------------------------------------------------------------------------------------------------------


def plan_kills(seed: int, size: Size) -> tuple[Strike, ...]:
    """Anyone, and back at once or only after its session has ended."""
    random = chance("kill", seed)
    return tuple(
        Strike(after, "kill -9", random.randrange(size.workers), random.choice((0.0, random.uniform(0, 10))))
        for after in moments(random, size.faults, size.invocations)
    )


async def kill(trial: Trial, plan: tuple[Strike, ...]) -> None:
    for strike in plan:
        await trial.load.reached(strike.after)
        await running(trial, strike.slot)
        trial.crew.kill(strike.slot, back_after_s=strike.lasts_s)
        trial.struck()


async def running(trial: Trial, slot: int) -> None:
    """Wait until a process runs in *slot*: one that is only starting will do."""
    while trial.crew.slots[slot].pid is None:  # noqa: ASYNC110  # processes call nobody
        await asyncio.sleep(0.05)


KILL = Scenario(
    name="kill",
    does="kill -9 of workers under mixed load",
    short=Size(invocations=10_000, faults=8),
    full=Size(invocations=100_000, faults=100),
    plan=plan_kills,
    act=kill,
    inputs=mixed,
    names=half_named,
    settings=JOURNAL_SOON,
)

# -- storm -----------------------------------------------------------------------------------------------------------

AT_REST = 2
"""Workers that run between the waves of a storm."""


def plan_storm(seed: int, size: Size) -> tuple[Strike, ...]:
    """In each wave all workers join, and then all but `AT_REST` leave: whoever it is."""
    random = chance("storm", seed)
    present, waves = set(range(AT_REST)), []
    for _ in range(size.faults):
        absent = sorted(set(range(size.workers)) - present)
        waves += [("join", slot) for slot in random.sample(absent, len(absent))]
        leaving = random.sample(range(size.workers), size.workers - AT_REST)
        waves += [("leave", slot) for slot in leaving]
        present = set(range(size.workers)) - set(leaving)
    after = moments(random, len(waves), size.invocations)
    return tuple(Strike(at, kind, slot, 0.0) for at, (kind, slot) in zip(after, waves, strict=True))


async def storm(trial: Trial, plan: tuple[Strike, ...]) -> None:
    """Nobody is interrupted, so nothing may run twice."""
    for strike in plan:
        await trial.load.reached(strike.after)
        if strike.kind == "join":
            await trial.stopped(strike.slot)
            trial.crew.start(strike.slot)
        else:
            await trial.crew.ready(strike.slot)
            trial.crew.terminate(strike.slot)
        trial.watch.struck()


STORM = Scenario(
    name="storm",
    does="a rebalance storm: workers join and leave (SIGTERM) in waves",
    short=Size(invocations=10_000, faults=2, workers=6),
    full=Size(invocations=100_000, faults=6, workers=16, partitions=32),
    plan=plan_storm,
    act=storm,
    inputs=mixed,
    names=half_named,
    start=AT_REST,
    forbids_exits=True,
)

# -- pause -----------------------------------------------------------------------------------------------------------

PAUSE_S = 2 * SESSION_TIMEOUT_MS / 1000


def plan_pauses(seed: int, size: Size) -> tuple[Strike, ...]:
    random = chance("pause", seed)
    return tuple(
        Strike(after, "SIGSTOP", random.randrange(size.workers), PAUSE_S)
        for after in moments(random, size.faults, size.invocations)
    )


async def pause(trial: Trial, plan: tuple[Strike, ...]) -> None:
    for strike in plan:
        await trial.load.reached(strike.after)
        await trial.crew.ready(strike.slot)
        trial.crew.freeze(strike.slot)
        trial.struck()
        await asyncio.sleep(strike.lasts_s)
        trial.crew.thaw(strike.slot)


PAUSE = Scenario(
    name="pause",
    does="workers that freeze (SIGSTOP) for twice their session and go on as if nothing were",
    short=Size(invocations=5_000, faults=2),
    full=Size(invocations=60_000, faults=20),
    plan=plan_pauses,
    act=pause,
    inputs=mixed,
    names=half_named,
    settings=JOURNAL_SOON,
)
