"""`streams demo`: two workers run functions of three clouds on a real Kafka, and every outcome is checked.

The order: broker, HTTP function, topics, workers, invocations, outcomes, audit, table. The audit reads the topics a
second time, from the beginning, after the workers have stopped (unless they are kept): whatever came twice shows.

Everything that must end with the demo is stopped outside of the event loop, with signals ignored: there, neither an
error nor an impatient second Ctrl-C can skip it. On Linux the kernel would do it anyway, see `process`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from aiohttp import web
from aiokafka import AIOKafkaProducer

from streams.codec.avro import Codec, load_schemas
from streams.codec.envelope import coordinates_id
from streams.commands.base import connected, existing_topics, run, terminated_like_interrupted
from streams.commands.documents import Documents
from streams.commands.reading import Decoder, Reader, partitions_of
from streams.errors import StreamsError
from streams.functions import load_functions
from streams.local import demo_report as report
from streams.local.broker import HOST, Broker
from streams.local.demo_mix import Case, Tally, mix
from streams.local.process import ChildProcess
from streams.providers import PROVIDERS
from streams.settings import Settings

PARTITIONS = 4
WORKERS = ("demo-1", "demo-2")
OUTCOMES_TIMEOUT_S = 60.0
"""Outcomes that are not there by then are missing."""
WORKER_STOP_S = 15.0
SESSION_TIMEOUT_MS = 6000
"""The shortest that Kafka allows by default: the first worker learns sooner that the second one has come."""
LOG_LINES_SHOWN = 25


class DemoFailed(StreamsError):
    """Something was not as it should be; the message says what, and what the workers said."""


def run_demo(settings: Settings | None, *, keep: bool) -> None:
    """Run the demo in the cluster of *settings*, or with a broker of its own if None.

    *keep* leaves everything running until Ctrl-C when the outcomes are there. Raises `DemoFailed`.
    """
    with terminated_like_interrupted(), _cleaning_up() as stack:
        clock = report.Clock()
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="streams-demo-")))
        if settings is None:
            settings = _own_cluster(stack, clock)
        else:
            settings = _shared_cluster(settings, stack)
        workers = Workers(settings, folder)
        stack.callback(workers.stop)
        demo = Demo(settings, folder, workers, clock)
        try:
            run(demo.run(keep))
        except KeyboardInterrupt:
            if not demo.is_kept:
                raise
            click.echo("Stopping.")


@contextmanager
def _cleaning_up() -> Iterator[ExitStack]:
    """An exit stack whose unwinding no signal disturbs."""
    stack = ExitStack()
    try:
        yield stack
    finally:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
        try:
            stack.close()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _own_cluster(stack: ExitStack, clock: report.Clock) -> Settings:
    """Start a broker that is gone afterwards. The environment's settings are for another one: they are dropped."""
    broker = Broker(ephemeral=True)
    stack.callback(broker.stop)
    with clock.phase("Starting Kafka"):
        broker.start()
    _clear_environment(*(name for name in os.environ if name.startswith("STREAMS_")))
    return Settings(broker=broker.bootstrap, partitions=PARTITIONS)


def _shared_cluster(settings: Settings, stack: ExitStack) -> Settings:
    """Use a prefix that nobody else has, and delete its topics afterwards. Register no schemas: they would stay."""
    _clear_environment("STREAMS_SCHEMA_REGISTRY", "STREAMS_WORKER_NAME")
    prefix = f"{settings.prefix}demo-{uuid.uuid4().hex[:8]}."
    settings = replace(settings, prefix=prefix, partitions=PARTITIONS, schema_registry=None)
    stack.callback(lambda: run(_delete_topics(settings)))
    return settings


def _clear_environment(*names: str) -> None:
    """Give the workers an environment without *names*."""
    for name in names:
        os.environ.pop(name, None)
    os.environ["STREAMS_SESSION_TIMEOUT_MS"] = str(SESSION_TIMEOUT_MS)


async def _delete_topics(settings: Settings) -> None:
    try:
        async with connected(settings) as cluster:
            await cluster.delete([name for name in await cluster.topics() if name.startswith(settings.prefix)])
    except StreamsError as error:
        click.echo(f"The topics {settings.prefix}… could not be deleted: {error}", err=True)


