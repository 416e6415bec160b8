"""Topics of other people that do not take what functions have for them: everything else goes on."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from kafka.support import Deployment, Sent
from streams.laws import judge

pytestmark = pytest.mark.kafka

FUNCTIONS = """
[[function]]
name = "tight"
provider = "aws"
target = "handlers:echo"
on_success = "kafka://{to}.tight"

[[function]]
name = "shrunk"
provider = "aws"
target = "handlers:echo"
on_success = "kafka://{to}.shrunk"

[[function]]
name = "gone"
provider = "aws"
target = "handlers:echo"
on_success = "kafka://{to}.gone"

[[function]]
name = "echo"
provider = "aws"
target = "handlers:echo"
"""

EVENT = json.dumps("x" * 2_000).encode()


class Topics:
    """Topics as their owners change them."""

    def __init__(self, deployment: Deployment) -> None:
        self._admin = AdminClient({"bootstrap.servers": deployment.settings.broker})

    def limit(self, topic: str, size: int) -> None:
        """From now on *topic* takes batches of at most *size* bytes."""
        change = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
        self._done(self._admin.incremental_alter_configs([resource]))

    def create(self, topic: str) -> None:
        self._done(self._admin.create_topics([NewTopic(topic, 1, 1)]))

    def delete(self, topic: str) -> None:
        self._done(self._admin.delete_topics([topic]))

    def _done(self, futures: dict[Any, Any]) -> None:
        for future in futures.values():
            future.result()


@pytest.fixture
def deployment(broker: Any, tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(broker.bootstrap, tmp_path, FUNCTIONS, partitions=1, destinations=("tight", "shrunk")) as made:
        yield made


def gone(deployment: Deployment) -> str:
    """A topic that is not there in the end."""
    return deployment.destinations["tight"].replace("tight", "gone")


@pytest.fixture
def topics(deployment: Deployment) -> Iterator[Topics]:
    topics = Topics(deployment)
    topics.limit(deployment.destinations["tight"], 20_000)
    topics.create(gone(deployment))
    yield topics
    with suppress(KafkaException):  # a test has deleted it
        topics.delete(gone(deployment))


def refused(deployment: Deployment, sent: Sent) -> str:
    """Why the destination of *sent* did not take its record."""
    letter = deployment.dead_letter(sent).datum
    assert letter["reason"] == "DestinationDeliveryFailed"
    assert letter["value"] == EVENT
    return letter["error_message"]


def test_what_a_destination_does_not_take_is_a_dead_letter_and_nothing_else_suffers(
    deployment: Deployment, topics: Topics
):
    """Many records for a topic that takes small batches only, one that is too large for a topic since a minute.

    It breaks when the refusal of one topic undoes the transactions of all for good: the worker exits in the end.
    """
    many = [deployment.send("tight", EVENT) for _ in range(100)]
    a = deployment.start("A")
    deployment.ready(a)
    topics.limit(deployment.destinations["shrunk"], 1_000)
    one, others = deployment.send("shrunk", EVENT), [deployment.send("echo", EVENT) for _ in range(10)]

    for sent in many:
        deployment.delivered("tight", sent)
    assert "too large" in refused(deployment, one)
    for sent in (one, *others):
        deployment.success(sent)
    assert judge(deployment.history([sent.id for sent in (*many, one, *others)])) == []
    assert len(deployment.executions()) == len(many) + 1 + len(others), "nothing ran again"


def test_a_destination_that_was_deleted_under_a_worker_gets_nothing(deployment: Deployment, topics: Topics):
    """The worker knows the topic; it is gone when a record is written to it."""
    a = deployment.start("A")
    deployment.ready(a)
    topics.delete(gone(deployment))
    sent = deployment.send("gone", EVENT)
    assert "gone" in refused(deployment, sent)
    deployment.success(sent)
    deployment.success(deployment.send("echo", EVENT))
    assert len(deployment.executions()) == 2, "nothing ran again"
