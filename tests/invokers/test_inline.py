"""`async def` functions on the loop: time limits that hold, and cancellations told apart."""

import asyncio
from collections.abc import Callable

import pytest

from streams.core.model import Outcome
from streams.invokers import Invokers, Runner
from streams.providers import PROVIDERS

from . import targets
from .conftest import call, function, python


@pytest.fixture(autouse=True)
def _clear_log() -> None:
    targets.log.clear()


@pytest.fixture
def prepare(invokers: Invokers) -> Callable[..., Runner]:
    def prepare(target: Callable[..., object], timeout_s: float = 10) -> Runner:
        return invokers.prepare(function(python(target, "inline"), timeout_s=timeout_s), PROVIDERS["aws"])

    return prepare


async def begun() -> None:
    """Wait until a function says that it runs."""
    async with asyncio.timeout(5):
        while "begun" not in targets.log:  # noqa: ASYNC110
            await asyncio.sleep(0)


def is_timeout(outcome: Outcome) -> bool:
    return outcome.kind == "function_error" and outcome.error_type == "Sandbox.Timedout"


@pytest.mark.parametrize("target", [targets.swallow, targets.swallow_below])
async def test_a_function_that_ignores_its_time_limit_is_cut_off(
    prepare: Callable[..., Runner], invokers: Invokers, target: Callable[..., object]
) -> None:
    assert is_timeout(await prepare(target, 0.01)(call()))

    assert invokers.abandoned == 1
    assert targets.log[:2] == ["begun", "cancelled"]


async def test_a_function_that_is_cut_off_is_closed(prepare: Callable[..., Runner]) -> None:
    await prepare(targets.swallow, 0.01)(call())

    assert targets.log == ["begun", "cancelled", "closed"]


@pytest.mark.parametrize("target", [targets.ahang, targets.spin, targets.finish_when_cancelled])
async def test_a_function_that_obeys_is_not_counted(
    prepare: Callable[..., Runner], invokers: Invokers, target: Callable[..., object]
) -> None:
    assert is_timeout(await prepare(target, 0.01)(call()))

    assert invokers.abandoned == 0


async def test_every_one_of_many_calls_times_out(prepare: Callable[..., Runner]) -> None:
    run = prepare(targets.ahang, 0.05)

    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*(run(call()) for _ in range(500)))

    assert all(is_timeout(outcome) for outcome in outcomes)


async def test_calls_that_begin_later_end_later(prepare: Callable[..., Runner]) -> None:
    run = prepare(targets.ahang, 0.05)
    first = asyncio.ensure_future(run(call()))
    await asyncio.sleep(0.025)
    second = asyncio.ensure_future(run(call()))

    assert is_timeout(await first)
    assert not second.done()
    assert is_timeout(await second)


@pytest.mark.parametrize("target", [targets.raise_cancelled, targets.await_cancelled])
async def test_a_cancelled_error_of_its_own_is_an_error(
    prepare: Callable[..., Runner], target: Callable[..., object]
) -> None:
    assert (await prepare(target)(call())).error_type == "CancelledError"


@pytest.mark.parametrize("when", ["end", "end after a wait", "wait"])
async def test_a_function_cannot_cancel_the_task_it_runs_in(prepare: Callable[..., Runner], when: str) -> None:
    outcome = await prepare(targets.cancel_itself)(call(f'"{when}"'.encode()))

    assert outcome.error_type == "CancelledError" if when == "wait" else outcome.payload == b'"done"'
    await asyncio.sleep(0)  # here a cancellation left over would strike
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0


async def test_a_function_may_use_time_limits_and_tasks(prepare: Callable[..., Runner]) -> None:
    outcome = await prepare(targets.time_itself_out)(call())

    assert outcome.payload == b'"done"'
    assert targets.log == ["timed out", "timed out"]


async def test_a_cancellation_keeps_its_words(prepare: Callable[..., Runner]) -> None:
    """By which anyio, and what builds on it, tells its own from others: without them its time limits are errors."""
    outcome = await prepare(targets.say_how_it_was_cancelled)(call())

    assert outcome.payload == b'["word 0", "word 1", "word 2"]'


async def test_whoever_awaits_a_runner_can_cancel_it(prepare: Callable[..., Runner], invokers: Invokers) -> None:
    task = asyncio.ensure_future(prepare(targets.ahang)(call()))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert invokers.abandoned == 0


async def test_closing_ends_even_functions_that_cannot_be_cancelled(
    prepare: Callable[..., Runner], invokers: Invokers
) -> None:
    task = asyncio.ensure_future(prepare(targets.swallow)(call()))
    await begun()
    task.cancel()
    await asyncio.sleep(0.01)
    assert targets.log == ["begun", "cancelled"]

    await invokers.close()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert targets.log == ["begun", "cancelled", "closed"]
