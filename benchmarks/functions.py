"""What every contender runs: the same functions, and the same event whatever carries it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import orjson

FAIL_EVERY = 100
SLOW_S = 0.1
BLOCKING_S = 0.01

_failed: set[int] = set()


def event(number: int, size_bytes: int, seed: int) -> bytes:
    """The event of request *number*: JSON of exactly *size_bytes* (at least 60), the same for the same seed."""
    filling = hashlib.md5(b"%d %d" % (seed, number), usedforsecurity=False).hexdigest() * (size_bytes // 32 + 1)
    head = b'{"id": %d, "bucket": "uploads", "key": "' % number
    return head + filling[: size_bytes - len(head) - 2].encode() + b'"}'


async def noop(event: Any, context: object = None) -> None:
    """Nothing."""


async def work(event: Any, context: object = None) -> dict[str, Any]:
    """What costs nothing by itself, so that all else is seen."""
    return {"ok": True, "id": event["id"]}


async def flaky(event: Any, context: object = None) -> dict[str, Any]:
    """As `work`, but one event in a hundred fails the first time."""
    number = event["id"]
    if number % FAIL_EVERY == 0 and number not in _failed:
        _failed.add(number)
        raise ValueError("this one fails once")
    return {"ok": True, "id": number}


async def slow(event: Any, context: object = None) -> dict[str, Any]:
    """Waits as for another service."""
    await asyncio.sleep(SLOW_S)
    return {"ok": True, "id": event["id"]}


def blocking(event: Any, context: object = None) -> dict[str, Any]:
    """Holds its thread."""
    time.sleep(BLOCKING_S)
    return {"ok": True, "id": event["id"]}


def outcome(request_id: str, event: bytes, result: object) -> bytes:
    """The record that contenders other than ours leave: like AWS's, as JSON, made in the cheapest way."""
    return b'{"version":"1.0","timestamp":%d,"requestContext":{"requestId":"%s","condition":"Success"},' % (
        time.time_ns() // 1_000_000, request_id.encode(),
    ) + b'"requestPayload":%s,"responseContext":{"statusCode":200},"responsePayload":%s}' % (
        event, orjson.dumps(result),
    )  # fmt: skip
