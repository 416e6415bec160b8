"""A run of `streams doctor`: a cluster, the scenarios, the report, and nothing left behind.

What must end with the run is ended outside of the event loop, with signals ignored: neither an error nor an impatient
second Ctrl-C can skip it. On Linux the kernel would end the processes anyway (`local.process`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import uuid
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any

import click

from streams.commands.base import connected, progress, run, terminated_like_interrupted
from streams.doctor import report
from streams.doctor.report import Options, Report, Skipped
from streams.doctor.trial import Place, Result, Scenario, Size, hold
from streams.errors import StreamsError
from streams.local.broker import Broker
from streams.local.jars import KAFKA_VERSION
from streams.settings import Settings

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Each tells us to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to do, and where to write."""

    scenarios: Sequence[Scenario]
    options: Options
    settings: Settings | None
    """The cluster to use; None: a broker of our own."""
    json: IO[str] | None
    """Gets a line for each scenario."""
    logs: Path | None
    """A folder that keeps what workers said and functions wrote down."""


def run_doctor(request: Request) -> Report:
    """Run the scenarios one after the other. Raises KeyboardInterrupt when told to stop, cleaned up."""
    with terminated_like_interrupted(), _cleaning_up() as stack:
        folder = request.logs or Path(mkdtemp(prefix="streams-doctor-"))
        if request.logs is None:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        broker = None
        if request.settings is None:
            broker, settings = _own_cluster(stack, lasts=request.options.full)
        else:
            settings = request.settings
        settings = _apart(settings, stack)
        results: list[Result] = []
        try:
            results.extend(_results(request, settings, broker, folder))
        except StreamsError:
            if results:  # they took their time; the error says why there are no more
                _say(f"\n{report.table(Report(request.options, results))}")
            raise
        return Report(request.options, results)


def _results(request: Request, settings: Settings, broker: Broker | None, folder: Path) -> Iterator[Result]:
    kafka = KAFKA_VERSION if broker is not None else None
    for scenario in request.scenarios:
        size, why_not = size_of(scenario, request.options, broker is not None)
        if size is None:
            _say(f"{scenario.name}: skipped, {why_not}")
            _write(request.json, report.skipped_line(Skipped(scenario.name, why_not), request.options, kafka))
            continue
        result = _hold(scenario, size, request.options.seed, settings, broker, folder)
        _say(f"{scenario.name}: {'BROKEN' if result.figures.violations else 'ok'}, {result.took_s:.0f} s")
        _write(request.json, report.json_line(result, request.options, kafka))
        yield result


def size_of(scenario: Scenario, options: Options, is_own_broker: bool) -> tuple[Size | None, str]:
    """How much of *scenario* to do; None when it cannot be run, and why not."""
    size = scenario.full if options.full else scenario.short
    if size is None:
        return None, "it takes too long for the short form (--full runs it)"
    if scenario.kills_broker and not is_own_broker:
        return None, "it kills the broker, and this one is not ours (without --broker it would be)"
    return size.scaled(options.scale), ""


def _hold(scenario: Scenario, size: Size, seed: int, settings: Settings, broker: Broker | None, folder: Path) -> Result:
    """One trial under a prefix of its own, whose topics are deleted when it is over."""
    settings = replace(settings, prefix=f"{settings.prefix}{scenario.name}.")
    place = Place(settings, folder / f"{scenario.name}-{seed}-{uuid.uuid4().hex[:4]}", broker)
    _say(f"{scenario.name}: {scenario.does}; {size.invocations} invocations")
    with _cleaning_up() as stack, progress(scenario.name, size.invocations) as bar:
        stack.callback(_delete_topics, settings)
        result = run(_until_told(hold(scenario, size, seed, place, bar)))
    if result is None:
        raise KeyboardInterrupt
    return result


async def _until_told(holding: Coroutine[Any, Any, Result]) -> Result | None:
    """The result, or None after a signal: then it was cancelled, once, however often the signal comes."""
    task, loop = asyncio.ensure_future(holding), asyncio.get_running_loop()
    before = {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) != signal.SIG_IGN}
    told: list[bool] = []

    def tell() -> None:
        if not told:
            told.append(task.cancel())

    for number in before:
        loop.add_signal_handler(number, tell)
    try:
        return await task
    except asyncio.CancelledError:
        if told:
            return None
        raise
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


@contextmanager
def _cleaning_up() -> Iterator[ExitStack]:
    """An exit stack whose unwinding no signal disturbs."""
    stack = ExitStack()
    try:
        yield stack
    finally:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
        try:
            stack.close()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _own_cluster(stack: ExitStack, lasts: bool) -> tuple[Broker, Settings]:
    """Start a broker that is gone afterwards. The environment's settings are for another one: they are dropped."""
    for name in [name for name in os.environ if name.startswith("STREAMS_")]:
        del os.environ[name]
    broker = Broker(ephemeral=True, lasts=lasts)
    stack.callback(broker.stop)
    _say("Starting Kafka")
    broker.start()
    return broker, Settings(broker=broker.bootstrap)


def _apart(settings: Settings, stack: ExitStack) -> Settings:
    """Use a prefix that nobody else has, and no schema registry: what is registered stays."""
    for name in ("STREAMS_SCHEMA_REGISTRY", "STREAMS_WORKER_NAME", "STREAMS_HTTP"):
        os.environ.pop(name, None)
    settings = replace(settings, prefix=f"{settings.prefix}doctor-{uuid.uuid4().hex[:8]}.", schema_registry=None)
    _say(f"Topics begin with {settings.prefix} on {settings.broker}, and are deleted afterwards")
    return settings


def _delete_topics(settings: Settings) -> None:
    async def delete() -> None:
        async with connected(settings) as cluster:
            await cluster.delete([name for name in await cluster.topics() if name.startswith(settings.prefix)])

    try:
        run(delete())
    except StreamsError as error:
        _say(f"The topics {settings.prefix}… could not be deleted: {error}")


def _say(line: str) -> None:
    """What goes on is on standard error: standard output has the results."""
    click.echo(line, file=sys.stderr)


def _write(file: IO[str] | None, line: str) -> None:
    if file is not None:
        file.write(f"{line}\n")
        file.flush()
