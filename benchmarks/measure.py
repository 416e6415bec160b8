"""One measurement of one contender: topics of its own, a worker, a load from outside, and eyes on what comes out.

A backlog is written while the worker is frozen (SIGSTOP), after it has done a warm-up and has nothing left to do. So
the load takes none of its time, its processor time is counted exactly from the first request to the last, and
starting, joining a group and warming up are in no figure.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.contenders import Contender, environment
from benchmarks.contenders.place import Place
from benchmarks.eyes import Eyes, KafkaEyes, OffsetEyes, RedisEyes
from benchmarks.load import Order, input_topic
from benchmarks.processes import ROOT, Worker
from benchmarks.redis_server import RedisServer
from benchmarks.statistics import latencies
from benchmarks.workloads import Workload
from streams.cluster import Cluster
from streams.settings import Settings

START_S = 90.0
"""A worker that has done nothing by then does not work."""
STALL_S = 90.0
"""A backlog of which nothing has ended for so long will not end."""
SETTLE_S = 1.0
"""Between warm-up and load: what trails a request (commits, collections) is over."""
WARM_UP = 0.1
"""Part of a backlog, on top of it."""
WARM_UP_MIN = 200
SKIPPED = 0.2
"""The first part of an open loop is not counted."""
RATE_MAX = 25_000.0
"""More, the load cannot do evenly."""


class MeasurementFailed(Exception):
    """A contender did not do its work; the text says what it said."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where measurements are made."""

    broker: str
    seed: int
    redis: RedisServer | None = None
    environment: dict[str, str] = field(default_factory=dict)
    """More for each worker process."""


