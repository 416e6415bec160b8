"""A changelog that Kafka has compacted as far as it will go."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaError
from conftest import RunningBroker

from kafka.support import new_id
from streams.engine import fetched
from streams.engine.recovery import StateReader
from streams.engine.transaction import TransactionalProducer

pytestmark = pytest.mark.kafka

COMPACTED_S = 120.0
"""The cleaner looks every 15 s, and an emptied marker takes it two rounds."""
SOON = {
    "cleanup.policy": "compact",
    "segment.ms": "200",
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": "100",
}


@pytest.fixture
async def changelog(broker: RunningBroker) -> AsyncIterator[TopicPartition]:
    topic = new_id("compacted")
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=SOON)])
    yield TopicPartition(topic, 0)
    await admin.delete_topics([topic])
    await admin.close()


async def write(producer: TransactionalProducer, changelog: TopicPartition, key: bytes, value: bytes) -> None:
    await producer._produce({changelog: [(key, value, [])]})
    await producer._end(committed=True)


async def read(bootstrap: str, changelog: TopicPartition) -> dict[bytes, bytes]:
    async def waiting(_: float) -> None:
        """No transaction is open."""

    async with StateReader({"bootstrap_servers": bootstrap}, [changelog.topic]) as reader:
        async for _, table, _ in reader.tables([changelog], waiting):
            return table
    raise AssertionError("there is one changelog")


async def test_a_state_is_read_when_the_markers_of_its_transactions_are_gone(
    broker: RunningBroker, changelog: TopicPartition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It breaks when a takeover reads nothing after the marker of somebody who wrote once, long ago."""
    options, name = {"bootstrap_servers": broker.bootstrap}, changelog.topic
    producers = [TransactionalProducer(options, f"{name}-{number}", name) for number in range(2)]
    for producer in producers:
        await producer.start([name])
        await write(producer, changelog, b"key", b"old")
    monkeypatch.setattr(fetcher, "PartitionRecords", fetcher.PartitionRecords)  # put back afterwards
    monkeypatch.setattr(fetcher, "MemoryRecords", fetcher.MemoryRecords)
    count = 0
    with monkeypatch.context() as without_ours:
        without_ours.setattr(fetched, "install", lambda: None)
        without_ours.setattr(fetcher, "PartitionRecords", fetched._PartitionRecords.__bases__[0])
        async with asyncio.timeout(COMPACTED_S):
            with pytest.raises(KafkaError, match="did not contain any records"):  # what aiokafka makes of it
                while True:
                    count += 1
                    await asyncio.sleep(0.2)  # segments close by time
                    await write(producers[0], changelog, b"key", b"%d" % count)
                    if count % 20 == 0:
                        await read(broker.bootstrap, changelog)

    assert await read(broker.bootstrap, changelog) == {b"key": b"%d" % count}

    for producer in producers:
        await producer.close()
