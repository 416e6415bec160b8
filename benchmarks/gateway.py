"""How fast a gateway accepts, how long that takes, what becomes of what it accepted, and how soon a change is used.

In one run on one machine: a bare aiohttp application under the same load says what could be had at most. The worker
starts only when all is accepted: nobody is to take time from the gateway.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import uvloop
from aiohttp import ClientSession
from aiokafka import TopicPartition

from benchmarks.http_load import Answers, flood, steady
from benchmarks.measure import MeasurementFailed
from benchmarks.memory import PARTITIONS, Bench, bench
from benchmarks.processes import Worker
from benchmarks.statistics import percentile
from benchmarks.tables import columns, number
from streams.commands.reading import Reader
from streams.local.broker import free_port

EVENT = b'{"bucket": "uploads", "key": "' + b"x" * 168 + b'"}'
STEADY_PER_S = 500.0
PER_S_MIN, PART_OF_CEILING_MIN = 5_000.0, 0.6
P99_MAX_MS = 20.0
CHANGED_MAX_S = 1.0
CHANGES = 5
READY_S = 60.0
ENDED_S = 120.0
_INVOKE = "/2015-03-31/functions/{}/invocations"


class Figures(NamedTuple):
    """One measurement."""

    ceiling: Answers
    """A bare aiohttp application."""
    flooded: Answers
    steady: Answers
    cpu_us: float
    """Of the gateway, for each request of the flood."""
    lost: int
    """Accepted, and without a record."""
    repeated: int
    """Accepted, and with more than one."""
    changed_s: list[float]
    """From the answer to a change until another gateway shows it, and a worker follows it: the longer of both."""


def measure_gateway(broker: str, seconds: float) -> Figures:
    """Measure. Raises `MeasurementFailed`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="streams-benchmark-")))
        made = stack.enter_context(bench(broker))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_measure(made, folder, seconds, stack))


async def _measure(made: Bench, folder: Path, seconds: float, stack: ExitStack) -> Figures:
    def start(name: str, *arguments: str) -> Worker:
        environment = {
            "STREAMS_BROKER": made.settings.broker,
            "STREAMS_PREFIX": made.prefix,
            "STREAMS_CONFIG": str(made.folder / "streams.toml"),
            "STREAMS_STATE": str(folder / "state"),
        }
        process = Worker([sys.executable, "-m", *arguments], environment, folder, folder / f"{name}.log")
        stack.callback(process.kill)
        return process

    bare, port = free_port(), free_port()
    start("bare", "benchmarks.bare_aiohttp", str(bare))
    gateway = start("gateway", "streams", "gateway", "--listen", f"127.0.0.1:{port}", "--no-console")
    for each in (bare, port):
        await _until(lambda each=each: _answers(each), READY_S, "a server does not answer")  # type: ignore[misc]
    ask = _request(port, "quick")
    await flood(port, ask, seconds / 4)  # both warm up
    await flood(bare, ask, seconds / 4)
    ceiling = await flood(bare, ask, seconds)
    before_s = gateway.cpu_s()
    flooded = await flood(port, ask, seconds)
    cpu_us = 1e6 * (gateway.cpu_s() - before_s) / max(1, len(flooded.latencies_s))
    calm = await steady(port, [ask] * int(STEADY_PER_S * seconds), STEADY_PER_S)
    made.worker().ready()
    counts = await _records(made, {*flooded.accepted, *calm.accepted})
    other = free_port()
    start("other", "streams", "gateway", "--listen", f"127.0.0.1:{other}", "--no-console")
    await _until(lambda: _answers(other), READY_S, "a gateway does not answer")
    changed_s = [await _change(made, port, other) for _ in range(CHANGES)]
    return Figures(
        ceiling,
        flooded,
        calm,
        cpu_us,
        lost=sum(not count for count in counts.values()),
        repeated=sum(count > 1 for count in counts.values()),
        changed_s=changed_s,
    )


def _request(port: int, function: str) -> bytes:
    head = (
        f"POST {_INVOKE.format(function)} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Amz-Invocation-Type: Event\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(EVENT)}\r\n\r\n"
    )
    return head.encode() + EVENT


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _until(condition: Callable[[], Awaitable[bool]], within_s: float, fault: str) -> None:
    end = time.monotonic() + within_s
    while not await condition():
        if time.monotonic() > end:
            raise MeasurementFailed(f"{fault} within {within_s:.0f} s")
        await asyncio.sleep(0.01)


# -- what became of it -----------------------------------------------------------------------------------------------


async def _records(made: Bench, accepted: Iterable[str]) -> Counter[str]:
    """How many records each accepted id has, when all have one, or no more come."""
    counts = Counter(dict.fromkeys(accepted, 0))
    missing, moved_at = len(counts), time.monotonic()
    partitions = [TopicPartition(made.topics.name("aws.success"), number) for number in range(PARTITIONS)]
    async with Reader(made.settings, partitions) as reader:
        async for records in reader.follow(dict.fromkeys(partitions, 0)):
            for record in records:
                name = (record.key or b"").decode()
                if name in counts:
                    counts[name] += 1
                    missing -= counts[name] == 1
                    moved_at = time.monotonic()
            if not missing or time.monotonic() - moved_at > ENDED_S:
                break
    return counts


