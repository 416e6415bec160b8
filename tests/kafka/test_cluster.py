"""A cluster of several brokers, one of which is away: what can be had from the others is had."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.errors import KafkaError

from kafka.support import new_id
from streams.cluster import Cluster
from streams.local import jars
from streams.local.broker import HOST, JVM_FLAGS, SHORT_LIVED, Broker, _java, free_port, is_ready
from streams.local.process import ChildProcess
from streams.settings import Settings

pytestmark = pytest.mark.kafka

START_S = 120


@pytest.fixture
def first() -> Iterator[Broker]:
    with Broker(ephemeral=True) as broker:
        yield broker


@pytest.fixture
def second(first: Broker, tmp_path: Path) -> Iterator[ChildProcess]:
    """Another broker, that has no part in the vote on controllers."""
    java = [
        _java(),
        *JVM_FLAGS,
        *SHORT_LIVED,
        "-cp",
        os.pathsep.join(map(str, jars.fetch(jars.locked_jars(), jars.cache_folder(os.environ)))),
    ]
    port = free_port()
    own = {
        "process.roles": "broker",
        "node.id": "2",
        "listeners": f"PLAINTEXT://{HOST}:{port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
    }
    lines = (first.folder / "server.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines if "=" in line) | own
    (tmp_path / "server.properties").write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    (tmp_path / "log4j2.properties").write_text((first.folder / "log4j2.properties").read_text())
    [cluster_id] = re.findall("cluster.id=(.+)", (first.folder / "data" / "meta.properties").read_text())
    tool = [*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", "server.properties"]
    subprocess.run(tool, cwd=tmp_path, check=True, capture_output=True)
    process = ChildProcess([*java, "kafka.Kafka", "server.properties"], folder=tmp_path, log=tmp_path / "broker.log")
    try:
        end = time.monotonic() + START_S
        while not is_ready(port):
            assert not process.wait(0.05), (tmp_path / "broker.log").read_text()
            assert time.monotonic() < end
        yield process
    finally:
        process.kill()


async def test_one_that_is_away_is_passed_over(first: Broker, second: ChildProcess) -> None:
    settings = Settings(broker=first.bootstrap, prefix=f"{new_id('cluster')}.", partitions=2)
    async with Cluster(settings) as cluster:
        await cluster._admin._client.force_metadata_update()
        assert {broker.nodeId for broker in cluster._admin._client.cluster.brokers()} == {1, 2}
        second.kill()
        with pytest.raises(KafkaError):  # as it is without us: half of the requests go to the other
            for _ in range(50):
                await cluster._admin.describe_topics()
        made = await cluster.create(settings.topics)
        for _ in range(20):
            assert (await cluster.topics()).keys() >= set(made)
            assert await cluster.identity()
        assert await cluster.committed_offsets(settings.topics.app_id) == {}
