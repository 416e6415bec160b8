"""What a client of Kafka says again and again is logged seldom; everything else always."""

from __future__ import annotations

import logging

import pytest

from streams.engine.worker import REPEATED_AFTER_S, Seldom


def record(name: str, text: str, at_s: float) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.ERROR, "", 0, text, ("anything",), None)
    made.created = at_s
    return made


@pytest.mark.parametrize("name", ["aiokafka.consumer.fetcher", "streams.engine.transaction"])
def test_a_line_about_kafka_is_not_repeated_at_once(name: str) -> None:
    seldom = Seldom()
    times = (100.0, 100.1, 100.2, 100.0 + REPEATED_AFTER_S)

    assert [seldom.filter(record(name, "%s failed", at_s)) for at_s in times] == [True, False, False, True]
    assert seldom.filter(record(name, "another line: %s", 100.1))


def test_our_own_lines_are_always_logged() -> None:
    seldom = Seldom()

    assert all(seldom.filter(record("streams.engine.engine", "stopping: %s", 100.0)) for _ in range(3))
