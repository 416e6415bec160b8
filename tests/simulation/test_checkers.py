"""The simulation finds what it is there to find: engines that are broken on purpose are caught by the law they break.

Each variant takes one protection away. It must be caught within a few seeds, and the same world with the engine as it
is must be in order: so it is the protection that makes the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from aiokafka import TopicPartition

from streams.codec import state as state_bytes
from streams.codec.state import is_cancelled, pack, unpack
from streams.core import lifecycle
from streams.core.lifecycle import Start
from streams.core.model import Delivery, Outcome
from streams.engine.commits import Committer
from streams.engine.deliveries import Deliveries
from streams.engine.effects import Effects
from streams.engine.processor import Processor
from streams.engine.requests import Requests
from streams.engine.transaction import Output, Position, Refusal
from streams.engine.work import Work
from streams.laws import LAWS

from .log import Cluster
from .shape import Fault, Input, Shape
from .worker import Consumer, NumberedPartition, SimulatedEngine
from .world import Model, World

SEEDS = 100


# -- the variants ----------------------------------------------------------------------------------------------------


class AcknowledgesEarly(Cluster):
    """Offsets are committed as soon as they are sent, whatever becomes of the transaction."""

    commits_offsets_early = True


class FencesNobody(Cluster):
    """Offsets of any generation are accepted, and nobody waits for open transactions."""

    accepts_any_generation = True


class ForgetsWhoEnded(Requests):
    """Finished requests are not recognised when they come again."""

    def get(self, key: bytes) -> bytes | None:
        return self.waiting.get(key) or self.journaled.get(key)


class ForgetsTooEarly(Requests):
    """Finished requests are forgotten although their records may come again."""

    def _settle(self, reading_at: Mapping[TopicPartition, int], committed: Mapping[TopicPartition, int]) -> None:
        self._settled_count = self._ended_count


class DropsAborted(Committer):
    """What an aborted transaction held is not written again."""

    def _put_back(self, taken: Any, error: Exception) -> None:
        super()._put_back([take._replace(outputs={}) for take in taken], error)


class StartsCancelled(NumberedPartition):
    """That an invocation was cancelled while it waited is written to its record, but not to the table."""

    def put(self, key: bytes, packed: bytes, over: bool) -> None:
        if not is_cancelled(packed):
            super().put(key, packed, over)


class ForgetsTheRecordToCome(NumberedPartition):
    """A cancelled invocation may be forgotten although its retry record is still to come."""

    def put(self, key: bytes, packed: bytes, over: bool) -> None:
        state = unpack(packed)
        super().put(key, pack(state), state.is_over)


class KeepsNoPositions(NumberedPartition):
    """What was done is known to the group only, which forgets it when all workers are away for long."""

    def write_positions(self, positions: Mapping[TopicPartition, Position]) -> list[Output]:
        return []


class GivesUpInSilence(NumberedPartition):
    """What a topic that is not ours does not take is forgotten."""

    def give_up(self, target: TopicPartition, why: str, is_for_all: bool) -> None:
        del self.outputs[target]


class SeeksLikeStockFaust(Consumer):
    """Partitions without a committed offset above 0 are not sought; where they are read on is left to the fetcher.

    What the fetcher had when the rebalance began is dropped, and its positions stay behind that.
    """

    async def _find_positions(self, positions: dict[TopicPartition, int]) -> None:
        await super()._find_positions(positions)
        for source, position in positions.items():
            positions[source] = self._cluster.log(*source).read(position)[1]

    def perform_seek(self) -> bool:
        for source, position in self._cluster.group.offsets.items():
            if source in self.positions and position.offset > 0:
                self.positions[source] = position.offset
        return True

    def _check(self, source: TopicPartition, position: int, end: int) -> None:
        partition = self.engine.partitions[source.partition]
        partition.fetched[source] = end
        if partition.delivered[source] != position:
            partition.delivered[source] = partition.accepted[source] = position


class RunsTwice(NumberedPartition):
    """Nobody looks whether a request is under way already."""

    def is_busy(self, key: bytes) -> bool:
        return False


class LosesCount(Requests):
    """An invocation that ends is counted nowhere any more."""

    def put(self, key: bytes, packed: bytes, over: bool) -> None:
        super().put(key, packed, over)
        if over:
            del self.ended[key]


class DeliversNothing(NumberedPartition):
    """What goes to topics that are not ours is left out."""

    def emit_to(self, target: TopicPartition, key: bytes, value: bytes, headers: Any, refused: Refusal) -> None:
        """Nothing."""


class WaitsForRecordsOnly(NumberedPartition):
    """A revocation does not wait for what is in the journal, however short it is."""

    def has_landed(self) -> bool:
        return self.in_flight_count <= len(self.early)


class AcquiresWhileStopping(SimulatedEngine):
    """A worker that was told to stop takes over what it is given all the same, and runs it."""

    is_draining = property(lambda self: False, lambda self, value: None)
    has_drained = property(lambda self: False, lambda self, value: None)


async def _imagines(processor: Processor, work: Work, event: object) -> Outcome:
    """As `Processor._run`, but no function runs."""
    return Outcome("returned", 200, b"{}")


_settle = Effects.settle


def _settles_the_last(effects: Effects, settled: Sequence[tuple[Work, int]], record_to_come: bool = False) -> None:
    """As `Effects.settle`, but of those that end together only the last leaves anything."""
    for work, _ in settled[:-1]:
        work.partition.finish(work.source, work.record.offset)
    _settle(effects, settled[-1:], record_to_come)


def _gives_up(deliveries: Deliveries, item: Any, later: Delivery) -> None:
    """As `Deliveries._put_off`, but nothing waits anywhere."""
    item.partition.finish(item.source, item.record.offset)


_try = Deliveries._try


async def _acknowledges_unsent(deliveries: Deliveries, item: Any, *sent: Any) -> None:
    """As `Deliveries._try`, but the delivery's offset is released before a service has it."""
    item.partition.finish(item.source, item.record.offset)
    await _try(deliveries, item, *sent)


