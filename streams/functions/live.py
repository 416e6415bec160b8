"""The functions of a running process: the file's, and what the APIs change while it runs.

The topic `functions` has one partition, so that all processes see the changes in one order. It is read in full at start
and followed for ever. A change is there as soon as the broker has it: nobody commits, nobody waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from streams.cluster import Cluster
from streams.core.model import Function
from streams.errors import BrokerError, ConfigurationError
from streams.functions.catalogue import Functions
from streams.functions.file import read_document, read_functions, read_stored
from streams.functions.stored import Entry, Key, UnreadableEntry, merged, read_entry, read_key, write_entry, write_key
from streams.settings import Settings

log = logging.getLogger(__name__)

FETCH_WAIT_MS = 500
"""How long the broker may hold an empty fetch. A record ends the wait, so this costs no delay."""
CHANGE_TIMEOUT_S = 10.0
"""A change that the broker has not taken by then has failed."""


class Description:
    """All that says what functions there are."""

    def __init__(self, path: Path | None) -> None:
        """Raises `ConfigurationError` for a file that cannot be used."""
        self.path = path
        self.entries: dict[Key, Entry] = {}
        self.document = read_document(path)
        self.file = read_functions(self.document, path)
        """What the file alone says."""
        self.file_modified_at_ms = path.stat().st_mtime_ns // 1_000_000 if path is not None else 0
        """When the file was last written, epoch milliseconds; 0 without one."""

    def table(self, key: Key) -> Mapping[str, Any] | None:
        """The file's table of a function."""
        tables: list[dict[str, Any]] = self.document.get("function", [])
        return next((t for t in tables if (t["provider"], t["name"]) == (key.provider, key.name)), None)

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Take over a record of the topic. One that cannot be read is named in the log and changes nothing."""
        try:
            read = read_key(key)
            if value is None:
                self.entries.pop(read, None)
            elif read.provider not in self.file.providers:
                raise UnreadableEntry(f"there is no provider {read.provider}")
            else:
                self.entries[read] = read_entry(value)
        except UnreadableEntry as error:
            log.error("a record of the topic functions is left out: %s", error)

    def functions(self) -> Functions:
        """What the file and the APIs say together. What an API has stored and cannot be used is named in the log."""
        stored = {key._replace(qualifier=None) for key in self.entries}
        functions = [function for function in self.file if Key(function.provider, function.name) not in stored]
        for key in sorted(stored):
            functions += self._stored(key)
        return Functions(functions, self.file.providers, self.file.time_scale)

    def read(self, key: Key, entries: Mapping[Key, Entry]) -> tuple[list[Function], list[str]]:
        """The qualifiers of function *key* as they would be with *entries*, and what would be wrong with them."""
        table = merged(self.table(key), entries, key._replace(qualifier=None), self.file.provider(key.provider).latest)
        return read_stored(table, self.file) if table is not None else ([], [])

    def _stored(self, key: Key) -> list[Function]:
        functions, faults = self.read(key, self.entries)
        if not faults:
            return functions
        log.error("what an API has stored of %s %s cannot be used: %s", key.provider, key.name, "; ".join(faults))
        return list(self.file.qualifiers(key.provider, key.name).values())


class LiveFunctions:
    """Keeps `functions` up to date; use `start` and `stop`, and `put` to change something for everybody."""

    def __init__(
        self,
        settings: Settings,
        changed: Callable[[Functions], Awaitable[None]],
        failed: Callable[[BaseException], None],
    ) -> None:
        """*changed* is called with every new state, *failed* when following ends by an error nobody expects.

        Raises `ConfigurationError` for a functions file that cannot be used.
        """
        self.description = Description(settings.functions_file())
        self.functions = self.description.file
        self._settings = settings
        self._changed = changed
        self._failed = failed
        self._partition = TopicPartition(settings.topics.functions, 0)
        self._position = 0
        self._moved = asyncio.Condition()
        self._consumer: Any = None
        self._producer: Any = None
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read everything there is, then follow. Raises `ConfigurationError` when there is no such topic."""
        self._consumer = AIOKafkaConsumer(
            **self._settings.kafka(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        try:
            await self._consumer.start()
            await self._consumer._client.set_topics([self._partition.topic])
            if self._partition.topic not in await self._consumer.topics():
                raise ConfigurationError(f"the topic {self._partition.topic} is missing: run `streams topics create`")
            self._consumer.assign([self._partition])
            await self._consumer.seek_to_beginning(self._partition)
            end = (await self._consumer.end_offsets([self._partition]))[self._partition]
            while self._position < end:
                await self._read()
        except BaseException:
            await self._consumer.stop()
            raise
        self.functions = self.description.functions()
        self._following = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
            await self._consumer.stop()
        if self._producer is not None:
            await self._producer.stop()

    async def put(self, key: Key, entry: Entry | None) -> None:
        """Store *entry*, for everybody and for ever. Returns when it holds here; elsewhere it does within the second.

        Raises `BrokerError` when the broker has not taken it.
        """
        try:
            async with asyncio.timeout(CHANGE_TIMEOUT_S):
                if self._producer is None:
                    producer = AIOKafkaProducer(**self._settings.kafka(), acks="all", enable_idempotence=True)
                    await producer.start()
                    self._producer = producer
                value = write_entry(entry) if entry is not None else None
                sent = await self._producer.send_and_wait(self._partition.topic, value, write_key(key), partition=0)
                async with self._moved:
                    await self._moved.wait_for(lambda: self._position > sent.offset)
        except (KafkaError, TimeoutError) as error:
            raise BrokerError(f"Kafka did not take the change: {error!r}") from error

    async def make_topics(self, destinations: Collection[str]) -> None:
        """Make the topics that do not exist, as `streams topics create` does. Raises `BrokerError`."""
        if not destinations:
            return
        try:
            async with Cluster(self._settings) as cluster:
                await cluster.create(self._settings.topics, destinations)
        except KafkaError as error:
            raise BrokerError(f"Kafka did not make {', '.join(destinations)}: {error!r}") from error

    async def _read(self) -> bool:
        """Take over what is there. Returns whether there was something."""
        batches = await self._consumer.getmany(timeout_ms=FETCH_WAIT_MS)
        records = batches.get(self._partition, [])
        for record in records:
            self.description.apply(record.key, record.value)
        self._position = await self._consumer.position(self._partition)
        return bool(records)

    async def _follow(self) -> None:
        try:
            while True:
                if await self._read():
                    self.functions = self.description.functions()
                    await self._changed(self.functions)
                    async with self._moved:
                        self._moved.notify_all()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._failed(error)
