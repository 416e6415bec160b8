"""Offsets in a changelog, among states."""

from streams.codec.positions import TopicId, is_position, position_key, position_value, read_positions


def test_offsets_are_told_from_states_and_from_each_other() -> None:
    topics = [TopicId(1, 2), TopicId(-(1 << 63), (1 << 63) - 1), TopicId(2, 1)]
    table = {position_key(topic): position_value(offset) for offset, topic in enumerate(topics, start=1 << 40)}
    states = {b"id": b"\x01" * 30, "ÿ".encode(): b"\x01" * 30, b"\x00": b"\x01" * 30}
    assert list(read_positions(table | states).values()) == [1 << 40, (1 << 40) + 1, (1 << 40) + 2]
    assert not any(map(is_position, states))