class Session:
    """A contender, workers, topics of its own; use `session`."""

    def __init__(self, site: Site, contender: Contender, workload: Workload, folder: Path) -> None:
        self.site, self.contender, self.workload, self.folder = site, contender, workload, folder
        self.place = Place(
            broker=site.broker,
            prefix=f"bench-{uuid.uuid4().hex[:8]}.",
            partitions=workload.partitions,
            function=workload.function,
            has_outcome=workload.has_outcome,
            redis_port=site.redis.port if site.redis else 0,
        )
        self.workers: list[Worker] = []
        self.sent = 0
        self.failed = 0
        self.load_s = 0.0
        """How long the last load took to send what it had."""
        self._product = Settings(broker=site.broker, prefix=self.place.prefix, partitions=workload.partitions)
        self.eyes: Eyes

    # -- topics --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        if self.contender.module == "product":
            asyncio.run(self._make_product_topics())
            outputs = tuple(name for name in self._product.topics.records if "aws" in name)
        else:
            self._make_topics()
            outputs = (self.place.output,)
        if not self.workload.has_outcome:
            group = self._product.topics.app_id if self.contender.module == "product" else self.place.group
            topic = input_topic(self.contender, self.place)
            self.eyes = OffsetEyes(self.site.broker, group, topic, self.place.partitions)
        elif self.contender.is_on_redis:
            self.eyes = RedisEyes(self.place.redis_port, self.place.output)
        else:
            self.eyes = KafkaEyes(self.site.broker, outputs, self.place.partitions)

    async def _make_product_topics(self) -> None:
        async with Cluster(self._product) as cluster:
            made = await cluster.create(self._product.topics)
            async with asyncio.timeout(30):
                while not (await cluster.topics()).keys() >= set(made):  # noqa: ASYNC110  # Kafka calls nobody
                    await asyncio.sleep(0.05)

    def _make_topics(self) -> None:
        names = (self.place.input, self.place.output, self.place.facts)
        admin = AdminClient({"bootstrap.servers": self.site.broker, "log_level": 4})
        wanted = [NewTopic(name, self.place.partitions, 1) for name in names]
        for made in admin.create_topics(wanted).values():
            made.result(30)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.eyes.close()
        if self.site.redis and self.contender.is_on_redis:
            self.site.redis.empty()
        admin = AdminClient({"bootstrap.servers": self.site.broker, "log_level": 4})
        ours = [name for name in admin.list_topics(timeout=10).topics if name.startswith(self.place.prefix)]
        if ours:
            for gone in admin.delete_topics(ours).values():
                gone.exception(30)

    # -- workers -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start one more worker."""
        number = len(self.workers)
        self.workers.append(self._new_worker(number))

    def restart(self, number: int = 0) -> None:
        """Start it again under its old name."""
        self.workers[number] = self._new_worker(number)

    def _new_worker(self, number: int) -> Worker:
        given = environment(self.contender, self.place, self.folder) | self.site.environment
        command = self.contender.command(self.place, number)
        return Worker(command, given, self.folder, self.folder / f"worker-{number}.log")

    def cpu_s(self) -> float:
        return sum(worker.cpu_s() for worker in self.workers)

    def core_wait_s(self) -> float:
        return sum(worker.core_wait_s() for worker in self.workers)

    def rss_mb(self) -> float:
        return sum(worker.rss_mb() for worker in self.workers)

    # -- load ----------------------------------------------------------------------------------------------------

    @contextmanager
    def loading(
        self, count: int | None, rate: float | None, acks: Path | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """A load process that produces the next *count* requests; on leaving it is told to stop, and has stopped."""
        order = Order(
            contender=self.contender.name,
            function=self.place.function,
            event_bytes=self.workload.event_bytes,
            seed=self.site.seed,
            first=self.sent,
            count=count,
            rate=rate,
            acks=str(acks) if acks else None,
        )
        given = os.environ | self.place.environment() | {"PYTHONPATH": str(ROOT)}
        with (self.folder / "load.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.load", json.dumps(order)],
                env=given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        try:
            yield process
            said, _ = process.communicate()
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode:
            raise MeasurementFailed(f"the load failed:\n{(self.folder / 'load.log').read_text()[-2000:]}")
        done = json.loads(said.splitlines()[-1])
        self.sent += done["sent"]
        self.failed += done["failed"]
        self.load_s = done["took_s"]

    def load(self, count: int) -> None:
        """Produce *count* requests as fast as possible."""
        with self.loading(count, None):
            pass

    def wait(self, count: int, stall_s: float = STALL_S) -> None:
        """Look on until *count* outcomes were seen in all. Raises `MeasurementFailed` when nothing more comes."""
        moved, before = time.monotonic(), len(self.eyes.seen)
        while len(self.eyes.seen) < count:
            self.eyes.look(0.05)
            if len(self.eyes.seen) > before:
                moved, before = time.monotonic(), len(self.eyes.seen)
            elif any(worker.has_ended for worker in self.workers):
                raise MeasurementFailed(f"a worker ended by itself:\n{self.said()}")
            elif time.monotonic() - moved > stall_s:
                raise MeasurementFailed(f"{count - before} of {count} outcomes are missing:\n{self.said()}")

    def said(self) -> str:
        return "\n".join(worker.log_end() for worker in self.workers)

    def warm_up(self, count: int) -> None:
        """Start the workers on *count* requests, and wait until all is done and quiet."""
        self.load(count)
        for _ in range(self.workload.workers):
            self.start()
        self.wait(self.sent, START_S)
        if self.workload.workers > 1:
            self._wait_for_all()
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end:
            self.eyes.look(0.1)

    def _wait_for_all(self) -> None:
        """Until every worker owns its share (only ours is run by several)."""
        share = f" {self.place.partitions // self.workload.workers} partitions ("
        end = time.monotonic() + START_S
        while not all(share in worker.log.read_text(errors="replace") for worker in self.workers):
            if time.monotonic() > end:
                raise MeasurementFailed(f"the workers do not share the partitions:\n{self.said()}")
            self.eyes.look(0.1)


@contextmanager
def session(site: Site, contender: Contender, workload: Workload) -> Iterator[Session]:
    """Topics that are deleted afterwards, and workers that are gone then."""
    with tempfile.TemporaryDirectory(prefix="streams-benchmark-") as folder:
        opened = Session(site, contender, workload, Path(folder))
        opened.open()
        try:
            yield opened
        finally:
            opened.close()


def backlog_of(contender: Contender, workload: Workload, quick: bool) -> int:
    """How many requests *contender* gets."""
    base = workload.requests_quick if quick else workload.requests
    own = contender.requests.get(workload.name)
    if own is not None:
        return own // 2 if quick else own
    if workload.per_second_max is not None:
        return round(base * min(1.0, contender.pace * 4))
    return max(500, round(base * contender.pace))


def backlog(site: Site, contender: Contender, workload: Workload, requests: int) -> dict[str, float]:
    """Throughput, and processor time for each request."""
    with session(site, contender, workload) as opened:
        opened.warm_up(max(WARM_UP_MIN, round(requests * WARM_UP)))
        for worker in opened.workers:
            worker.freeze()
        cpu_s = opened.cpu_s()
        opened.load(requests)
        began, core_wait_s = time.monotonic(), opened.core_wait_s()
        for worker in opened.workers:
            worker.thaw()
        opened.wait(opened.sent)
        wall_s, cpu_s = max(opened.eyes.seen.values()) - began, opened.cpu_s() - cpu_s
        return {
            "requests": requests,
            "per_s": requests / wall_s,
            "cpu_us": 1e6 * cpu_s / requests,
            "cpu_percent": 100 * cpu_s / wall_s,
            "core_wait_percent": 100 * (opened.core_wait_s() - core_wait_s) / (wall_s * workload.workers),
            "wall_s": wall_s,
            "rss_mb": opened.rss_mb(),
            "duplicates": opened.eyes.duplicates,
        }


def latency(
    site: Site, contender: Contender, workload: Workload, rate: float, seconds: float
) -> tuple[dict[str, float], tuple[float, ...]]:
    """Latencies of an open loop: from the carrier's acknowledgement until the outcome is seen."""
    rate = min(rate, RATE_MAX)
    count = round(rate * seconds)
    with session(site, contender, workload) as opened:
        opened.warm_up(WARM_UP_MIN)
        first, acks = opened.sent, opened.folder / "acks"
        skipped = int(count * SKIPPED)
        with opened.loading(count, rate, acks):
            opened.wait(first + skipped)
            began, cpu_s, core_wait_s = time.monotonic(), opened.cpu_s(), opened.core_wait_s()
            opened.wait(first + count)
            wall_s, cpu_s = time.monotonic() - began, opened.cpu_s() - cpu_s
            core_wait_s = opened.core_wait_s() - core_wait_s
        times = array("d", acks.read_bytes())
        taken = tuple(opened.eyes.seen[first + index] - times[index] for index in range(skipped, count))
        figures = latencies(taken) | {
            "requests": count,
            "per_s": count / opened.load_s,  # it may fall behind its rate
            "cpu_percent": 100 * cpu_s / wall_s,
            "core_wait_percent": 100 * core_wait_s / wall_s,
            "wall_s": wall_s,
            "cpu_us": 1e6 * cpu_s / (count - skipped),
            "rss_mb": opened.rss_mb(),
            "duplicates": opened.eyes.duplicates,
        }
        return figures, taken


def recovery(site: Site, workload: Workload, entries: int) -> dict[str, float]:
    """State entries read back a second."""
    from benchmarks import memory

    found = memory.recovery(site.broker, entries, 1)
    return {"requests": entries, "per_s": found["entries_per_s"], "rss_mb": found["worker_mb"]}


def parked(site: Site, workload: Workload, count: int, quick: bool) -> dict[str, float]:
    """Memory that *count* parked retries take, and how late those are that fall due."""
    from benchmarks import memory

    found = memory.parked(site.broker, count, seconds=10.0 if quick else 60.0)
    return {
        "requests": count,
        "rss_mb": found["waiting_mb"],
        "rss_growth_mb": max(found["waiting_mb"], found["end_mb"]) - found["idle_mb"],
        "late_p50_ms": found["late_p50_ms"],
        "late_p99_ms": found["late_p99_ms"],
        "cpu_percent": found["cpu_percent"],
    }


def idle(site: Site, seconds: float) -> dict[str, float]:
    """What an idle worker takes, and how soon a new one has run its first invocation."""
    from benchmarks import memory

    found = memory.idle(site.broker, seconds)
    return {name: found[name] for name in ("rss_mb", "cpu_percent", "first_invocation_s")}


def measure(
    site: Site, contender: Contender, workload: Workload, *, quick: bool, scale: float, half_rate: Callable[[], float]
) -> tuple[dict[str, float], tuple[float, ...]]:
    """Measure once; *scale* multiplies how much is done. Raises `MeasurementFailed`."""
    requests = max(1, round(backlog_of(contender, workload, quick) * scale))
    seconds = (workload.seconds_quick if quick else workload.seconds) * scale
    match workload.kind:
        case "backlog":
            return backlog(site, contender, workload, requests), ()
        case "latency":
            rate = workload.rate if workload.rate is not None else half_rate()
            return latency(site, contender, workload, rate, seconds)
        case "recovery":
            return recovery(site, workload, requests), ()
        case "parked":
            return parked(site, workload, requests, quick), ()
        case "idle":
            return idle(site, seconds), ()
