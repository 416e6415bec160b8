"""confluent-kafka (librdkafka) by hand, without any promise: offsets are committed by time, whatever becomes of sends.

Settings: polls of up to 2,000 records, linger 5 ms, auto-commit every 0.5 s; otherwise librdkafka's defaults.
Coroutines are run by an event loop of their own, all of a poll in one go.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer

from benchmarks.contenders.place import Place
from benchmarks.functions import outcome

POLL_MAX = 2_000


def consumer_settings(place: Place) -> dict[str, Any]:
    return {
        "bootstrap.servers": place.broker,
        "group.id": place.group,
        "group.instance.id": "worker-0",
        "auto.offset.reset": "earliest",
        "auto.commit.interval.ms": 500,
        "fetch.message.max.bytes": 8 << 20,
    }


def producer_settings(place: Place) -> dict[str, Any]:
    return {"bootstrap.servers": place.broker, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000}


def poll(consumer: Consumer) -> list[Any]:
    """What is there now; waits for the first of it, at most a second."""
    messages = consumer.consume(1, 1.0)
    if messages:
        messages += consumer.consume(POLL_MAX - 1, 0)
    return [message for message in messages if message.error() is None]


def run_all(runner: asyncio.Runner, place: Place, messages: list[Any]) -> list[object]:
    function = place.run()

    async def in_turn() -> list[object]:
        return [await function(orjson.loads(message.value())) for message in messages]

    return runner.run(in_turn())


def produce(producer: Producer, place: Place, messages: list[Any], results: list[object]) -> None:
    if place.has_outcome:
        for message, result in zip(messages, results, strict=True):
            key = message.key()
            value = outcome(key.decode(), message.value(), result)
            producer.produce(place.output, value, key, partition=message.partition())


def main() -> None:
    place = Place.from_env()
    consumer, producer = Consumer(consumer_settings(place)), Producer(producer_settings(place))
    consumer.subscribe([place.input])
    with asyncio.Runner() as runner:
        while True:
            messages = poll(consumer)
            produce(producer, place, messages, run_all(runner, place, messages))
            producer.poll(0)


if __name__ == "__main__":
    main()
