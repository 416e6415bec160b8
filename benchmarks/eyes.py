"""Sees outcomes as they arrive, with a client that no contender shares: read committed, by request number."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

_ID = b'"requestId":"'


class Eyes(Protocol):
    """Remembers when each request's outcome was seen first."""

    seen: dict[int, float]
    """By request number: `time.monotonic`."""
    duplicates: int
    """Outcomes of requests that had one already."""

    def look(self, within_s: float) -> None:
        """Take in what is there; wait for it at most *within_s*."""

    def close(self) -> None: ...


class KafkaEyes:
    """Reads topics from their beginning."""

    def __init__(self, broker: str, topics: Sequence[str], partitions: int) -> None:
        self.seen: dict[int, float] = {}
        self.duplicates = 0
        self._consumer = Consumer(
            {
                "bootstrap.servers": broker,
                "group.id": "benchmarks-eyes",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 100,
                "fetch.queue.backoff.ms": 5,
                "fetch.message.max.bytes": 16 << 20,
                "queued.max.messages.kbytes": 512 << 10,
                "socket.nagle.disable": True,
            }
        )
        self._consumer.assign([TopicPartition(topic, number, 0) for topic in topics for number in range(partitions)])

    def look(self, within_s: float) -> None:
        messages = self._consumer.consume(1, within_s)
        if messages:
            messages += self._consumer.consume(5_000, 0)
        now = time.monotonic()
        for message in messages:
            error = message.error()
            if error is None:
                self._saw(int((message.key() or b"")[1:]), now)
            elif error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)

    def _saw(self, number: int, now: float) -> None:
        if number in self.seen:
            self.duplicates += 1
        else:
            self.seen[number] = now

    def close(self) -> None:
        self._consumer.close()


class RedisEyes(KafkaEyes):
    """Takes the entries of a list."""

    def __init__(self, port: int, key: str) -> None:
        self.seen = {}
        self.duplicates = 0
        import redis  # here: it is only installed with the contenders that need it

        self._key = key
        self._redis = redis.Redis(port=port)

    def look(self, within_s: float) -> None:
        first = self._redis.blpop([self._key], within_s or 0.001)
        if not first:
            return
        entries = [first[1], *(self._redis.lpop(self._key, 5_000) or [])]
        now = time.monotonic()
        for entry in entries:
            start = entry.index(_ID) + len(_ID)
            self._saw(int(entry[start + 1 : start + 10]), now)

    def close(self) -> None:
        self._redis.close()


class OffsetEyes:
    """Sees no outcomes, only how many records of the input topic the group has committed.

    Who commits by time is seen to end up to one interval too late.
    """

    def __init__(self, broker: str, group: str, topic: str, partitions: int) -> None:
        self.seen: dict[int, float] = {}
        self.duplicates = 0
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]
        # Otherwise librdkafka waits whenever a transaction with offsets is open, which is nearly always.
        unwaiting = {"isolation.level": "read_uncommitted", "enable.auto.commit": False}
        self._consumer = Consumer({"bootstrap.servers": broker, "group.id": group, **unwaiting})

    def look(self, within_s: float) -> None:
        committed = self._consumer.committed(self._partitions, 10)
        now, count = time.monotonic(), sum(max(0, partition.offset) for partition in committed)
        self.seen.update(dict.fromkeys(range(len(self.seen), count), now))
        time.sleep(min(0.02, within_s))

    def close(self) -> None:
        self._consumer.close()
