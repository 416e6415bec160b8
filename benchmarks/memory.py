"""What one worker takes: idle, with a backlog, with parked retries, and to read its state back.

Each function makes topics of its own on *broker*, runs one real worker process on them, and returns plain figures.
`parked` and `recovery` write the topics as an earlier worker would have left them: a million real attempts first would
measure something else. By hand: ``python -m benchmarks.memory parked 1000000``.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as ReadPartition

from streams.cluster import Cluster
from streams.codec.avro import Codec, load_schemas
from streams.codec.envelope import Invocation
from streams.codec.facts import read_facts
from streams.codec.retry import Origin, retry_headers
from streams.codec.state import pack
from streams.core.facts import AttemptStarted
from streams.core.lifecycle import State
from streams.engine.recovery import StateReader
from streams.engine.requests import Requests
from streams.local.broker import Broker
from streams.local.process import ChildProcess
from streams.providers import PROVIDERS
from streams.settings import Settings

PARTITIONS = 8
EVENT = b'{"text": "' + b"x" * 188 + b'"}'
FUNCTIONS = """
[[function]]
name = "quick"
provider = "aws"
target = "bench_functions:quick"

[[function]]
name = "echo"
provider = "aws"
target = "bench_functions:echo"

[[function]]
name = "fail"
provider = "aws"
target = "bench_functions:fail"
"""
TARGETS = """
async def quick(event, context):
    return {"ok": True}

async def echo(event, context):
    return event

async def fail(event, context):
    raise ValueError("no luck")
"""
RUN_WORKER = (
    "import os; from streams.engine.worker import run_worker; from streams.settings import Settings; "
    "run_worker(Settings.from_env(os.environ))"
)
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Worker:
    """A worker process, seen from outside."""

    def __init__(self, settings: Settings, folder: Path, more: Mapping[str, str]) -> None:
        env = shutil.which("env")
        assert env is not None
        self.log = folder / f"worker-{uuid.uuid4().hex[:6]}.log"
        given = {
            "STREAMS_BROKER": settings.broker,
            "STREAMS_PREFIX": settings.prefix,
            "STREAMS_CONFIG": str(folder / "streams.toml"),
            "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
            **more,
        }
        pairs = [f"{name}={value}" for name, value in given.items()]
        self.started = time.monotonic()
        self._process = ChildProcess([env, *pairs, sys.executable, "-c", RUN_WORKER], folder=folder, log=self.log)

    def text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def ready(self) -> float:
        """Wait until it has its partitions; seconds since its start."""
        until(lambda: "Worker ready" in self.text(), lambda: self._process.exit_code is None)
        return time.monotonic() - self.started

    def acquisition(self) -> str:
        """What it said about taking its partitions over."""
        return next(line for line in self.text().splitlines() if "state records read" in line)

    def rss_mb(self, peak: bool = False) -> float:
        """Resident memory, MB; *peak*: the most since the last `forget_peak`."""
        name = "VmHWM:" if peak else "VmRSS:"
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def cpu_s(self) -> float:
        """Processor seconds so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S

    def close(self) -> None:
        self._process.stop(20)


class Bench:
    """Topics and functions of one measurement."""

    def __init__(self, broker: str, folder: Path) -> None:
        self.prefix = f"m{uuid.uuid4().hex[:8]}."
        self.settings = Settings(broker=broker, prefix=self.prefix, partitions=PARTITIONS)
        self.topics = self.settings.topics
        self.folder = folder
        self.workers: list[Worker] = []
        (folder / "streams.toml").write_text(FUNCTIONS)
        (folder / "bench_functions.py").write_text(TARGETS)

    def worker(self, **more: str) -> Worker:
        self.workers.append(Worker(self.settings, self.folder, more))
        return self.workers[-1]

    def producer(self) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self.settings.broker,
                "linger.ms": 20,
                "batch.size": 400_000,
                "queue.buffering.max.messages": 200_000,
                "queue.buffering.max.kbytes": 200_000,
            }
        )

    def consumer(self, topic: str) -> Consumer:
        consumer = Consumer(
            {
                "bootstrap.servers": self.settings.broker,
                "group.id": f"{self.prefix}eyes",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "queued.max.messages.kbytes": 20_000,
            }
        )
        consumer.assign([ReadPartition(topic, number, 0) for number in range(PARTITIONS)])
        return consumer


@contextmanager
def bench(broker: str) -> Iterator[Bench]:
    """Topics that are deleted afterwards, and workers that end with the block."""
    with tempfile.TemporaryDirectory() as folder:
        made = Bench(broker, Path(folder))

        async def admin(create: bool) -> None:
            async with Cluster(made.settings) as cluster:
                await (cluster.create(made.topics) if create else cluster.delete(made.topics.all))

        asyncio.run(admin(True))
        try:
            yield made
        finally:
            for worker in made.workers:
                worker.close()
            asyncio.run(admin(False))


