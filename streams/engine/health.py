"""Is this worker fine? Three pages over HTTP, and two watchdogs.

- ``/ready``: 200 once partitions are assigned and their state is read. (A spare worker with no partitions is ready.)
- ``/live``: 200 while the worker makes progress: when there is something to do, watermarks move.
- ``/metrics``: Prometheus text. `streams_drift` has one good value, 0: accepted = waiting + running + ended.

A worker whose loop is blocked by a function cannot answer, heartbeat or commit; a thread watches for that and logs
where the loop is stuck.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

from aiohttp import web
from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from streams.engine.engine import Engine
from streams.engine.processor import Processor
from streams.errors import ConfigurationError

log = logging.getLogger(__name__)

STALLED_AFTER_S = 60.0
"""No progress for so long although there is something to do means that the worker is stuck."""
LOOP_LAG_S = 1.0
"""A function that blocks the loop longer is named in the log."""


class Health:
    """What a worker says about itself."""

    def __init__(self, engine: Engine, processor: Processor) -> None:
        self._engine = engine
        self._processor = processor
        self._marks: dict[TopicPartition, int] = {}
        self._moved_at = time.monotonic()
        self._runner: web.AppRunner | None = None
        self._watchdog = LoopWatchdog()

    async def start(self, address: str | None) -> None:
        """Begin to watch, and serve on *address* (``host:port``), if any. Raises `ConfigurationError`."""
        self._watchdog.start(asyncio.get_running_loop())
        self._engine.background(self._watch())
        if address is None:
            return
        host, _, port = address.rpartition(":")
        app = web.Application()
        app.add_routes([web.get(f"/{page.__name__}", page) for page in (self.ready, self.live, self.metrics)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host.strip("[]") or "127.0.0.1", int(port)).start()
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"cannot serve STREAMS_HTTP={address}: {error}. Name a free host:port") from error

    async def stop(self) -> None:
        self._watchdog.stop()
        if self._runner is not None:
            await self._runner.cleanup()

    # -- pages ---------------------------------------------------------------------------------------------------

    async def ready(self, request: web.Request) -> web.Response:
        """Whether invocations can be processed here."""
        return _answer(self._engine.committer.member is not None, "assigned and recovered")

    async def live(self, request: web.Request) -> web.Response:
        """Whether the worker makes progress."""
        return _answer(not self.is_stalled(), "making progress")

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus text."""
        registry = CollectorRegistry()
        registry.register(self)
        return web.Response(body=generate_latest(registry), content_type="text/plain")

    def collect(self) -> Iterator[Metric]:
        """Every metric, as Prometheus' library asks for them."""
        events = CounterMetricFamily("streams_events", "What happened to invocations.", labels=["event", "of"])
        for of, counted in self._processor.effects.counters.items():
            for event, count in counted.items():
                events.add_metric([event, of], count)
        yield events
        partitions = list(self._engine.partitions.values())
        yield _gauge("partitions", "Partitions owned.", [len(partitions)])
        yield _gauge("waiting", "Invocations waiting.", (p.requests.open_count for p in partitions))
        yield _gauge("running", "Attempts under way.", (len(p.running) for p in partitions))
        yield _gauge("ended", "Ended invocations that are remembered.", (len(p.requests.ended) for p in partitions))
        yield _gauge("drift", "Known less waiting, running and ended; 0 is right.", (p.drift() for p in partitions))
        yield _gauge("unfinished", "Records accepted and not finished.", (p.in_flight_count for p in partitions))
        yield _gauge("paused", "Partitions paused by back-pressure.", (p.paused for p in partitions))
        statistics = self._engine.committer.statistics
        yield CounterMetricFamily("streams_transactions", "Committed transactions.", statistics.transactions)
        yield CounterMetricFamily("streams_transactions_aborted", "Aborted transactions.", statistics.aborted)
        yield CounterMetricFamily("streams_records", "Records written by transactions.", statistics.records)
        yield CounterMetricFamily("streams_transaction_seconds", "Time in transactions.", statistics.busy_s)

    # -- progress ------------------------------------------------------------------------------------------------

    def is_stalled(self) -> bool:
        """Whether nothing has moved for `STALLED_AFTER_S` although there is something to do."""
        return time.monotonic() - self._moved_at > STALLED_AFTER_S

    async def _watch(self) -> None:
        """Notice progress, and that there is nothing to do, once a second."""
        while True:
            await asyncio.sleep(1.0)
            marks = {
                source: partition.watermark(source)
                for partition in self._engine.partitions.values()
                for source in partition.sources
            }
            if marks != self._marks or not self._engine.has_lag():
                self._marks, self._moved_at = marks, time.monotonic()


class LoopWatchdog:
    """A thread that notices when the event loop does not turn, and logs where it is stuck."""

    def __init__(self) -> None:
        self._beat = time.monotonic()
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._main = threading.get_ident()
        threading.Thread(target=self._run, name="loop-watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        assert self._loop is not None
        reported = False
        while not self._stopped.wait(LOOP_LAG_S / 2):
            late_s = time.monotonic() - self._beat
            if late_s > LOOP_LAG_S * 1.5 and not reported:
                reported = True
                log.warning("a function blocks the event loop for %.1f s, at:\n%s", late_s, self._where())
            elif late_s < LOOP_LAG_S:
                reported = False
            try:
                self._loop.call_soon_threadsafe(self._turned)
            except RuntimeError:
                return  # the loop is closed

    def _turned(self) -> None:
        self._beat = time.monotonic()

    def _where(self) -> str:
        """The innermost frames of the loop's thread; code only, no values."""
        frame: Any = sys._current_frames().get(self._main)
        return "".join(traceback.format_stack(frame)[-6:]) if frame is not None else "unknown"


def _answer(good: bool, what: str) -> web.Response:
    return web.json_response({"ok": good, "means": what}, status=200 if good else 503)


def _gauge(name: str, help_text: str, values: Iterable[float]) -> Metric:
    return GaugeMetricFamily(f"streams_{name}", help_text, sum(values))
