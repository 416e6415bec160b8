"""One invocation while one of its records is being processed, and the function it runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from streams.codec.avro import Encode
from streams.codec.envelope import Invocation
from streams.codec.retry import Origin
from streams.core.facts import Fact
from streams.core.lifecycle import Command, State, accept_and_start, decide, evolve, succeed
from streams.core.model import Function, Outcome
from streams.core.routing import Routes
from streams.engine.partition import Partition, SourceRecord
from streams.invokers import Runner
from streams.providers.base import Provider


@dataclass(slots=True, eq=False)
class Load:
    """What a function has under way here, all its versions together."""

    running: int = 0
    """Attempts under way."""
    long: int = 0
    """Those of them that take long."""


@dataclass(slots=True, eq=False)
class Prepared:
    """A version of a function, ready to run."""

    function: Function
    provider: Provider
    run: Runner | None
    """None: the function is gone, but invocations of it are still waiting."""
    encode_success: Encode
    encode_failure: Encode
    after_success: Routes
    after_failure: Routes
    reserved: int | None
    """This worker's share of the function's reserved concurrency."""
    load: Load
    """Shared with the function's other versions, as reserved concurrency is."""
    waits: bool = False
    """An attempt has been seen to wait for something."""


@dataclass(slots=True, eq=False)
class Work:
    """One invocation while one of its records is being processed."""

    partition: Partition
    source: TopicPartition
    record: SourceRecord
    key: bytes
    invocation: Invocation
    prepared: Prepared
    state: State | None
    arrived: Origin | None = None
    """The record with which it arrived, if that is another one than *record*."""
    facts: list[Fact] = field(default_factory=list)
    """What has happened and is not written yet."""
    started_at_ms: int | None = None
    journaled: bool = False
    """The table holds all of it; its record's offset is released."""
    long: bool = False
    """Its attempt takes long."""
    suspicion: int = 0
    """How often the worker has died while it ran, as far as one can tell; see `careful`."""
    task: asyncio.Task[None] | None = None
    """What makes its attempt, once something does."""
    cut: bool = False
    """Its invocation was cancelled: whatever its attempt still does counts for nothing."""

    @property
    def origin(self) -> Origin:
        return self.arrived or Origin.of(self.record)

    def apply(self, command: Command) -> State:
        """Decide on *command* and evolve. Old news leaves the state as it was."""
        facts = decide(self.state, command, self.prepared.function.policy)
        for fact in facts:
            self.state = evolve(self.state, fact)
        self.facts += facts
        assert self.state is not None
        return self.state

    def accept_and_start(self, now_ms: int) -> bool:
        """Accept it and start its first attempt, if it may start now; False: nothing is decided."""
        invocation, prepared = self.invocation, self.prepared
        begun = accept_and_start(
            now_ms,
            invocation.accepted_at_ms,
            invocation.due_at_ms,
            invocation.depth,
            prepared.load.running,
            prepared.reserved,
            prepared.function.policy,
        )
        if begun is None:
            return False
        facts, self.state = begun
        self.facts += facts
        return True

    def succeed(self, now_ms: int, outcome: Outcome) -> State:
        """Its attempt has returned."""
        assert self.state is not None
        fact, state = succeed(self.state, now_ms, outcome)
        self.facts.append(fact)
        self.state = state
        return state

    def begin(self, now_ms: int) -> None:
        """Its attempt counts as under way."""
        self.started_at_ms = now_ms
        self.partition.running[self.key] = self
        self.prepared.load.running += 1

    def end(self) -> None:
        """Its attempt is not under way any more."""
        del self.partition.running[self.key]
        self.abandon()

    def cut_off(self) -> None:
        """Its attempt is not to go on. It takes up its place until it has really ended."""
        self.cut = True
        del self.partition.running[self.key]
        if self.task is None:
            self.abandon()
        else:
            self.task.add_done_callback(lambda _: self.abandon())
            self.task.cancel()

    def abandon(self) -> None:
        """It counts no longer: its partition is not ours any more."""
        self.prepared.load.running -= 1
        self.prepared.load.long -= self.long
