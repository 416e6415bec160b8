"""The worker: a Faust app whose agents receive batches and whose table is written inside the engine's transactions."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import faust
import mode.loop
from aiokafka import TopicPartition
from aiokafka.partitioner import murmur2

from streams import cluster, connections
from streams.codec.avro import Codec, load_schemas
from streams.codec.registry import Registry
from streams.destinations import Destinations
from streams.engine.effects import Effects
from streams.engine.engine import Engine
from streams.engine.health import Health
from streams.engine.partition import Batch, Partition
from streams.engine.processor import Processor
from streams.engine.table import RequestsTable, StateTables
from streams.engine.transport import BatchSchema, Transport
from streams.errors import ConfigurationError
from streams.functions import Functions
from streams.functions.live import LiveFunctions
from streams.invokers import Invokers
from streams.memory import give_back_memory, settle
from streams.providers import PROVIDERS
from streams.settings import Settings

_YEAR_S = 365 * 86_400.0
SHOWN_AFTER_S = 0.25
"""An attempt that takes longer is said to run, where a cloud's API tells that; shorter ones are not worth a write."""
REPEATED_AFTER_S = 5.0
"""What a client says again and again is logged so often."""


class TierTopics(faust.Topic):  # type: ignore[misc]  # Faust's Topic is typed Any
    """All retry tiers, as the source of one agent."""

    def get_topic_name(self) -> str:
        return f"{self.topics[0]} … {self.topics[-1]}"


class StreamsApp(faust.App):  # type: ignore[misc]  # Faust's App is typed Any
    """Faust's app with our engine in it."""

    engine: Engine
    processor: Processor
    _live: LiveFunctions | None = None
    _invokers: Invokers | None = None
    _destinations: Destinations | None = None
    _registry: Registry | None = None
    _health: Health | None = None

    def _create_directories(self) -> None:
        """Nothing is kept on disk: state lives in Kafka and in memory."""

    async def on_first_start(self) -> None:
        """Look at the topics and load the functions before anything is consumed."""
        settings, engine = self.engine.settings, self.engine
        self._live = LiveFunctions(settings, self._configured, engine.task_failed)
        limits = await check_topics(settings, self._live.functions)
        await self._live.start()
        self._registry = Registry(settings.schema_registry) if settings.schema_registry else None
        codec = await make_codec(settings, self._registry)
        self._destinations = Destinations(os.environ)
        self._invokers = Invokers(threads=settings.threads)
        await self._invokers.start()
        functions = self._live.functions  # as they are now: a change finds the processor, from here on
        engine.output_topics += tuple(functions.kafka_topics())
        self.processor = Processor(
            functions,
            self._invokers,
            self._registry,
            Effects(codec, settings.topics, functions.time_scale, self._locate, limits),
            settings.long_max,
            self._destinations.send,
        )
        engine.on_owned.append(self._owned)
        engine.on_letting_go.append(self.processor.careful.let_go)
        engine.background(self._journal_long_attempts())
        engine.background(give_back_memory())
        self._health = Health(engine, self.processor)
        await self._health.start(settings.http)
        settle()
        await super().on_first_start()

    async def on_stop(self) -> None:
        await super().on_stop()
        if self._live is not None:
            await self._live.stop()
        if self._health is not None:
            await self._health.stop()
        if self._invokers is not None:
            await self._invokers.close()
        if self._destinations is not None:
            await self._destinations.close()
        if self._registry is not None:
            await self._registry.close()

    def process(self, step: Callable[[Batch], None], batches: Iterable[Batch]) -> None:
        """Process *batches*. An exception is fatal: Faust would go on with the next ones, and these would be lost."""
        try:
            for batch in batches:
                step(batch)
        except Exception as error:
            self.engine.task_failed(error)

    async def _configured(self, functions: Functions) -> None:
        """An API has changed the functions. (While we start, `on_first_start` finds them.)"""
        if hasattr(self, "processor"):
            await self.engine.write_to(functions.kafka_topics())
            self.processor.configure(functions)

    def _locate(self, topic: str, key: bytes) -> TopicPartition | None:
        """The partition of *key* in a destination topic, as Java's default partitioner chooses it."""
        count = self.engine.producer.partition_count(topic)
        return TopicPartition(topic, (murmur2(key) & 0x7FFFFFFF) % count) if count else None

    def _owned(self, new: list[Partition]) -> None:
        """After an acquisition: our share of reserved concurrency, and attempts that a predecessor left running."""
        count = self.engine.producer.partition_count(self.engine.topics.invocations)
        self.processor.set_share(len(self.engine.partitions) / max(1, count))
        for partition in new:
            self.processor.careful.rearm(partition)

    async def _journal_long_attempts(self) -> None:
        """Attempts longer than *hold_s* stop holding their offsets; where a cloud tells what runs, sooner. And commands
        that wait for invocations that do not come do not wait for ever.
        """
        hold_s, careful = self.engine.settings.hold_s, self.processor.careful
        while True:
            await asyncio.sleep(min(SHOWN_AFTER_S, hold_s / 4))
            now_ms = self.engine.now_ms()
            for partition in list(self.engine.partitions.values()):
                careful.journal(partition, now_ms - int(hold_s * 1000))
                careful.show(partition, now_ms - int(SHOWN_AFTER_S * 1000))
                if partition.early and not self.engine.consumer.lag(partition.sources[0]):
                    self.processor.cancels.give_up_early(partition, now_ms)


