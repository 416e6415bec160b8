"""What doctor invokes: an endless mix, the same for the same seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from random import Random
from typing import Literal, NamedTuple, TypeAlias

from streams.codec.avro import Codec, load_schemas
from streams.doctor.functions import DEATHS

Expected: TypeAlias = Literal["success", "failure", "crash", "dead letter"]
"""*crash*: a failure whose dead letter says that it killed its worker. *dead letter*: it is no invocation."""
Headers: TypeAlias = tuple[tuple[str, bytes | None], ...]

AGE_MAX_S = {"aws": 21_600, "fc": 86_400, "functiongraph": 86_400}
"""As `functions.toml` and the providers' defaults have it."""
TIME_SCALE = 0.02
"""As in `functions.toml`."""
DELIVERED = "delivered"
"""The topic, without prefix, that gets the records of AWS functions."""


class Input(NamedTuple):
    """A record to produce."""

    id: str | None
    """Request id; None: its coordinates give it one."""
    key: bytes
    value: bytes | None
    headers: Headers
    cloud: str | None
    """None: it names no function of ours."""
    expected: Expected
    breaks_header: bool = False
    """Its first header's name is to be no UTF-8, which no client of ours can send (`poison.with_broken_header`)."""


Inputs: TypeAlias = Iterator[Input]


CULPRIT_ONE_IN = 500
_ENDINGS: dict[str, Expected] = {"fail": "failure", **dict.fromkeys(DEATHS, "crash")}


@cache
def codec() -> Codec:
    """Encodes without a registry."""
    return Codec(load_schemas())


def mixed(name: str, seed: int) -> Inputs:
    """70 % succeed, 15 % fail once, 10 % always fail, 4 % are slow, 1 % cannot be read."""
    from streams.doctor import poison

    chance = Random(f"{name}/{seed}/inputs")
    number = 0
    while True:
        number += 1
        request_id, kind = f"{name}-{seed}-{number}", chance.random()
        if kind < 0.70:
            yield invocation(chance, request_id, "succeed", chance.randrange(20))
        elif kind < 0.85:
            yield invocation(chance, request_id, "fail once", chance.randrange(20))
        elif kind < 0.95:
            yield invocation(chance, request_id, "fail", chance.randrange(20))
        elif kind < 0.99:
            yield invocation(chance, request_id, "succeed", chance.randrange(200, 1500))
        else:
            yield poison.small(chance, request_id)


def culprits(name: str, seed: int) -> Inputs:
    """One in `CULPRIT_ONE_IN` kills its worker, in every way in turn; the others are its neighbours."""
    chance, ways = Random(f"{name}/{seed}/inputs"), tuple(DEATHS)
    for number in count(1):
        request_id = f"{name}-{seed}-{number}"
        if number % CULPRIT_ONE_IN == CULPRIT_ONE_IN // 2:
            yield invocation(chance, request_id, ways[number // CULPRIT_ONE_IN % len(ways)], chance.randrange(50))
        else:
            yield invocation(chance, request_id, "succeed", chance.randrange(200))


def invocation(chance: Random, request_id: str, do: str, ms: int) -> Input:
    """An invocation of some cloud's function, in some encoding."""
    cloud = chance.choice(("aws", "fc", "functiongraph"))
    function, event = f"work-{cloud}", json.dumps({"do": do, "ms": ms}).encode()
    encode = chance.choices(_ENCODINGS, weights=(7, 1, 1, 1))[0]
    value, headers = encode(function, request_id, event)
    return Input(request_id, request_id.encode(), value, headers, cloud, _ENDINGS.get(do, "success"))


def _raw(function: str, request_id: str, event: bytes) -> tuple[bytes, Headers]:
    return event, (("function", function.encode()), ("request-id", request_id.encode()))


def _cloudevent(function: str, request_id: str, event: bytes) -> tuple[bytes, Headers]:
    attributes = {"specversion": "1.0", "id": request_id, "source": "/doctor", "type": "doctor", "subject": function}
    return event, tuple((f"ce_{name}", value.encode()) for name, value in attributes.items())


def _json(function: str, request_id: str, event: bytes) -> tuple[bytes, Headers]:
    return b'{"function": "%b", "id": "%b", "payload": %b}' % (function.encode(), request_id.encode(), event), ()


def _avro(function: str, request_id: str, event: bytes) -> tuple[bytes, Headers]:
    return codec().encode("Invocation", {"function": function, "id": request_id, "event": event}), ()


_ENCODINGS: tuple[Callable[[str, str, bytes], tuple[bytes, Headers]], ...] = (_raw, _cloudevent, _json, _avro)
