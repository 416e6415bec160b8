"""What aiokafka's group membership needs from us to go on after an answer that it does not know."""

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError

from kafka.support import new_id
from streams.commands.base import connected
from streams.engine.transport import rejoin_after_errors
from streams.settings import Settings

pytestmark = pytest.mark.kafka


async def failing(error: Exception) -> None:
    raise error


async def interrupted(consumer: AIOKafkaConsumer, error: Exception) -> None:
    """The task that asks for committed offsets ends with *error*, as it does while a coordinator is loading."""
    coordinator: Any = consumer._coordinator
    coordinator._commit_refresh_task.cancel()
    coordinator._commit_refresh_task = asyncio.create_task(failing(error))
    coordinator.request_rejoin()  # else it is not looked at until the next rebalance


async def test_a_member_joins_again_after_an_answer_that_nobody_expects(broker: Any) -> None:
    settings, died = Settings(broker=broker.bootstrap, prefix=f"{new_id('trouble')}.", partitions=1), list[str]()
    at, topic = settings.kafka(), settings.topics.invocations
    async with connected(settings) as cluster:
        await cluster.create(settings.topics)
    consumer = AIOKafkaConsumer(topic, group_id=topic, auto_offset_reset="earliest", **at)
    async with AIOKafkaProducer(**at) as producer, asyncio.timeout(60), consumer:
        coordinator: Any = consumer._coordinator
        rejoin_after_errors(coordinator, died.append)
        await producer.send_and_wait(topic, b"before")
        assert (await consumer.getone()).value == b"before"
        generation = coordinator.generation

        await interrupted(consumer, KafkaError("Unknown error fetching offsets"))
        while coordinator.generation == generation:  # noqa: ASYNC110  # aiokafka calls nobody
            await asyncio.sleep(0.05)

        await producer.send_and_wait(topic, b"after")
        assert (await consumer.getone()).value == b"after"
    assert not died


async def test_a_member_that_is_not_allowed_in_stops_with_the_reason() -> None:
    died: list[str] = []

    class Coordinator:
        group_id = "g"

        def request_rejoin(self) -> None:
            pass

    coordinator: Any = Coordinator()
    rejoin_after_errors(coordinator, died.append)

    await coordinator._push_error_to_user(GroupAuthorizationFailedError("g"))

    assert died == ["the broker does not let us into the group g: GroupAuthorizationFailedError('g')"]
