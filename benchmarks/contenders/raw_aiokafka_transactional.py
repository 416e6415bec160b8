"""aiokafka by hand, exactly once: one transaction a poll, with the consumer's offsets in it.

Settings: as `raw_aiokafka`, and a transactional id, read_committed, no auto-commit. No state and no facts are kept, so
it does less than Streams does.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.contenders.place import Place
from benchmarks.contenders.raw_aiokafka import POLL_MAX, run_all
from benchmarks.functions import outcome


async def main() -> None:
    place = Place.from_env()
    consumer: Any = AIOKafkaConsumer(
        place.input,
        bootstrap_servers=place.broker,
        group_id=place.group,
        group_instance_id="worker-0",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    producer: Any = AIOKafkaProducer(
        bootstrap_servers=place.broker,
        linger_ms=5,
        max_batch_size=256 << 10,
        transactional_id=f"{place.prefix}worker-0",
    )
    await producer.start()  # first: it fences whoever held the name, and ends what that had open
    await consumer.start()
    while True:
        polled = await consumer.getmany(timeout_ms=1000, max_records=POLL_MAX)
        if not polled:
            continue
        records = [record for partition in polled.values() for record in partition]
        results = await run_all(place, records)
        async with producer.transaction():
            if place.has_outcome:
                sent = [
                    await producer.send(
                        place.output,
                        outcome(record.key.decode(), record.value, result),
                        record.key,
                        partition=record.partition,
                    )
                    for record, result in zip(records, results, strict=True)
                ]
                await asyncio.gather(*sent)
            offsets = {partition: records[-1].offset + 1 for partition, records in polled.items()}
            await producer.send_offsets_to_transaction(offsets, place.group)


if __name__ == "__main__":
    asyncio.run(main())
