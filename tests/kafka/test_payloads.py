"""From an invocation to its event, its record and its story, by way of the read model."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from click.testing import CliRunner, Result

from kafka.projecting import running, until
from kafka.support import Deployment, new_id
from streams.cli import main
from streams.console.payloads import Payloads
from streams.console.projector import Projector
from streams.console.store import InvocationStatus, ReadModel, RecordPlace
from streams.doctor.poison import broken_header, with_broken_header
from streams.engine import wire
from streams.errors import BrokerError
from streams.providers import PROVIDERS
from streams.settings import Settings

pytestmark = pytest.mark.kafka

FUNCTIONS = """
time_scale = 0.01

[[function]]
name = "echo"
provider = "aws"
target = "handlers:echo"

[[function]]
name = "work"
provider = "fc"
target = "handlers:work"
retries = 1
"""


@pytest.fixture(scope="module")
def deployment(broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(broker.bootstrap, tmp_path_factory.mktemp("payloads"), FUNCTIONS, partitions=2) as deployment:
        deployment.ready(deployment.start("worker"))
        yield deployment


@pytest.fixture
def settings(deployment: Deployment, tmp_path: Path) -> Settings:
    return replace(deployment.settings, read_model=str(tmp_path / "read-model.db"))


@pytest.fixture
def store(settings: Settings) -> Iterator[ReadModel]:
    with contextlib.closing(ReadModel(settings.read_model_url())) as store:
        store.prepare()
        yield store


def project(settings: Settings, store: ReadModel) -> None:
    """Let the read model read all there is."""

    projector = Projector(settings, store)
    with running(projector):
        until(lambda: projector.lag == 0)


def status_of(store: ReadModel, request_id: str) -> InvocationStatus:
    [status] = store.find(request_id)
    return status


def show(settings: Settings, request_id: str) -> Result:
    env = {"STREAMS_READ_MODEL": settings.read_model_url(), "STREAMS_PREFIX": settings.prefix}
    return CliRunner().invoke(main, ["--broker", settings.broker, "show", request_id], env=env)


def test_event_and_record_are_those_of_the_invocation(deployment: Deployment, settings: Settings, store: ReadModel):
    raw = deployment.send("echo", b'{ "n" : 1 }')
    envelope = deployment.send(None, b'{"function": "echo", "id": "from-json", "payload": [ 2 ]}', named=False)
    deployment.success(raw)
    deployment.success("from-json")
    project(settings, store)

    async def fetch() -> list[Any]:
        async with Payloads(settings) as payloads:
            first, second = status_of(store, raw.id), status_of(store, "from-json")
            [place] = store.records([first])
            assert place is not None
            events = await asyncio.gather(payloads.event(first), payloads.event(second))
            assert await payloads.event(replace(first, request_id="other")) is None
            assert await payloads.event(replace(first, offset=None)) is None
            assert await payloads.event(replace(first, offset=10_000)) is None
            assert await payloads.record("other", place) is None
            assert await payloads.record(raw.id, replace(place, offset=10_000)) is None
            return [*events, await payloads.record(raw.id, place)]

    event, from_json, record = asyncio.run(fetch())

    assert (event, from_json) == (b'{ "n" : 1 }', b"[ 2 ]")
    assert envelope.id != "from-json"
    schema, datum = record
    assert schema == "AwsInvocationRecord"
    assert b'"requestPayload":{ "n" : 1 }' in PROVIDERS["aws"].document(datum)


async def write_with_broken_header(settings: Settings, request_id: str) -> None:
    """An invocation with the header of another program, whose name is no UTF-8."""
    made = broken_header(Random(1), request_id)
    named = (made.headers[0], ("function", b"echo"), ("request-id", request_id.encode()))
    batch = with_broken_header(made._replace(value=b"[ 3 ]", headers=named), int(time.time() * 1000))
    topic = settings.topics.invocations
    client = AIOKafkaClient(**settings.kafka())
    await client.bootstrap()
    try:
        await client.set_topics({topic})
        leader = client.cluster.leader_for_partition(TopicPartition(topic, 0))
        answer = await client.send(leader, wire.Produce(None, -1, 15_000, [(topic, [(0, batch, {})], {})]))
    finally:
        await client.close()
    assert [entry[1] for _, entries, _ in answer.responses for entry in entries] == [0]


def test_a_header_that_nobody_can_read_is_in_nobodys_way(deployment: Deployment, settings: Settings, store: ReadModel):
    request_id = new_id("broken")
    asyncio.run(write_with_broken_header(settings, request_id))
    deployment.success(request_id)
    project(settings, store)

    async def fetch() -> bytes | None:
        async with Payloads(settings) as payloads:
            return await payloads.event(status_of(store, request_id))

    assert asyncio.run(fetch()) == b"[ 3 ]"


def test_the_places_are_those_of_kafka(deployment: Deployment, settings: Settings, store: ReadModel):
    sent = deployment.send("work", b"fail")
    record = deployment.failure(sent, "fc")
    project(settings, store)

    status = status_of(store, sent.id)

    assert (status.provider, status.function, status.qualifier) == ("fc", "work", "LATEST")
    assert (status.status, status.ending, status.attempts) == ("failed", "retries_exhausted", 2)
    assert (status.partition, status.offset) == (sent.partition, sent.offset)
    assert store.records([status]) == [RecordPlace(f"{settings.prefix}fc.failure", record.partition, record.offset)]
    assert len(store.events(status)) == len(deployment.facts(sent))


def test_show_takes_what_the_read_model_has_and_reads_on_from_there(
    deployment: Deployment, settings: Settings, store: ReadModel
):
    sent = deployment.send("work", b"fail")
    deployment.failure(sent, "fc")
    without = show(settings, sent.id)
    project(settings, store)
    later = deployment.send("echo", b"{}")
    deployment.success(later)

    known, unknown = show(settings, sent.id), show(settings, later.id)

    assert known.exit_code == unknown.exit_code == without.exit_code == 0
    assert "Found in the read model" in known.stderr
    assert "read model" not in unknown.stderr + without.stderr
    assert known.stdout == without.stdout
    assert "failed (retries_exhausted)" in known.stdout
    assert "succeeded at attempt 1" in unknown.stdout


def test_a_broker_that_does_not_answer_is_named(settings: Settings):
    async def enter() -> None:
        async with Payloads(replace(settings, broker="127.0.0.1:1")):
            pass

    with pytest.raises(BrokerError, match=r"no Kafka broker answers at 127\.0\.0\.1:1"):
        asyncio.run(enter())
