"""One scenario in a place of its own: topics, workers, load and eyes, and in their midst its acts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from streams.cluster import Topic
from streams.commands.base import Bar, connected
from streams.doctor import functions
from streams.doctor.crew import STOP_S, Crew
from streams.doctor.evidence import Evidence
from streams.doctor.inputs import DELIVERED, Inputs
from streams.doctor.load import Load, Sent
from streams.doctor.metrics import Scraper
from streams.doctor.proxy import Proxy
from streams.doctor.verdict import Figures
from streams.doctor.watch import Watch
from streams.doctor.worker import PROXY
from streams.laws import Violation
from streams.local.broker import Broker
from streams.settings import Settings

SESSION_TIMEOUT_MS = 6_000
"""The shortest that a broker allows by default: partitions of a dead worker are taken over so soon."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of a scenario is done."""

    invocations: int
    faults: int = 0
    partitions: int = 8
    workers: int = 3
    per_second: float = 200.0

    def scaled(self, factor: float) -> Size:
        """*factor* times as many invocations and faults, at least one of what there is."""
        return replace(
            self,
            invocations=max(100, round(self.invocations * factor)),
            faults=max(1, round(self.faults * factor)) if self.faults else 0,
        )


class Strike(NamedTuple):
    """One fault of a plan."""

    after: int
    """So many invocations are produced first."""
    kind: str
    slot: int
    """The worker that it strikes."""
    lasts_s: float
    """How long it lasts, or until the worker is started again."""


class Place(NamedTuple):
    """Where a trial is held."""

    settings: Settings
    """Its prefix is this trial's own."""
    folder: Path
    broker: Broker | None
    """The embedded broker, if it is one: it may be killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is done to a cluster's workers, and what they get to do meanwhile."""

    name: str
    does: str
    """In a sentence."""
    short: Size | None
    """None: it takes too long for a short run."""
    full: Size
    plan: Callable[[int, Size], tuple[Strike, ...]]
    """The faults that follow from a seed. The same seed gives the same ones."""
    act: Callable[[Trial, tuple[Strike, ...]], Awaitable[None]]
    inputs: Callable[[str, int], Inputs]
    names: Callable[[int], list[str | None]]
    """The names of so many workers."""
    start: int | None = None
    """Workers that run at the beginning; None: all."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What workers find in their environment besides the usual."""
    kills_broker: bool = False
    """It needs a broker of our own."""
    forbids_exits: bool = False
    """Nothing is done to workers that could end them: none may."""
    through_proxies: bool = False
    """Each worker's connections go through a proxy of its own."""


class Trial:
    """A scenario under way."""

    def __init__(
        self, scenario: Scenario, size: Size, place: Place, crew: Crew, load: Load, watch: Watch, evidence: Evidence
    ) -> None:
        self.scenario = scenario
        self.size = size
        self.place = place
        self.crew = crew
        self.load = load
        self.watch = watch
        self.evidence = evidence
        self.figures = Figures()
        self.scraper = Scraper(crew)
        self.proxies: list[Proxy] = []
        self.kills = 0
        """Times that a worker was interrupted while it may have been running functions."""
        self.first_outcome_s: float | None = None
        """The longest that a broker was back before there was a new outcome."""
        self.notes = ""
        """What else was measured."""
        self._ended: set[str] = set()

    def struck(self, workers: int = 1) -> None:
        """So many workers were interrupted just now."""
        self.kills += workers
        self.watch.struck()

    @property
    def interruptions(self) -> int:
        """Kills, and workers that ended by themselves."""
        return self.kills + len(self.crew.exits)

    async def stop(self, slot: int) -> None:
        """Have a worker end in good order, and wait for that."""
        self.crew.terminate(slot)
        await self.stopped(slot)

    async def stopped(self, slot: int) -> None:
        """Wait until a worker that was told to stop has ended in good order; without one in the slot, do nothing."""
        if self.crew.slots[slot].process is None:
            return
        code = await self.crew.gone(slot)
        if code is None:
            self.figures.blame(Violation("stop", "", f"worker {slot} did not stop within {STOP_S:.0f} s"))
            self.crew.kill(slot)
            self.struck()
        elif code and self.scenario.forbids_exits:
            end = self.crew.end_of(self.crew.slots[slot], code)
            self.figures.blame(Violation("stop", "", f"worker {slot} was told to stop and {end}"))

    async def judge(self) -> None:
        """Judge all that was sent and has not been judged yet."""
        await self.evidence.collect()
        self._judge(self.load.acknowledged)

    async def judge_ended(self) -> None:
        """Judge what had ended when this was called the last time, and forget it."""
        ended = self._ended
        self._ended = (self.watch.ended & self.load.acknowledged.keys()) - ended
        await self.evidence.collect()
        self._judge({name: self.load.acknowledged[name] for name in ended})

    def _judge(self, sent: dict[str, Sent]) -> None:
        samples, self.scraper.samples = self.scraper.samples, []
        self.figures.add(self.evidence.case(sent, self.interruptions, samples))
        self.watch.ended.difference_update(sent)
        for name in tuple(sent):
            del self.load.acknowledged[name]


class Result(NamedTuple):
    """What came of a trial."""

    scenario: str
    figures: Figures
    kills: int
    exits: list[int | None]
    """Exit codes of workers that ended by themselves."""
    resume_s: float | None
    """The longest that a partition was silent after a fault."""
    first_outcome_s: float | None
    """The longest that a broker was back before there was a new outcome; None if none was away."""
    took_s: float
    unacknowledged: int
    notes: str = ""
    """What else was measured."""


