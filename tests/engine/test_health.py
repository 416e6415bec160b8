"""What a worker says of itself over HTTP: ready when it has its partitions, live while it makes progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientSession

from streams.engine import health
from streams.engine.commits import CommitStatistics
from streams.engine.health import Health
from streams.errors import ConfigurationError
from streams.local.broker import free_port

from .support import Bench
from .test_processor import Gate


class Worker:
    """An engine with one partition and nothing to do, as `Health` sees it."""

    def __init__(self, bench: Bench) -> None:
        self.committer: Any = SimpleNamespace(member=None, statistics=CommitStatistics())
        self.partitions = {0: bench.partition}
        self.lags = False
        self.tasks: list[asyncio.Task[None]] = []

    def background(self, coroutine: Any) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(coroutine))

    def has_lag(self) -> bool:
        return self.lags


@pytest.fixture
async def bench() -> Bench:
    return Bench(Gate())


@pytest.fixture
async def worker(bench: Bench) -> Worker:
    return Worker(bench)


@pytest.fixture
async def pages(bench: Bench, worker: Worker) -> AsyncIterator[Any]:
    """Gives the status and the text of a page."""
    port = free_port()
    watched = Health(worker, bench.processor)  # type: ignore[arg-type]
    await watched.start(f"127.0.0.1:{port}")

    async def page(name: str) -> tuple[int, str]:
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/{name}") as answer:
            return answer.status, await answer.text()

    yield page
    for task in worker.tasks:
        task.cancel()
    await watched.stop()


async def test_a_worker_is_ready_once_it_has_its_partitions(pages: Any, worker: Worker) -> None:
    assert (await pages("ready"))[0] == 503
    worker.committer.member = "us"
    assert (await pages("ready"))[0] == 200


async def test_a_worker_with_nothing_to_do_is_live(pages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "STALLED_AFTER_S", 60.0)
    assert (await pages("live"))[0] == 200


async def test_a_worker_that_has_something_to_do_and_does_not_is_not_live(
    pages: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.lags = True
    monkeypatch.setattr(health, "STALLED_AFTER_S", 0.0)
    assert (await pages("live"))[0] == 503


async def test_metrics_account_for_every_invocation(pages: Any, bench: Bench) -> None:
    bench.produce(b"{}", b"{}", function="f")
    await bench.settled()

    lines = (await pages("metrics"))[1].splitlines()

    assert {"streams_running 2.0", "streams_waiting 0.0", "streams_ended 0.0", "streams_drift 0.0"} <= set(lines)


async def test_an_address_that_cannot_be_served_is_named(pages: Any, bench: Bench, worker: Worker) -> None:
    other = Health(worker, bench.processor)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="cannot serve STREAMS_HTTP"):
        await other.start("127.0.0.1:x")
    await other.stop()