# -- changes ---------------------------------------------------------------------------------------------------------


async def _change(made: Bench, port: int, other: int) -> float:
    """Take the retries from a function that fails: how long until another gateway says so, and until the worker does
    not retry any more.
    """
    async with ClientSession() as session:
        await _configure(session, port, 2)
        await _until(lambda: _has(session, other, 2), READY_S, "a gateway did not learn of a change")
        async with asyncio.TaskGroup() as tasks:
            asked: dict[str, float] = {}
            asking = tasks.create_task(_ask_again_and_again(port, asked))
            ended = tasks.create_task(_first_ended(made, asked))
            await _until(lambda: _is(bool(asked)), READY_S, "nothing was accepted")
            await _configure(session, port, 0)
            changed = time.monotonic()
            await _until(lambda: _has(session, other, 0), READY_S, "a gateway did not learn of a change")
            shown_s = time.monotonic() - changed
            followed_s = await ended - changed
            asking.cancel()
    return max(shown_s, followed_s)


async def _ask_again_and_again(port: int, asked: dict[str, float]) -> None:
    ask = _request(port, "fail")
    while True:
        at = time.monotonic()
        asked.update(dict.fromkeys((await steady(port, [ask], 1.0, connections=1)).accepted, at))
        await asyncio.sleep(0.02)


async def _first_ended(made: Bench, asked: dict[str, float]) -> float:
    """When the first of *asked* that ended was asked for. (What still had retries ends a minute later.)"""
    partitions = [TopicPartition(made.topics.name("aws.failure"), number) for number in range(PARTITIONS)]
    async with Reader(made.settings, partitions) as reader:
        _, ends = await reader.bounds()
        async for records in reader.follow(ends):
            found = [asked[name] for record in records if (name := (record.key or b"").decode()) in asked]
            if found:
                return min(found)
    raise AssertionError("a reader follows for ever")


async def _configure(session: ClientSession, port: int, retries: int) -> None:
    async with session.put(_config(port), data=json.dumps({"MaximumRetryAttempts": retries})) as answer:
        if answer.status != 200:
            raise MeasurementFailed(f"a change was answered {answer.status}: {await answer.text()}")


async def _has(session: ClientSession, port: int, retries: int) -> bool:
    async with session.get(_config(port)) as answer:
        return answer.status == 200 and bool((await answer.json())["MaximumRetryAttempts"] == retries)


async def _is(met: bool) -> bool:
    return met


def _config(port: int) -> str:
    return f"http://127.0.0.1:{port}/2019-09-25/functions/fail/event-invoke-config"


# -- the report ------------------------------------------------------------------------------------------------------


def report(figures: Figures) -> str:
    """A table, with the bars."""
    flooded, calm, ceiling = figures.flooded, figures.steady, figures.ceiling
    part = flooded.per_s / ceiling.per_s
    p99_ms = 1000 * percentile(sorted(calm.latencies_s), 99)
    accepted = len(flooded.accepted) + len(calm.accepted)
    rows = [
        ["measure", "figure", "bar", "met"],
        ["bare aiohttp, 64 connections", f"{number(ceiling.per_s)}/s", "", ""],
        [
            "accepted, 64 connections",
            f"{number(flooded.per_s)}/s, {100 * part:.0f} % of that",
            f">= {PER_S_MIN:,.0f}/s or {100 * PART_OF_CEILING_MIN:.0f} %",
            _yes(flooded.per_s >= PER_S_MIN or part >= PART_OF_CEILING_MIN),
        ],
        ["  latency p50, p99", _ms(flooded, 50, 99), "", ""],
        ["  CPU of the gateway", f"{number(figures.cpu_us)} µs a request", "", ""],
        [
            f"at {STEADY_PER_S:.0f}/s: p50, p95, p99",
            _ms(calm, 50, 95, 99),
            f"p99 <= {P99_MAX_MS:.0f} ms",
            _yes(p99_ms <= P99_MAX_MS),
        ],
        ["not accepted", f"{len(flooded.refused) + len(calm.refused):,}", "", ""],
        [
            f"records of {accepted:,} accepted",
            f"{figures.lost:,} without, {figures.repeated:,} with two",
            "one each",
            _yes(not figures.lost and not figures.repeated),
        ],
        [
            "a change is used after, longest",
            f"{max(figures.changed_s):.2f} s of {len(figures.changed_s)}",
            f"<= {CHANGED_MAX_S:.0f} s",
            _yes(max(figures.changed_s) <= CHANGED_MAX_S),
        ],
    ]  # fmt: skip
    return columns(rows)


def _ms(answers: Answers, *percents: float) -> str:
    ordered = sorted(answers.latencies_s)
    return ", ".join(number(1000 * percentile(ordered, percent)) for percent in percents) + " ms"


def _yes(met: bool) -> str:
    return "yes" if met else "NO"
