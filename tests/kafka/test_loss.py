"""The loss that a prototype had, provoked on purpose: retries that are held in memory, and rebalances meanwhile.

A worker fetches the records of a retry tier long before they are due and holds them. After a rebalance they must be
read again from where they were *accepted*. If reading goes on from where they were *fetched*, the next record that is
finished there acknowledges all of them, and they are gone. (The prototype's were: aiokafka's `seek_to_committed` leaves
a partition alone whose committed offset is 0 or missing.) A busy worker hides it, because its positions move anyway;
so this one is idle.
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata

from kafka.support import SESSION_TIMEOUT_MS, Deployment, Sent, Worker
from streams.laws import judge

pytestmark = pytest.mark.kafka

SCALE = 0.1
DELAY_S = 60 * SCALE

FUNCTIONS = f"""
time_scale = {SCALE}

[[function]]
name = "work"
provider = "aws"
target = "handlers:work"
"""

PARTITIONS = 4
HELD = 6
"""Retries that wait in each partition."""
VISITS = 4


@pytest.fixture
def deployment(broker: Any, tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(broker.bootstrap, tmp_path, FUNCTIONS, partitions=PARTITIONS) as deployment:
        yield deployment


class Guest(AbstractPartitionAssignor):
    """Enough of Faust's assignor to be a member of its group."""

    name = "faust"

    @classmethod
    def metadata(cls, topics: object) -> ConsumerProtocolMemberMetadata:
        nothing = ClientAssignment(actives={}, standbys={})
        user_data = ClientMetadata(assignment=nothing, url="http://guest", changelog_distribution={}).dumps()
        return ConsumerProtocolMemberMetadata(0, list(topics), user_data)

    @classmethod
    def assign(cls, cluster: object, members: object) -> object:
        raise AssertionError("the worker is the leader: it was there first")

    @classmethod
    def on_assignment(cls, assignment: object) -> None:
        """It gets partitions, and does nothing with them."""


async def visit(deployment: Deployment, worker: Worker) -> None:
    """Somebody joins the group, is given half of the partitions, and leaves: two rebalances."""
    before = len(worker.acquisitions())
    topics = deployment.topics
    guest = AIOKafkaConsumer(
        *topics.sources,
        bootstrap_servers=deployment.settings.broker,
        group_id=topics.app_id,
        partition_assignment_strategy=[Guest],
        enable_auto_commit=False,
        session_timeout_ms=SESSION_TIMEOUT_MS,
        heartbeat_interval_ms=500,
    )
    await guest.start()
    try:
        assert len(guest.assignment()) == PARTITIONS // 2 * len(topics.sources)
    finally:
        await guest.stop()
    deployment.until(lambda: len(worker.acquisitions()) > before + 1, "the worker has everything back")


def test_retries_that_are_held_survive_rebalances(deployment: Deployment):
    """It breaks when a rebalance leaves the position of a partition behind records that were held (L1).

    Tried: with positions that go on from what was fetched, all that waited in the partitions that the worker kept is
    lost, 12 of 28.
    """
    worker = deployment.start("worker")
    deployment.ready(worker)
    held = [fail_once(deployment, partition) for partition in range(PARTITIONS) for _ in range(HELD)]
    deployment.until(lambda: all(waits(deployment, sent) for sent in held), "all of them wait")
    due = time.monotonic() + DELAY_S
    for _ in range(VISITS):
        asyncio.run(visit(deployment, worker))
        if time.monotonic() > due - DELAY_S / 3:
            break
    last = [fail_once(deployment, partition) for partition in range(PARTITIONS)]
    ids = [sent.id for sent in (*held, *last)]
    deployment.all_ended(ids)
    assert judge(deployment.history(ids)) == []
    for request_id in ids:
        assert deployment.success(request_id).header["attempts"] == "2"


def fail_once(deployment: Deployment, partition: int) -> Sent:
    return deployment.send("work", b'{"failures": 1}', partition=partition)


def waits(deployment: Deployment, sent: Sent) -> bool:
    return any(fact.kind == "RetryScheduled" for fact in deployment.facts(sent))
