"""A function or a retry tier that is blocked never stops another one, not even on the same partition."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka.support import Deployment

pytestmark = pytest.mark.kafka

FUNCTIONS = """
time_scale = 0.01

[[function]]
name = "blocked"
provider = "aws"
target = "handlers:work"

[[function]]
name = "free"
provider = "fc"
target = "handlers:work"
"""

BOUNDS = {"in_flight_max": 20, "hold_max": 3, "long_max": 5, "hold_s": 0.3}
"""So little that a handful of invocations fills everything."""


@pytest.fixture
def deployment(broker: Any, tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(broker.bootstrap, tmp_path, FUNCTIONS, partitions=1, settings=BOUNDS) as deployment:
        deployment.ready(deployment.start("A"))
        yield deployment


def send(deployment: Deployment, function: str, count: int, event: bytes, *headers: tuple[str, bytes]) -> list[str]:
    return [deployment.send(function, event, headers).id for _ in range(count)]


def test_a_function_that_is_stuck_does_not_stop_another(deployment: Deployment):
    """Three times as many invocations as may be in flight do not end, and are in front of everybody else.

    It breaks when they hold the partition's room for ever: `long_max` of them run, the others are parked.
    """
    gate = deployment.gate()
    stuck = send(deployment, "blocked", 60, b'{"gate": "%b"}' % str(gate).encode())
    free = send(deployment, "free", 30, b"{}")
    deployment.all_ended(free)
    assert deployment.ended(stuck) == 0
    gate.touch()
    deployment.all_ended(stuck)
    assert {request_id for request_id in stuck if deployment.reader.at("aws.success", request_id)} == set(stuck)


def test_a_tier_that_is_full_does_not_stop_another(deployment: Deployment):
    """More invocations than a tier may hold wait for half a day; others fail, wait a minute and succeed.

    It breaks when the tier's back-pressure pauses more than the tier itself.
    """
    waiting = send(deployment, "blocked", 30, b"{}", ("delay-ms", b"43200000"))
    failing = send(deployment, "free", 30, b'{"failures": 1}')
    deployment.all_ended(failing)
    assert {execution.request_id for execution in deployment.executions()}.isdisjoint(waiting)
    assert all(deployment.reader.at("fc.success", request_id) for request_id in failing)
