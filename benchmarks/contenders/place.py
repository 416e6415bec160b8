"""Where a contender works: what its process finds in its environment, and the topics that it may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from benchmarks import functions

_PREFIX = "BENCHMARK_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Everything a worker process of any contender needs to know."""

    broker: str
    """Kafka's bootstrap servers."""
    prefix: str
    """Begins every topic, group and key of one measurement."""
    partitions: int
    function: str
    """Which of `benchmarks.functions` it runs."""
    has_outcome: bool = True
    redis_port: int = 0
    """0: there is no Redis."""

    @property
    def input(self) -> str:
        return self.prefix + "in"

    @property
    def output(self) -> str:
        return self.prefix + "out"

    @property
    def facts(self) -> str:
        return self.prefix + "facts"

    @property
    def group(self) -> str:
        return self.prefix + "group"

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}/0"

    def run(self) -> Callable[[Any], Any]:
        """The function."""
        chosen: Callable[[Any], Any] = getattr(functions, self.function)
        return chosen

    def environment(self) -> dict[str, str]:
        """As `from_env` reads it."""
        return {_PREFIX + field.name.upper(): str(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Place:
        """The place that the harness has described."""
        return cls(
            broker=env[_PREFIX + "BROKER"],
            prefix=env[_PREFIX + "PREFIX"],
            partitions=int(env[_PREFIX + "PARTITIONS"]),
            function=env[_PREFIX + "FUNCTION"],
            has_outcome=env[_PREFIX + "HAS_OUTCOME"] == "True",
            redis_port=int(env[_PREFIX + "REDIS_PORT"]),
        )