class Workers:
    """Two worker processes."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        where = ["--broker", settings.broker, "--prefix", settings.prefix, "--config", "streams.toml"]
        self._command = [sys.executable, "-m", "streams", *where, "worker", "--name"]
        self._folder = folder
        self._running: dict[str, ChildProcess] = {}

    def start(self) -> None:
        for name in WORKERS:
            log = self._folder / f"{name}.log"
            self._running[name] = ChildProcess([*self._command, name], folder=self._folder, log=log)

    def stop(self) -> dict[str, int | None]:
        """Stop those that run. Returns their exit codes."""
        stopped, self._running = self._running, {}
        with ThreadPoolExecutor(len(WORKERS)) as pool:
            list(pool.map(lambda worker: worker.stop(WORKER_STOP_S), stopped.values()))
        return {name: worker.exit_code for name, worker in stopped.items()}

    def refuse_ended(self) -> None:
        """Raises `DemoFailed` when a worker has ended."""
        for name, worker in self._running.items():
            if worker.exit_code is not None:
                del self._running[name]
                raise self.failed(f"{name} ended with exit code {worker.exit_code}")

    def failed(self, what: str) -> DemoFailed:
        """*what*, and the ends of the logs."""
        logs = []
        for file in sorted(self._folder.glob("*.log")):
            lines = file.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
            logs.append(f"\nThe end of the log of {file.stem}:\n" + "\n".join(lines))
        return DemoFailed("\n".join((what, *logs)))


class HttpFunction:
    """A function behind a URL on this machine; use it as ``async with``."""

    port: int

    async def __aenter__(self) -> HttpFunction:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        return web.json_response({"received_bytes": len(await request.read())})


class Demo:
    """One run, with the broker there."""

    def __init__(self, settings: Settings, folder: Path, workers: Workers, clock: report.Clock) -> None:
        self.is_kept = False
        """Everything was as expected, and runs on."""
        self._settings = settings
        self._folder = folder
        self._workers = workers
        self._clock = clock

    async def run(self, keep: bool) -> None:
        """Raises `DemoFailed`."""
        async with HttpFunction() as http:
            followed = await self._prepare(http.port)
            self._workers.start()
            with self._clock.live("Two workers run what is invoked") as live:
                cases = await self._produce()
                await self._follow(followed, Tally(self._settings.topics, cases), live)
            if not keep:
                await self._stop_workers()
            await self._report(await self._audit(followed, Tally(self._settings.topics, cases)))
            if keep:
                click.echo(report.how_to(self._settings))
                self.is_kept = True
                while True:
                    await asyncio.sleep(0.5)
                    self._workers.refuse_ended()

    async def _prepare(self, port: int) -> tuple[str, ...]:
        """Write the functions file and make the topics. Returns those in which outcomes show."""
        file = self._folder / "streams.toml"
        text = files("streams.local").joinpath("demo.toml").read_text(encoding="utf-8")
        file.write_text(text.replace("{port}", str(port)).replace("{prefix}", self._settings.prefix), encoding="utf-8")
        destinations = load_functions(file).kafka_topics()
        topics = self._settings.topics
        with self._clock.phase("Making topics"):
            async with connected(self._settings) as cluster:
                await cluster.create(topics, destinations)
        return (*topics.records, topics.dlq, topics.facts, *sorted(destinations))

    async def _produce(self) -> dict[str, Case]:
        """Produce everything. Returns what was asked for by request id."""
        topic = self._settings.topics.invocations
        producer = AIOKafkaProducer(**self._settings.kafka(), acks="all", enable_idempotence=True)
        try:
            await producer.start()
            planned = mix(Codec(load_schemas()))
            sent = [
                await producer.send(topic, it.value, (it.request_id or str(uuid.uuid4())).encode(), headers=it.headers)
                for it in planned
            ]
            places = await asyncio.gather(*sent)
        finally:
            await producer.stop()
        return {
            it.request_id or coordinates_id(topic, place.partition, place.offset): it.case
            for it, place in zip(planned, places, strict=True)
        }

    async def _follow(self, followed: tuple[str, ...], tally: Tally, live: report.Live) -> None:
        """Return when everything has its outcome, or the time is up."""
        deadline = time.monotonic() + OUTCOMES_TIMEOUT_S
        partitions = partitions_of(followed, await existing_topics(self._settings, followed))
        async with Reader(self._settings, partitions) as reader, Decoder(self._settings) as decoder:
            async for records in reader.follow(dict.fromkeys(partitions, 0)):
                await tally.read(records, decoder)
                if not tally.missing or time.monotonic() > deadline:
                    return
                live.show(tally)
                self._workers.refuse_ended()

    async def _stop_workers(self) -> None:
        with self._clock.phase("Stopping the workers"):
            codes = await asyncio.to_thread(self._workers.stop)
        for name, code in codes.items():
            if code != 0:
                raise self._workers.failed(f"{name} ended with exit code {code} when it was told to stop")

    async def _audit(self, followed: tuple[str, ...], tally: Tally) -> Tally:
        """Count everything once more, from the beginning."""
        partitions = partitions_of(followed, await existing_topics(self._settings, followed))
        async with Reader(self._settings, partitions) as reader, Decoder(self._settings) as decoder:
            async for records in reader.range(*await reader.bounds()):
                await tally.read(records, decoder)
        return tally

    async def _report(self, tally: Tally) -> None:
        faults = list(tally.faults())
        click.echo()
        for sample in report.samples(tally, Documents(PROVIDERS)):
            click.echo(sample)
        click.echo(f"{report.table(tally)}\n\n{report.checks(tally, faults)}\n")
        if faults:
            raise self._workers.failed(f"{len(faults)} of {len(tally.cases)} requests did not end as they must")
        click.echo(f"Everything took {self._clock.total_s:.1f} s.")