def _forgets_executions(packed: bytes) -> Any:
    """As `unpack`, but how often the function has run is forgotten."""
    return replace(state_bytes.unpack(packed), executions=0)


def _expires_never(state: Any, command: Any, policy: Any) -> Any:
    """As `decide`, but an attempt may start at any age."""
    if isinstance(command, Start) and state is not None:
        return lifecycle.decide(replace(state, accepted_at_ms=command.at_ms), command, policy)
    return lifecycle.decide(state, command, policy)


# -- the worlds they live in -----------------------------------------------------------------------------------------


def _busy(shape: Shape) -> None:
    """Processes die all the time."""
    rng = Random(len(shape.inputs))
    shape.faults = [
        Fault("crash", 0.0, point, count, 1.0)
        for point in ("ended", "offsets sent", "produced")
        for count in (3, 9, 20)
    ]
    shape.faults += [Fault("stop", 0.0, "offsets sent", 1 + rng.randrange(30), 20.0) for _ in range(4)]


def _served(shape: Shape) -> None:
    """Whoever has an id goes to a function that sends everything to services outside Kafka."""
    shape.faults = []
    shape.inputs = [
        sent._replace(
            headers=tuple((name, b"a-served" if name == "function" else value) for name, value in sent.headers)
        )
        for sent in shape.inputs
        if sent.key is not None
    ]


def _dying_senders(shape: Shape) -> None:
    """Processes die while they deliver."""
    _served(shape)
    shape.faults = [Fault("crash", 0.0, "before delivery", nth, 1.0) for nth in range(1, 40, 3)]


def _forgetful(shape: Shape) -> None:
    _busy(shape)
    shape.settings = replace(shape.settings, terminal_max=1, terminal_retention_s=0.0)
    shape.inputs = list({sent.key or sent: sent for sent in shape.inputs}.values())


def _cancelled(shape: Shape) -> None:
    """Whoever has an id is cancelled, by somebody who knows all of it."""
    shape.commands = [
        Input(
            sent.at_s + delay_s, sent.number, sent.key, sent.value, (("command", b"cancel"), ("function", b"f_plain"))
        )
        for sent in shape.inputs
        if sent.key is not None
        for delay_s in (2.0, 8.0)
    ]


def _cancelled_and_forgotten(shape: Shape) -> None:
    _forgetful(shape)
    shape.faults = []
    _cancelled(shape)


def _refused(shape: Shape) -> None:
    shape.weather = replace(shape.weather, abort=0.3)


def _calm(shape: Shape) -> None:
    """Nothing goes wrong but functions."""
    shape.faults = []
    shape.weather = replace(shape.weather, abort=0.0, answer_lost=0.0, slow=0.0)
    shape.unknown = 0.0


def _repetitive(shape: Shape) -> None:
    """Everything is sent twice, the second time while the first may run."""
    _calm(shape)
    shape.settings = replace(shape.settings, terminal_retention_s=1e9, terminal_max=10**9)
    shape.inputs += [sent._replace(at_s=sent.at_s + 0.5) for sent in shape.inputs if sent.key is not None]


def _leaving(shape: Shape) -> None:
    """Workers are told to stop while they take partitions over."""
    shape.faults = [Fault("quit", 0.0, "recovering", nth, 0.0) for nth in range(1, 60, 3)]


def _late(shape: Shape) -> None:
    shape.faults = [Fault("outage", 3.0, "", 0, 30_000.0)]


