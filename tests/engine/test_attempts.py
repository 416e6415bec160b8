"""Attempts that do not wait share a task, and nobody notices."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from streams.core.facts import AttemptFailed, Succeeded
from streams.core.model import Outcome
from streams.engine.attempts import TOGETHER_MAX
from streams.invokers import Call

from .support import START_MS, Bench
from .test_processor import Gate, succeed


def produce(bench: Bench, *request_ids: str) -> None:
    for request_id in request_ids:
        bench.produce(b"{}", function="f", request_id=request_id)


def ended(bench: Bench) -> list[bytes]:
    return list(bench.partition.requests.ended)


async def test_attempts_that_do_not_wait_share_a_task() -> None:
    tasks = []

    async def handler(call: Call) -> Outcome:
        tasks.append(asyncio.current_task())
        return await succeed(call)

    bench = Bench(handler)
    produce(bench, "a", "b", "c")
    await bench.settled()

    assert ended(bench) == [b"a", b"b", b"c"]
    assert len(set(tasks)) == 1


async def test_one_that_waits_keeps_its_task_and_holds_nobody_up() -> None:
    gate, tasks = Gate(), {}

    async def handler(call: Call) -> Outcome:
        tasks[call.request_id] = {asyncio.current_task()}
        outcome = await (gate(call) if call.request_id == "b" else succeed(call))
        tasks[call.request_id].add(asyncio.current_task())
        return outcome

    bench = Bench(handler)
    produce(bench, "a", "b", "c")
    await bench.settled()
    assert ended(bench) == [b"a", b"c"]
    gate.open.set()
    await bench.settled()

    assert ended(bench) == [b"a", b"c", b"b"]
    assert len(tasks["b"]) == 1
    assert tasks["b"] != tasks["c"]


async def test_once_it_has_waited_every_attempt_of_a_function_has_a_task_of_its_own() -> None:
    tasks = []

    async def handler(call: Call) -> Outcome:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(0)
        return await succeed(call)

    bench = Bench(handler)
    for request_id in "abc":
        produce(bench, request_id)
        await bench.settled()
    produce(bench, "d", "e")
    await bench.settled()

    assert len(ended(bench)) == 5
    assert len(set(tasks)) == 5


async def test_those_that_end_in_one_turn_are_written_down_in_order_each_with_its_own_time() -> None:
    async def handler(call: Call) -> Outcome:
        bench.owner.time_ms += 1
        return await succeed(call)

    bench = Bench(handler)
    request_ids = [f"{number:03}" for number in range(2 * TOGETHER_MAX + 1)]
    produce(bench, *request_ids)
    await bench.settled()

    assert ended(bench) == [request_id.encode() for request_id in request_ids]
    times = [fact.at_ms for fact in bench.facts() if isinstance(fact, Succeeded)]
    assert times == [START_MS + 1 + number for number in range(len(request_ids))]
    assert bench.partition.in_flight_count == 0


async def test_those_that_have_ended_are_written_down_before_one_is_waited_for() -> None:
    gate = Gate()

    async def handler(call: Call) -> Outcome:
        return await (gate(call) if call.request_id == "b" else succeed(call))

    bench = Bench(handler)
    produce(bench, "a", "b")
    await asyncio.sleep(0)

    assert ended(bench) == [b"a"]
    gate.open.set()
    await bench.settled()


async def test_what_an_attempt_sets_in_its_context_is_its_own() -> None:
    variable = ContextVar("variable", default="nothing")
    seen = []

    async def handler(call: Call) -> Outcome:
        seen.append(variable.get())
        variable.set(call.request_id)
        if call.request_id == "b":
            await asyncio.sleep(0)
        seen.append(variable.get())
        return await succeed(call)

    bench = Bench(handler)
    produce(bench, "a", "b", "c")
    await bench.settled()

    assert sorted(seen) == ["a", "b", "c", "nothing", "nothing", "nothing"]
    assert variable.get() == "nothing"


async def test_a_function_may_bound_its_own_time_from_its_first_step_on() -> None:
    async def handler(call: Call) -> Outcome:
        if call.request_id == "b":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await asyncio.Event().wait()
        return await succeed(call)

    bench = Bench(handler)
    produce(bench, "a", "b", "c")
    while len(ended(bench)) < 3:  # noqa: ASYNC110  # nobody calls
        await asyncio.sleep(0.001)

    assert [type(fact) for fact in bench.facts()].count(Succeeded) == 3


async def test_a_fault_of_ours_is_reported_and_the_others_go_on() -> None:
    async def handler(call: Call) -> Outcome:
        if call.request_id == "b":
            raise AssertionError("runners do not raise")
        return await succeed(call)

    bench = Bench(handler)
    produce(bench, "a", "b", "c")
    await bench.settled()

    assert [str(error) for error in bench.owner.failures] == ["runners do not raise"]
    assert ended(bench) == [b"a", b"c"]


@pytest.mark.parametrize("waits", [False, True])
async def test_a_cancellation_out_of_nowhere_is_an_error_of_the_function(waits: bool) -> None:
    """Nobody of us has cancelled it: it would never end."""

    async def handler(call: Call) -> Outcome:
        if call.request_id == "b":
            if waits:
                await asyncio.sleep(0)
            raise asyncio.CancelledError
        return await succeed(call)

    bench = Bench(handler)
    produce(bench, "a", "b", "c")
    await bench.settled()

    assert bench.owner.failures == []
    assert ended(bench) == [b"a", b"c"]
    [failed] = [fact for fact in bench.facts() if isinstance(fact, AttemptFailed)]
    assert failed.outcome.error_type == "CancelledError"


async def test_a_fault_of_ours_in_writing_it_down_is_reported() -> None:
    bench = Bench(succeed)
    bench.processor.effects.topics = None  # type: ignore[assignment]
    produce(bench, "a", "b")
    await bench.settled()

    assert [type(error) for error in bench.owner.failures] == [AttributeError]
    assert ended(bench) == []


async def test_a_fault_of_ours_after_a_wait_is_reported() -> None:
    async def handler(call: Call) -> Outcome:
        await asyncio.sleep(0)
        raise AssertionError("runners do not raise")

    bench = Bench(handler)
    produce(bench, "a")
    await bench.settled()

    assert [str(error) for error in bench.owner.failures] == ["runners do not raise"]


async def test_nothing_starts_for_a_partition_that_is_given_up_meanwhile() -> None:
    calls = []

    async def handler(call: Call) -> Outcome:
        calls.append(call)
        return await succeed(call)

    bench = Bench(handler)
    produce(bench, "a", "b")
    bench.partition.drop()
    await bench.settled()

    assert not calls


async def test_one_that_waits_is_cancelled_when_its_partition_is_given_up() -> None:
    cancelled = []

    async def handler(call: Call) -> Outcome:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(call.request_id)
            raise
        return await succeed(call)

    bench = Bench(handler)
    produce(bench, "a", "b")
    await bench.settled()
    bench.partition.drop()
    await bench.settled()

    assert sorted(cancelled) == ["a", "b"]
    assert not bench.owner.failures