def until(condition: Callable[[], Any], alive: Callable[[], bool] = lambda: True, within_s: float = 900.0) -> None:
    """Look every 20 ms."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end or not alive():
            raise RuntimeError("the worker ended" if not alive() else f"not within {within_s:.0f} s")
        time.sleep(0.02)


def produce(producer: Producer, *args: Any, **more: Any) -> None:
    """Send; wait while librdkafka's queue is full."""
    while True:
        try:
            producer.produce(*args, **more)
            return
        except BufferError:
            producer.poll(0.1)


# -- what is measured ------------------------------------------------------------------------------------------------


def idle(broker: str, seconds: float = 30.0) -> dict[str, float]:
    """An idle worker: memory, part of a core, and seconds from its start to the end of an invocation that waited."""
    with bench(broker) as made:
        producer, consumer = made.producer(), made.consumer(made.topics.name("aws.success"))
        made.worker().ready()
        made.workers[-1].close()  # warm: compiled files, topics known to the broker
        producer.produce(made.topics.invocations, EVENT, headers={"function": b"quick"})
        producer.flush()
        worker = made.worker()
        until(lambda: consumer.consume(1, 0.01))
        first_s, first_cpu_s = time.monotonic() - worker.started, worker.cpu_s()
        consumer.close()
        time.sleep(5)
        before = worker.cpu_s()
        time.sleep(seconds)
        cpu = (worker.cpu_s() - before) / seconds
        return {
            "rss_mb": worker.rss_mb(),
            "cpu_percent": 100 * cpu,
            "first_invocation_s": first_s,
            "first_invocation_cpu_s": first_cpu_s,
        }


def _state(accepted_ms: int, due_ms: int) -> State:
    return State("waiting", 2, 1, 1, 0, accepted_ms, due_ms)


