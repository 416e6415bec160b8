"""The read model on a real broker: nothing twice and nothing missing, whatever is killed."""

import asyncio
import contextlib
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from console.samples import exhausted, failed_once, succeeded

from kafka.projecting import WITHIN_S, running, until
from streams.cluster import Cluster
from streams.codec.avro import Codec, load_schemas
from streams.codec.facts import facts_encoder
from streams.console.projector import Projector
from streams.console.store import InvocationStatus, Move, Query, ReadModel
from streams.core.facts import Fact, Succeeded
from streams.local.broker import Broker
from streams.local.process import ChildProcess
from streams.settings import Settings

pytestmark = pytest.mark.kafka

PARTITIONS = 4
NOW_MS = int(time.time() * 1000)  # what is older than a week is forgotten
ARN = "arn:aws:lambda:us-east-1:123456789012:function:resize:$LATEST"
CODEC = Codec(load_schemas())
ENCODE = facts_encoder(CODEC.prefix("Facts"))


class Log:
    """Topics with a prefix of their own, and what a worker would write to them."""

    def __init__(self, broker: str, folder: Path) -> None:
        self.settings = Settings(
            broker=broker,
            prefix=f"{uuid.uuid4().hex[:8]}.",
            partitions=PARTITIONS,
            read_model=str(folder / "read-model.db"),
        )
        self.store = ReadModel(self.settings.read_model_url())
        self.written: dict[str, list[Fact]] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._producer = Producer({"bootstrap.servers": broker, "transactional.id": self.settings.prefix})

    def close(self) -> None:
        self.store.close()

    def begin(self) -> None:
        self._producer.init_transactions(10)

    def write(self, lives: dict[str, list[tuple[Fact, ...]]], *, commit: bool = True) -> None:
        """What a worker writes about each request, the requests in turn; all in one Kafka transaction."""
        self._producer.begin_transaction()
        for step in range(max(map(len, lives.values()))):
            for request_id, life in lives.items():
                if step < len(life):
                    value = ENCODE(request_id, ARN, "aws", None, 0 if step == 0 else None, life[step])
                    self._produce("facts", request_id, value, commit)
                if step == len(life) - 1:
                    succeeded = isinstance(life[-1][-1], Succeeded)
                    self._produce("aws.success" if succeeded else "aws.failure", request_id, b"{}", commit)
        if commit:
            self._producer.commit_transaction(30)
            self.written |= {
                request_id: [fact for facts in life for fact in facts] for request_id, life in lives.items()
            }
        else:
            self._producer.flush(30)  # an abort throws away what is not sent yet, and librdkafka may trip over that
            self._producer.abort_transaction(30)

    def _produce(self, topic: str, request_id: str, value: bytes, commit: bool) -> None:
        def delivered(_error: object, message: Any) -> None:
            if commit:
                self._ends[message.topic(), message.partition()] = message.offset() + 1

        name, partition = self.settings.topics.name(topic), sum(request_id.encode()) % PARTITIONS
        self._producer.produce(name, value, request_id, partition=partition, on_delivery=delivered)
        self._producer.poll(0)

    def judge(self) -> None:
        """The read model has every request once, with all that happened to it, and nothing else."""
        statuses: list[InvocationStatus] = []
        query = Query(limit=1000)
        while (page := self.store.list(query)).token is not None:
            statuses += page.items
            query = replace(query, token=page.token)
        statuses += page.items
        assert sorted(status.request_id for status in statuses) == sorted(self.written)
        assert {status.status for status in statuses} <= {"succeeded", "failed"}
        assert None not in self.store.records(statuses)
        for status in statuses[:: max(1, len(statuses) // 500)]:
            assert self.store.events(status) == self.written[status.request_id]

    @property
    def is_complete(self) -> bool:
        """Whether all that was committed has been read."""
        if not self.store.exists():
            return False
        positions = self.store.positions()
        return all(positions.get(where, 0) >= end for where, end in self._ends.items())


def lives(count: int, word: str = "r") -> dict[str, list[tuple[Fact, ...]]]:
    """*count* requests, every third of which fails in two transactions."""
    return {
        f"{word}{number}": [failed_once(NOW_MS + number), exhausted(NOW_MS + number)]
        if number % 3 == 0
        else [succeeded(NOW_MS + number)]
        for number in range(count)
    }


@pytest.fixture
def log(broker: Any, tmp_path: Path) -> Iterator[Log]:
    with contextlib.closing(Log(broker.bootstrap, tmp_path)) as log:
        asyncio.run(create(log.settings))
        log.begin()
        yield log
    asyncio.run(remove(log.settings))


async def create(settings: Settings) -> None:
    async with Cluster(settings) as cluster:
        await cluster.create(settings.topics)


async def remove(settings: Settings) -> None:
    async with Cluster(settings) as cluster:
        await cluster.delete(settings.topics.all)


def test_what_is_committed_is_projected_and_what_is_aborted_is_not(log: Log):
    log.write(lives(50))
    log.write(lives(20, "aborted"), commit=False)
    projector = Projector(log.settings, log.store)

    with running(projector):
        until(lambda: log.is_complete)
        log.write(lives(10, "later"))
        until(lambda: log.is_complete)
        until(lambda: projector.lag == 0)

    log.judge()


def test_two_projectors_on_one_database_do_the_work_once(log: Log):
    first, second = ReadModel(log.settings.read_model_url()), ReadModel(log.settings.read_model_url())

    with running(Projector(log.settings, first), Projector(log.settings, second)):
        for number in range(10):
            log.write(lives(200, f"{number}-"))
        until(lambda: log.is_complete)

    first.close()
    second.close()
    log.judge()


def test_a_rebuild_while_it_runs_ends_in_the_same_read_model(log: Log):
    log.write(lives(300))

    with running(Projector(log.settings, log.store)):
        until(lambda: log.is_complete)
        log.store.rebuild()
        log.write(lives(5, "later"))
        until(lambda: log.is_complete)

    log.judge()


def test_facts_that_cannot_be_read_are_left_out_and_stop_nothing(log: Log, caplog: pytest.LogCaptureFixture):
    producer = Producer({"bootstrap.servers": log.settings.broker})
    secrets = [b"", b"secret", CODEC.prefix("Facts") + b"\x06abc", CODEC.prefix("Invocation") + b"secret"]
    for value in secrets:
        producer.produce(log.settings.topics.facts, value, "key", partition=0)
        producer.produce(log.settings.topics.name("aws.failure"), value, b"\xff", partition=0)
    assert producer.flush(10) == 0
    log.write(lives(8))

    with running(Projector(log.settings, log.store)):
        until(lambda: log.is_complete)

    log.judge()
    left_out = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(left_out) == len(secrets)
    assert not any("secret" in message for message in left_out)


def test_a_database_that_is_away_is_waited_for(log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    log.write(lives(20))
    file = Path(log.settings.read_model_url())
    file.write_bytes(b"this is no database, until somebody puts that right" * 100)

    with running(Projector(log.settings, log.store)):
        until(lambda: "the read model waits" in caplog.text)
        file.unlink()
        until(lambda: log.is_complete)

    log.judge()


def test_a_read_model_of_another_cluster_is_left_alone_if_somebody_named_it(log: Log, caplog: pytest.LogCaptureFixture):
    log.store.prepare()
    log.store.claim("another cluster")
    log.write(lives(1))

    with running(Projector(log.settings, log.store)):
        until(lambda: "was made from another cluster" in caplog.text)

    assert log.store.positions() == {}


def test_a_read_model_of_another_cluster_in_the_usual_place_is_made_anew(log: Log, tmp_path: Path):
    settings = replace(log.settings, read_model=None, state=tmp_path / "state")
    with contextlib.closing(ReadModel(settings.read_model_url())) as store:
        store.prepare()
        store.claim("another cluster")
        store.write([Move(settings.topics.facts, 0, 0, 1_000_000)], [], [])
        log.write(lives(10))

        with running(Projector(settings, store)):
            until(lambda: len(store.list(Query(limit=100)).items) == 10)


def test_a_broker_that_is_away_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with Broker(ephemeral=True) as own, contextlib.closing(Log(own.bootstrap, tmp_path)) as log:
        asyncio.run(create(log.settings))
        log.begin()
        log.write(lives(20))

        with running(Projector(log.settings, log.store)):
            until(lambda: log.is_complete)
            own.kill()
            until(lambda: "the read model waits" in caplog.text)
            own.start()
            log.write(lives(20, "later"))
            until(lambda: log.is_complete)

        log.judge()


@pytest.fixture
def start(log: Log, tmp_path: Path) -> Iterator[Callable[[], ChildProcess]]:
    """Start `streams console`."""
    started: list[ChildProcess] = []

    def start() -> ChildProcess:
        options = ["--broker", log.settings.broker, "--prefix", log.settings.prefix]
        command = [sys.executable, "-m", "streams", *options, "console", "--read-model", log.settings.read_model_url()]
        started.append(ChildProcess(command, folder=tmp_path, log=tmp_path / "console.log"))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def test_a_projector_that_is_killed_in_the_middle_counts_nothing_twice_and_misses_nothing(
    log: Log, tmp_path: Path, start: Callable[[], ChildProcess]
):
    for number in range(10):
        log.write(lives(1_500, f"{number}-"))
    log.store.prepare()
    killed_at = [0]
    for _ in range(3):
        console = start()
        until(lambda: sum(log.store.positions().values()) > killed_at[-1] or log.is_complete)
        console.kill()
        killed_at.append(sum(log.store.positions().values()))

    assert killed_at[1] < 35_000, "all was read before the first kill: write more"
    last = start()
    until(lambda: log.is_complete)
    last.stop(WITHIN_S)

    assert last.exit_code == 0, (tmp_path / "console.log").read_text()
    log.judge()
