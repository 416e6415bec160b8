"""What is known of requests: those that wait, those under way for long, and those that have ended."""

from __future__ import annotations

from aiokafka import TopicPartition

from streams.codec.state import PACKED_BYTES, pack
from streams.core.lifecycle import State
from streams.engine.requests import Requests

SOURCE = TopicPartition("invocations", 0)
WAITING = pack(State("waiting", 2, 1, 1, 0, 5, 10))
JOURNAL = WAITING + b"and what is needed to run it again"


def ended(at_ms: int) -> bytes:
    return pack(State("succeeded", 1, 1, 0, 0, 5, at_ms))


def test_a_request_is_where_its_last_state_says() -> None:
    requests = Requests()
    for state, over in ((WAITING, False), (JOURNAL, False), (WAITING, False), (JOURNAL, False), (ended(7), True)):
        requests.put(b"id", state, over)
        assert requests.get(b"id") == state
        assert requests.is_open(b"id") == (not over)
        assert (len(requests), requests.open_count) == (1, not over)
        assert dict(requests.items()) == {b"id": state}


def test_what_is_restored_is_what_was_put() -> None:
    table = {b"a": ended(1), b"b": WAITING, b"c": JOURNAL, b"d": ended(2)}
    requests = Requests()
    requests.restore(table, {})
    assert dict(requests.items()) == table
    assert list(requests.ended) == [b"a", b"d"]
    assert list(requests.journaled) == [b"c"]
    assert len(requests.waiting) == 1


def test_the_finished_are_forgotten_in_the_order_in_which_they_ended() -> None:
    requests = Requests()
    for number, key in enumerate((b"a", b"b", b"c")):
        requests.put(key, ended(number), over=True)
    assert requests.evict(2, 10, {SOURCE: 3}, {SOURCE: 3}) == [], "their records may come again"
    assert requests.evict(2, 10, {SOURCE: 3}, {SOURCE: 3}) == [b"a", b"b"]
    assert [key for key, _ in requests.items()] == [b"c"]


def test_what_was_restored_is_not_forgotten_before_all_that_was_read_is_committed() -> None:
    requests = Requests()
    requests.restore({b"a": ended(0)}, {SOURCE: 9})
    assert requests.evict(2, 10, {SOURCE: 3}, {SOURCE: 8}) == [], "its record may come again"
    assert requests.evict(2, 10, {SOURCE: 9}, {SOURCE: 9}) == [b"a"]


def test_what_no_earlier_owner_can_have_read_need_not_be_waited_for() -> None:
    requests = Requests()
    requests.restore({b"a": ended(0)}, {SOURCE: 9})
    requests.read_at_most(SOURCE, 3)
    assert requests.evict(2, 10, {SOURCE: 3}, {SOURCE: 2}) == []
    assert requests.evict(2, 10, {SOURCE: 3}, {SOURCE: 3}) == [b"a"]

    requests.put(b"b", ended(0), over=True)
    requests.read_at_most(SOURCE, 0)  # what is read since then is known for sure
    assert requests.evict(2, 10, {SOURCE: 3}, {SOURCE: 2}) == []


def test_a_state_of_another_size_does_not_harm_its_neighbours() -> None:
    requests = Requests()
    requests.restore({b"damaged": WAITING[: PACKED_BYTES - 3], b"fine": WAITING}, {})
    assert requests.get(b"fine") == WAITING
    assert requests.get(b"damaged") == WAITING[: PACKED_BYTES - 3]
