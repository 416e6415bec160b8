"""Who is measured. Each has a file here, whose docstring says its settings; each runs as a process of its own."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from benchmarks.contenders import product
from benchmarks.contenders.place import Place

Promise = Literal["exactly once", "at least once", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Something that runs functions for events, or a ceiling."""

    name: str
    module: str
    """Its file here."""
    promise: Promise
    """What its documentation promises of an event whose worker is killed."""
    packages: tuple[str, ...] = ()
    """Distributions that it needs, for their versions."""
    imports: tuple[str, ...] = ()
    """Modules without which it is skipped."""
    workloads: tuple[str, ...] = ("W0", "W1", "W5", "W6-100", "W6-1000", "W6-half")
    pace: float = 1.0
    """How much of a backlog it gets, so that all take about as long."""
    requests: Mapping[str, int] = field(default_factory=dict)
    """Backlogs of single workloads, where *pace* does not tell."""
    is_on_redis: bool = False
    has_sender: bool = False
    """Its own way of putting an event in: `Sender` in its file. Otherwise it is a record on the input topic."""
    by_hand: bool = False
    """A loop written by hand: a ceiling, without state, retries or dead letters."""
    stall_s: float = 60.0
    """In the crash gate: nothing more comes when nothing has come for so long."""

    def command(self, place: Place, number: int) -> list[str]:
        """How to start worker *number*."""
        if self.module == "product":
            return product.command(place, number)
        return [sys.executable, "-m", f"{__name__}.{self.module}"]

    def missing(self) -> str | None:
        """What it needs and is not installed."""
        return next((name for name in self.imports if find_spec(name) is None), None)

    def settings(self) -> str:
        """What its file says about its settings."""
        source = (Path(__file__).parent / f"{self.module}.py").read_text()
        return ast.get_docstring(ast.parse(source)) or ""


def environment(contender: Contender, place: Place, folder: Path) -> dict[str, str]:
    """What its process finds in its environment besides ours; *folder* is its own."""
    more = product.environment(place, folder) if contender.module == "product" else {}
    return place.environment() | more


STREAMS = "streams"
_ALL = (
    Contender(
        name=STREAMS, module="product", promise="exactly once", packages=("aiokafka", "faust-streaming"),
        workloads=(
            "W0", "W1", "W2", "W3", "W4", "W5", "W6-100", "W6-1000", "W6-half", "W6-1000-p4", "W6-1000-p32", "W7", "W8",
            "W9-2", "W9-4", "idle",
        ),
    ),
    Contender(
        name="aiokafka", module="raw_aiokafka", promise="none", by_hand=True, packages=("aiokafka",),
        workloads=("W0", "W1", "W3", "W4", "W5", "W6-100", "W6-1000", "W6-half"),
    ),
    Contender(
        name="aiokafka-txn", module="raw_aiokafka_transactional", promise="exactly once", by_hand=True,
        packages=("aiokafka",),
    ),
    Contender(
        name="confluent", module="raw_confluent", promise="none", by_hand=True, packages=("confluent-kafka",), pace=3.0,
    ),
    Contender(
        name="confluent-txn", module="raw_confluent_transactional", promise="exactly once", by_hand=True,
        packages=("confluent-kafka",),
    ),
    Contender(
        name="faust", module="stock_faust", promise="at least once", packages=("faust-streaming",), imports=("faust",),
        workloads=("W0", "W1", "W5", "W6-100", "W6-1000", "W6-half"), pace=0.15,
    ),
    Contender(
        name="faststream", module="faststream_ack", promise="at least once", packages=("faststream",),
        imports=("faststream",), workloads=("W0", "W1", "W3", "W4", "W5", "W6-100", "W6-1000", "W6-half"), pace=0.06,
        requests={"W3": 600, "W4": 4_000},
    ),
    Contender(
        name="faststream-batch", module="faststream_batch", promise="at least once", packages=("faststream",),
        imports=("faststream",), workloads=("W1", "W5", "W6-100", "W6-1000", "W6-half"), pace=0.5,
    ),
    Contender(
        name="celery", module="celery_redis", promise="at least once", packages=("celery", "kombu", "redis"),
        imports=("celery", "redis"), workloads=("W1", "W2", "W4", "W5", "W6-100", "W6-half"), pace=0.05,
        is_on_redis=True, has_sender=True,
    ),
    Contender(
        name="dramatiq", module="dramatiq_redis", promise="at least once", packages=("dramatiq", "redis"),
        imports=("dramatiq", "redis"), workloads=("W1", "W2", "W4", "W5", "W6-100", "W6-half"), pace=0.05,
        is_on_redis=True, has_sender=True,
    ),
    Contender(
        name="taskiq", module="taskiq_kafka", promise="none", packages=("taskiq", "taskiq-aio-kafka"),
        imports=("taskiq", "taskiq_aio_kafka"), workloads=("W1", "W3", "W5", "W6-100", "W6-half"), pace=0.1,
        has_sender=True,
    ),
)  # fmt: skip
CONTENDERS = {contender.name: contender for contender in _ALL}


def chosen(names: str | None) -> list[Contender]:
    """The contenders of a comma-separated list; None: all. Raises ValueError naming what there is none of."""
    if names is None:
        return list(_ALL)
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in CONTENDERS:
            raise ValueError(f"there is no contender {name!r}; there are {', '.join(CONTENDERS)}")
    return [contender for contender in _ALL if contender.name in wanted]
