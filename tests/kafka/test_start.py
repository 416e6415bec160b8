"""How a worker starts, how it refuses to, and who gives way when two have one name."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from kafka.support import Deployment, Worker, new_id
from streams.laws import judge
from streams.topics import Topics

pytestmark = pytest.mark.kafka

FAUST = [sys.executable, "-m", "faust", "-A", "streams.app"]
FAUST_WORKER = [*FAUST, "worker", "--without-web", "--loglevel", "info"]

FUNCTIONS = """
time_scale = 0.01

[[function]]
name = "work"
provider = "aws"
target = "handlers:work"

[[function]]
name = "echo"
provider = "aws"
target = "handlers:echo"
"""


@pytest.fixture(scope="module")
def deployment(broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("start")
    with Deployment(broker.bootstrap, folder, FUNCTIONS, partitions=2) as deployment:
        yield deployment


REFUSALS = {
    "no topics": f"{len(Topics().all)} topics are missing (nobody.invocations, ",
    "unequal topics": f"all topics need the same number of partitions: {len(Topics().partitioned) - 1} have 2, but ",
    "a faulty file": 'function "echo", retires: unknown key; did you mean retries?',
    "no broker": "no Kafka broker answers at 127.0.0.1:1: ",
}
"""What a worker cannot run with, and what it says."""


@pytest.fixture(scope="module")
def unequal(broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The prefix of topics one of which has a partition more."""
    folder = tmp_path_factory.mktemp("unequal")
    with Deployment(broker.bootstrap, folder, FUNCTIONS, partitions=2) as deployment:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        facts = deployment.topics.facts
        admin.create_partitions([NewPartitions(facts, 3)])[facts].result()
        deployment.until(lambda: len(admin.list_topics(facts).topics[facts].partitions) == 3, "it has three")
        yield deployment.prefix


@pytest.fixture(scope="module")
def refused(deployment: Deployment, unequal: str) -> dict[str, Worker]:
    """A worker for each refusal. All are started at once: most of their time is importing."""
    faulty = deployment.folder / "faulty.toml"
    faulty.write_text(FUNCTIONS + "retires = 3\n")
    settings: dict[str, dict[str, object]] = {
        "no topics": {"prefix": "nobody."},
        "unequal topics": {"prefix": unequal},
        "a faulty file": {"config": faulty},
        "no broker": {"broker": "127.0.0.1:1"},
    }
    workers = {why: deployment.start(f"worker with {why}", FAUST_WORKER, **settings[why]) for why in REFUSALS}
    for worker in workers.values():
        worker.is_wanted = False
    return workers


@pytest.mark.parametrize("why", REFUSALS)
def test_a_worker_refuses_to_start_and_says_why(refused: dict[str, Worker], why: str):
    """`streams worker` refuses the same before Faust is loaded (`test_cli.py`); this is the worker itself."""
    assert refused[why].wait() not in (0, None)
    assert REFUSALS[why] in refused[why].log()


def faust(deployment: Deployment, *arguments: str) -> str:
    """What a command of Faust prints."""
    environment = os.environ | deployment.environment()
    done = subprocess.run([*FAUST, *arguments], env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_faust_lists_the_agents(deployment: Deployment):
    listed = faust(deployment, "agents")
    assert "invocations" in listed
    assert "retries" in listed
    assert deployment.topics.invocations in listed


def test_faust_lists_the_table(deployment: Deployment):
    listed = faust(deployment, "tables")
    assert "requests" in listed
    assert "Where every invocation stands" in listed


def test_a_worker_of_faust_runs_what_librdkafka_produces_and_stops_when_told(deployment: Deployment):
    worker = deployment.start("faust", FAUST_WORKER)
    deployment.ready(worker)
    sent = deployment.send("echo", b'{"from": "C"}')
    assert deployment.success(sent).datum["requestPayload"] == b'{"from": "C"}'
    worker.terminate()
    assert worker.wait() == 0


def test_kcat_invokes_a_function(deployment: Deployment):
    """A tool without headers for everybody's use: it writes the JSON envelope."""
    kcat = shutil.which("kcat")
    if kcat is None:
        pytest.skip("kcat is not installed")
    worker = deployment.start("kcat's")
    deployment.ready(worker)
    request_id = new_id("kcat")
    envelope = json.dumps({"function": "echo", "id": request_id, "payload": {"from": "kcat"}})
    produce = [kcat, "-P", "-b", deployment.settings.broker, "-t", deployment.topics.invocations]
    subprocess.run(produce, input=envelope, text=True, check=True, timeout=30)
    assert deployment.success(request_id).datum["requestPayload"] == b'{"from": "kcat"}'
    worker.terminate()
    assert worker.wait() == 0


def test_the_younger_of_two_workers_with_one_name_stays(deployment: Deployment):
    """The elder exits by itself, and says why: a supervisor that starts both again and again must be noticed.

    What it has under way runs again in the younger one and ends there; of its own nothing is seen.
    """
    elder = deployment.start("elder", worker_name="twin")
    deployment.ready(elder)
    elder.is_wanted = False
    gate = deployment.gate()
    ids = [deployment.send("work", b'{"gate": "%b"}' % str(gate).encode()).id for _ in range(10)]
    deployment.until(lambda: len(deployment.executions(ids)) == len(ids), "all of them run")
    younger = deployment.start("younger", worker_name="twin")
    deployment.ready(younger)
    gate.touch()
    deployment.all_ended(ids)
    deployment.success(deployment.send("echo"))
    assert elder.wait() != 0
    assert "stopping: another process has" in elder.log()
    assert "this worker's name" in elder.log()
    assert judge(deployment.history(ids, kills=1)) == []
    younger.terminate()
    assert younger.wait() == 0
