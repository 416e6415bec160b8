"""What the commands share: connecting in a bounded time, errors in our own words, and a bar that shows progress."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import UTC, datetime
from types import FrameType
from typing import Any, Protocol, TypeVar

import click
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.cluster import RECORD_BYTES_MAX, Cluster, Topic
from streams.errors import BrokerError, ConfigurationError
from streams.settings import Settings

CONNECT_TIMEOUT_S = 5.0
"""A broker that has not answered by then is called away."""

T = TypeVar("T")

pass_settings = click.make_pass_decorator(Settings)


def run(work: Coroutine[Any, Any, T], new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """Run *work* to its end, on a loop of another kind if one is given.

    Kafka's errors become ours, and its client's log stays out of the output.
    """
    log = logging.getLogger("aiokafka")
    level, log.level = log.level, logging.CRITICAL
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(work)
    except KafkaError as error:
        raise BrokerError(f"Kafka refused: {error}") from error
    finally:
        log.setLevel(level)


@contextlib.asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Cluster]:
    """The cluster. Raises `BrokerError` when it does not answer within `CONNECT_TIMEOUT_S`."""
    cluster = Cluster(settings)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await cluster.__aenter__()
    except TimeoutError:
        raise BrokerError(
            f"no Kafka broker answers at {settings.broker} within {CONNECT_TIMEOUT_S:.0f} s. Start one with "
            "`streams broker`, or name yours with --broker or STREAMS_BROKER"
        ) from None
    except ValueError as error:
        raise ConfigurationError(
            f"cannot connect to {settings.broker!r}: {error}. It should be host:port[,host:port…], and "
            "STREAMS_SECURITY_PROTOCOL and STREAMS_SASL_* must fit"
        ) from error
    try:
        yield cluster
    finally:
        await cluster.__aexit__(None, None, None)


@contextlib.asynccontextmanager
async def producing(settings: Settings) -> AsyncIterator[Any]:
    """A producer to whom a record is written once all replicas have it."""
    producer = AIOKafkaProducer(
        **settings.kafka(),
        acks="all",
        enable_idempotence=True,
        max_request_size=RECORD_BYTES_MAX,
        max_batch_size=256 * 1024,
    )
    try:
        await producer.start()
        yield producer
    finally:
        await producer.stop()


async def existing_topics(settings: Settings, needed: tuple[str, ...]) -> dict[str, Topic]:
    """Every topic of the cluster by name. Raises `ConfigurationError` when one that is *needed* is missing."""
    async with connected(settings) as cluster:
        existing = await cluster.topics()
    missing = [name for name in needed if name not in existing]
    if missing:
        names = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise ConfigurationError(
            f"the cluster at {settings.broker} has no topic {names}: run `streams topics create`, or name another "
            "prefix with --prefix or STREAMS_PREFIX"
        )
    return existing


class Bar(Protocol):
    """A progress bar."""

    def update(self, n_steps: int) -> None: ...


class _NoBar:
    def update(self, n_steps: int) -> None:
        """Nobody looks."""


@contextlib.contextmanager
def progress(label: str, length: int, *, least: int = 1) -> Iterator[Bar]:
    """A progress bar on standard error, if that is a terminal and there are at least *least* steps."""
    if length < least or not sys.stderr.isatty():
        yield _NoBar()
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP do what Ctrl-C does, whatever that is at the time; `nohup` is respected."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    heeded = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def time_text(at_ms: int) -> str:
    """``2026-01-31T12:00:00.123Z``."""
    at_s, ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"


def columns(rows: list[list[str]]) -> str:
    """*rows* as text in aligned columns; numbers are flush right."""
    by_column = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in by_column]
    right = [all(not cell or cell[0].isdigit() for cell in column[1:]) for column in by_column]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    )
