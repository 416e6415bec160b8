"""Workers that die at a named point between two steps."""

from __future__ import annotations

from streams.doctor.inputs import mixed
from streams.doctor.scenarios.planning import chance, named
from streams.doctor.trial import Scenario, Size, Strike, Trial
from streams.engine.crashpoints import POINTS, VARIABLE
from streams.laws import Violation

VICTIM = 1
WITHIN_S = 45.0
"""A worker comes to its point within seconds, or the point is never reached."""
BEFORE_S = 60.0
"""Every partition has an outcome after that."""

ONCE = ("during-recovery", "after-claim", "during-drain")
"""Points that a process passes once or a few times only."""


def plan_crashes(seed: int, size: Size) -> tuple[Strike, ...]:
    """Each point so many times, in some order; at its first passage or a later one (``point:passage``)."""
    random = chance("crash", seed)
    strikes = [
        Strike(0, f"{point}:{1 if point in ONCE else random.randint(1, 40)}", VICTIM, WITHIN_S)
        for point in POINTS
        for _ in range(size.faults)
    ]
    random.shuffle(strikes)
    return tuple(strikes)


async def crash(trial: Trial, plan: tuple[Strike, ...]) -> None:
    """One worker after the other goes to its death; the others go on."""
    crew = trial.crew
    await trial.watch.everywhere(BEFORE_S)  # whoever takes a partition over has something to recover
    for strike in plan:
        await trial.stop(strike.slot)
        crew.start(strike.slot, **{VARIABLE: strike.kind})
        crew.expect_end(strike.slot)
        if strike.kind.startswith("during-drain"):
            await crew.ready(strike.slot)
            crew.terminate(strike.slot)
        if await crew.gone(strike.slot, strike.lasts_s) == -9:
            trial.struck()
        else:
            trial.figures.blame(Violation("crash points", strike.kind, "was not reached"))
    crew.start(VICTIM)


CRASH = Scenario(
    name="crash",
    does="kill -9 at every named point between two steps of a worker",
    short=Size(invocations=5_000, faults=1, workers=2, per_second=100),
    full=Size(invocations=5_000, faults=50, workers=2, per_second=100),
    plan=plan_crashes,
    act=crash,
    inputs=mixed,
    names=named,
    settings={"STREAMS_HOLD_S": "1"},
)
