"""A broker that dies: at any moment, at the worst moments, for minutes, and of a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
import time

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.commands.base import connected
from streams.doctor.inputs import mixed
from streams.doctor.scenarios.planning import chance, half_named, moments, named
from streams.doctor.trial import Scenario, Size, Strike, Trial
from streams.engine.crashpoints import VARIABLE
from streams.laws import Violation
from streams.local.broker import Broker

FIRST_OUTCOME_MAX_S = 15.0
"""Workers consume again so soon after a broker is back."""
LOAD_MAX = 5.0
"""A machine on which more processes want each core says nothing about times. Doctor alone makes one or two."""
GIVEN_UP_S = 90.0

# -- at any moment ---------------------------------------------------------------------------------------------------


def plan_kills(seed: int, size: Size) -> tuple[Strike, ...]:
    """Some are shorter than a session, some longer."""
    random = chance("broker", seed)
    return tuple(
        Strike(after, "kill -9 of the broker", -1, random.uniform(0, 10))
        for after in moments(random, size.faults, size.invocations)
    )


async def kills(trial: Trial, plan: tuple[Strike, ...]) -> None:
    for strike in plan:
        await trial.load.reached(strike.after)
        await _away(trial, strike.lasts_s)


async def _away(trial: Trial, lasts_s: float) -> None:
    """Kill the broker, which interrupts every worker, and bring it back."""
    await asyncio.to_thread(_own(trial).kill)
    trial.struck(trial.size.workers)
    await _back(trial, lasts_s)


async def _back(trial: Trial, after_s: float) -> None:
    """Bring the broker back *after_s*, and see that there is a new outcome soon."""
    await asyncio.sleep(after_s)
    await asyncio.to_thread(_own(trial).start)
    trial.watch.healed()  # before, nobody could have gone on
    back, back_ms = time.monotonic(), time.time() * 1000
    # What a worker had written before the broker died, and what is only seen now, is nothing new.
    await trial.watch.until(lambda: trial.watch.latest_ms > back_ms, GIVEN_UP_S)
    took_s = time.monotonic() - back
    await trial.watch.until(lambda: trial.watch.is_back, GIVEN_UP_S)  # else the next fault would be counted to this one
    trial.first_outcome_s = max(took_s, trial.first_outcome_s or 0.0)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    if took_s > FIRST_OUTCOME_MAX_S and load > LOAD_MAX:
        trial.notes = f"a new outcome took {took_s:.1f} s, not judged: {load:.0f} processes wanted each core"
    elif took_s > FIRST_OUTCOME_MAX_S:
        fault = f"the broker was back for {took_s:.1f} s before there was a new outcome"
        trial.figures.blame(Violation("resume", "", fault))


def _own(trial: Trial) -> Broker:
    assert trial.place.broker is not None, "this scenario is for a broker of our own"
    return trial.place.broker


BROKER = Scenario(
    name="broker",
    does="kill -9 of the broker under load, and its return",
    short=Size(invocations=4_000, faults=2, per_second=100),
    full=Size(invocations=60_000, faults=20, per_second=100),
    plan=plan_kills,
    act=kills,
    inputs=mixed,
    names=half_named,
    kills_broker=True,
)

# -- at the worst moments --------------------------------------------------------------------------------------------

COMMIT, RECOVERY, START, MINUTES, DISK = (
    "during a commit",
    "during recovery",
    "while a worker starts",
    "for minutes",
    "of a full disk",
)
KINDS = (COMMIT, RECOVERY, START, MINUTES, DISK)
VICTIM = 1
"""This worker is at the point where the broker dies."""
COMMIT_POINTS = ("mid-transaction", "before-acknowledgement")
POINT_S = 90.0
"""The victim comes to its point within seconds, or never."""
FILE_BYTES_MAX = 14 << 20
"""A file that a broker writes must not become larger: it takes that for a full disk. Its empty indexes have 10 MB."""
FILLER = "filler"
"""The topic, without prefix, that makes it full."""


def plan_outages(seed: int, size: Size) -> tuple[Strike, ...]:
    """Every kind in turn. *for minutes* is longer than any transaction may take; in a long run, two minutes."""
    random = chance("outage", seed)
    kinds = random.sample(KINDS, len(KINDS))
    strikes = []
    for number, after in enumerate(moments(random, size.faults, size.invocations)):
        kind = kinds[number % len(kinds)]
        minutes_s = 40.0 if number < len(KINDS) else 120.0
        strikes.append(Strike(after, kind, VICTIM, minutes_s if kind == MINUTES else random.uniform(0, 8)))
    return tuple(strikes)


async def outages(trial: Trial, plan: tuple[Strike, ...]) -> None:
    for number, strike in enumerate(plan):
        await trial.load.reached(strike.after)
        match strike.kind:
            case kind if kind == COMMIT:
                await _frozen_at(trial, f"{COMMIT_POINTS[number % 2]}:3:STOP", strike.lasts_s)
            case kind if kind == RECOVERY:
                await _frozen_at(trial, "during-recovery:1:STOP", strike.lasts_s)
            case kind if kind == START:
                await _starts_without(trial, strike.lasts_s)
            case kind if kind == DISK and sys.platform == "linux":
                await _full_disk(trial, strike.lasts_s)
            case _:
                await _away(trial, strike.lasts_s)


async def _frozen_at(trial: Trial, point: str, lasts_s: float) -> None:
    """The broker dies while the victim is at *point*."""
    crew = trial.crew
    await trial.stop(VICTIM)
    crew.start(VICTIM, **{VARIABLE: point})
    if not await crew.frozen(VICTIM, POINT_S):
        trial.figures.blame(Violation("crash points", point, "was not reached"))
    await asyncio.to_thread(_own(trial).kill)
    trial.struck(trial.size.workers)
    crew.thaw(VICTIM)
    await _back(trial, lasts_s)


async def _starts_without(trial: Trial, lasts_s: float) -> None:
    """A worker is started while there is no broker."""
    await asyncio.to_thread(_own(trial).kill)
    trial.crew.kill(VICTIM)
    trial.struck(trial.size.workers)
    await _back(trial, lasts_s)


async def _full_disk(trial: Trial, lasts_s: float) -> None:
    """The broker can write no more and gives up; when it comes back there is room again."""
    pid = _own(trial).pid
    assert pid is not None
    topic = trial.place.settings.topics.name(FILLER)
    async with connected(trial.place.settings) as cluster:
        await cluster.create(trial.place.settings.topics, (topic,))
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, hard))
    await _fill(trial, topic)
    if _own(trial).pid is not None:
        trial.figures.blame(Violation("full disk", "", "the broker goes on although it can write no more"))
    trial.struck(trial.size.workers)
    await asyncio.to_thread(_own(trial).kill)
    await _back(trial, lasts_s)


async def _fill(trial: Trial, topic: str) -> None:
    """Write until the broker has ended, at most twice what it may hold."""
    producer = AIOKafkaProducer(**trial.place.settings.kafka(), max_request_size=2 << 20, request_timeout_ms=5_000)
    try:
        with contextlib.suppress(KafkaError):  # the workers may have filled it meanwhile
            await producer.start()
            for _ in range(2 * (FILE_BYTES_MAX >> 20)):
                await producer.send_and_wait(topic, bytes(1 << 20), partition=0)
    finally:
        with contextlib.suppress(KafkaError, TimeoutError):
            await asyncio.wait_for(producer.stop(), 5.0)
    deadline = time.monotonic() + GIVEN_UP_S
    while _own(trial).pid is not None and time.monotonic() < deadline:  # noqa: ASYNC110  # processes call nobody
        await asyncio.sleep(0.1)


OUTAGE = Scenario(
    name="outage",
    does="the broker dies during a commit, during recovery, while workers start, for minutes, of a full disk",
    short=Size(invocations=8_000, faults=5, per_second=50),
    full=Size(invocations=60_000, faults=20, per_second=60),
    plan=plan_outages,
    act=outages,
    inputs=mixed,
    names=named,
    kills_broker=True,
)
