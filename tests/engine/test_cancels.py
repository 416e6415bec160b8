"""Cancelling, wherever the invocation stands: one record and one dead letter, and nothing starts afterwards."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import TopicPartition

from streams.codec.envelope import Invocation
from streams.core.facts import Failed
from streams.core.model import KafkaDestination, Outcome
from streams.engine.cancels import EARLY_MS
from streams.engine.partition import is_idle, is_landed
from streams.functions import Functions
from streams.invokers import Call

from .support import START_MS, TOPICS, Bench, function
from .test_careful import careful_bench
from .test_processor import Gate, fail, succeed

KNOWN = Invocation("id-1", "f", None, b'{"n":1}', 0, 0, 1, None)
"""What a sender knows who knows all of it."""


def is_cancelled(bench: Bench, request_id: str = "id-1", attempts: int = 0) -> bool:
    """Whether exactly one record and one dead letter say that it was, after so many attempts."""
    records = [record["requestContext"] for record in bench.records("aws.failure")]
    letters = [(letter["request_id"], letter["reason"], letter["value"]) for letter in bench.records(TOPICS.dlq)]
    [context] = [context for context in records if context["requestId"] == request_id]
    [headers] = [dict(headers) for key, _, headers in bench.written("aws.failure") if key == request_id.encode()]
    assert (context["condition"], headers["attempts"]) == ("Cancelled", b"%d" % attempts)
    assert letters == [(request_id, "Cancelled", b'{"n":1}')]
    assert bench.facts()[-1] == Failed(attempts, bench.owner.time_ms, "cancelled")
    assert bench.partition.drift() == 0
    return True


def nothing_is_left(bench: Bench) -> bool:
    """Whether no record of ours is unfinished, nothing runs and nothing waits."""
    partition = bench.partition
    loads = bench.processor._loads.values()
    assert not partition.in_flight_count
    assert not partition.running
    assert not partition.requests.open_count
    assert not any(load.running or load.long for load in loads)
    return True


async def waiting(bench: Bench) -> None:
    """One invocation has failed once, and waits for its second attempt."""
    bench.produce(b'{"n":1}', function="f", request_id="id-1")
    await bench.settled()
    assert len(bench.written("retry.60s")) == 1


# -- an attempt is under way -----------------------------------------------------------------------------------------


async def test_an_attempt_under_way_is_cut_off() -> None:
    gate = Gate()
    bench = Bench(gate)
    bench.produce(b'{"n":1}', function="f", request_id="id-1")
    await bench.settled()

    bench.cancel("id-1")
    gate.open.set()
    await bench.settled()

    assert is_cancelled(bench, attempts=1)
    assert not bench.records("aws.success")
    assert nothing_is_left(bench)


async def test_an_attempt_that_has_not_begun_to_run_does_not() -> None:
    gate = Gate()
    bench = Bench(gate)

    bench.produce(b'{"n":1}', function="f", request_id="id-1")
    bench.cancel("id-1")
    await bench.settled()

    assert gate.calls == []
    assert is_cancelled(bench, attempts=1)
    assert nothing_is_left(bench)


async def test_a_function_that_does_not_let_go_keeps_its_place_and_its_result_counts_for_nothing() -> None:
    begun, end = asyncio.Event(), asyncio.Event()

    async def stubborn(call: Call) -> Outcome:
        begun.set()
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue
        return await succeed(call)

    bench = Bench(stubborn, function(reserved_concurrency=1))
    bench.produce(b'{"n":1}', function="f", request_id="id-1")
    await begun.wait()

    bench.cancel("id-1")
    await bench.settled()
    assert is_cancelled(bench, attempts=1)
    bench.produce(b"{}", function="f", request_id="id-2")
    await bench.settled()
    assert len(bench.written("retry.1s")) == 1, "its place is taken, the next one is throttled"

    end.set()
    await bench.settled()
    assert not bench.records("aws.success")
    assert not any(load.running for load in bench.processor._loads.values())


async def test_a_journaled_attempt_is_cut_off_and_not_started_by_the_next_owner() -> None:
    gate = Gate()
    bench = Bench(gate)
    bench.produce(b'{"n":1}', function="f", request_id="id-1")
    await bench.settled()
    bench.processor.careful.journal(bench.partition, START_MS + 1)

    bench.cancel("id-1")
    bench.die_and_take_over()
    await bench.settled()

    assert len(gate.calls) == 1
    assert is_cancelled(bench, attempts=1)
    assert nothing_is_left(bench)


# -- it waits for a retry --------------------------------------------------------------------------------------------


async def test_a_retry_in_memory_says_all_that_the_record_needs() -> None:
    bench = Bench(fail)
    await waiting(bench)
    bench.hold("retry.60s")

    bench.cancel("id-1")

    assert is_cancelled(bench, attempts=1)
    [record] = bench.records("aws.failure")
    assert record["responsePayload"] == b'{"errorMessage":"no"}'


async def test_a_sender_who_knows_the_invocation_need_not_wait_for_its_record() -> None:
    bench = Bench(fail)
    await waiting(bench)

    bench.cancel("id-1", KNOWN)

    assert is_cancelled(bench, attempts=1)


async def test_else_the_record_is_written_when_the_retry_record_comes() -> None:
    bench = Bench(fail)
    await waiting(bench)

    bench.cancel("id-1")
    assert not bench.records("aws.failure")
    bench.owner.time_ms += 60_000
    bench.wake("retry.60s")
    await bench.settled()

    assert is_cancelled(bench, attempts=1)
    assert nothing_is_left(bench)


async def test_a_second_command_that_knows_more_is_enough() -> None:
    bench = Bench(fail)
    await waiting(bench)

    bench.cancel("id-1")
    bench.cancel("id-1", KNOWN)

    assert is_cancelled(bench, attempts=1)


async def test_a_command_that_names_another_function_knows_nothing() -> None:
    bench = Bench(fail)
    await waiting(bench)

    bench.cancel("id-1", KNOWN._replace(function="arn:aws:lambda:eu-west-9:1:function:other"))
    assert not bench.records("aws.failure")
    assert not bench.records(TOPICS.dlq)
    bench.owner.time_ms += 60_000
    bench.wake("retry.60s")

    assert is_cancelled(bench, attempts=1)


async def test_the_retry_record_of_a_cancelled_invocation_is_old_news() -> None:
    gate = Gate()
    bench = Bench(fail)
    await waiting(bench)
    bench.processor._prepared.clear()
    bench.processor._invokers.handler = gate  # type: ignore[attr-defined]

    bench.cancel("id-1", KNOWN)
    bench.owner.time_ms += 60_000
    bench.wake("retry.60s")
    bench.owner.time_ms -= 60_000
    await bench.settled()

    assert gate.calls == []
    assert is_cancelled(bench, attempts=1)
    assert nothing_is_left(bench)


async def test_it_is_remembered_until_its_last_retry_record_has_come() -> None:
    """A wait of 3.5 s is one in the tier of 2 s and another in that of 1 s. Who forgot it in between could not tell
    what the second record is, and would make a dead letter of it."""
    bench = Bench(succeed)
    bench.produce(b'{"n":1}', function="f", request_id="id-1", delay_ms="3500")
    await bench.settled()
    bench.cancel("id-1", KNOWN)

    for tier in ("retry.2s", "retry.1s"):
        bench.partition.requests.evict(1 << 60, 0, bench.partition.accepted, bench.partition.accepted)
        bench.partition.requests.evict(1 << 60, 0, bench.partition.accepted, bench.partition.accepted)
        assert bench.partition.requests.is_open(b"id-1")
        bench.owner.time_ms += 2_000
        bench.wake(tier)
    await bench.settled()

    [letter] = bench.records(TOPICS.dlq)
    assert letter["reason"] == "Cancelled"
    assert nothing_is_left(bench)


async def test_the_same_id_is_not_accepted_again() -> None:
    bench = Bench(fail)
    await waiting(bench)
    bench.cancel("id-1", KNOWN)

    bench.produce(b'{"n":1}', function="f", request_id="id-1")
    await bench.settled()

    assert is_cancelled(bench, attempts=1)


async def test_an_older_retry_record_that_comes_again_changes_nothing() -> None:
    bench = Bench(fail)
    await waiting(bench)
    [first] = list(bench.written("retry.60s"))
    bench.owner.time_ms += 60_000
    bench.wake("retry.60s")
    await bench.settled()
    bench.cancel("id-1")

    bench.partition.outputs[TopicPartition("retry.60s", 0)].append(first)
    bench.wake("retry.60s")

    assert not bench.records("aws.failure")
    assert bench.partition.requests.is_open(b"id-1")


# -- it is held back -------------------------------------------------------------------------------------------------


async def test_what_a_suspect_holds_back_does_not_start_later() -> None:
    gate = Gate()
    bench = careful_bench(gate)
    bench.produce(b"{}", function="f", request_id="suspect")
    await bench.settled()
    bench.die_and_take_over()
    await bench.settled()
    bench.produce(b'{"n":1}', function="f", request_id="id-1")

    bench.cancel("id-1")
    gate.open.set()
    await bench.settled()

    assert [call.request_id for call in gate.calls] == ["suspect", "suspect"]
    assert len(bench.records("aws.success")) == 1
    assert is_cancelled_last(bench)
    assert nothing_is_left(bench)


@pytest.mark.parametrize("number", [0, 1], ids=["the one that runs alone", "the one that waits for its turn"])
async def test_a_suspect_is_cancelled_and_the_others_have_their_turn(number: int) -> None:
    gate = Gate()
    bench = careful_bench(gate)
    ids = ["suspect-0", "suspect-1"]
    for request_id in ids:
        bench.produce(b'{"n":1}', function="f", request_id=request_id)
    await bench.settled()
    bench.die_and_take_over()
    await bench.settled()

    bench.cancel(ids[number])
    gate.open.set()
    await bench.settled()

    [success] = bench.records("aws.success")
    assert success["requestContext"]["requestId"] == ids[1 - number]
    [failure] = bench.records("aws.failure")
    assert failure["requestContext"]["condition"] == "Cancelled"
    assert nothing_is_left(bench)


def is_cancelled_last(bench: Bench) -> bool:
    [record] = bench.records("aws.failure")
    assert record["requestContext"]["requestId"] == "id-1"
    assert bench.partition.drift() == 0
    return record["requestContext"]["condition"] == "Cancelled"


# -- it does not stand anywhere --------------------------------------------------------------------------------------


async def test_who_is_cancelled_before_it_is_read_does_not_start() -> None:
    gate = Gate()
    bench = Bench(gate)

    bench.cancel("id-1", offset=0)
    commands = bench.partition.sources[1]
    assert bench.partition.watermark(commands) == 0, "after a crash the command comes again"
    bench.produce(b'{"n":1}', function="f", request_id="id-1")
    await bench.settled()

    assert is_cancelled(bench)
    assert gate.calls == []
    assert bench.partition.watermark(commands) == 1
    assert nothing_is_left(bench)


async def test_a_delayed_invocation_that_is_cancelled_before_it_is_read_does_not_wait() -> None:
    bench = Bench(succeed)

    bench.cancel("id-1", offset=0)
    bench.produce(b'{"n":1}', function="f", request_id="id-1", delay_ms="5000")
    await bench.settled()

    assert is_cancelled(bench)
    assert nothing_is_left(bench)


@pytest.mark.parametrize("commands", [1, 2])
async def test_a_command_for_an_offset_with_another_invocation_is_let_go_of(commands: int) -> None:
    bench = Bench(succeed)

    for _ in range(commands):
        bench.cancel("other", offset=0)
    bench.produce(b'{"n":1}', function="f", request_id="id-1")
    await bench.settled()

    assert len(bench.records("aws.success")) == 1
    assert bench.processor.effects.counters["unknown"]["cancel_ignored"] == 1
    assert nothing_is_left(bench)


@pytest.mark.parametrize("bounds", [{"in_flight_max": 1}, {"in_flight_bytes_max": 10}])
async def test_commands_that_wait_do_not_keep_what_they_wait_for_from_being_read(bounds: dict[str, int]) -> None:
    bench = Bench(succeed)
    vars(bench.partition).update(bounds)
    waiting = Invocation("id", "f", None, b'{"n": 1}', START_MS, START_MS, 1, None)

    for offset in range(5):
        bench.cancel(f"id-{offset}", waiting, offset=offset)

    assert not bench.owner.paused
    assert not bench.partition.paused


async def test_a_command_that_waits_for_its_invocation_keeps_nobody_from_stopping() -> None:
    bench = Bench(succeed)

    bench.cancel("id-1", offset=7)

    assert is_idle([bench.partition])
    assert is_landed([bench.partition])


async def test_a_command_does_not_wait_for_ever_for_an_offset_that_does_not_come() -> None:
    """Nothing that ends meanwhile can be forgotten."""
    bench = Bench(succeed)
    bench.cancel("id-1", offset=7)
    bench.owner.time_ms += EARLY_MS
    bench.processor.cancels.give_up_early(bench.partition, bench.owner.time_ms)
    assert bench.partition.early

    bench.owner.time_ms += 1
    bench.processor.cancels.give_up_early(bench.partition, bench.owner.time_ms)

    assert not bench.partition.early
    assert bench.partition.watermark(bench.partition.sources[1]) == 1
    assert bench.processor.effects.counters["unknown"]["cancel_ignored"] == 1


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_what_waits_for_a_cloud_that_is_configured_otherwise_ends(is_cancelled: bool) -> None:
    """Its function's address says nothing to anybody any more. It would be counted as waiting for ever."""
    bench = Bench(fail)
    await waiting(bench)
    if is_cancelled:
        bench.cancel("id-1")

    class Elsewhere(Functions):
        def gone(self, reference: str, qualifier: str | None) -> None:
            return None

    bench.processor.configure(Elsewhere())
    bench.owner.time_ms += 60_000
    bench.wake("retry.60s")
    await bench.settled()

    [letter] = bench.records(TOPICS.dlq)
    assert (letter["reason"], letter["request_id"]) == ("UnknownFunction", "id-1")
    assert nothing_is_left(bench)