async def check_topics(settings: Settings, functions: Functions) -> dict[str, int]:
    """The largest record of every topic, bytes. Raises `ConfigurationError` when the topics do not fit."""
    async with cluster.Cluster(settings) as admin:
        existing = await admin.topics()
    fault = cluster.fault(settings.topics, existing, functions.kafka_topics())
    if fault is not None:
        raise ConfigurationError(fault)
    return {topic.name: topic.record_bytes_max for topic in existing.values() if topic.record_bytes_max is not None}


async def make_codec(settings: Settings, registry: Registry | None) -> Codec:
    """The codec of a process. With a registry, the schemas of what we write are registered first."""
    schemas = load_schemas()
    if registry is None:
        return Codec(schemas)
    topics = settings.topics
    names = {topics.facts: "Facts", topics.dlq: "DeadLetter"}
    for provider in PROVIDERS.values():
        for ending in ("success", "failure"):
            names[topics.name(f"{provider.name}.{ending}")] = provider.record_schema
    ids = {topic: await registry.register(topic, schemas.current[name].text) for topic, name in names.items()}
    return Codec(schemas, ids, registry.fetched)


def _credentials(settings: Settings) -> Any:
    """The same connection for Faust's own client; None for plain text."""
    context = settings.ssl_context() if settings.security_protocol.endswith("SSL") else None
    if settings.security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=settings.sasl_username,
            password=settings.sasl_password,
            mechanism=settings.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


def create_app(settings: Settings) -> StreamsApp:
    """The app of one worker process. Nothing is connected or imported before it starts.

    From here on new event loops are uvloop's: `faust worker` and `streams worker` take whatever kind there is.
    """
    mode.loop.use("uvloop")
    connections.install()
    topics = settings.topics
    app = StreamsApp(
        topics.app_id,
        broker=[f"kafka://{server}" for server in settings.broker.split(",")],
        broker_credentials=_credentials(settings),
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        TableManager=StateTables,
        table_standby_replicas=1,  # with 0 and no table of its own Faust would not copartition
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.worker_name,
        broker_session_timeout=settings.session_timeout_ms / 1000,
        broker_heartbeat_interval=settings.session_timeout_ms / 5000,
        broker_rebalance_timeout=max(30.0, settings.session_timeout_ms / 1000),
        broker_request_timeout=max(30.0, settings.session_timeout_ms / 1000),
        # aiokafka alone would look at it: it would leave a group for good in which nothing can be polled for so long,
        # as when the cluster is away during a rebalance. What does not move is for `health` to see.
        broker_max_poll_interval=_YEAR_S,
        broker_max_poll_records=500,  # so many are processed in one turn of the loop: some 30 ms
        worker_redirect_stdouts=False,  # a function may print
        stream_wait_empty=True,
    )
    app.boot_strategy.enable_web = False  # `faust worker` switches it on unasked, and two would want one port
    app.engine = Engine(settings)
    app.transport = Transport(app.conf.broker_consumer, app)
    help_text = "Where every invocation stands: attempts, age, due time."
    app.tables.add(RequestsTable(app, name="requests", partitions=1, help=help_text))
    _add_agents(app)
    return app


def _add_agents(app: StreamsApp) -> None:
    topics = app.engine.topics

    @app.agent(app.topic(topics.invocations, schema=BatchSchema(), acks=False), name="invocations")  # type: ignore[untyped-decorator]
    async def invocations(events: AsyncIterator[Iterable[Batch]]) -> None:
        """Accepts new invocations and runs their first attempt."""
        async for batches in events:
            app.process(app.processor.invocations, batches)

    @app.agent(app.topic(topics.commands, schema=BatchSchema(), acks=False), name="commands")  # type: ignore[untyped-decorator]
    async def commands(events: AsyncIterator[Iterable[Batch]]) -> None:
        """Cancels invocations."""
        async for batches in events:
            app.process(app.processor.commands, batches)

    @app.agent(app.topic(topics.deliveries, schema=BatchSchema(), acks=False), name="deliveries")  # type: ignore[untyped-decorator]
    async def deliveries(events: AsyncIterator[Iterable[Batch]]) -> None:
        """Gives services outside Kafka what ended invocations leave for them."""
        async for batches in events:
            app.process(app.processor.deliver, batches)

    @app.agent(TierTopics(app, topics=topics.tiers, schema=BatchSchema(), acks=False), name="retries")  # type: ignore[untyped-decorator]
    async def retries(events: AsyncIterator[Iterable[Batch]]) -> None:
        """Runs the attempts that waited in a retry tier."""
        async for batches in events:
            app.process(app.processor.retries, batches)


def run_worker(settings: Settings, loglevel: str = "info") -> None:
    """Run a worker until SIGTERM or Ctrl-C; does not return. Topics and functions have been checked before."""
    app = create_app(settings)
    app.finalize()
    # Faust's banner and spinner move the cursor about, the spinner even when the interpreter exits: never closed.
    nowhere = Path(os.devnull).open("w")
    faust.Worker(app, loglevel=loglevel, logging_config=_logging(loglevel), stdout=nowhere).execute_from_commandline()


class Seldom(logging.Filter):
    """Lets a line about Kafka through once in `REPEATED_AFTER_S`: without a broker there are 70 of them a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(("aiokafka", "streams.engine.transaction")):
            return True
        line, now = (record.name, record.msg), record.created
        if now - self._said_at.get(line, -REPEATED_AFTER_S) < REPEATED_AFTER_S:
            return False
        self._said_at[line] = now
        return True


def _logging(loglevel: str) -> dict[str, Any]:
    """Our own lines at *loglevel*, the libraries' from warnings on (Faust makes debug lines to drop them: 25 % CPU)."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "filters": {"seldom": {"()": Seldom}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain", "filters": ["seldom"]}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {"streams": {"level": loglevel.upper()}},
    }