def parked(broker: str, count: int = 1_000_000, due_per_s: int = 500, seconds: float = 60.0) -> dict[str, float]:
    """*count* retries wait in a tier; *due_per_s* of them fall due while the rest goes on waiting.

    Lateness is from the due time to the moment at which the attempt started, as the facts have it.
    """
    with bench(broker) as made:
        worker = made.worker()
        worker.ready()
        time.sleep(5)
        idle_mb = worker.rss_mb()
        worker.close()
        first_due_ms = int(time.time() * 1000) + 40_000 + count // 10
        _park(made, count, first_due_ms, due_per_s)
        ready_before_s = first_due_ms / 1000 - time.time()
        worker = made.worker()
        worker.ready()
        ready_mb, peak_mb = worker.rss_mb(), worker.rss_mb(peak=True)
        print(f"loaded {ready_before_s:.0f} s before the first is due; {worker.acquisition()}", file=sys.stderr)
        assert time.time() < first_due_ms / 1000, "too slow: retries fell due before the worker was ready"
        time.sleep(first_due_ms / 1000 - time.time())
        waiting_mb = worker.rss_mb()
        before = worker.cpu_s()
        noise_ms = _noise_ms(seconds)
        cpu = (worker.cpu_s() - before) / seconds
        end_mb, peak_end_mb = worker.rss_mb(), worker.rss_mb(peak=True)
        late = sorted(_lateness_ms(made, first_due_ms, due_per_s, int(seconds * due_per_s) - due_per_s))
        return {
            "idle_mb": idle_mb,
            "ready_mb": ready_mb,
            "recovery_peak_mb": peak_mb,
            "waiting_mb": waiting_mb,
            "end_mb": end_mb,
            "peak_mb": peak_end_mb,
            "started": len(late),
            "late_p50_ms": late[len(late) // 2],
            "late_p99_ms": late[len(late) * 99 // 100],
            "late_max_ms": late[-1],
            "noise_p99_ms": noise_ms[len(noise_ms) * 99 // 100],
            "cpu_percent": 100 * cpu,
        }


def _park(made: Bench, count: int, first_due_ms: int, due_per_s: int) -> None:
    provider, topics, producer = PROVIDERS["aws"], made.topics, made.producer()
    arn = provider.resource("quick", provider.latest)
    tier, accepted_ms, head = topics.name("retry.300s"), int(time.time() * 1000), uuid.uuid4().int >> 32 << 32
    for index in range(count):
        due_ms = first_due_ms + index * 1000 // due_per_s
        request_id = str(uuid.UUID(int=head + index))
        state, key, number = _state(accepted_ms, due_ms), request_id.encode(), index % PARTITIONS
        invocation = Invocation(request_id, "quick", None, EVENT, accepted_ms, due_ms, 1, None)
        origin = Origin(topics.invocations, number, index, accepted_ms, key, (("function", b"quick"),))
        headers = retry_headers(invocation, state, arn, provider.latest, due_ms, origin)
        produce(producer, topics.changelog, pack(state), key, number)
        produce(producer, tier, EVENT, key, number, headers=headers)
    assert producer.flush(120) == 0


def _noise_ms(seconds: float) -> list[float]:
    """How late a process that only sleeps wakes up meanwhile: what the machine adds to every lateness."""
    late, end = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        time.sleep(0.005)
        late.append(1000 * (time.perf_counter() - began) - 5)
    return sorted(late)


def _lateness_ms(made: Bench, first_due_ms: int, due_per_s: int, wanted: int) -> list[int]:
    codec, consumer, late = Codec(load_schemas()), made.consumer(made.topics.facts), []
    quiet = 0
    while len(late) < wanted and quiet < 20:
        messages = consumer.consume(2000, 0.5)
        quiet = 0 if messages else quiet + 1
        for message in messages:
            if message.error() is None:
                record = read_facts(codec.decode(message.value())[1])
                index = uuid.UUID(record.request_id).int & 0xFFFF_FFFF
                due_ms = first_due_ms + index * 1000 // due_per_s
                late += [fact.at_ms - due_ms for fact in record.facts if isinstance(fact, AttemptStarted)]
    consumer.close()
    return late


def recovery(broker: str, count: int = 1_000_000, repeats: int = 3) -> dict[str, float]:
    """Reading *count* state entries back: by the wall and by the processor; and a whole worker's take-over."""
    with bench(broker) as made:
        producer = made.producer()
        now_ms = int(time.time() * 1000)
        packed = pack(_state(now_ms, now_ms + 86_400_000))
        for index in range(count):
            produce(producer, made.topics.changelog, packed, str(uuid.uuid4()).encode(), index % PARTITIONS)
        assert producer.flush(120) == 0
        walls, cpus = zip(*(asyncio.run(_read(made, count)) for _ in range(repeats)), strict=True)
        worker = made.worker()
        ready_s = worker.ready()
        print(worker.acquisition(), file=sys.stderr)
        return {
            "entries_per_s": count / sorted(walls)[repeats // 2],
            "entries_per_cpu_s": count / sorted(cpus)[repeats // 2],
            "worker_ready_s": ready_s,
            "worker_mb": worker.rss_mb(),
            "worker_peak_mb": worker.rss_mb(peak=True),
        }


async def _read(made: Bench, count: int) -> tuple[float, float]:
    async def nobody_waits(seconds: float) -> None: ...

    wall, cpu = time.perf_counter(), time.process_time()
    async with StateReader(made.settings.kafka(), [made.topics.changelog]) as reader:
        changelogs = [TopicPartition(made.topics.changelog, number) for number in range(PARTITIONS)]
        read, kept = 0, []
        async for _, table, records in reader.tables(changelogs, nobody_waits):
            requests = Requests()
            requests.restore(table, {})
            kept.append(requests)
            read += records
        assert read == count == sum(map(len, kept))
    return time.perf_counter() - wall, time.process_time() - cpu


def backlog(broker: str, count: int = 1_000_000, event_bytes: int = 200, function: str = "quick") -> dict[str, float]:
    """A worker starts on *count* invocations that wait: its memory until all have run, and its speed."""
    with bench(broker) as made:
        producer = made.producer()
        event = b'{"text": "' + b"x" * (event_bytes - 12) + b'"}'
        headers = {"function": function.encode()}
        for index in range(count):
            key = str(uuid.uuid4())
            produce(producer, made.topics.invocations, event, key, index % PARTITIONS, headers={**headers})
        assert producer.flush(300) == 0
        consumer, seen = made.consumer(made.topics.facts), 0
        worker = made.worker()
        ready_s = worker.ready()
        began, before, samples = time.monotonic(), worker.cpu_s(), []
        while seen < count:
            seen += sum(message.error() is None for message in consumer.consume(5000, 0.2))
            samples.append(worker.rss_mb())
        wall = time.monotonic() - began
        consumer.close()
        return {
            "ready_s": ready_s,
            "peak_mb": worker.rss_mb(peak=True),
            "median_mb": sorted(samples)[len(samples) // 2],
            "end_mb": samples[-1],
            "per_s": count / wall,
            "cpu_us": 1e6 * (worker.cpu_s() - before) / count,
        }


def main() -> None:
    what, *numbers = sys.argv[1:]
    measure = {"idle": idle, "parked": parked, "recovery": recovery, "backlog": backlog}[what]
    arguments: list[Any] = [int(text) if text.isdigit() else text for text in numbers]
    given = os.environ.get("STREAMS_BROKER")
    if given:
        figures = measure(given, *arguments)
    else:
        with Broker(ephemeral=True) as broker:
            figures = measure(broker.bootstrap, *arguments)
    print(json.dumps({"measure": what, **{name: round(value, 2) for name, value in figures.items()}}))


if __name__ == "__main__":
    main()
