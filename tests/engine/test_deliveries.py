"""What becomes of what is to go to services outside Kafka, without Kafka and without services."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from streams.codec.delivery import delivery_headers, read_delivery
from streams.codec.facts import read_facts
from streams.core.facts import Delivered, DeliveryFact, DeliveryFailed
from streams.core.model import Delivery, Outcome, Refusal, Service, ServiceDestination
from streams.engine.deliveries import AT_ONCE, LINED_UP_BYTES_MAX, LINED_UP_MAX
from streams.invokers import Call

from .support import START_MS, TOPICS, Bench, Record, function

QUEUE = "arn:aws:sqs:us-east-1:123456789012:done"
DEAD = "arn:aws:sqs:us-east-1:123456789012:dead"
OTHER = "arn:aws:sqs:us-east-1:123456789012:other"
NOT_NOW = Refusal("Not now.", "InternalFailure", 503)
NEVER = Refusal("There is no such queue.", "NonExistentQueue", 400, may_pass=False)


async def good(call: Call) -> Outcome:
    return Outcome("returned", 200, b'"done"')


async def bad(call: Call) -> Outcome:
    return Outcome("function_error", 200, b'{"errorMessage": "no"}', "ValueError", "no")


class Sink:
    """A service that says what it is told to, the last word for ever."""

    def __init__(self, *answers: Refusal | None) -> None:
        self.answers = list(answers) or [None]
        self.got: list[Delivery] = []
        self.holds = asyncio.Event()
        self.holds.set()

    async def __call__(self, delivery: Delivery, service: Service) -> Refusal | None:
        self.got.append(delivery)
        await self.holds.wait()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def ended(handler: Any, sink: Sink, **changes: Any) -> Bench:
    """A bench where an invocation of a function with *changes* has ended."""
    bench = Bench(handler, function(policy=function().policy, **changes))
    bench.service = sink
    bench.produce(b'{"a": 1}', function="f", request_id="r-1")
    await bench.settled()
    return bench


def delivered(bench: Bench, *bodies: bytes, address: str = QUEUE) -> None:
    """Records with *bodies* come on `deliveries`."""
    start = bench.partition.delivered[bench.partition.sources[2]]
    made = [
        Delivery(
            request_id=f"r-{start + i}",
            provider="aws",
            resource=function().resource,
            address=address,
            is_event=False,
            body=body,
            succeeded=True,
            ended_at_ms=START_MS,
            accepted_at_ms=START_MS,
            attempts=1,
            executions=1,
        )
        for i, body in enumerate(bodies)
    ]
    for delivery in made:
        headers = delivery_headers(delivery, START_MS)
        bench.partition.emit(TOPICS.deliveries, delivery.request_id.encode(), delivery.body, headers)
    bench.deliver()


def put_off(bench: Bench) -> list[Delivery]:
    """What waits on retry topics."""
    found = []
    for tier in TOPICS.tiers:
        for key, value, headers in bench.written(tier):
            found.append(read_delivery(Record(tier, 0, value, headers, key=key)))
    return found


def delivery_facts(bench: Bench) -> list[DeliveryFact]:
    return [fact for datum in bench.records(TOPICS.facts) for fact in read_facts(datum).deliveries]


def offsets(bench: Bench) -> Sequence[int]:
    return list(bench.partition.in_flight[bench.partition.sources[2]])


async def test_a_success_goes_to_its_service_with_the_record_as_body():
    sink = Sink()
    bench = await ended(good, sink, on_success=ServiceDestination(QUEUE))
    [record] = bench.records("aws.success")
    bench.deliver()
    await bench.settled()

    [delivery] = sink.got
    assert delivery.body == bench.processor.functions.provider("aws").document(record)
    assert (delivery.address, delivery.succeeded, delivery.is_event) == (QUEUE, True, False)
    assert (delivery.request_id, delivery.attempts, delivery.executions) == ("r-1", 1, 1)
    assert offsets(bench) == []
    assert put_off(bench) == bench.records(TOPICS.dlq) == []
    assert bench.processor.effects.counters["aws"]["delivered"] == 1
    assert delivery_facts(bench) == [Delivered(START_MS, QUEUE, is_event=False)]


async def test_a_failure_goes_to_both_its_destination_and_its_dead_letter_queue():
    sink = Sink()
    policy = replace(function().policy, attempts_max=1)
    bench = Bench(
        bad, function(policy=policy, on_failure=ServiceDestination(QUEUE), dead_letter=ServiceDestination(DEAD))
    )
    bench.service = sink
    bench.produce(b' {"a": 1}\n', function="f", request_id="r-1")
    await bench.settled()
    bench.deliver()
    await bench.settled()

    record, event = sorted(sink.got, key=lambda delivery: delivery.is_event)
    assert (record.address, record.succeeded) == (QUEUE, False)
    assert b'"condition":"RetriesExhausted"' in record.body
    assert (event.address, event.body) == (DEAD, b' {"a": 1}\n')
    assert (event.error_code, event.error_message) == (200, "no")
    assert [letter["reason"] for letter in bench.records(TOPICS.dlq)] == ["RetriesExhausted"]


async def test_what_is_not_taken_now_is_tried_again_later_and_later():
    sink = Sink(NOT_NOW)
    bench = await ended(good, sink, on_success=ServiceDestination(QUEUE))
    bench.deliver()
    await bench.settled()
    assert offsets(bench) == []  # it does not hold its partition while it waits

    waits = []
    for tier in ("retry.500ms", "retry.1s", "retry.2s"):
        [waiting] = put_off(bench)
        waits.append((waiting.failures, waiting.tried_at_ms, waiting.due_at_ms - bench.owner.time_ms))
        bench.owner.time_ms = waiting.due_at_ms
        bench.wake(tier)
        await bench.settled()

    assert waits == [(1, START_MS, 500), (2, START_MS, 1000), (3, START_MS, 2000)]
    assert len(sink.got) == 4
    assert bench.records(TOPICS.dlq) == []


async def test_what_is_not_taken_in_time_is_a_dead_letter_that_can_be_delivered():
    sink = Sink(NOT_NOW)
    bench = await ended(good, sink, on_success=ServiceDestination(QUEUE))
    bench.deliver()
    await bench.settled()
    while waiting := put_off(bench):
        assert bench.owner.time_ms - START_MS <= 1_800_000
        bench.owner.time_ms = waiting[0].due_at_ms
        for tier in TOPICS.tiers:
            bench.wake(tier)
        await bench.settled()

    [letter] = bench.records(TOPICS.dlq)
    assert (letter["reason"], letter["error_type"], letter["error_code"]) == (
        "DestinationDeliveryFailed",
        "InternalFailure",
        503,
    )
    assert letter["error_message"] == f"Not delivered to {QUEUE} after 12 tries: Not now."
    assert letter["value"] == sink.got[0].body
    headers = {header["name"]: header["value"] for header in letter["headers"]}
    assert headers["destination"] == QUEUE.encode()
    assert (letter["attempts"], letter["executions"], letter["accepted_at_ms"]) == (1, 1, START_MS)
    assert bench.processor.effects.counters["aws"]["delivery_failed"] == 1
    failed = DeliveryFailed(bench.owner.time_ms, QUEUE, False, "InternalFailure", "Not now.")
    assert delivery_facts(bench) == [failed]


async def test_what_is_refused_for_good_is_a_dead_letter_at_once():
    bench = await ended(good, Sink(NEVER), on_success=ServiceDestination(QUEUE))
    bench.deliver()
    await bench.settled()

    [letter] = bench.records(TOPICS.dlq)
    assert letter["error_message"] == f"Not delivered to {QUEUE}: There is no such queue."
    assert put_off(bench) == []


@pytest.mark.parametrize("address", ["acs:mq:cn-hangzhou:1:/instances/i/topic/t", "arn:aws:sqs:us-east-1:1:q.fifo"])
async def test_where_nothing_delivers_it_is_a_dead_letter_too(address: str):
    bench = await ended(good, Sink(), on_success=ServiceDestination(address))
    bench.deliver()

    [letter] = bench.records(TOPICS.dlq)
    assert (letter["reason"], letter["request_id"]) == ("DestinationDeliveryFailed", "r-1")
    assert f"does not deliver to {address}" in letter["error_message"]


async def test_a_record_that_is_no_delivery_is_a_dead_letter_with_its_bytes():
    bench = Bench(good)
    bench.partition.emit(TOPICS.deliveries, b"k", b"what is this", [("wake-at", b"0")])
    bench.deliver()

    [letter] = bench.records(TOPICS.dlq)
    assert (letter["reason"], letter["value"]) == ("UndecodableInput", b"what is this")
    assert offsets(bench) == []


async def test_a_tier_wakes_a_delivery_that_has_to_wait_further():
    bench = await ended(good, Sink(NOT_NOW), on_success=ServiceDestination(QUEUE))
    bench.deliver()
    await bench.settled()
    bench.wake("retry.500ms")  # before it is due, as after the first tier of several

    [waiting] = put_off(bench)
    assert (waiting.failures, waiting.due_at_ms) == (1, START_MS + 500)


async def test_one_place_that_does_not_answer_does_not_keep_another_waiting():
    bench, sink = Bench(good), Sink()
    bench.service = sink
    sink.holds.clear()
    delivered(bench, *(b"%d" % i for i in range(LINED_UP_MAX + 10)))
    await bench.settled()
    assert len(sink.got) == AT_ONCE
    assert len(put_off(bench)) == 10  # more than may line up wait elsewhere

    delivered(bench, b"other", address=OTHER)
    await bench.settled()
    assert sink.got[-1].address == OTHER

    sink.holds.set()
    for _ in range(LINED_UP_MAX // AT_ONCE + 1):
        await bench.settled()
    assert len(sink.got) == LINED_UP_MAX + 1
    assert offsets(bench) == []


async def test_waiting_for_room_uses_up_nothing():
    bench, sink = Bench(good), Sink()
    bench.service = sink
    sink.holds.clear()
    delivered(bench, *(b"%d" % i for i in range(LINED_UP_MAX + 1)))
    await bench.settled()
    for waits in range(1, 60):
        [waiting] = put_off(bench)
        assert (waiting.waits, waiting.failures, waiting.tried_at_ms) == (waits, 0, 0)
        bench.owner.time_ms = waiting.due_at_ms
        for tier in TOPICS.tiers:
            bench.wake(tier)
    assert bench.records(TOPICS.dlq) == []


async def test_fewer_line_up_at_a_place_that_fails():
    bench, sink = Bench(good), Sink(NOT_NOW)
    bench.service = sink
    delivered(bench, b"first")
    await bench.settled()
    sink.holds.clear()
    delivered(bench, *(b"%d" % i for i in range(100)))
    await bench.settled()

    assert len(offsets(bench)) == AT_ONCE


async def test_what_is_new_of_a_place_is_logged_once(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    bench, sink = Bench(good), Sink(None, NOT_NOW, NOT_NOW, NEVER, None)
    bench.service = sink
    for _ in range(5):
        delivered(bench, b"a")
        await bench.settled()
        bench.owner.time_ms += 20_000

    assert [record.getMessage() for record in caplog.records] == [
        f"{QUEUE} does not take deliveries now, they are tried again: Not now.",
        f"{QUEUE} refuses a delivery, see the dead letters: There is no such queue.",
        f"{QUEUE} takes deliveries again",
    ]


async def test_a_place_is_not_logged_all_the_time(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    bench = Bench(good)
    bench.service = Sink(NOT_NOW, None, NOT_NOW, None)
    for _ in range(4):
        delivered(bench, b"a")
        await bench.settled()

    assert len(caplog.records) == 1


async def test_large_bodies_line_up_by_their_bytes_but_never_none_of_them():
    bench, sink = Bench(good), Sink()
    bench.service = sink
    sink.holds.clear()
    delivered(bench, *[bytes(LINED_UP_BYTES_MAX)] * 3)
    await bench.settled()

    assert len(sink.got) == 1
    assert len(put_off(bench)) == 2


async def test_a_partition_that_is_lost_meanwhile_gets_nothing_any_more():
    bench, sink = Bench(good), Sink()
    bench.service = sink
    sink.holds.clear()
    delivered(bench, b"a", b"b")
    await bench.settled()
    bench.partition.drop()
    await bench.settled()

    assert offsets(bench) == [0, 1]  # the next owner sends them
    assert bench.processor._deliveries._places[QUEUE].lined_up == 0


async def test_nothing_is_sent_once_the_last_commit_is_under_way():
    bench, sink = Bench(good), Sink()
    bench.service = sink
    bench.owner.has_drained = True
    delivered(bench, b"a")
    await bench.settled()

    assert sink.got == []
    assert offsets(bench) == [0]


async def test_a_record_that_no_topic_of_ours_could_hold_is_a_dead_letter():
    bench = Bench(good, function(on_success=ServiceDestination(QUEUE)))
    bench.processor.effects.limits = {**bench.processor.effects.limits, TOPICS.deliveries: 5_000}  # type: ignore[dict-item]
    bench.produce(b'"%s"' % (b"x" * 1000), function="f", request_id="r-1")
    await bench.settled()

    [letter] = bench.records(TOPICS.dlq)
    assert letter["reason"] == "DestinationDeliveryFailed"
    assert "too many for" in letter["error_message"]
    assert bench.written(TOPICS.deliveries) == []
