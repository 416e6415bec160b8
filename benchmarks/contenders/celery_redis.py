"""Celery on Redis; the outcome is an entry of a Redis list, as a result backend would keep it.

Settings: acks_late and reject_on_worker_lost (documented: at least once), ignore_result, no rate limits, no events,
visibility_timeout and unacked_mutex_expire 10 s, so that a dead worker's tasks come back while we watch; pool `solo`
(no process or thread between the broker and the task: the fastest for short tasks), `threads` with 32 for W4. Redis
writes its append-only file every second. Coroutines are run by one event loop that the worker keeps.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Sequence

import orjson
import redis
from celery import Celery

from benchmarks.contenders.place import Place
from benchmarks.functions import outcome

PLACE = Place.from_env()
RUN = PLACE.run()
IS_ASYNC = inspect.iscoroutinefunction(RUN)

app = Celery("benchmark", broker=PLACE.redis_url)
app.conf.update(
    task_default_queue=PLACE.input,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_disable_rate_limits=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 10, "unacked_mutex_expire": 10},
)
outcomes = redis.Redis(port=PLACE.redis_port)
runner = asyncio.Runner()


@app.task(name="invoke", bind=True, max_retries=2)
def invoke(self: object, request_id: str, event: str) -> None:
    loaded = orjson.loads(event)
    try:
        result = runner.run(RUN(loaded)) if IS_ASYNC else RUN(loaded)
    except ValueError as error:
        raise self.retry(exc=error, countdown=0.12) from error  # type: ignore[attr-defined]
    outcomes.rpush(PLACE.output, outcome(request_id, event.encode(), result))


class Sender:
    """Puts tasks on the queue."""

    def send(self, batch: Sequence[tuple[str, bytes]]) -> None:
        with app.producer_pool.acquire(block=True) as producer:
            for request_id, event in batch:
                invoke.apply_async((request_id, event.decode()), producer=producer)


if __name__ == "__main__":
    pool = ["threads", "--concurrency", "32"] if PLACE.function == "blocking" else ["solo"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "error"]
    app.worker_main(["worker", "--pool", *pool, *quiet])
    sys.exit(0)