def _abandoned(shape: Shape) -> None:
    """All workers are away for so long that the group's offsets are forgotten, and ended requests soon are."""
    _forgetful(shape)
    shape.faults = [Fault("outage", 100.0, "", 0, 30_000.0)]


def _unwelcome(shape: Shape) -> None:
    """Other people's topics do not take what functions have for them."""
    _calm(shape)
    shape.weather = replace(shape.weather, refuse=0.5)


def _restless(shape: Shape) -> None:
    """One rebalance after the other."""
    shape.faults = [Fault("rebalance", at_s, "", 0, 0.0) for at_s in range(0, 200, 5)]


@dataclass(frozen=True, slots=True)
class Variant:
    """What is broken, where it shows, and which laws it breaks."""

    name: str
    laws: tuple[str, ...]
    reshape: Callable[[Shape], None]
    model: Model = field(default_factory=Model)


VARIANTS = (
    Variant("acknowledges-early", ("L1",), _busy, Model(cluster=AcknowledgesEarly)),
    Variant("forgets-who-ended", ("L2",), _busy, Model(requests=ForgetsWhoEnded)),
    Variant("fences-nobody", ("L2", "L4"), _busy, Model(cluster=FencesNobody)),
    Variant("drops-aborted", ("L1",), _refused, Model(committer=DropsAborted)),
    Variant("starts-cancelled", ("L6",), _cancelled, Model(partition=StartsCancelled)),
    Variant("forgets-the-record-to-come", ("L2",), _cancelled_and_forgotten, Model(partition=ForgetsTheRecordToCome)),
    Variant("forgets-too-early", ("L2",), _forgetful, Model(requests=ForgetsTooEarly)),
    Variant("keeps-no-positions", ("L2",), _abandoned, Model(partition=KeepsNoPositions)),
    Variant("gives-up-in-silence", ("L8",), _unwelcome, Model(partition=GivesUpInSilence)),
    Variant("seeks-like-stock-faust", ("L1",), _restless, Model(consumer=SeeksLikeStockFaust)),
    Variant("loses-count", ("L5",), _calm, Model(requests=LosesCount)),
    Variant("runs-twice", ("L7",), _repetitive, Model(partition=RunsTwice)),
    Variant("delivers-nothing", ("L8",), _calm, Model(partition=DeliversNothing)),
    Variant("acquires-while-stopping", ("stop",), _leaving, Model(engine=AcquiresWhileStopping)),
    Variant("waits-for-records-only", ("handover",), _restless, Model(partition=WaitsForRecordsOnly)),
)


@dataclass(frozen=True, slots=True)
class Patch:
    """A variant that replaces a function."""

    variant: Variant
    target: str
    by: Any


PATCHES = (
    Patch(Variant("imagines", ("L3",), _calm), "streams.engine.processor.Processor._run", _imagines),
    Patch(Variant("forgets-executions", ("L4",), _calm), "streams.engine.processor.unpack", _forgets_executions),
    Patch(Variant("settles-the-last", ("L1",), _busy), "streams.engine.effects.Effects.settle", _settles_the_last),
    Patch(Variant("gives-up", ("L8",), _served), "streams.engine.deliveries.Deliveries._put_off", _gives_up),
    Patch(
        Variant("acknowledges-unsent", ("L8",), _dying_senders),
        "streams.engine.deliveries.Deliveries._try",
        _acknowledges_unsent,
    ),
    Patch(Variant("expires-never", ("L6",), _late), "streams.engine.work.decide", _expires_never),
)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_broken_engine_is_caught(variant: Variant) -> None:
    caught_by = _first_seed(variant)

    assert caught_by is not None, f"{variant.name} broke none of {variant.laws} in {SEEDS} seeds"
    assert World(caught_by, reshape=variant.reshape).run().violations == []


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.variant.name)
def test_an_engine_with_a_broken_function_is_caught(patch: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch.target, patch.by)
    caught_by = _first_seed(patch.variant)
    monkeypatch.undo()

    assert caught_by is not None, f"{patch.variant.name} broke none of {patch.variant.laws} in {SEEDS} seeds"
    assert World(caught_by, reshape=patch.variant.reshape).run().violations == []


def test_every_law_catches_somebody() -> None:
    variants = (*VARIANTS, *(patch.variant for patch in PATCHES))

    assert LAWS.keys() <= {variant.laws[0] for variant in variants}


def _first_seed(variant: Variant) -> int | None:
    """The first seed whose world breaks one of the variant's laws."""
    for seed in range(SEEDS):
        broken = {violation.law for violation in World(seed, variant.model, variant.reshape).run().violations}
        if broken.intersection(variant.laws):
            return seed
    return None
