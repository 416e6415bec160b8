"""FastStream at its fastest within its promise: batches in, batches out, one acknowledgement a batch.

Settings: batch=True with up to 200 records, AckPolicy.ACK, `publish_batch` awaited before the acknowledgement,
acks=all, idempotent producer, no log line a message. Documented promise: at least once; one bad record fails its whole
batch.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaPublishMessage
from faststream.kafka.annotations import KafkaMessage

from benchmarks.contenders.place import Place
from benchmarks.functions import outcome

BATCH_MAX, BATCH_BYTES_MAX = 200, 15 << 20
PLACE = Place.from_env()
RUN = PLACE.run()
broker = KafkaBroker(
    PLACE.broker,
    acks="all",
    enable_idempotence=True,
    logger=None,
    max_batch_size=BATCH_BYTES_MAX,
    max_request_size=BATCH_BYTES_MAX,
)
app = FastStream(broker)


@broker.subscriber(
    PLACE.input,
    group_id=PLACE.group,
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.ACK,
    batch=True,
    max_records=BATCH_MAX,
    batch_timeout_ms=200,
)
async def handle(events: list[Any], message: KafkaMessage) -> None:
    outcomes = [
        KafkaPublishMessage(outcome(record.key.decode(), record.value, await RUN(event)), key=record.key)
        for event, record in zip(events, message.raw_message, strict=True)
    ]
    await broker.publish_batch(*outcomes, topic=PLACE.output)


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    asyncio.run(app.run())
