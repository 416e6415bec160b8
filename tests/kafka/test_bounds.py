"""What a worker takes on is bounded, and what is stuck holds up nothing else. One minute is 0.6 seconds here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka.support import Deployment, Sent, metric, new_id
from streams.laws import judge
from streams.local.broker import free_port

pytestmark = pytest.mark.kafka

FUNCTIONS = """
time_scale = 0.01

[[function]]
name = "stuck"
provider = "aws"
target = "handlers:work"

[[function]]
name = "work"
provider = "aws"
target = "handlers:work"
"""

IN_FLIGHT_MAX = 20
IN_FLIGHT_BYTES_MAX = 1 << 20
LONG_MAX = 30
STUCK, OTHER = 0, 1
"""Partitions."""


@pytest.fixture
def deployment(broker: Any, tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(broker.bootstrap, tmp_path, FUNCTIONS, partitions=2) as deployment:
        yield deployment


def produce(deployment: Deployment, function: str, count: int, partition: int, event: dict[str, object]) -> list[str]:
    """Invoke *function* so often; the broker has all of them on return."""
    ids = [new_id(function) for _ in range(count)]
    for request_id in ids:
        headers = [("function", function.encode()), ("request-id", request_id.encode())]
        deployment.sender.produce(request_id, json.dumps(event).encode(), headers, partition)
    deployment.sender.flush()
    return ids


def test_a_function_that_does_not_end_stops_no_partition_no_function_and_no_tier(deployment: Deployment):
    """More of it than may be in flight, and more than may take long: the rest of it is parked."""
    gate = deployment.gate()
    deployment.ready(deployment.start("A", in_flight_max=IN_FLIGHT_MAX, long_max=LONG_MAX, hold_s=1))
    stuck = produce(deployment, "stuck", 3 * LONG_MAX, STUCK, {"gate": str(gate)})
    deployment.until(lambda: len(deployment.executions(stuck)) >= IN_FLIGHT_MAX, "all that may be in flight runs")

    others: list[Sent] = [
        deployment.send("work", partition=OTHER),
        deployment.send("work", partition=STUCK),
        deployment.send("work", b'{"failures": 1}', partition=STUCK),
    ]
    for sent in others:
        deployment.success(sent)
    assert deployment.ended(stuck) == 0, "all this happened beside them"

    gate.touch()
    deployment.all_ended(stuck)
    assert list(judge(deployment.history([*stuck, *(sent.id for sent in others)]))) == []


def test_a_backlog_is_taken_on_bit_by_bit_however_large_its_events(deployment: Deployment):
    gate, address, event_bytes = deployment.gate(), f"127.0.0.1:{free_port()}", 100_000
    event = {"gate": str(gate), "filling": "x" * event_bytes}
    ids = [id for partition in (STUCK, OTHER) for id in produce(deployment, "work", 150, partition, event)]
    deployment.ready(deployment.start("A", in_flight_bytes_max=IN_FLIGHT_BYTES_MAX, http=address))
    deployment.until(lambda: metric(address, "paused") == 2, "both partitions are full")

    one_fetch_bytes = 1 << 20  # what was fetched at once is taken on at once
    assert metric(address, "unfinished") <= 2 * (IN_FLIGHT_BYTES_MAX + one_fetch_bytes) / event_bytes + 2

    gate.touch()
    deployment.all_ended(ids)
    assert list(judge(deployment.history(ids))) == []
