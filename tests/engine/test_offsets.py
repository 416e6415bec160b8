"""What a new owner takes, and where it begins to read."""

import pytest
from aiokafka import TopicPartition

from streams.codec.positions import TopicId, position_key, position_value, read_positions
from streams.engine.engine import LogTruncated, _check_offsets, _start, whole_numbers
from streams.engine.partition import Partition
from streams.engine.transaction import Position

from .support import TOPICS, FakeOwner

SOURCE = TopicPartition(TOPICS.invocations, 0)
KEY = position_key(TopicId(1, 2))


def _partition(committed: int, kept: int | None = None, end: int = 100) -> Partition:
    """A partition whose group has *committed* an offset and whose changelog has *kept* one; its topic ends at *end*."""
    partition = Partition(FakeOwner(), 0, TOPICS.sources, TOPICS.changelog, 1)
    partition.stable = {SOURCE: Position(committed, "")}
    partition.position_keys = {SOURCE: KEY}
    partition.positions_written = read_positions({KEY: position_value(kept)} if kept is not None else {})
    partition.last_at_start = {SOURCE: end}
    return partition


@pytest.mark.parametrize(
    ("committed", "kept", "first", "start"),
    [(7, None, 0, 7), (-1, None, 0, 0), (-1, None, 5, 5), (-1, 7, 0, 7), (0, 7, 0, 0), (8, 7, 0, 8), (-1, 7, 9, 9)],
)
def test_the_groups_offset_counts_then_the_changelogs_then_the_beginning(
    committed: int, kept: int | None, first: int, start: int
) -> None:
    assert _start(_partition(committed, kept), SOURCE, first) == start


@pytest.mark.parametrize("partition", [_partition(101), _partition(-1, 101)])
def test_a_log_that_has_lost_what_was_read_is_not_read_on(partition: Partition) -> None:
    """Neither its end nor its beginning is right: one skips what is new, the other repeats what is old."""
    partition.accepted = {SOURCE: _start(partition, SOURCE, 0)}
    with pytest.raises(LogTruncated, match="ends at 100, but was read up to 101"):
        _check_offsets(partition)


def test_a_log_that_was_read_to_its_end_is() -> None:
    partition = _partition(100)
    partition.accepted = {SOURCE: 100}
    _check_offsets(partition)


def test_a_partition_number_that_is_only_partly_ours_is_not_taken() -> None:
    """An older worker has the rest of it. Two would run the same invocations."""
    ours = [TopicPartition(topic, number) for topic in TOPICS.sources for number in (1, 2)]
    strange = TopicPartition("another", 3)
    assert whole_numbers([*ours, strange], TOPICS.sources) == {1, 2}
    assert whole_numbers(ours[:-1], TOPICS.sources) == {1}
