"""Functions that take minutes or hours, scaled: the gate keeps them under way for as long as the test wants them to."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from kafka.support import Deployment, Input, new_id
from streams.laws import judge

pytestmark = pytest.mark.kafka

FUNCTIONS = """
[[function]]
name = "quarter-of-an-hour"
provider = "aws"
target = "handlers:work"
timeout_s = 900

[[function]]
name = "half-a-day"
provider = "functiongraph"
target = "handlers:work"
isolation = "process"
timeout_s = 43200

[[function]]
name = "short"
provider = "aws"
target = "handlers:work"
"""

LONG = {"quarter-of-an-hour": "aws", "half-a-day": "functiongraph"}
PARTITIONS = 2


@pytest.fixture
def deployment(broker: Any, tmp_path: Path) -> Iterator[Deployment]:
    settings = {"hold_s": 0.3}
    with Deployment(broker.bootstrap, tmp_path, FUNCTIONS, partitions=PARTITIONS, settings=settings) as deployment:
        yield deployment


def invocation(function: str, number: int, event: dict[str, object]) -> Input:
    request_id = new_id(function)
    headers = [("function", function.encode()), ("request-id", request_id.encode())]
    return Input(request_id, json.dumps(event).encode(), headers, number % PARTITIONS)


def produce(deployment: Deployment, inputs: list[Input]) -> list[str]:
    for item in inputs:
        deployment.sender.produce(*item)
    deployment.sender.flush()
    return [item.id for item in inputs]


@pytest.fixture
def group(deployment: Deployment) -> Iterator[Consumer]:
    """Looks at the group's offsets, and joins it never."""
    settings = {"bootstrap.servers": deployment.settings.broker, "group.id": deployment.topics.app_id}
    consumer = Consumer(settings)
    yield consumer
    consumer.close()


def lag(group: Consumer, deployment: Deployment) -> int:
    """Records of `invocations` that the group has not committed."""
    sources = [TopicPartition(deployment.topics.invocations, number) for number in range(PARTITIONS)]
    committed = group.committed(sources, timeout=10)
    ends = [group.get_watermark_offsets(source, timeout=10)[1] for source in sources]
    return sum(end - max(0, at.offset) for at, end in zip(committed, ends, strict=True))


def test_hours_hold_no_offset_and_survive_a_rebalance_and_a_kill_with_one_outcome(
    deployment: Deployment, group: Consumer
):
    """Attempts of a quarter of an hour and of half a day, on every partition, before short ones.

    It breaks when a long attempt holds its partition's offset, when its worker is thrown out of the group meanwhile, or
    when a rebalance or a death loses the attempt or lets it end twice.
    """
    a = deployment.start("A")
    deployment.ready(a)
    gate = deployment.gate()
    long = [invocation(name, number, {"gate": str(gate)}) for name in LONG for number in range(PARTITIONS)]
    ids = produce(deployment, long)
    deployment.until(lambda: len(deployment.executions(ids)) == len(ids), "the long ones run")
    short = produce(deployment, [invocation("short", number, {}) for number in range(100)])
    deployment.all_ended(short)
    deployment.until(lambda: lag(group, deployment) == 0, "the offsets go on")

    b = deployment.start("B")
    deployment.share(a, b)
    deployment.until(lambda: len(deployment.executions(ids)) >= len(ids) + len(LONG), "those of one partition moved")
    a.kill()
    deployment.share(b)
    more = produce(deployment, [invocation("short", number, {}) for number in range(100)])
    deployment.all_ended(more)
    deployment.until(lambda: lag(group, deployment) == 0, "the offsets go on again")
    assert deployment.ended(ids) == 0

    gate.touch()
    for item in long:
        function = item.id.rpartition("-")[0]
        deployment.success(item.id, LONG[function])
    assert judge(deployment.history([*ids, *short, *more], kills=1)) == []
    assert len(b.acquisitions()) == 2, "it was never thrown out"


def test_a_worker_that_is_told_to_stop_hands_its_long_attempts_over(deployment: Deployment):
    """SIGTERM while a long attempt runs: the drain ends, the next worker runs it, and it ends once."""
    a = deployment.start("A", drain_s=0.5)
    deployment.ready(a)
    gate = deployment.gate()
    [request_id] = produce(deployment, [invocation("quarter-of-an-hour", 0, {"gate": str(gate)})])
    deployment.until(lambda: deployment.executions(), "it runs")
    a.terminate()
    assert a.wait() == 0
    deployment.ready(deployment.start("B"))
    deployment.until(lambda: len(deployment.executions()) == 2, "it runs again")
    gate.touch()
    deployment.success(request_id)
    assert judge(deployment.history([request_id], kills=1)) == []
    first, second = deployment.executions()
    assert first.ended_ms is not None
    assert first.ended_ms <= second.started_ms
