"""Events that kill the worker: written down before they run, found out, run alone, and ended as WorkerCrashed."""

from __future__ import annotations

import asyncio

import pytest

from streams.core.facts import AttemptStarted
from streams.core.model import Outcome
from streams.engine.careful import AT_ONCE
from streams.invokers import Call

from .support import START_MS, TOPICS, Bench
from .test_processor import Gate


def careful_bench(handler: Gate) -> Bench:
    """A bench right after an acquisition, with records that may have been under way when the last owner died."""
    bench = Bench(handler)
    bench.partition.careful_until = {bench.partition.sources[0]: 10}
    return bench


async def make_suspects(bench: Bench) -> None:
    """Two more deaths: what runs now runs alone."""
    for _ in range(2):
        bench.die_and_take_over()
        await bench.settled()


async def test_what_may_have_been_under_way_is_written_down_before_it_runs() -> None:
    gate = Gate()
    bench = careful_bench(gate)
    written = asyncio.Event()
    bench.owner.written = lambda partition: written.wait()  # type: ignore[method-assign,assignment,return-value]

    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()

    assert bench.partition.requests.is_open(b"id-1")
    assert gate.calls == []
    written.set()
    await bench.settled()
    assert len(gate.calls) == 1


async def test_later_records_are_not_written_down_first() -> None:
    gate = Gate()
    bench = careful_bench(gate)
    bench.partition.careful_until = {bench.partition.sources[0]: 0}

    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()

    assert not bench.partition.requests.is_open(b"id-1")
    assert len(gate.calls) == 1


async def test_a_suspect_runs_alone_and_others_go_on_afterwards() -> None:
    gate = Gate()
    bench = careful_bench(gate)
    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()
    await make_suspects(bench)

    bench.produce(b"{}", function="f", request_id="id-2")
    await bench.settled()

    assert [call.request_id for call in gate.calls] == ["id-1"] * 3
    assert bench.partition.drift() == 0
    gate.open.set()
    await bench.settled()
    assert [call.request_id for call in gate.calls] == ["id-1"] * 3 + ["id-2"]
    assert len(bench.records("aws.success")) == 2


async def test_the_same_id_twice_is_held_back_once() -> None:
    gate = Gate()
    bench = careful_bench(gate)
    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()
    bench.die_and_take_over()

    bench.produce(b"{}", b"{}", function="f", request_id="id-2")
    gate.open.set()
    await bench.settled()

    assert [call.request_id for call in gate.calls].count("id-2") == 1
    assert bench.partition.drift() == 0


@pytest.mark.parametrize(("deaths", "suspects", "at_once"), [(1, 40, AT_ONCE[2]), (2, 3, 1)])
async def test_with_each_death_fewer_suspects_run_at_the_same_time(deaths: int, suspects: int, at_once: int) -> None:
    running = peak = 0

    async def count(call: Call) -> Outcome:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1
        return Outcome("returned", payload=b"1")

    gate = Gate()
    bench = Bench(gate)
    bench.partition.careful_until = {bench.partition.sources[0]: 100}
    bench.produce(*(b"{}",) * suspects, function="f")
    await bench.settled()
    for _ in range(deaths - 1):
        bench.die_and_take_over()
        await bench.settled()
    bench.processor._prepared.clear()
    bench.processor._runners.clear()
    bench.processor._invokers.handler = count  # type: ignore[attr-defined]
    bench.die_and_take_over()
    await bench.settled()

    assert peak == at_once
    assert len(bench.records("aws.success")) == suspects


async def test_who_kills_the_worker_while_alone_fails_each_attempt_and_ends_as_worker_crashed() -> None:
    gate = Gate()
    bench = careful_bench(gate)
    bench.produce(b'{"poison":1}', function="f", request_id="id-1")
    await bench.settled()
    deaths = 0

    for tier in ("retry.60s", "retry.120s", None):
        while not (bench.written(tier) if tier else bench.records(TOPICS.dlq)):
            bench.die_and_take_over()
            await bench.settled()
            deaths += 1
        if tier:
            bench.owner.time_ms += 200_000
            bench.wake(tier)
            await bench.settled()

    [letter] = bench.records(TOPICS.dlq)
    assert (letter["reason"], letter["error_type"], letter["value"]) == (
        "WorkerCrashed",
        "WorkerCrashed",
        b'{"poison":1}',
    )
    [record] = bench.records("aws.failure")
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 3
    assert deaths == 5, "two more than its attempts: the first two deaths only make it a suspect"
    assert bench.partition.drift() == 0


async def test_letting_go_in_good_order_makes_a_long_attempt_no_suspect() -> None:
    gate = Gate()
    bench = Bench(gate)
    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()
    bench.processor.careful.journal(bench.partition, START_MS + 1)

    for _ in range(6):
        bench.processor.careful.let_go(bench.partition)
        bench.die_and_take_over()
        await bench.settled()

    bench.produce(b"{}", function="f", request_id="id-2")
    await bench.settled()
    assert gate.calls[-1].request_id == "id-2", "a suspect would run alone"
    assert sum(isinstance(fact, AttemptStarted) for fact in bench.facts()) == 1 + 6


async def test_suspects_that_wait_for_their_turn_are_not_charged_for_a_death() -> None:
    gate = Gate()
    bench = careful_bench(gate)
    bench.produce(b"{}", b"{}", function="f")
    await bench.settled()
    await make_suspects(bench)  # one of them runs alone

    bench.die_and_take_over()
    gate.open.set()
    await bench.settled()

    assert len(bench.records("aws.success")) == 1
    assert len(bench.written("retry.60s")) == 1
