"""A schema registry that takes its time, is away now and then, and knows one schema: that of `Invocation`."""

from __future__ import annotations

import asyncio
from functools import cache
from random import Random

from streams.codec.avro import REGISTRY, Codec, load_schemas
from streams.codec.errors import AvroError
from streams.errors import BrokerError

KNOWN, UNKNOWN = 1, 2
"""Ids of schemas."""


def _text(schema_id: int) -> str | None:
    return load_schemas().current["Invocation"].text if schema_id == KNOWN else None


@cache
def codec() -> Codec:
    """One that knows all there is to know."""
    return Codec(load_schemas(), lookup=_text)


def framed(schema_id: int, function: str, event: bytes) -> bytes:
    """An invocation as a producer with a registry writes it."""
    absent = dict.fromkeys(("id", "qualifier", "accepted_at_ms", "delay_ms", "traceparent"))
    single_object = codec().encode("Invocation", {"function": function, "event": event, **absent})
    return REGISTRY + schema_id.to_bytes(4, "big") + single_object[10:]


class Registry:
    """The client of one process, as `streams.codec.registry.Registry`."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._texts: dict[int, str] = {}

    async def schema(self, schema_id: int) -> str:
        await asyncio.sleep(self._rng.random() * 0.1)
        if self._rng.random() < 0.3:
            raise BrokerError("The schema registry is away.")
        text = _text(schema_id)
        if text is None:
            raise AvroError(f"There is no schema {schema_id}.")
        self._texts[schema_id] = text
        return text

    def fetched(self, schema_id: int) -> str | None:
        return self._texts.get(schema_id)
