"""A transaction that the cluster has ended, and that one of its partitions was never told of.

Kafka does that to transactions that end while a partition has no leader. Here it is made in another way: a batch is
written to one more partition when its transaction has ended already, with the check that forbids that switched off.
"""

import time
from collections.abc import AsyncIterator, Iterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from kafka.support import new_id
from streams.commands.base import connected
from streams.engine import wire
from streams.engine.transaction import TransactionalProducer
from streams.local.broker import Broker
from streams.settings import Settings

pytestmark = pytest.mark.kafka

OldProduce = wire._api("Produce", 0, 11, [*wire.PRODUCE_FIELDS], [*wire.PRODUCE_REPLY])
LONG_AGO_MS = 60_000


@pytest.fixture(scope="module")
def lenient() -> Iterator[str]:
    with Broker(ephemeral=True) as broker:
        yield broker.bootstrap


@pytest.fixture
async def settings(lenient: str) -> AsyncIterator[Settings]:
    settings = Settings(broker=lenient, prefix=f"{new_id('skipped')}.", partitions=2)
    admin = AIOKafkaAdminClient(bootstrap_servers=lenient)
    await admin.start()
    check = {"transaction.partition.verification.enable": "false"}
    await admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", configs=check)])
    await admin.close()
    async with connected(settings) as cluster:
        await cluster.create(settings.topics)
    yield settings


def producer(settings: Settings, name: str) -> TransactionalProducer:
    return TransactionalProducer(settings.kafka(), f"{settings.prefix}{name}", settings.topics.app_id)


async def leave_open(settings: Settings, committed: bool) -> TopicPartition:
    """The partition that is left with a transaction of the producer *it*."""
    told, untold = (TopicPartition(settings.topics.facts, number) for number in range(2))
    it = producer(settings, "it")
    await it.start([settings.topics.facts])
    builder = DefaultRecordBatchBuilder(2, 0, 1, it._producer_id, it._epoch, 0, 1_000)
    builder.append(0, int(time.time() * 1000) - LONG_AGO_MS, b"key", b"value", [])
    await it._produce({told: [(b"key", b"value", [])]})
    await it._end(committed)
    request = OldProduce(it.transactional_id, -1, 5_000, [(untold.topic, [(1, bytes(builder.build()), {})], {})])
    error = wire.NOT_LEADER
    while error == wire.NOT_LEADER:  # of a topic that was made just now
        [[_, [[_, error, *_]], *_]] = (await it._client.send(1, request)).responses
    assert not error
    await it.close()
    return untold


async def read(settings: Settings, partition: TopicPartition) -> tuple[int, list[bytes | None]]:
    """How far a reader of committed records gets, and what it sees."""
    consumer = AIOKafkaConsumer(
        **settings.kafka(), isolation_level="read_committed", auto_offset_reset="earliest", enable_auto_commit=False
    )
    async with consumer:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        seen = []
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                seen += [record.value for record in records]
        return end, seen


@pytest.mark.parametrize(("committed", "seen"), [(True, [b"value"]), (False, [])])
async def test_a_partition_is_told_how_its_transaction_has_ended(
    settings: Settings, committed: bool, seen: list[bytes]
) -> None:
    partition = await leave_open(settings, committed)
    assert await read(settings, partition) == (0, [])
    other = producer(settings, "other")
    await other.start([settings.topics.facts])

    await other.finish_skipped(settings.prefix)
    was_troubled = other.is_troubled
    await other.finish_skipped(settings.prefix)

    assert await read(settings, partition) == (2, seen)
    assert (was_troubled, other.is_troubled) == (True, False), "it looks again until there is nothing"
    await other.close()


async def test_whoever_takes_the_name_tells_it_first(settings: Settings) -> None:
    """Afterwards nobody would know how it ended."""
    partition = await leave_open(settings, committed=True)
    successor = producer(settings, "it")

    await successor.start([settings.topics.facts])

    assert await read(settings, partition) == (2, [b"value"])
    await successor.close()


async def test_transactions_of_others_are_left_alone(settings: Settings) -> None:
    partition = await leave_open(settings, committed=True)
    other = producer(settings, "other")
    await other.start([settings.topics.facts])

    await other.finish_skipped("somebody else:")

    assert await read(settings, partition) == (0, [])
    await other.close()
