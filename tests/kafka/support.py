"""What the tests on a real broker share: a deployment of Streams under a topic prefix of its own, and their own eyes.

Nothing here looks at results with the client and the codec that wrote them. Records are produced and read by
librdkafka, and decoded by the reference implementation of Avro (a union of records by fastavro: the reference forgets
their names).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple, Self, TypeVar

import avro.io
import avro.schema
import fastavro
import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from streams.cluster import Cluster
from streams.laws import Execution, History, Terminal
from streams.local.process import ChildProcess
from streams.settings import Settings
from streams.topics import RECORD_TOPICS, Topics

T = TypeVar("T")

WITHIN_S = 30.0
"""How long a condition may take to come true. It is met in a fraction of that, or something is broken."""

SESSION_TIMEOUT_MS = 6_000
"""The shortest that a broker allows by default. A worker hears of a rebalance within a fifth of it."""

LOG_LINES_SHOWN = 80

SCHEMAS = Path(__file__).parents[2] / "schemas"

RUN_WORKER = (
    "import os; from streams.engine.worker import run_worker; from streams.settings import Settings; "
    "run_worker(Settings.from_env(os.environ))"
)

Headers = Iterable[tuple[str, bytes | None]]


# -- reading ---------------------------------------------------------------------------------------------------------


@cache
def schema(name: str) -> Any:
    """A schema of ours, parsed by the reference implementation."""
    return avro.schema.parse((SCHEMAS / f"{name}.avsc").read_text())


@cache
def facts_schema() -> Any:
    """The schema of `Facts`, for fastavro."""
    return fastavro.parse_schema(json.loads((SCHEMAS / "Facts.avsc").read_text()))


def encode(name: str, datum: Mapping[str, Any]) -> bytes:
    """*datum* in single-object encoding, by the reference implementation."""
    buffer = BytesIO(b"\xc3\x01" + schema(name).fingerprint())
    buffer.seek(0, os.SEEK_END)
    avro.io.DatumWriter(schema(name)).write(datum, avro.io.BinaryEncoder(buffer))
    return buffer.getvalue()


def decode(name: str, data: bytes) -> dict[str, Any]:
    """What `encode` made *data* of. A datum of a union of records is ``(name, fields)``."""
    frame = b"\xc3\x01" + schema(name).fingerprint()
    assert data.startswith(frame), f"{data[:10]!r} does not begin like a {name}"
    buffer = BytesIO(data[len(frame) :])
    if name == "Facts":
        facts: Any = fastavro.schemaless_reader(buffer, facts_schema(), return_record_name=True)
        return facts
    datum: dict[str, Any] = avro.io.DatumReader(schema(name)).read(avro.io.BinaryDecoder(buffer))
    assert not buffer.read(1), "bytes are left over"
    return datum


RECORD_SCHEMAS = {
    "aws": "AwsInvocationRecord",
    "fc": "FcInvocationRecord",
    "functiongraph": "FunctionGraphInvocationRecord",
}


class Fact(NamedTuple):
    """A fact as its topic has it."""

    kind: str
    fields: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.fields[name]


@dataclass(frozen=True)
class Seen:
    """A record that a `read_committed` consumer has read."""

    topic: str
    """Without prefix."""
    partition: int
    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes | None], ...]

    @property
    def id(self) -> str:
        """The key of everything we write is a request id."""
        return self.key.decode()

    @property
    def header(self) -> dict[str, str]:
        return {name: (value or b"").decode(errors="replace") for name, value in self.headers}

    @cached_property
    def datum(self) -> dict[str, Any]:
        """The value, decoded."""
        cloud = self.topic.partition(".")[0]
        return decode({"dlq": "DeadLetter", "facts": "Facts"}.get(self.topic) or RECORD_SCHEMAS[cloud], self.value)


class Reader:
    """Reads all that can be seen of some topics, from their beginning, `read_committed`."""

    def __init__(self, broker: str, prefix: str, topics: Collection[str], partitions: int) -> None:
        self._prefix = prefix
        self._seen: dict[str, dict[str, list[Seen]]] = {topic: defaultdict(list) for topic in topics}
        self._consumer = Consumer(
            {
                "bootstrap.servers": broker,
                "group.id": f"{prefix}eyes",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 20,
                "fetch.message.max.bytes": 20 << 20,
            }
        )
        self._consumer.assign(
            [TopicPartition(self._full(topic), number, 0) for topic in topics for number in range(partitions)]
        )

    def close(self) -> None:
        self._consumer.close()

    def read(self) -> None:
        """Take in what has arrived."""
        for message in self._consumer.consume(2000, 0.02):
            if message.error() is None:
                seen = self._seen_of(message)
                self._seen[seen.topic][seen.id].append(seen)
            elif message.error().code() != KafkaError._PARTITION_EOF:
                raise AssertionError(f"reading failed: {message.error()}")

    def at(self, topic: str, request_id: str) -> list[Seen]:
        """What was read of *request_id*."""
        return self._seen[topic].get(request_id, [])

    def ids(self, *topics: str) -> Counter[str]:
        """How many records each id has on *topics*, all of them together."""
        counts: Counter[str] = Counter()
        for topic in topics:
            counts.update({request_id: len(records) for request_id, records in self._seen[topic].items()})
        return counts

    def all(self, topic: str) -> Iterator[Seen]:
        """Everything read of *topic*."""
        return itertools.chain.from_iterable(self._seen[topic].values())

    def _full(self, topic: str) -> str:
        """Destinations are named in full, and have no prefix."""
        return topic if topic.startswith("to.") else self._prefix + topic

    def _seen_of(self, message: Message) -> Seen:
        topic = message.topic().removeprefix(self._prefix)
        headers = tuple(message.headers() or ())
        where = topic, message.partition(), message.offset(), message.timestamp()[1]
        return Seen(*where, message.key() or b"", message.value() or b"", headers)


# -- producing -------------------------------------------------------------------------------------------------------


class Sent(NamedTuple):
    """An input that the broker has acknowledged."""

    id: str
    topic: str
    partition: int
    offset: int
    timestamp: int
    """When the broker had it (epoch ms): its age began then."""
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class Sender:
    """Produces to `invocations`, as a program in another language would: librdkafka is C."""

    def __init__(self, broker: str, topic: str) -> None:
        self.acknowledged: dict[str, Sent] = {}
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": broker,
                "enable.idempotence": True,
                "linger.ms": 0,
                "message.max.bytes": 20 << 20,
                "queue.buffering.max.messages": 100_000,
            }
        )

    def produce(self, request_id: str, value: bytes | None, headers: Headers, partition: int = -1) -> None:
        """Send without waiting; *acknowledged* has it once the broker does. *request_id* is the key, and our name."""
        given, key = tuple(headers), request_id.encode()

        def delivered(error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            where = message.topic(), message.partition(), message.offset(), message.timestamp()[1]
            self.acknowledged[request_id] = Sent(request_id, *where, key, value, given)

        self._producer.produce(self._topic, value, key, partition=partition, headers=list(given), on_delivery=delivered)
        self._producer.poll(0)

    def close(self) -> None:
        self._producer.close()

    def flush(self) -> None:
        """Wait until the broker has everything."""
        assert self._producer.flush(WITHIN_S) == 0, "the broker does not acknowledge"


class Input(NamedTuple):
    """Something to produce to `invocations`."""

    id: str
    """What we call it, and its key."""
    value: bytes
    headers: Headers
    partition: int = -1


def new_id(word: str) -> str:
    """A request id that nobody else has."""
    return f"{word}-{uuid.uuid4().hex[:10]}"


# -- workers ---------------------------------------------------------------------------------------------------------


class Worker:
    """A worker process. It dies with the test process, however that ends."""

    def __init__(self, label: str, command: list[str], environment: Mapping[str, str], folder: Path) -> None:
        self.label = label
        self.is_wanted = True
        """Whether its end would be a surprise."""
        self._log = folder / f"{label}.log"
        env = shutil.which("env")
        assert env is not None
        settings = [f"{name}={value}" for name, value in environment.items()]
        self._process = ChildProcess([env, *settings, *command], folder=folder, log=self._log)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.exit_code

    def log(self) -> str:
        """All that it has printed so far."""
        return self._log.read_text(errors="replace")

    @property
    def is_ready(self) -> bool:
        """Whether it has been ready."""
        return "Worker ready" in self.log()

    def acquisitions(self) -> list[int]:
        """How many partitions it had after each rebalance that it took part in to the end."""
        lines = [line for line in self.log().splitlines() if " partitions (" in line]
        return [int(line.split("generation ")[1].split()[1]) for line in lines]

    def kill(self) -> None:
        """SIGKILL; it is gone on return."""
        self.is_wanted = False
        self._process.kill()

    def terminate(self) -> None:
        """SIGTERM; it ends some time later."""
        self.is_wanted = False
        self._signal(signal.SIGTERM)

    def stop(self) -> None:
        """SIGSTOP: it is frozen, and does not know."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def wait(self) -> int:
        """Wait for its end; gives the exit code."""
        assert self._process.wait(WITHIN_S), f"{self.label} does not end"
        assert self.exit_code is not None
        return self.exit_code

    def close(self) -> None:
        """It is gone on return, whatever state it was in."""
        self.is_wanted = False
        self._process.kill()

    def log_end(self) -> str:
        """The end of its log, without Faust's tables."""
        lines = [line for line in self.log().splitlines() if not line.startswith(("|", "+"))]
        return "\n".join(lines[-LOG_LINES_SHOWN:])

    def _signal(self, number: signal.Signals) -> None:
        if self.exit_code is None:
            os.kill(self._process.pid, number)


