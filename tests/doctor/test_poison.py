"""Poison is poison: none of it can be read, and what is only strange can."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

import pytest
from aiokafka.record.memory_records import MemoryRecords

from streams.codec.avro import Codec, load_schemas
from streams.codec.envelope import read_invocation, request_id_of
from streams.codec.errors import InputRejected
from streams.doctor import poison
from streams.doctor.inputs import Input
from streams.engine.fetched import LenientRecords
from streams.providers import PROVIDERS
from streams.providers.base import InvalidEvent

NOW_MS = 1_790_000_000_000
CODEC = Codec(load_schemas())


@dataclass
class Record:
    """An input as it would be read."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    topic: str = "invocations"
    partition: int = 0
    offset: int = 5
    timestamp: int = NOW_MS


def record(item: Input) -> Record:
    return Record(item.key, item.value, item.headers)


def is_accepted(item: Input) -> bool:
    """Whether a worker would run it."""
    try:
        invocation = read_invocation(record(item), NOW_MS, CODEC)
        name, _, cloud = invocation.function.partition("-")
        if name != "work" or cloud not in PROVIDERS:
            return False
        PROVIDERS[cloud].read_event(invocation.event)
    except (InputRejected, InvalidEvent):
        return False
    assert invocation.request_id == item.id
    return True


@pytest.mark.parametrize("kind", poison.SMALL)
def test_what_is_to_be_unreadable_is(kind: str) -> None:
    chance = Random(kind)

    assert not any(is_accepted(poison.small(chance, f"id-{number}", kind)) for number in range(50))


def test_every_input_is_what_it_says_it_is() -> None:
    for item in islice(poison.poisoned("poison", 11), 200):
        assert is_accepted(item) == (item.expected != "dead letter"), item.headers


def test_an_id_is_what_a_dead_letter_will_have() -> None:
    for item in islice(poison.poisoned("poison", 12), 200):
        if item.id is not None and item.expected == "dead letter":
            assert request_id_of(record(item)) == item.id


def test_a_header_name_that_is_no_text_is_read_by_workers_and_by_nobody_else() -> None:
    item = poison.broken_header(Random(1), "id-1")
    batch = poison.with_broken_header(item, NOW_MS)
    with pytest.raises(UnicodeDecodeError):
        list(MemoryRecords(batch).next_batch())  # type: ignore[arg-type]
    records = LenientRecords(batch + batch)

    read = []
    while records.has_next():
        following = records.next_batch()
        assert following.validate_crc()
        read += [(one.key, one.value, one.headers[1:]) for one in following]
    assert read == 2 * [(item.key, item.value, list(item.headers[1:]))]
    assert records.next_batch() is None
