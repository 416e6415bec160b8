"""A gateway process, from its start to its end in good order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import click
from aiokafka.errors import KafkaError

from streams import cluster
from streams.console.payloads import Payloads
from streams.console.store import ReadModel
from streams.errors import BrokerError, ConfigurationError
from streams.functions import Functions
from streams.functions.live import LiveFunctions
from streams.gateway.aws import AwsLambda
from streams.gateway.edge import Api
from streams.gateway.fc import function_compute
from streams.gateway.functiongraph import FunctionGraphApi
from streams.gateway.intake import Intake
from streams.gateway.keys import Keys
from streams.gateway.native import Native
from streams.gateway.server import Server
from streams.gateway.services import Services
from streams.gateway.statuses import Statuses
from streams.invokers import Invokers
from streams.local.process import ChildProcess
from streams.memory import give_back_memory, settle
from streams.settings import Settings

log = logging.getLogger(__name__)

PROJECTOR_STOP_S = 5.0
"""`streams console` may take so long to stop."""
PROJECTOR_PAUSE_S = 2.0
"""It is not started again sooner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where a gateway is reached, and who may use it."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    keys: Keys = field(default_factory=Keys)
    projects: bool = True
    """Whether a `streams console` of ours keeps the read model up to date; False: somebody else's does."""


async def serve(settings: Settings, listening: Listening, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. *ready* is told the URL. Raises `StreamsError` when that is not possible."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        stopped.set()

    async with _services(settings, listening, fail) as services:
        server = Server(apis(services), Native(services), authenticates=bool(listening.keys))
        try:
            port = await server.start(listening.host, listening.port, listening.tls)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {listening.host}:{listening.port}: {error.strerror}. Name another with --listen"
            ) from error
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        host = f"[{listening.host}]" if ":" in listening.host else listening.host
        settle()
        ready(f"{'https' if listening.tls else 'http'}://{host}:{port}")
        await stopped.wait()
        await server.stop()
    if failures:
        raise failures[0]


def apis(services: Services) -> dict[str, Api]:
    """Each cloud's API by the first path segments that belong to it."""
    aws, functiongraph = AwsLambda(services), FunctionGraphApi(services)
    return {
        **dict.fromkeys(aws.first_segments, aws),
        **function_compute(services),
        **dict.fromkeys(functiongraph.first_segments, functiongraph),
    }


@contextlib.asynccontextmanager
async def _services(
    settings: Settings, listening: Listening, failed: Callable[[BaseException], None]
) -> AsyncIterator[Services]:
    async with contextlib.AsyncExitStack() as stack:
        live = LiveFunctions(settings, _nothing, failed)
        async with cluster.Cluster(settings) as admin:
            fault = cluster.fault(settings.topics, await admin.topics(), live.functions.kafka_topics())
        if fault is not None:
            raise ConfigurationError(fault)
        intake, invokers = Intake(settings), Invokers(threads=settings.threads)
        await invokers.start()
        stack.push_async_callback(invokers.close)
        try:
            await live.start()
            stack.push_async_callback(live.stop)
            await intake.start()
            stack.push_async_callback(intake.stop)
        except KafkaError as error:
            raise BrokerError(f"Kafka refused: {error}") from error
        model = ReadModel(settings.read_model_url())
        stack.callback(model.close)
        await asyncio.to_thread(model.prepare)
        if listening.projects:
            stack.push_async_callback(_stop, asyncio.get_running_loop().create_task(_project(settings)))
        stack.push_async_callback(_stop, asyncio.get_running_loop().create_task(give_back_memory()))
        payloads = await stack.enter_async_context(Payloads(settings))
        yield Services(
            settings=settings,
            live=live,
            intake=intake,
            invokers=invokers,
            statuses=Statuses(model, payloads),
            keys=listening.keys,
        )


async def _project(settings: Settings) -> None:
    """Keep a `streams console` running, in a process of its own: reading facts must not slow requests."""
    command = [sys.executable, "-m", "streams", "--broker", settings.broker, "--prefix", settings.prefix, "console"]
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    output = settings.state / f"{settings.prefix}console.log"
    while True:
        child = await asyncio.to_thread(ChildProcess, command, folder=Path.cwd(), log=output)
        try:
            while child.exit_code is None:  # noqa: ASYNC110  # a process calls nobody
                await asyncio.sleep(0.5)
        finally:
            await asyncio.shield(asyncio.to_thread(child.stop, PROJECTOR_STOP_S))
        log.error("streams console ended with exit code %s; it is started again. See %s", child.exit_code, output)
        await asyncio.sleep(PROJECTOR_PAUSE_S)


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _nothing(functions: Functions) -> None:
    """Every request asks for the functions as they are."""


def show(url: str) -> None:
    """Tell whoever started the gateway where it is."""
    click.echo(f"Serving on {url}; Ctrl-C stops the gateway.", err=True)