class Load:
    """Produces *inputs* one after the other, *per_second*, in a thread of its own; use it as ``with``."""

    def __init__(self, deployment: Deployment, inputs: Iterator[Input], per_second: float) -> None:
        self.ids: list[str] = []
        """Of all that was produced, in order."""
        self._deployment = deployment
        self._inputs = inputs
        self._pause_s = 1 / per_second
        self._stopped = Event()
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._deployment.sender.flush()

    def _run(self) -> None:
        for item in self._inputs:
            self._deployment.sender.produce(*item)
            self.ids.append(item.id)
            if self._stopped.wait(self._pause_s):
                break


def metric(address: str, name: str) -> float:
    """What the worker there says of *name* now; 0 while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as page:
            lines: list[str] = page.read().decode().splitlines()
    except urllib.error.URLError:
        return 0.0
    return next(float(line.split()[1]) for line in lines if line.startswith(f"streams_{name} "))


# -- a deployment ----------------------------------------------------------------------------------------------------


class Deployment:
    """Topics, functions and workers of one test module; use it as ``with``.

    ``{to}`` in *functions* becomes the beginning of a topic name that is this deployment's own: a destination.
    """

    def __init__(
        self,
        broker: str,
        folder: Path,
        functions: str,
        *,
        partitions: int,
        destinations: Collection[str] = (),
        settings: Mapping[str, object] | None = None,
    ) -> None:
        name = uuid.uuid4().hex[:8]
        self.partitions = partitions
        self.folder = folder
        self.prefix = f"{name}."
        self.topics = Topics(self.prefix)
        self.destinations = {word: f"to.{name}.{word}" for word in destinations}
        self.settings = Settings(broker=broker, prefix=self.prefix, partitions=partitions)
        self.workers: list[Worker] = []
        self._given = {"session_timeout_ms": SESSION_TIMEOUT_MS} | dict(settings or {})
        self._file = folder / "streams.toml"
        self._file.write_text(functions.replace("{to}", f"to.{name}"))
        self.executions_folder = folder / "executions"
        self.executions_folder.mkdir()
        self._executions = folder / "executions" / "log"
        self._executions.touch()

    def __enter__(self) -> Self:
        asyncio.run(self._create())
        watched = [*self.topics.records, self.topics.dlq, self.topics.facts]
        names = [topic.removeprefix(self.prefix) for topic in watched]
        self.reader = Reader(self.settings.broker, self.prefix, [*names, *self.destinations.values()], self.partitions)
        self.sender = Sender(self.settings.broker, self.topics.invocations)
        self.commander = Sender(self.settings.broker, self.topics.commands)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.close()
        self.reader.close()
        self.sender.close()
        self.commander.close()
        asyncio.run(self._delete())

    async def _create(self) -> None:
        async with Cluster(self.settings) as cluster:
            await cluster.create(self.topics, self.destinations.values())

    async def _delete(self) -> None:
        async with Cluster(self.settings) as cluster:
            await cluster.delete([*self.topics.all, *self.destinations.values()])

    # -- workers -----------------------------------------------------------------------------------------------------

    def environment(self, **settings: object) -> dict[str, str]:
        """What a worker finds in its environment besides ours."""
        given = {"broker": self.settings.broker, "prefix": self.prefix, "config": self._file}
        given |= self._given | settings
        return {f"STREAMS_{name.upper()}": str(value) for name, value in given.items()} | {
            "EXECUTIONS": str(self.executions_folder),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),  # `handlers`, and what we have
        }

    def start(self, label: str, command: list[str] | None = None, **settings: object) -> Worker:
        """Start a worker; it is not ready yet."""
        environment = self.environment(**settings)
        worker = Worker(label, command or [sys.executable, "-c", RUN_WORKER], environment, self.folder)
        self.workers.append(worker)
        return worker

    def ready(self, *workers: Worker) -> None:
        """Wait until *workers* are ready."""
        for worker in workers:
            self.until(lambda worker=worker: worker.is_ready, f"{worker.label} is ready")

    def share(self, *workers: Worker) -> None:
        """Wait until *workers* are those that own the partitions, every one of them as many."""
        each = self.partitions // len(workers)
        for worker in workers:
            self.until(
                lambda worker=worker: worker.acquisitions()[-1:] == [each], f"{worker.label} owns {each} partitions"
            )

    # -- waiting -----------------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], T], what: str, within_s: float = WITHIN_S) -> T:
        """Read on until *condition* gives something true, and return that."""
        deadline = time.monotonic() + within_s
        while True:
            self.reader.read()
            if value := condition():
                return value
            for worker in self.workers:
                if worker.is_wanted and worker.exit_code is not None:
                    pytest.fail(f"{worker.label} exited with {worker.exit_code} while waiting for this: {what}")
            if time.monotonic() > deadline:
                pytest.fail(f"not within {within_s:.0f} s: {what}")

    # -- invocations -------------------------------------------------------------------------------------------------

    def send(
        self,
        function: str | None,
        event: bytes | None = b"{}",
        headers: Headers = (),
        *,
        request_id: str | None = None,
        partition: int = -1,
        named: bool = True,
    ) -> Sent:
        """Invoke *function*; the broker has it on return. Not *named*: without a header for its request id."""
        request_id = request_id or new_id(function or "input")
        all_headers = [*headers]
        if function is not None:
            all_headers.insert(0, ("function", function.encode()))
        if named:
            all_headers.append(("request-id", request_id.encode()))
        self.sender.produce(request_id, event, all_headers, partition)
        self.sender.flush()
        return self.sender.acknowledged[request_id]

    def cancel(self, *ids: str) -> None:
        """Cancel invocations, knowing nothing but their ids; the broker has the commands on return."""
        for request_id in ids:
            for number in range(self.partitions):
                self.commander.produce(request_id, None, [("command", b"cancel")], number)
        self.commander.flush()

    def success(self, sent: Sent | str, cloud: str = "aws") -> Seen:
        """The success record of an invocation, once it is there."""
        return self._ended(sent, f"{cloud}.success", f"{cloud}.failure")

    def failure(self, sent: Sent | str, cloud: str = "aws") -> Seen:
        """The failure record of an invocation, once it is there."""
        return self._ended(sent, f"{cloud}.failure", f"{cloud}.success")

    def _ended(self, sent: Sent | str, wanted: str, other: str) -> Seen:
        request_id = sent if isinstance(sent, str) else sent.id

        def ended() -> list[Seen]:
            assert not self.reader.at(other, request_id), f"{request_id} is a {other}: {self.facts(request_id)}"
            return self.reader.at(wanted, request_id)

        [record] = self.until(ended, f"a {wanted} record of {request_id}")
        return record

    def dead_letter(self, sent: Sent | str) -> Seen:
        """The dead letter of an id, once it is there."""
        request_id = sent if isinstance(sent, str) else sent.id
        [letter] = self.until(lambda: self.reader.at("dlq", request_id), f"a dead letter of {request_id}")
        return letter

    def delivered(self, word: str, sent: Sent | str) -> Seen:
        """What destination *word* got about an invocation, once it is there."""
        request_id = sent if isinstance(sent, str) else sent.id
        topic = self.destinations[word]
        [record] = self.until(lambda: self.reader.at(topic, request_id), f"a record of {request_id} at {word}")
        return record

    def facts(self, sent: Sent | str) -> list[Fact]:
        """The facts so far."""
        request_id = sent if isinstance(sent, str) else sent.id
        facts = [fact for seen in self.reader.at("facts", request_id) for fact in seen.datum["facts"]]
        return [Fact(name.removeprefix("streams."), fields) for name, fields in facts]

    def gate(self) -> Path:
        """A file that opens `handlers.until_open` once it exists."""
        return self.folder / new_id("gate")

    def ended(self, ids: Collection[str]) -> int:
        """How many of *ids* have a record or a dead letter so far."""
        return len(self.reader.ids(*RECORD_TOPICS, "dlq").keys() & set(ids))

    def all_ended(self, ids: Collection[str], within_s: float = WITHIN_S) -> None:
        """Wait until every one of *ids* has."""
        try:
            self.until(lambda: self.ended(ids) == len(set(ids)), "all of them end", within_s)
        except pytest.fail.Exception as failure:
            missing = sorted(set(ids) - self.reader.ids(*RECORD_TOPICS, "dlq").keys())
            shown = {request_id: [fact.kind for fact in self.facts(request_id)] for request_id in missing[:20]}
            pytest.fail(f"{failure}; {len(missing)} of {len(set(ids))} do not. Some of them, and their facts: {shown}")

    # -- judging -----------------------------------------------------------------------------------------------------

    def executions(self, ids: Collection[str] | None = None) -> list[Execution]:
        """What the functions wrote down, attempts numbered in the order in which they began."""
        executions: list[Execution] = []
        running: dict[tuple[str, str], int] = {}
        attempts: Counter[str] = Counter()
        for line in self._executions.read_text().splitlines():
            what, request_id, process, at = line.split()
            if what == "began":
                attempts[request_id] += 1
                running[request_id, process] = len(executions)
                executions.append(Execution(request_id, attempts[request_id], process, float(at), None))
            else:
                index = running.pop((request_id, process))
                executions[index] = executions[index]._replace(ended_ms=float(at))
        return [execution for execution in executions if ids is None or execution.request_id in ids]

    def history(self, ids: Collection[str], *, ages_s: Mapping[str, float] | None = None, **more: Any) -> History:
        """What was seen of *ids*, for `judge`. *ages_s* are (scaled) age limits, by how the id begins."""
        unreadable = {request_id for request_id in ids if request_id.startswith("poison")}
        acknowledged = self.sender.acknowledged
        return History(
            produced={request_id for request_id in ids if request_id in acknowledged},
            executions=self.executions(ids),
            terminals=list(self._terminals(ids, unreadable)),
            deadlines_ms={
                request_id: acknowledged[request_id].timestamp + 1000 * age_s
                for word, age_s in (ages_s or {}).items()
                for request_id in ids
                if request_id.startswith(word)
            },
            unreadable={request_id: acknowledged[request_id].value or b"" for request_id in unreadable},
            dead_letters={letter.id: letter.datum["value"] for letter in self.reader.all("dlq") if letter.id in ids},
            **more,
        )

    def _terminals(self, ids: Collection[str], unreadable: Collection[str]) -> Iterator[Terminal]:
        for cloud in RECORD_SCHEMAS:
            for record in self.reader.all(f"{cloud}.success"):
                if record.id in ids:
                    yield Terminal(record.id, "success", int(record.header["attempts"]))
            for record in self.reader.all(f"{cloud}.failure"):
                if record.id in ids:
                    yield Terminal(record.id, "failure", int(record.header["attempts"]))
        for letter in self.reader.all("dlq"):
            if letter.id in unreadable:
                yield Terminal(letter.id, "dead letter", 0)
