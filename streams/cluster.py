"""What we ask of a Kafka cluster besides reading and writing: make our topics, and say when they do not fit."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.metadata import MetadataRequest

from streams.codec.dead_letter import DEAD_LETTER_OVERHEAD_BYTES
from streams.codec.retry import RETRY_OVERHEAD_BYTES
from streams.errors import BrokerError
from streams.settings import Settings
from streams.topics import Topics

RECORD_BYTES_MAX = 16 * 1024 * 1024
"""Largest record of our topics: an AWS event (1 MiB), its response (6 MiB) and room for larger providers."""

VISIBLE_S = 30.0
"""A broker knows a new topic by then."""

REQUEST_S = 15.0
ANSWER_S = 2 * REQUEST_S
"""A cluster answers by then: it knows that a broker is away, and a new one has chosen its coordinators."""

T = TypeVar("T")

_DAY_MS = 24 * 3600 * 1000
_WORK = {"retention.ms": 14 * _DAY_MS}
"""Work waits here while every worker is down, so it is kept for two weeks."""
_HISTORY = {"retention.ms": 7 * _DAY_MS}
_DEAD = {"retention.ms": 30 * _DAY_MS}
_STATE = {"cleanup.policy": "compact", "segment.bytes": 4 * RECORD_BYTES_MAX, "min.cleanable.dirty.ratio": "0.2"}
# A new owner reads all of a changelog that is not compacted, and only closed segments are. At 60 requests a second in a
# partition 64 MB are half a million records, of which a few thousand say something. And Kafka keeps deletions for a
# day, for who has begun to read before them; a new owner is through after minutes.
_CHANGELOG = _STATE | {"segment.ms": 5 * 60_000, "delete.retention.ms": 15 * 60_000}

_SIZE = "max.message.bytes"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is in the cluster."""

    name: str
    partitions: int
    record_bytes_max: int | None
    """Largest batch of records that it takes; None: the cluster does not let us know."""


def wanted(topics: Topics, destinations: Iterable[str] = ()) -> dict[str, dict[str, str]]:
    """The configuration of every topic of ours, and of the *destinations* that functions name."""
    # So that all that comes in fits a retry record, and every record that we read a dead letter.
    incoming = {**_WORK, _SIZE: RECORD_BYTES_MAX - RETRY_OVERHEAD_BYTES - DEAD_LETTER_OVERHEAD_BYTES}
    configs: dict[str, Mapping[str, object]] = {
        # An event's age begins when the broker has it.
        topics.invocations: {**incoming, "message.timestamp.type": "LogAppendTime"},
        topics.deliveries: incoming,
    }
    tier = {**_WORK, _SIZE: RECORD_BYTES_MAX - DEAD_LETTER_OVERHEAD_BYTES}
    configs |= {name: tier for name in (topics.commands, *topics.tiers)}
    configs[topics.changelog] = _CHANGELOG
    configs |= dict.fromkeys((*topics.records, topics.facts), _HISTORY)
    configs[topics.dlq] = _DEAD
    configs[topics.functions] = _STATE
    configs = dict.fromkeys(destinations, _HISTORY) | configs
    return {
        name: {_SIZE: str(RECORD_BYTES_MAX), **{key: str(value) for key, value in config.items()}}
        for name, config in configs.items()
    }


async def answered(client: Any, ask: Callable[[], Awaitable[T]]) -> T:
    """What *ask* has from a cluster in which a broker may be away: asked again, *client* mostly takes another.

    Raises what *ask* raises, after `ANSWER_S` if it is transient.
    """
    end = time.monotonic() + ANSWER_S
    while True:
        try:
            return await ask()
        except TimeoutError as error:
            if time.monotonic() > end:
                raise BrokerError(f"the cluster has not answered for {ANSWER_S:.0f} s; is a broker down?") from error
        except kafka_errors.KafkaError as error:
            if not error.retriable or time.monotonic() > end:
                raise
        await client.force_metadata_update()
        await asyncio.sleep(0.1)


