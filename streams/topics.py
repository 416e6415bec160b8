"""The names of our topics, and which of them must have equal partition counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from streams.core.tiers import TIERS

INVOCATIONS = "invocations"
COMMANDS = "commands"
DELIVERIES = "deliveries"
DLQ = "dlq"
FACTS = "facts"
FUNCTIONS = "functions"
RECORD_TOPICS = tuple(f"{cloud}.{end}" for cloud in ("aws", "fc", "functiongraph") for end in ("success", "failure"))


@dataclass(frozen=True, slots=True)
class Topics:
    """Full topic names under *prefix* (``""``, or for instance ``"staging."``)."""

    prefix: str = ""
    _names: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def name(self, topic: str) -> str:
        """*topic* with the prefix: the same string each time, as a new one for each record would be hashed anew."""
        name = self._names.get(topic)
        if name is None:
            name = self._names[topic] = self.prefix + topic
        return name

    @property
    def app_id(self) -> str:
        """Faust's app id: the consumer group, and the first part of transactional ids."""
        return f"{self.prefix}streams"

    @property
    def invocations(self) -> str:
        return self.name(INVOCATIONS)

    @property
    def commands(self) -> str:
        return self.name(COMMANDS)

    @property
    def deliveries(self) -> str:
        """What is to go to services outside Kafka."""
        return self.name(DELIVERIES)

    @property
    def dlq(self) -> str:
        return self.name(DLQ)

    @property
    def facts(self) -> str:
        return self.name(FACTS)

    @property
    def functions(self) -> str:
        """What the APIs say of functions: one partition, compacted."""
        return self.name(FUNCTIONS)

    @property
    def changelog(self) -> str:
        """Changelog of the table `requests`, as Faust names it."""
        return f"{self.app_id}-requests-changelog"

    @property
    def tiers(self) -> tuple[str, ...]:
        """Retry topics, shortest delay first."""
        return tuple(self.name(tier.topic) for tier in TIERS)

    @property
    def sources(self) -> tuple[str, ...]:
        """What workers read, the retry topics last."""
        return (self.invocations, self.commands, self.deliveries, *self.tiers)

    @property
    def records(self) -> tuple[str, ...]:
        return tuple(self.name(topic) for topic in RECORD_TOPICS)

    @property
    def copartitioned(self) -> tuple[str, ...]:
        """Topics of which a worker owns the same partition numbers: all need one partition count."""
        return (*self.sources, self.changelog)

    @property
    def partitioned(self) -> tuple[str, ...]:
        """Topics that have the partition count of the installation: a worker writes to its own number of each."""
        return (*self.copartitioned, *self.records, self.dlq, self.facts)

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.partitioned, self.functions)
