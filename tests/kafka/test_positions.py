"""What was read is known for longer than Kafka keeps the group's offsets; of a topic that is made anew nothing was."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from kafka.support import Deployment, metric
from streams.cluster import Cluster
from streams.laws import judge
from streams.local.broker import free_port

pytestmark = pytest.mark.kafka

FUNCTIONS = """
[[function]]
name = "echo"
provider = "aws"
target = "handlers:echo"
"""


@pytest.fixture
def deployment(broker: Any, tmp_path: Path) -> Iterator[Deployment]:
    settings = {"terminal_retention_s": 0, "terminal_max": 1}
    with Deployment(broker.bootstrap, tmp_path, FUNCTIONS, partitions=2, settings=settings) as deployment:
        yield deployment


def work_and_stop(deployment: Deployment, label: str) -> list[str]:
    """A worker runs some invocations, forgets them and ends."""
    ids = [deployment.send("echo").id for _ in range(20)]
    address = f"127.0.0.1:{free_port()}"
    worker = deployment.start(label, http=address)
    deployment.all_ended(ids)
    deployment.until(lambda: metric(address, "ended") == 0, "they are forgotten")
    worker.terminate()
    assert worker.wait() == 0
    return ids


def delete_group(deployment: Deployment) -> None:
    """As Kafka does when a group was empty for a week."""
    admin = AdminClient({"bootstrap.servers": deployment.settings.broker})

    def deleted() -> bool:
        [future] = admin.delete_consumer_groups([deployment.topics.app_id]).values()
        try:
            future.result()
        except KafkaException as error:
            assert error.args[0].name() == "NON_EMPTY_GROUP"
            return False
        return True

    deployment.until(deleted, "the group is gone")


def test_a_group_whose_offsets_are_gone_goes_on_where_it_was(deployment: Deployment):
    """All workers were away for a week, say. It breaks when everything is read again: it would end twice (L2)."""
    ids = work_and_stop(deployment, "A")
    delete_group(deployment)
    ids.append(deployment.send("echo").id)
    a = deployment.start("A again")
    deployment.all_ended(ids)
    assert judge(deployment.history(ids)) == []
    assert len(deployment.executions()) == len(ids), "nothing ran again"
    assert "has no offset" in a.log()


def test_a_topic_that_is_made_anew_is_read_from_its_beginning(deployment: Deployment):
    """Somebody has thrown a backlog away. It breaks when reading goes on where it was in the old topic."""
    ids = work_and_stop(deployment, "A")
    asyncio.run(make_anew(deployment))
    ids += [deployment.send("echo").id for _ in range(5)]
    deployment.start("A again")
    deployment.all_ended(ids)
    assert judge(deployment.history(ids)) == []


async def make_anew(deployment: Deployment) -> None:
    """Delete the topic of invocations and create it."""
    async with Cluster(deployment.settings) as cluster:
        await cluster.delete([deployment.topics.invocations])
        while deployment.topics.invocations in await cluster.topics():  # noqa: ASYNC110  # Kafka calls nobody
            await asyncio.sleep(0.1)
        await cluster.create(deployment.topics)
