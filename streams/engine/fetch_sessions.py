"""Incremental fetch sessions (KIP-227) for aiokafka: only partitions that changed travel, in either direction.

With 16 retry tiers a worker reads over a hundred partitions that are nearly always empty; sessions keep the fetch
requests small. aiokafka's fetcher goes on seeing its own full request and answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.client import ConnectionGroup
from aiokafka.protocol.api import Request
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11


class _SessionFetch(Request[FetchRequest_v11]):
    """A fetch request that names only what changed since the last one of its session."""

    API_KEY = 1

    def __init__(self, full: Any, session_id: int, epoch: int, topics: list[Any], forgotten: list[Any]) -> None:
        self._full = full
        self._session = (session_id, epoch, topics, forgotten)

    def build(self, request_struct_class: Any) -> Any:
        full = self._full
        head = (-1, full._max_wait_ms, full._min_bytes, full._max_bytes, full._isolation_level)
        return request_struct_class(*head, *self._session, full._rack_id)


class _Session:
    """The state of one broker's fetch session. Epoch 0 asks for a new one."""

    __slots__ = ("_bytes_max", "epoch", "id", "wanted")

    def __init__(self, bytes_max: Mapping[str, int]) -> None:
        self._bytes_max = bytes_max
        self.id = 0
        self.epoch = 0
        self.wanted: dict[tuple[str, int], tuple[int, int]] = {}

    def next_request(self, full: Any) -> tuple[_SessionFetch, dict[tuple[str, int], tuple[int, int]]]:
        wanted = {
            (topic, number): (offset, self._bytes_max.get(topic, size))
            for topic, partitions in full.topics
            for number, offset, size in partitions
        }
        known = self.wanted if self.epoch else {}
        changed = _by_topic(
            (topic, (number, -1, offset, -1, size))
            for (topic, number), (offset, size) in wanted.items()
            if known.get((topic, number)) != (offset, size)
        )
        forgotten = _by_topic((topic, number) for topic, number in known if (topic, number) not in wanted)
        return _SessionFetch(full, self.id, self.epoch, changed, forgotten), wanted


def install(consumer: Any, bytes_max: Mapping[str, int]) -> None:
    """Make the fetches of one started AIOKafkaConsumer incremental.

    *bytes_max* says how much to fetch at once of a partition of these topics, instead of aiokafka's one limit for all.
    """
    client = consumer._client
    send = client.send
    sessions: dict[int, _Session] = {}

    async def send_in_session(node: int, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
        if type(request) is not FetchRequest:
            return await send(node, request, group=group)
        session = sessions.setdefault(node, _Session(bytes_max))
        fetch, wanted = session.next_request(request)
        epoch, session.epoch = session.epoch, 0  # a failure or a cancellation makes the next fetch a full one
        response = await send(node, fetch, group=group)
        if response.error_code:
            session.id = 0  # the broker evicted the session: the answer is empty
        else:
            session.id, session.wanted = response.session_id, wanted
            session.epoch = epoch + 1 if response.session_id else 0
        return response

    client.send = send_in_session


def _by_topic(items: Iterable[tuple[str, Any]]) -> list[tuple[str, list[Any]]]:
    topics: dict[str, list[Any]] = {}
    for topic, item in items:
        topics.setdefault(topic, []).append(item)
    return list(topics.items())
