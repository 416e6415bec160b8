"""A gateway process, from its start to its end in good order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import click
from aiokafka.errors import KafkaError

from streams import cluster
from streams.errors import BrokerError, ConfigurationError
from streams.functions import Functions
from streams.functions.live import LiveFunctions
from streams.gateway.edge import Api
from streams.gateway.intake import Intake
from streams.gateway.keys import Keys
from streams.gateway.native import Native
from streams.gateway.server import Server
from streams.gateway.services import Services
from streams.invokers import Invokers
from streams.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where a gateway is reached, and who may use it."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    keys: Keys = field(default_factory=Keys)


async def serve(settings: Settings, listening: Listening, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C. *ready* is told the URL. Raises `StreamsError` when that is not possible."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        stopped.set()

    async with _services(settings, listening.keys, fail) as services:
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
        ready(f"{'https' if listening.tls else 'http'}://{host}:{port}")
        await stopped.wait()
        await server.stop()
    if failures:
        raise failures[0]


def apis(services: Services) -> dict[str, Api]:
    """Each cloud's API by the first path segments that belong to it."""
    return {}


@contextlib.asynccontextmanager
async def _services(settings: Settings, keys: Keys, failed: Callable[[BaseException], None]) -> AsyncIterator[Services]:
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
        yield Services(live=live, intake=intake, invokers=invokers, keys=keys)


async def _nothing(functions: Functions) -> None:
    """Every request asks for the functions as they are."""


def show(url: str) -> None:
    """Tell whoever started the gateway where it is."""
    click.echo(f"Serving on {url}; Ctrl-C stops the gateway.", err=True)