async def test_the_unknown_and_the_over_are_counted_and_left_alone() -> None:
    bench = Bench(succeed)
    bench.produce(b"{}", function="f", request_id="over")
    await bench.settled()

    for request_id in ("over", "unknown", "over"):
        bench.cancel(request_id)

    counters = bench.processor.effects.counters
    assert (counters["over"]["cancel_ignored"], counters["unknown"]["cancel_ignored"]) == (2, 1)
    assert len(bench.records("aws.success")) == 1
    assert not bench.records("aws.failure")
    assert nothing_is_left(bench)


async def test_twice_is_once() -> None:
    gate = Gate()
    bench = Bench(gate)
    bench.produce(b'{"n":1}', function="f", request_id="id-1")
    await bench.settled()

    bench.cancel("id-1")
    bench.cancel("id-1")
    await bench.settled()

    assert is_cancelled(bench, attempts=1)
    assert bench.partition.watermark(bench.partition.sources[1]) == 2


async def test_a_command_that_cannot_be_read_is_a_dead_letter() -> None:
    bench = Bench(succeed)

    bench.command(b"id-1", b"bytes", [("command", b"undo")])

    [letter] = bench.records(TOPICS.dlq)
    assert (letter["topic"], letter["reason"], letter["value"]) == (TOPICS.commands, "UndecodableInput", b"bytes")
    assert bench.partition.watermark(bench.partition.sources[1]) == 1


# -- who hears of it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("provider", "is_sent"), [("aws", True), ("fc", False), ("functiongraph", True)])
async def test_its_provider_says_whether_the_destination_hears_of_it(provider: str, is_sent: bool) -> None:
    gate = Gate()
    told = function(provider=provider, on_failure=KafkaDestination("failed"), dead_letter=KafkaDestination("dead"))
    bench = Bench(gate, told)
    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()

    bench.cancel("id-1")

    assert len(bench.records(f"{provider}.failure")) == 1
    assert len(bench.records(TOPICS.dlq)) == 1
    assert bool(bench.written("failed")) is bool(bench.written("dead")) is is_sent
