"""The simulation finds what it is there to find: engines that are broken on purpose are caught by the law they break.

Each variant takes one protection away. It must be caught within a few seeds, and the same world with the engine as it
is must be in order: so it is the protection that makes the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from aiokafka import TopicPartition

from streams.codec.state import is_cancelled, pack, unpack
from streams.core import lifecycle
from streams.core.lifecycle import Start
from streams.engine.commits import Committer
from streams.engine.requests import Requests

from .log import Cluster
from .shape import Fault, Input, Shape
from .worker import Consumer, NumberedPartition
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
        return self.open.get(key)


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


def _late(shape: Shape) -> None:
    shape.faults = [Fault("outage", 3.0, "", 0, 30_000.0)]


def _restless(shape: Shape) -> None:
    """One rebalance after the other."""
    shape.faults = [Fault("rebalance", at_s, "", 0, 0.0) for at_s in range(0, 200, 5)]


@dataclass(frozen=True, slots=True)
class Variant:
    """What is broken, where it shows, and which laws it breaks."""

    name: str
    laws: Iterable[str]
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
    Variant("seeks-like-stock-faust", ("L1",), _restless, Model(consumer=SeeksLikeStockFaust)),
)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_broken_engine_is_caught(variant: Variant) -> None:
    caught_by = _first_seed(variant)

    assert caught_by is not None, f"{variant.name} broke none of {variant.laws} in {SEEDS} seeds"
    assert World(caught_by, reshape=variant.reshape).run().violations == []


def test_an_engine_that_does_not_look_at_the_age_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    variant = Variant("expires-never", ("L6",), _late)
    for module in ("work", "careful"):
        monkeypatch.setattr(f"streams.engine.{module}.decide", _expires_never)
    caught_by = _first_seed(variant)
    monkeypatch.undo()

    assert caught_by is not None
    assert World(caught_by, reshape=variant.reshape).run().violations == []


def _first_seed(variant: Variant) -> int | None:
    """The first seed whose world breaks one of the variant's laws."""
    for seed in range(SEEDS):
        broken = {violation.law for violation in World(seed, variant.model, variant.reshape).run().violations}
        if broken.intersection(variant.laws):
            return seed
    return None
