"""`def` functions in threads, which cannot be killed."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streams.core.model import Outcome
from streams.invokers import Invokers, Runner
from streams.invokers.python import NO_THREAD
from streams.providers import PROVIDERS

from . import targets
from .conftest import call, function, python

SIZE = 2
"""Threads of the fixture `invokers`."""


@pytest.fixture
def prepare(invokers: Invokers) -> Callable[..., Runner]:
    def prepare(target: Callable[..., object], timeout_s: float = 10) -> Runner:
        return invokers.prepare(function(python(target, "thread"), timeout_s=timeout_s), PROVIDERS["aws"])

    return prepare


@pytest.fixture(autouse=True)
def _release() -> Iterator[None]:
    """Lets blocked threads go at the end."""
    targets.release.clear()
    targets.running = type(targets.running)(0)
    yield
    targets.release.set()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def is_timeout(outcome: Outcome) -> bool:
    return outcome.kind == "function_error" and outcome.error_type == "Sandbox.Timedout"


async def test_threads_are_used_again_and_no_more_than_allowed(prepare: Callable[..., Runner]) -> None:
    run = prepare(targets.name_thread)

    outcomes = await asyncio.gather(*(run(call()) for _ in range(50)))

    assert len({outcome.payload for outcome in outcomes}) <= SIZE


async def test_the_loop_goes_on_while_functions_block(prepare: Callable[..., Runner]) -> None:
    blocked = asyncio.ensure_future(prepare(targets.block)(call()))
    await until(lambda: targets.running.acquire(blocking=False))
    targets.release.set()

    assert (await blocked).payload == b'"released"'


async def test_waiting_for_a_thread_does_not_count_as_time(prepare: Callable[..., Runner]) -> None:
    blocked = [asyncio.ensure_future(prepare(targets.block)(call())) for _ in range(SIZE)]
    waiting = asyncio.ensure_future(prepare(targets.echo, timeout_s=0.05)(call(b"1")))
    await asyncio.sleep(0.1)
    targets.release.set()

    assert (await waiting).payload == b"1"
    assert [(await outcome).payload for outcome in blocked] == [b'"released"'] * SIZE


async def test_a_thread_that_can_be_stopped_is_replaced(prepare: Callable[..., Runner], invokers: Invokers) -> None:
    run = prepare(targets.hang, 0.02)

    outcomes = await asyncio.gather(*(run(call()) for _ in range(SIZE)))

    assert all(is_timeout(outcome) for outcome in outcomes)
    await until(lambda: invokers.threads_stuck == 0)
    assert (await prepare(targets.echo)(call(b"1"))).payload == b"1"


async def test_when_all_threads_are_stuck_calls_are_tried_again_later(
    prepare: Callable[..., Runner], invokers: Invokers
) -> None:
    stuck = [asyncio.ensure_future(prepare(targets.block, 0.05)(call())) for _ in range(SIZE)]
    waiting = asyncio.ensure_future(prepare(targets.echo)(call(b"1")))

    assert all([is_timeout(await outcome) for outcome in stuck])
    assert invokers.threads_stuck == SIZE
    assert await waiting == NO_THREAD
    assert await prepare(targets.echo)(call(b"1")) == NO_THREAD

    targets.release.set()
    await until(lambda: invokers.threads_stuck == 0)
    assert (await prepare(targets.echo)(call(b"1"))).payload == b"1"


async def test_a_cancelled_call_gives_its_thread_back(prepare: Callable[..., Runner], invokers: Invokers) -> None:
    tasks = [asyncio.ensure_future(prepare(targets.hang)(call())) for _ in range(SIZE + 1)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    await until(lambda: invokers.threads_stuck == 0)
    assert (await prepare(targets.echo)(call(b"1"))).payload == b"1"


async def test_closing_ends_what_is_awaited(prepare: Callable[..., Runner], invokers: Invokers) -> None:
    tasks = [asyncio.ensure_future(prepare(targets.block)(call())) for _ in range(SIZE + 1)]
    await asyncio.sleep(0)

    await invokers.close()

    for task in tasks:
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_stop_that_comes_late_harms_nobody(prepare: Callable[..., Runner]) -> None:
    """Functions that end just when their time is up: every call gets its own outcome, whichever that is."""
    run = prepare(targets.nap, 0.005)

    for _ in range(50):
        outcome = await run(call(b"0.0049"))
        assert is_timeout(outcome) or json.loads(outcome.payload or b"") == 0.0049
