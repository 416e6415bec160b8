"""confluent-kafka (librdkafka) by hand, exactly once: one transaction a poll, with the consumer's offsets in it.

Settings: as `raw_confluent`, and a transactional id, read_committed, no auto-commit. No state and no facts are kept, so
it does less than Streams does.
"""

from __future__ import annotations

import asyncio

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.contenders.place import Place
from benchmarks.contenders.raw_confluent import consumer_settings, poll, produce, producer_settings, run_all


def main() -> None:
    place = Place.from_env()
    consumer = Consumer(consumer_settings(place) | {"enable.auto.commit": False, "isolation.level": "read_committed"})
    producer = Producer(producer_settings(place) | {"transactional.id": f"{place.prefix}worker-0"})
    producer.init_transactions(60)
    consumer.subscribe([place.input])
    with asyncio.Runner() as runner:
        while True:
            messages = poll(consumer)
            if not messages:
                continue
            results = run_all(runner, place, messages)
            producer.begin_transaction()
            produce(producer, place, messages, results)
            ends = {message.partition(): message.offset() + 1 for message in messages}
            offsets = [TopicPartition(place.input, number, offset) for number, offset in ends.items()]
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 60)
            producer.commit_transaction(60)


if __name__ == "__main__":
    main()
