"""Faust as it comes, doing the same work: an agent, a table for state and deduplication, a record, a fact.

Settings: at_least_once (its exactly_once leaves sends outside the transaction), linger 5 ms and batches of 256 KiB
(several times faster than the defaults), table in memory without standbys, offsets committed every second, session
timeout 15 s as ours, a static group member, raw bytes in and out. Documented promise: at least once.
"""

from __future__ import annotations

import sys
import time

import faust
import orjson

from benchmarks.contenders.place import Place
from benchmarks.functions import outcome

PLACE = Place.from_env()
RUN = PLACE.run()
RAW = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}

app = faust.App(
    PLACE.group,
    broker=f"kafka://{PLACE.broker}",
    web_enabled=False,
    topic_disable_leader=True,
    topic_partitions=PLACE.partitions,
    topic_allow_declare=True,
    consumer_auto_offset_reset="earliest",
    consumer_group_instance_id="worker-0",
    broker_session_timeout=15,
    broker_request_timeout=40,
    broker_commit_interval=1.0,
    broker_max_poll_records=2000,
    producer_linger=0.005,
    producer_max_batch_size=256 << 10,
    table_standby_replicas=0,
    stream_wait_empty=False,
    store="memory://",
)
invocations = app.topic(PLACE.input, **RAW)
outcomes = app.topic(PLACE.output, **RAW)
facts = app.topic(PLACE.facts, **RAW)
requests = app.Table("requests", key_type=bytes, value_type=bytes, partitions=PLACE.partitions)


@app.agent(invocations)
async def invoke(stream: faust.Stream[bytes]) -> None:
    app.producer.buffer.max_messages = 10_000
    async for event in stream.events():
        key = event.key
        if requests.get(key):
            continue
        result = await RUN(orjson.loads(event.value))
        if not PLACE.has_outcome:
            continue
        partition, at_ms = event.message.partition, time.time_ns() // 1_000_000
        await outcomes.send(key=key, value=outcome(key.decode(), event.value, result), partition=partition)
        requests[key] = b"succeeded"
        fact = {"requestId": key.decode(), "kind": "succeeded", "attempt": 1, "at": at_ms}
        await facts.send(key=key, value=orjson.dumps(fact), partition=partition)


if __name__ == "__main__":
    sys.argv[1:] = ["worker", "--without-web", "--loglevel", "warn"]
    app.main()
