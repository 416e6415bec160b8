"""From a record's bytes to its effects; real lifecycle, providers and codec."""

from __future__ import annotations

import asyncio

import pytest

from streams.core.facts import Accepted, AttemptStarted, RetryScheduled, Succeeded
from streams.core.lifecycle import PARK_MS
from streams.core.model import FunctionDestination, KafkaDestination, Outcome
from streams.engine.partition import is_landed
from streams.functions import Functions
from streams.invokers import Call

from .support import START_MS, TOPICS, Bench, function


async def succeed(call: Call) -> Outcome:
    return Outcome("returned", payload=b'{"ok":true}')


async def fail(call: Call) -> Outcome:
    return Outcome("function_error", payload=b'{"errorMessage":"no"}', error_type="E", error_message="no")


class Gate:
    """A function that ends when it is told to."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.open = asyncio.Event()

    async def __call__(self, call: Call) -> Outcome:
        self.calls.append(call)
        await self.open.wait()
        return await succeed(call)


async def test_a_success_leaves_record_facts_state_and_watermark() -> None:
    bench = Bench(succeed)

    bench.produce(b' {"a":  1}\n', function="f", request_id="id-1")
    await bench.settled()

    [record] = bench.records("aws.success")
    assert record["requestContext"]["requestId"] == "id-1"
    assert record["requestPayload"] == b' {"a":  1}\n'
    assert [type(fact) for fact in bench.facts()] == [Accepted, AttemptStarted, Succeeded]
    assert list(bench.partition.requests.ended) == [b"id-1"]
    assert bench.partition.watermark(bench.partition.sources[0]) == 1


async def test_a_failure_waits_in_the_tier_of_its_delay() -> None:
    bench = Bench(fail)

    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()

    assert len(bench.written("retry.60s")) == 1
    assert not bench.records("aws.failure")
    assert bench.partition.watermark(bench.partition.sources[0]) == 1


async def test_facts_say_where_an_accepted_invocation_is_and_later_ones_do_not() -> None:
    bench = Bench(fail)
    bench.produce(b"no envelope")
    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()

    bench.owner.time_ms += 60_000
    bench.wake("retry.60s")
    await bench.settled()

    assert [datum["offset"] for datum in bench.records(TOPICS.facts)] == [1, None]


async def test_a_tier_that_is_shorter_than_the_delay_hands_on_to_the_next() -> None:
    bench = Bench(succeed)
    bench.produce(b"{}", function="f", request_id="id-1", delay_ms="3500")
    await bench.settled()

    bench.owner.time_ms += 2_000
    bench.wake("retry.2s")
    await bench.settled()

    assert not bench.records("aws.success")
    assert len(bench.written("retry.1s")) == 1


async def test_the_same_id_twice_is_one_invocation() -> None:
    bench = Bench(succeed)

    bench.produce(b"{}", b"{}", function="f", request_id="id-1")
    await bench.settled()
    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()

    assert len(bench.records("aws.success")) == 1
    assert bench.partition.watermark(bench.partition.sources[0]) == 3


async def test_a_retry_delivered_twice_runs_once() -> None:
    bench = Bench(fail)
    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()
    [retry] = list(bench.written("retry.60s"))

    bench.owner.time_ms += 60_000
    bench.written("retry.60s").append(retry)
    bench.wake("retry.60s")
    await bench.settled()

    assert len(bench.written("retry.120s")) == 1


async def test_an_unreadable_record_delivered_again_leaves_one_dead_letter() -> None:
    bench = Bench(succeed)
    bench.produce(b"no envelope")
    source = bench.partition.sources[0]

    bench.partition.accepted[source] = bench.partition.delivered[source] = 0
    bench.produce(b"no envelope")

    [letter] = bench.records(TOPICS.dlq)
    assert (letter["reason"], letter["value"]) == ("UndecodableInput", b"no envelope")


async def test_a_dead_letter_keeps_the_ids_its_producer_gave() -> None:
    bench = Bench(succeed)

    bench.produce(b"{}", function="unknown", request_id="id-1")

    [letter] = bench.records(TOPICS.dlq)
    assert (letter["reason"], letter["request_id"]) == ("UnknownFunction", "id-1")


async def test_a_dead_letter_leaves_out_what_no_topic_takes() -> None:
    bench = Bench(succeed)
    bench.processor.effects.limits = {TOPICS.dlq: 10_000}  # type: ignore[dict-item]

    bench.produce(b"x" * 10_000, function="unknown", request_id="id-1")
    bench.produce(b"", function="unknown" * 1_000, request_id="id-2")

    first, second = bench.records(TOPICS.dlq)
    assert (first["request_id"], first["value"], len(first["headers"])) == ("id-1", None, 2)
    assert (second["request_id"], second["headers"], second["key"]) == ("id-2", [], None)


async def test_a_record_that_is_too_large_for_the_next_function_is_a_dead_letter() -> None:
    bench = Bench(succeed, function("f", on_success=FunctionDestination("g")))
    bench.processor.effects.limits = {TOPICS.invocations: 100}  # type: ignore[dict-item]

    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()

    assert [letter["reason"] for letter in bench.records(TOPICS.dlq)] == ["DestinationDeliveryFailed"]
    assert len(bench.records("aws.success")) == 1
    assert not bench.written(TOPICS.invocations)


async def test_a_record_that_is_too_large_for_its_topic_is_a_dead_letter() -> None:
    bench = Bench(succeed)
    bench.processor.effects.limits = {"aws.success": 100}

    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()

    assert [letter["reason"] for letter in bench.records(TOPICS.dlq)] == ["RecordTooLarge"]
    assert not bench.records("aws.success")


async def test_a_missing_destination_topic_is_a_dead_letter_beside_the_record() -> None:
    bench = Bench(succeed, function(on_success=KafkaDestination("gone")))
    bench.processor.effects.locate = lambda topic, key: None

    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()

    assert [letter["reason"] for letter in bench.records(TOPICS.dlq)] == ["DestinationDeliveryFailed"]
    assert len(bench.records("aws.success")) == 1


async def test_a_long_attempt_lets_go_of_its_offset_and_ends_once() -> None:
    gate = Gate()
    bench = Bench(gate)
    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()
    source = bench.partition.sources[0]
    assert bench.partition.watermark(source) == 0

    bench.processor.careful.journal(bench.partition, START_MS + 1)
    bench.processor.careful.journal(bench.partition, START_MS + 1)

    assert bench.partition.watermark(source) == 1
    assert bench.partition.in_flight_count == 0
    gate.open.set()
    await bench.settled()
    assert len(bench.records("aws.success")) == 1
    assert [type(fact) for fact in bench.facts()] == [Accepted, AttemptStarted, Succeeded]
    assert not bench.partition.requests.open_count


async def test_where_a_cloud_tells_what_runs_the_facts_say_so_soon() -> None:
    gate = Gate()
    bench = Bench(gate, function("f", "fc"), function("g", "aws"))
    bench.produce(b"{}", function="f", request_id="told")
    bench.produce(b"{}", function="g", request_id="not told")
    await bench.settled()

    for _ in range(2):
        bench.processor.careful.show(bench.partition, START_MS + 1)

    assert [type(fact) for fact in bench.facts()] == [Accepted, AttemptStarted]
    assert bench.processor._loads["fc", "f"].long == 0, "it is not a long attempt yet"
    gate.open.set()
    await bench.settled()
    assert len(bench.records("fc.success")) == len(bench.records("aws.success")) == 1
    assert bench.partition.drift() == 0


async def test_a_revocation_waits_for_what_is_journaled_only_to_be_shown() -> None:
    bench = Bench(Gate(), function("f", "fc"))
    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()

    bench.processor.careful.show(bench.partition, START_MS + 1)
    shown = bench.partition.landing(), is_landed([bench.partition])
    bench.processor.careful.journal(bench.partition, START_MS + 1)

    assert shown == (1, False)
    assert (bench.partition.landing(), is_landed([bench.partition])) == (0, True), "nobody waits for long attempts"


async def test_a_short_attempt_is_not_journaled() -> None:
    bench = Bench(Gate())
    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()

    bench.processor.careful.journal(bench.partition, START_MS)

    assert not bench.partition.requests.open_count


async def test_the_next_owner_runs_a_journaled_attempt_again() -> None:
    gate = Gate()
    bench = Bench(gate)
    bench.produce(b'{"a":1}', function="f", request_id="id-1", note="kept")
    await bench.settled()
    bench.processor.careful.journal(bench.partition, START_MS + 1)
    changelog = {key: value for key, value, _ in bench.written(TOPICS.changelog) if key and value}
    bench.partition.drop()

    bench.partition = bench.new_partition()
    bench.partition.requests.restore(changelog, {})
    bench.processor.careful.rearm(bench.partition)
    gate.open.set()
    await bench.settled()

    assert [call.attempt for call in gate.calls] == [1, 1]
    [record] = bench.records("aws.success")
    assert record["requestPayload"] == b'{"a":1}'
    assert not bench.partition.requests.open_count


async def test_a_journaled_attempt_that_is_too_old_expires_instead() -> None:
    gate = Gate()
    bench = Bench(gate)
    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()
    bench.processor.careful.journal(bench.partition, START_MS + 1)
    changelog = {key: value for key, value, _ in bench.written(TOPICS.changelog) if key and value}
    bench.partition.drop()

    bench.owner.time_ms += 6 * 3600 * 1000
    bench.partition = bench.new_partition()
    bench.partition.requests.restore(changelog, {})
    bench.processor.careful.rearm(bench.partition)

    assert len(gate.calls) == 1
    assert [r["requestContext"]["condition"] for r in bench.records("aws.failure")] == ["EventAgeExceeded"]


async def test_beyond_so_many_long_attempts_more_are_parked() -> None:
    gate = Gate()
    bench = Bench(gate, long_max=1)
    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()
    bench.processor.careful.journal(bench.partition, START_MS + 1)

    bench.produce(b"{}", function="f", request_id="id-2")
    await bench.settled()

    assert len(gate.calls) == 1
    assert RetryScheduled(1, START_MS, START_MS + PARK_MS) in bench.facts()
    assert len(bench.written("retry.1s")) == 1


async def test_a_dropped_partition_gives_back_its_share_of_concurrency() -> None:
    bench = Bench(succeed, function(reserved_concurrency=1))
    bench.produce(b"{}", function="f", request_id="id-1")
    bench.partition.drop()  # before its task ran

    bench.partition = bench.new_partition()
    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()

    assert len(bench.records("aws.success")) == 1


async def test_a_result_of_a_dropped_partition_goes_nowhere() -> None:
    gate = Gate()
    bench = Bench(gate)
    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()

    bench.partition.drop()
    gate.open.set()
    await bench.settled()

    assert not bench.partition.outputs


async def test_reading_pauses_while_too_much_is_in_flight() -> None:
    gate = Gate()
    bench = Bench(gate)
    bench.partition.in_flight_max = 3
    source = bench.partition.sources[0]

    bench.produce(*[b"{}"] * 4, function="f")
    await bench.settled()
    assert bench.owner.paused

    gate.open.set()
    await bench.settled()
    assert bench.owner.paused, "finished, but its effects are still in memory"
    assert bench.partition.watermark(source) == 4
    bench.partition.committed(bench.partition.puts, 4, 8)
    assert not bench.owner.paused


async def test_everything_known_is_waiting_running_or_ended() -> None:
    gate = Gate()
    bench = Bench(gate)
    bench.produce(b"{}", b"not json", b"{}", function="f")
    bench.produce(None)
    await bench.settled()

    assert bench.partition.known == 4
    assert bench.partition.drift() == 0
    bench.processor.careful.journal(bench.partition, START_MS + 1)
    assert bench.partition.drift() == 0
    gate.open.set()
    await bench.settled()
    assert bench.partition.drift() == 0
    assert len(bench.partition.requests.ended) == 4


async def test_drift_shows_an_invocation_that_was_lost() -> None:
    bench = Bench(succeed)
    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()

    del bench.partition.requests.ended[b"id-1"]

    assert bench.partition.drift() == 1


@pytest.mark.parametrize(("event", "headers"), [(b'"' + b"x" * 99 + b'"', {}), (b"1", {"x": "y" * 99})])
async def test_reading_pauses_while_too_many_bytes_are_in_flight(event: bytes, headers: dict[str, str]) -> None:
    gate = Gate()
    bench = Bench(gate)
    bench.partition.in_flight_bytes_max = 100

    bench.produce(event, function="f", **headers)
    await bench.settled()
    assert bench.owner.paused

    gate.open.set()
    await bench.settled()
    bench.commit()
    assert not bench.owner.paused
    assert bench.partition.in_flight_bytes == bench.partition.uncommitted_bytes == 0


async def test_a_function_configured_anew_runs_by_its_new_rules_from_the_next_attempt_on() -> None:
    gate = Gate()
    bench = Bench(gate)
    bench.produce(b"1", function="f", request_id="before")
    await bench.settled()

    bench.processor.configure(Functions([function(on_success=KafkaDestination("done"))]))
    bench.produce(b"2", function="f", request_id="after")
    await bench.settled()
    gate.open.set()
    await bench.settled()

    assert [call.request_id for call in gate.calls] == ["before", "after"]
    assert [key for key, _, _ in bench.written("done")] == [b"after"], "what is under way ends as it began"


async def test_a_function_that_is_gone_is_unknown_from_the_next_record_on() -> None:
    bench = Bench(succeed)

    bench.processor.configure(Functions())
    bench.produce(b"1", function="f")
    await bench.settled()

    assert [letter["reason"] for letter in bench.records("dlq")] == ["UnknownFunction"]


async def test_reading_pauses_while_too_many_bytes_of_effects_wait_to_be_committed() -> None:
    async def answer_at_length(call: Call) -> Outcome:
        return Outcome("returned", 200, b'"%b"' % (b"x" * 10_000))

    bench = Bench(answer_at_length)
    bench.partition.in_flight_bytes_max = 10_000

    bench.produce(b"{}", function="f", request_id="id-1")
    await bench.settled()
    bench.produce(b"{}", function="f", request_id="id-2")
    assert bench.owner.paused

    await bench.settled()
    bench.commit()
    assert not bench.owner.paused
    assert bench.partition.uncommitted_bytes == 0


async def test_thousands_wait_for_the_same_commit_and_none_longer() -> None:
    bench = Bench(succeed)
    partition = bench.partition
    partition.put(b"first", b"1" * 30, over=False)
    early = [asyncio.create_task(partition.written()) for _ in range(3)]
    await bench.settled()
    partition.put(b"second", b"2" * 30, over=False)
    late = asyncio.create_task(partition.written())
    await bench.settled()

    partition.committed(1, 0, 0)
    await bench.settled()
    assert [task.done() for task in (*early, late)] == [True, True, True, False]

    partition.committed(2, 0, 0)
    await late
    await partition.written()
