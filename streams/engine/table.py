"""The table `requests` and Faust's table services, with our recovery inside.

Faust sees one table, backed by the changelog topic it would use itself. Reading it back, and writing it inside the
transactions, is the engine's: stock Faust recovers 6,000 records/s and hangs on transaction markers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import faust
from aiokafka.errors import IllegalStateError
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from mode import Service

log = logging.getLogger(__name__)


class RequestsTable(faust.Table):  # type: ignore[misc]  # Faust's Table is typed Any
    """Request id -> packed state (`codec.state`), over the partitions this worker owns. Written by the engine only."""

    def __getitem__(self, key: bytes) -> bytes:
        for partition in self.app.engine.partitions.values():
            packed: bytes | None = partition.requests.get(key)
            if packed is not None:
                return packed
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return any(partition.requests.get(key) for partition in self.app.engine.partitions.values())

    def __len__(self) -> int:
        return sum(len(partition.requests) for partition in self.app.engine.partitions.values())

    def __iter__(self) -> Iterator[bytes]:
        for partition in self.app.engine.partitions.values():
            yield from (key for key, _ in partition.requests.items())

    def __setitem__(self, key: bytes, value: bytes) -> None:
        raise TypeError("the table requests is written by the engine, inside its transactions")

    def __delitem__(self, key: bytes) -> None:
        raise TypeError("the table requests is written by the engine, inside its transactions")


class StateTables(TableManager):  # type: ignore[misc]  # Faust's TableManager is typed Any
    """Faust's table manager without changelog channels."""

    @property
    def recovery(self) -> Any:
        recovery: Any = self._recovery  # type: ignore[has-type]
        if recovery is None:
            recovery = self._recovery = StateRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return recovery

    def add(self, table: Any) -> Any:
        self[table.name] = table
        return table

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()

    async def _update_channels(self) -> None:
        self._tables_finalized.set()
        self._tables_registered.set()

    async def on_rebalance(self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0) -> None:
        self._recovery_started.set()
        await self.recovery.on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def on_stop(self) -> None:
        await self.app._fetcher.stop()
        await self.recovery.stop()


class StateRecovery(Recovery):  # type: ignore[misc]  # Faust's Recovery is typed Any
    """After every rebalance: acquire through the engine, then let Faust resume its streams."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):
                return
            self.signal_recovery_start.clear()
            await self._acquire(self._generation_id)

    async def _acquire(self, generation: int) -> None:
        engine, consumer = self.app.engine, self.app.consumer
        try:
            if generation != self.app.consumer_generation_id:
                return
            if await engine.acquire(generation, consumer.assignment(), consumer.deliver):
                await self._resume_streams(generation)
        except (RebalanceAgain, ServiceStopped, IllegalStateError):
            log.info("generation %d was over before its streams resumed", generation)
        except Exception as error:
            log.exception("taking partitions over failed")
            engine.die(f"taking partitions over failed: {error!r}")

    @Service.task  # type: ignore[untyped-decorator]
    async def _slurp_changelogs(self) -> None:
        """Nothing to read: the engine reads changelogs."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _publish_stats(self) -> None:
        """Nothing to report: the engine logs its acquisitions."""
