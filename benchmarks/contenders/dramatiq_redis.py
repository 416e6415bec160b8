"""Dramatiq on Redis; the outcome is an entry of a Redis list.

Settings: one process with 8 threads (its default number; 32 for W4), no Prometheus middleware, heartbeat_timeout 10 s
instead of a minute so that a dead worker's messages come back while we watch. It acknowledges after the actor has
returned (documented: at least once). Coroutines are run by its own AsyncIO middleware. Redis writes its append-only
file every second.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence

import dramatiq
import orjson
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import AgeLimit, AsyncIO, Retries, ShutdownNotifications, TimeLimit

from benchmarks.contenders.place import Place
from benchmarks.functions import outcome

PLACE = Place.from_env()
RUN = PLACE.run()
THREADS = 32 if PLACE.function == "blocking" else 8

broker = RedisBroker(
    port=PLACE.redis_port,
    namespace=PLACE.prefix,
    heartbeat_timeout=10_000,
    maintenance_chance=100_000,
    middleware=[AgeLimit(), TimeLimit(), ShutdownNotifications(), Retries(), AsyncIO()],
)
dramatiq.set_broker(broker)
outcomes = redis.Redis(port=PLACE.redis_port)


async def _invoke_async(request_id: str, event: str) -> None:
    outcomes.rpush(PLACE.output, outcome(request_id, event.encode(), await RUN(orjson.loads(event))))


def _invoke(request_id: str, event: str) -> None:
    outcomes.rpush(PLACE.output, outcome(request_id, event.encode(), RUN(orjson.loads(event))))


invoke = dramatiq.actor(actor_name="invoke", max_retries=2, min_backoff=120)(
    _invoke_async if inspect.iscoroutinefunction(RUN) else _invoke
)


class Sender:
    """Puts messages on the queue."""

    def send(self, batch: Sequence[tuple[str, bytes]]) -> None:
        for request_id, event in batch:
            invoke.send(request_id, event.decode())


if __name__ == "__main__":
    from dramatiq.cli import main, make_argument_parser

    module = "benchmarks.contenders.dramatiq_redis"
    sys.exit(main(make_argument_parser().parse_args([module, "--processes", "1", "--threads", str(THREADS)])))
