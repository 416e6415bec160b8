"""FastStream as its users write it: a subscriber that publishes, and acknowledges afterwards.

Settings: AckPolicy.ACK (the offset is committed when the handler is done and its record published), acks=all,
idempotent producer, no log line a message, one handler for each partition at a time. Every record is published and
committed by itself. Documented promise: at least once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaResponse
from faststream.kafka.annotations import KafkaMessage

from benchmarks.contenders.place import Place
from benchmarks.functions import outcome

PLACE = Place.from_env()
RUN = PLACE.run()
broker = KafkaBroker(PLACE.broker, acks="all", enable_idempotence=True, logger=None)
app = FastStream(broker)
subscriber = broker.subscriber(
    PLACE.input,
    group_id=PLACE.group,
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.ACK,
    max_workers=PLACE.partitions,
)


async def handle(event: Any, message: KafkaMessage) -> KafkaResponse:
    value, key = message.raw_message.value, message.raw_message.key
    result = await RUN(event) if asyncio.iscoroutinefunction(RUN) else await asyncio.to_thread(RUN, event)
    return KafkaResponse(outcome(key.decode(), value, result), key=key)


async def handle_only(event: Any) -> None:
    await RUN(event)


if PLACE.has_outcome:
    broker.publisher(PLACE.output)(subscriber(handle))
else:
    subscriber(handle_only)

if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    asyncio.run(app.run())
