"""Faust's Kafka transport with our inside: batches, explicit positions, no commits of its own.

One Faust event is what one poll took from a topic: a `Batch` for each of its partitions. Records leave aiokafka's
fetcher in one synchronous place, `Consumer._take`, which checks that each fetch starts where the last one ended and
stops the process when it does not. The consumer runs on the worker's own loop: Faust's thread costs a hand-over per
fetch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import faust
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.engine import fetched
from streams.engine.crashpoints import reach
from streams.engine.engine import Engine
from streams.engine.fetch_sessions import FetchSessions
from streams.engine.partition import Batch, SourceRecord
from streams.engine.transaction import Member

log = logging.getLogger(__name__)

FETCH_WAIT_MS = 100
"""How long the broker may hold an empty fetch; Faust's 1500 would delay partitions that are resumed."""
TIER_FETCH_BYTES = 128 << 10
"""At once of a tier's partition: while it waits, what was fetched stays in memory, and there are a hundred of them."""
REJOIN_PAUSE_S = 0.5
POLL_INTERVAL_S = 0.005
"""Pause between polls: fewer, larger batches."""

Taken: TypeAlias = tuple[TopicPartition, list[SourceRecord], int]
"""Records of one partition, and the offset where the read ended."""


class BatchSchema(faust.Schema):  # type: ignore[misc]  # Faust's Schema is typed Any
    """Passes `Batch` objects through Faust's decode step."""

    def compile(self, app: Any, **kwargs: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, None, message)

        return decode


def watch(task: asyncio.Task[None], what: str, is_stopped: Callable[[], bool], die: Callable[[str], None]) -> None:
    """*die* when *task* ends early: aiokafka goes on without it, and nothing would be read any more, in silence."""

    def ended(done: asyncio.Task[None]) -> None:
        if not is_stopped():
            die(f"{what} ended: {None if done.cancelled() else done.exception()!r}")

    task.add_done_callback(ended)


def rejoin_after_errors(coordinator: Any, die: Callable[[str], object]) -> None:
    """At an answer that it does not know, aiokafka stops to take part in the group until somebody calls `getmany`.

    We do not. A broker that has just come back gives such answers, and the heartbeats go on: the group would wait for
    us, and we for ever.
    """

    async def rejoin(error: Exception) -> None:
        if isinstance(error, (GroupAuthorizationFailedError, TopicAuthorizationFailedError)):
            die(f"the broker does not let us into the group {coordinator.group_id}: {error!r}")
        log.warning("joining the group again after an unexpected answer: %r", error)
        coordinator.request_rejoin()
        await asyncio.sleep(REJOIN_PAUSE_S)

    coordinator._push_error_to_user = rejoin


def stay_out(coordinator: Any) -> None:
    """Do not join the group again until *coordinator* is closed, which leaves the group."""

    async def wait(subscription: object) -> bool:
        await asyncio.wait([coordinator._closing])
        return False

    coordinator._do_rejoin_group = wait


class InlineConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust is not typed for us
    """The driver's consumer "thread" without a thread."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def start(self) -> None:
        self._started.set()
        self.thread_loop = self.parent_loop = asyncio.get_running_loop()
        await self.app.engine.start()
        await self.on_start()
        tiers = self.app.engine.topics.tiers
        FetchSessions(self._consumer, dict.fromkeys(tiers, TIER_FETCH_BYTES))
        fetched.install()
        rejoin_after_errors(self._consumer._coordinator, self.app.engine.die)
        for task, what in (
            (self._consumer._fetcher._fetch_task, "fetching"),
            (self._consumer._coordinator._coordination_task, "taking part in the group"),
            (self._consumer._client._sync_task, "learning of the cluster"),
            (self.app.engine.producer.learning, "learning of the cluster for writing"),
        ):
            watch(task, what, self._stopped.is_set, self.app.engine.die)

    async def stop(self) -> None:
        if not self._stopped.is_set():
            self._stopped.set()
            if self._consumer is not None:
                await self._consumer.stop()
            await self.app.engine.stop()

    def close(self) -> None:
        """A rebalance while we stop: take no part in it, so that the group waits for us no longer than until `stop`
        leaves it. Faust would close the client, and nobody could leave any more.
        """
        stay_out(self._consumer._coordinator)

    async def call_thread(self, fun: Any, *args: Any, **kwargs: Any) -> Any:
        result = fun(*args, **kwargs)
        return await result if asyncio.iscoroutine(result) else result


class Consumer(driver.Consumer):  # type: ignore[misc]  # Faust is not typed for us
    """Delivers batches; offsets travel in the engine's transactions only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.engine: Engine = self.app.engine
        self.engine.consumer = self
        self._revoked = False

    def _new_consumer_thread(self) -> Any:
        return InlineConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- what the engine asks ------------------------------------------------------------------------------------

    def member(self) -> Member | None:
        """Who we are in the group now; None from a revocation to the next assignment.

        An acquisition that ends in between must not start the flow again: with the next assignment aiokafka gives
        every partition another position, and what is read from there would be a gap.
        """
        coordinator = self._thread._consumer._coordinator
        if self._revoked or coordinator.generation != self.app.consumer_generation_id:
            return None
        return Member(coordinator.generation, coordinator.member_id, self.app.conf.consumer_group_instance_id)

    def lag(self, source: TopicPartition) -> int:
        """Records of *source* beyond the last one that was accepted, as far as the last fetch knew."""
        state = self._thread._consumer._subscription.subscription.assignment.state_value(source)
        accepted = self.engine.partitions[source.partition].accepted[source]
        # The last stable offset, so that an open transaction of a producer does not count.
        return max(0, (state.lso or 0) - accepted) if state is not None else 0

    def pause_sources(self, sources: Iterable[TopicPartition]) -> None:
        self.pause_partitions({TP(*source) for source in sources})

    def resume_sources(self, sources: Iterable[TopicPartition]) -> None:
        self.resume_partitions({TP(*source) for source in sources})
        fetcher = self._thread._consumer._fetcher
        for waiter in fetcher._fetch_waiters:  # what was fetched before the pause can be taken now
            fetcher._notify(waiter)

    async def deliver(self, *batches: Batch) -> None:
        """Hand *batches*, all of one topic, to its agent as one event, which costs Faust more than a batch costs us."""
        topic, number = batches[0].source
        await self.callback(
            ConsumerMessage(
                topic,
                number,
                batches[0].end - 1,
                timestamp=time.time(),
                timestamp_type=0,
                headers=(),
                key=None,
                value=batches,
                checksum=None,
                tp=TP(topic, number),
                generation_id=self.app.consumer_generation_id,
            )
        )

    # -- what Faust calls ----------------------------------------------------------------------------------------

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        return True

    async def wait_empty(self) -> None:
        if self.app.should_stop:  # at a rebalance `on_partitions_revoked` has done what is needed
            await self.engine.drain()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._revoked = False
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._revoked = True
        self.engine.era += 1
        self.stop_flow()  # nothing is taken or delivered from here on
        self.app.flow_control.suspend()
        await self.engine.release()
        await super().on_partitions_revoked(revoked)

    def resume_flow(self) -> None:
        # a revocation, or our end, may have begun while an earlier assignment was still being taken over
        if not self._revoked and not self.engine.is_draining:
            super().resume_flow()

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Those of *tps* that the engine has; it may not have taken all that is assigned to us."""
        super().resume_partitions({tp for tp in tps if tp.partition in self.engine.partitions})

    async def perform_seek(self) -> None:
        """Every source partition to an explicit offset."""
        consumer = self._thread._consumer
        for partition in self.engine.partitions.values():
            for source, offset in partition.accepted.items():
                consumer.seek(source, offset)

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            await self._read(fetcher)
        except (asyncio.CancelledError, *self.consumer_stopped_errors):
            if not self.app.should_stop:  # else mode takes it for a crash, and the worker's exit status is 1
                raise
        except BaseException as error:
            log.exception("reading failed")
            self.engine.die(f"reading failed: {error!r}")

    async def _read(self, service: Any) -> None:
        """Take what was fetched and deliver it, until *service* or the consumer stops."""
        stopped, service_stopped = self._stopped.is_set, service._stopped.is_set
        while not (stopped() or service_stopped()):
            if not self.flow_active:
                await self.wait(self.can_resume_flow)
                continue
            fetcher = self._thread._consumer._fetcher
            with fetcher._subscriptions.fetch_context():
                taken = self._take(fetcher, self._get_active_partitions())
                if not taken:  # flow and generation are looked at again every 0.2 s
                    await asyncio.wait([fetcher._create_fetch_waiter()], timeout=0.2)
                    continue
            reach("after-poll")
            await self._route(taken)
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _route(self, taken: list[Taken]) -> None:
        """What may wait in memory to its queue, the rest to its agents. What a rebalance interrupts is fetched again
        after the seek.
        """
        engine, era = self.engine, self.engine.era
        at_once: dict[str, list[Batch]] = {}
        for source, records, end in taken:
            queue = engine.queues.get(source)
            if queue is None:
                batch = Batch(engine.partitions[source.partition], source, records, end)
                at_once.setdefault(source.topic, []).append(batch)
                continue
            await queue.add(records, end)
            if era != engine.era or not self.flow_active:
                return
        for batches in at_once.values():
            await self.deliver(*batches)
            if era != engine.era or not self.flow_active:
                return

    def _take(self, fetcher: Any, active: set[TP]) -> list[Taken]:
        """Records out of the fetcher, with the offset where each read ended. No await in here."""
        taken = []
        room = self.app.conf.broker_max_poll_records
        for source in list(fetcher._records):
            result = fetcher._records[source]
            if source not in active:
                if not result._assignment.active:  # left over from the last generation
                    del fetcher._records[source]
                continue
            if type(result) is not FetchResult:
                del fetcher._records[source]
                result.check_raise()
                continue
            records = self._take_one(fetcher, source, result, room)
            if records is not None:
                taken.append((source, records, self.engine.partitions[source.partition].fetched[source]))
                room -= len(records)
                if room <= 0:
                    break
        return taken

    def _take_one(self, fetcher: Any, source: TopicPartition, result: Any, room: int) -> list[SourceRecord] | None:
        """The records of one partition; None when aiokafka threw them away as stale (they are fetched again)."""
        state = result._assignment.state_value(source)
        before = state.position if result._assignment.active and state.has_valid_position else None
        records: list[SourceRecord] = result.getall(room)
        if not result.has_more():
            del fetcher._records[source]
            fetcher._notify(fetcher._wait_consume_future)
        if before is None or state.position == before:
            return None
        partition = self.engine.partitions[source.partition]
        if before != partition.fetched[source]:
            self.engine.die(f"gap: {source} was read from {before}, expected {partition.fetched[source]}")
        partition.fetched[source] = state.position
        return records


class Transport(driver.Transport):  # type: ignore[misc]  # Faust is not typed for us
    Consumer = Consumer