@dataclass(slots=True)
class Cluster:
    """An administrative connection; use it as ``async with``. Raises `BrokerError` when the cluster does not answer."""

    settings: Settings
    _admin: Any = field(default=None, init=False)

    async def __aenter__(self) -> Self:
        self._admin = AIOKafkaAdminClient(**self.settings.kafka(), request_timeout_ms=int(REQUEST_S * 1000))
        try:
            await self._admin.start()
        except (kafka_errors.KafkaError, OSError) as error:
            await self._admin.close()
            raise BrokerError(
                f"no Kafka broker answers at {self.settings.broker}: {error}. Start one with `streams broker`, "
                "or name yours with --broker or STREAMS_BROKER"
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._admin.close()

    async def _answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await answered(self._admin._client, ask)

    async def identity(self) -> str:
        """The cluster's id: two clusters never share one."""
        found: str = (await self._answered(self._admin.describe_cluster))["cluster_id"]
        return found

    async def committed_offsets(self, group: str) -> dict[TopicPartition, int]:
        """The offsets up to which the members of *group* are done."""
        offsets = await self._answered(lambda: self._admin.list_consumer_group_offsets(group))
        return {partition: position.offset for partition, position in offsets.items()}

    async def topics(self) -> dict[str, Topic]:
        """Every topic of the cluster by name."""
        described = [topic for topic in await self._answered(self._admin.describe_topics) if not topic["is_internal"]]
        names = [topic["topic"] for topic in described]
        sizes = await self._record_sizes(names) if names else {}
        return {
            topic["topic"]: Topic(topic["topic"], len(topic["partitions"]), sizes.get(topic["topic"]))
            for topic in described
        }

    async def _record_sizes(self, names: list[str]) -> dict[str, int]:
        resources = [ConfigResource(ConfigResourceType.TOPIC, name, {_SIZE: None}) for name in names]
        sizes: dict[str, int] = {}
        for response in await self._answered(lambda: self._admin.describe_configs(resources)):
            for code, _, _, name, entries in response.resources:
                if code == 0:
                    sizes.update((name, int(entry[1])) for entry in entries if entry[0] == _SIZE)
        return sizes

    async def create(self, topics: Topics, destinations: Iterable[str] = ()) -> list[str]:
        """Make what is missing, and return the names of what was made once it is there; what exists is left alone."""
        existing = await self.topics()
        settings = self.settings
        counts = Counter(existing[name].partitions for name in topics.partitioned if name in existing)
        partitions = counts.most_common(1)[0][0] if counts else settings.partitions  # fit what is there already
        new = [
            NewTopic(name, 1 if name == topics.functions else partitions, settings.replication, topic_configs=config)
            for name, config in wanted(topics, destinations).items()
            if name not in existing
        ]
        if new:
            response = await self._answered(lambda: self._admin.create_topics(new))
            faults = [
                f"{name}: {message or code}" for name, code, message, *_ in response.topic_errors if code not in (0, 36)
            ]
            if faults:
                raise BrokerError("topics could not be created: " + "; ".join(faults))
            await self._until_visible({topic.name for topic in new})
        return [topic.name for topic in new]

    async def _until_visible(self, names: set[str]) -> None:
        """The controller has made them; brokers hear of it a little later, and a worker would miss them."""
        for broker in self._admin._client.cluster.brokers():
            try:
                async with asyncio.timeout(VISIBLE_S):
                    while not await self._tells_of(names, broker.nodeId):  # noqa: ASYNC110  # Kafka calls nobody
                        await asyncio.sleep(0.05)
            except TimeoutError:
                raise BrokerError(f"the topics are made, but broker {broker.nodeId} does not tell of them") from None
            except kafka_errors.KafkaError:
                continue  # it is away: it misleads nobody

    async def _tells_of(self, names: set[str], node: int) -> bool:
        """Whether this broker knows topics with these *names* and who leads their partitions."""
        metadata = (await self._admin._client.send(node, MetadataRequest(None))).to_object()
        return names <= {
            topic["topic"]
            for topic in metadata["topics"]
            if not topic["error_code"] and all(partition["leader"] >= 0 for partition in topic["partitions"])
        }

    async def delete(self, names: Iterable[str]) -> None:
        """Delete topics; one that is not there is no error."""
        response = await self._answered(lambda: self._admin.delete_topics(list(names)))
        faults = [
            f"{name}: {kafka_errors.for_code(code).description or code}"
            for name, code, *_ in response.topic_error_codes
            if code not in (0, kafka_errors.UnknownTopicOrPartitionError.errno)
        ]
        if faults:
            raise BrokerError("topics could not be deleted: " + "; ".join(faults))


def fault(topics: Topics, existing: Mapping[str, Topic], destinations: Iterable[str] = ()) -> str | None:
    """Why a worker cannot run on these topics, and what to do about it; None when it can."""
    destinations = list(destinations)
    if why := next(filter(None, (reserved(topics, name) for name in sorted(destinations))), None):
        return f"a function's destination cannot be used: {why}. Name another in streams.toml"
    missing = [name for name in (*topics.all, *destinations) if name not in existing]
    if missing:
        names = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        return f"{len(missing)} topics are missing ({names}): run `streams topics create`"
    return _partition_fault(topics, existing) or _size_fault(topics, existing)


def reserved(topics: Topics, destination: str) -> str | None:
    """Why the topic *destination* is none that a function may send its records to; None when it is."""
    if destination in topics.all:
        return f"kafka://{destination} is a topic of Streams itself"
    return f"kafka://{destination} is a topic of Kafka itself" if destination.startswith("__") else None


def _size_fault(topics: Topics, existing: Mapping[str, Topic]) -> str | None:
    """What is read must fit everywhere it may have to go, or one large record would stop every worker."""
    incoming, waiting = (topics.invocations, topics.deliveries), (*topics.tiers, topics.changelog)
    for sources, targets, more in (
        (incoming, waiting, RETRY_OVERHEAD_BYTES),
        (topics.sources, (topics.dlq,), DEAD_LETTER_OVERHEAD_BYTES),
    ):
        sizes = {name: size for name in (*sources, *targets) if (size := existing[name].record_bytes_max) is not None}
        largest = max((name for name in sources if name in sizes), key=sizes.__getitem__, default=None)
        if largest is None:
            continue
        needed = sizes[largest] + more
        small = [name for name in targets if sizes.get(name, needed) < needed]
        if small:
            return (
                f"{', '.join(small[:5])} must take records of {needed} bytes, since {largest} takes {sizes[largest]}: "
                f"raise their max.message.bytes (kafka-configs.sh --alter --add-config {_SIZE}={needed}) or lower that "
                f"of {largest}"
            )
    return None


def _partition_fault(topics: Topics, existing: Mapping[str, Topic]) -> str | None:
    by_count: dict[int, list[str]] = {}
    for name in topics.partitioned:
        by_count.setdefault(existing[name].partitions, []).append(name)
    if len(by_count) == 1:
        return None
    usual = max(by_count, key=lambda count: len(by_count[count]))
    odd = "; ".join(
        f"{', '.join(names[:5])} {'has' if len(names) == 1 else 'have'} {count}"
        for count, names in sorted(by_count.items())
        if count != usual
    )
    return (
        f"all topics need the same number of partitions: {len(by_count[usual])} have {usual}, but {odd}. "
        "Add partitions to the smaller ones with your Kafka tools (kafka-topics.sh --alter --partitions N), "
        "while nothing is in flight, or use another prefix and run `streams topics create`"
    )