async def hold(scenario: Scenario, size: Size, seed: int, place: Place, bar: Bar) -> Result:
    """Hold a trial and judge it."""
    began = time.monotonic()
    async with _topics(place.settings, size) as existing, contextlib.AsyncExitStack() as stack:
        trial = await _prepare(scenario, size, seed, place, existing, bar, stack)
        await _alongside(
            _run(trial, scenario.plan(seed, size)), trial.crew.supervise(), trial.watch.run(), trial.scraper.run()
        )
        for fault in await trial.crew.stop():
            trial.figures.blame(Violation("stop", "", fault))
        await trial.judge()
    trial.figures.conclude(trial.interruptions)
    if scenario.forbids_exits:
        for exit_ in trial.crew.exits:
            trial.figures.blame(Violation("exits", "", f"worker {exit_.slot} {exit_.how}"))
    for name in trial.evidence.stray():
        trial.figures.blame(Violation("L4", name, "ran or was delivered again long after its end"))
    for terminal in trial.evidence.late:
        trial.figures.blame(Violation("L2", terminal.request_id, "got another terminal record long after its first"))
    return Result(
        scenario.name,
        trial.figures,
        trial.kills,
        [exit_.code for exit_ in trial.crew.exits],
        trial.watch.worst_silence_s(),
        trial.first_outcome_s,
        time.monotonic() - began,
        trial.load.unacknowledged,
        trial.notes,
    )


async def _prepare(
    scenario: Scenario,
    size: Size,
    seed: int,
    place: Place,
    existing: dict[str, Topic],
    bar: Bar,
    stack: contextlib.AsyncExitStack,
) -> Trial:
    settings, folder = place.settings, place.folder
    for name in (functions.EXECUTIONS, functions.FAILED):
        (folder / name).mkdir(parents=True)
    text = files("streams.doctor").joinpath("functions.toml").read_text(encoding="utf-8")
    (folder / "streams.toml").write_text(text.replace("{prefix}", settings.prefix), encoding="utf-8")
    crew = Crew(folder, _environment(scenario, place), scenario.names(size.workers))
    stack.callback(crew.close)
    load = await stack.enter_async_context(
        Load(settings, scenario.inputs(scenario.name, seed), per_second=size.per_second)
    )
    watch = Watch(settings, existing, bar.update)
    evidence = Evidence(settings, existing, folder / functions.EXECUTIONS)
    trial = Trial(scenario, size, place, crew, load, watch, evidence)
    if scenario.through_proxies:
        for number in range(size.workers):
            proxy = await stack.enter_async_context(Proxy())
            trial.proxies.append(proxy)
            crew.more[number] = {PROXY: str(proxy.port)}
    return trial


_FILES = ("STREAMS_SSL_CAFILE", "STREAMS_SSL_CERTFILE", "STREAMS_SSL_KEYFILE")


def _environment(scenario: Scenario, place: Place) -> dict[str, str]:
    return {
        "STREAMS_BROKER": place.settings.broker,
        "STREAMS_PREFIX": place.settings.prefix,
        "STREAMS_CONFIG": str(place.folder / "streams.toml"),
        "STREAMS_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
        functions.FOLDER: str(place.folder),
        # Workers run in the trial's folder.
        **{name: str(Path(path).absolute()) for name in _FILES if (path := os.environ.get(name))},
        **scenario.settings,
    }


async def _run(trial: Trial, plan: tuple[Strike, ...]) -> None:
    """Invoke while the scenario acts, until everything has ended or nothing more does."""
    start = trial.scenario.start if trial.scenario.start is not None else trial.size.workers
    for number in range(start):
        trial.crew.start(number)
    await trial.crew.ready(*range(start))
    acting = asyncio.create_task(_act(trial, plan))
    loading = asyncio.create_task(trial.load.run(lambda: not acting.done()))
    try:
        await asyncio.wait((acting, loading), return_when=asyncio.FIRST_COMPLETED)
        if acting.done():
            acting.result()  # without a broker, say, the load would never end
        await loading
        await acting
    finally:
        for task in (acting, loading):
            task.cancel()
        await asyncio.gather(acting, loading, return_exceptions=True)
    await trial.watch.all_ended(lambda: trial.load.acknowledged)


async def _act(trial: Trial, plan: tuple[Strike, ...]) -> None:
    await trial.scenario.act(trial, plan)
    await trial.load.reached(trial.size.invocations)


@contextlib.asynccontextmanager
async def _topics(settings: Settings, size: Size) -> AsyncIterator[dict[str, Topic]]:
    """Topics under the prefix, deleted afterwards by `run`, which does so whatever happens here."""
    settings = replace(settings, partitions=size.partitions)
    async with connected(settings) as cluster:
        await cluster.create(settings.topics, (settings.topics.name(DELIVERED),))
        existing = await cluster.topics()
    yield existing


async def _alongside(main: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, None]) -> T:
    """Run *main* to its end beside *others*, which never end; what one of them raises ends it all."""
    task = asyncio.create_task(main)
    beside = [asyncio.create_task(other) for other in others]
    try:
        await asyncio.wait((task, *beside), return_when=asyncio.FIRST_COMPLETED)
        for other in beside:
            if other.done():
                other.result()
        return await task
    finally:
        for each in (task, *beside):
            each.cancel()
        await asyncio.gather(task, *beside, return_exceptions=True)
