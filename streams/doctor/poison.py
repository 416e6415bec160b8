"""Inputs that mean harm. What is no invocation must end as a dead letter with its bytes, and its neighbours must not
notice; what is only strange must run."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from streams.doctor.inputs import Headers, Input, Inputs, codec, invocation

_LARGE_ONE_IN = 25
_MB = 1 << 20

Make: TypeAlias = Callable[[Random], tuple[bytes | None, Headers]]
"""Value and headers; the header ``request-id`` is added unless there is one."""

_AWS: Headers = (("function", b"work-aws"),)
_EVENT = b'{"do": "succeed", "ms": 0}'


def poisoned(name: str, seed: int) -> Inputs:
    """Two in three are poison, the others are their neighbours."""
    chance = Random(f"{name}/{seed}/inputs")
    number = 0
    while True:
        number += 1
        request_id = f"{name}-{seed}-{number}"
        if number % 3 == 0:
            yield invocation(chance, request_id, "succeed", chance.randrange(20))
        elif chance.randrange(_LARGE_ONE_IN) == 0:
            yield chance.choice(_LARGE)(chance, request_id)
        elif chance.randrange(len(SMALL)) == 0:
            yield broken_header(chance, request_id)
        elif chance.randrange(len(SMALL)) == 0:
            yield strange(chance, request_id)
        else:
            yield small(chance, request_id)


def small(chance: Random, request_id: str, kind: str | None = None) -> Input:
    """Something that cannot be read, one of `SMALL`."""
    value, headers = SMALL[kind or chance.choice(tuple(SMALL))](chance)
    if "request-id" in dict(headers):
        return Input(None, request_id.encode(), value, headers, None, "dead letter")
    return _dead(request_id, value, headers)


def _dead(request_id: str, value: bytes | None, headers: Headers, key: bytes | None = None) -> Input:
    named = (*headers, ("request-id", request_id.encode()))
    return Input(request_id, key or request_id.encode(), value, named, None, "dead letter")


# -- small ones ------------------------------------------------------------------------------------------------------


def _avro(chance: Random) -> bytes:
    return codec().encode("Invocation", {"function": "work-aws", "event": _EVENT, "id": f"{chance.getrandbits(64):x}"})


def _frame() -> bytes:
    return codec().prefix("Invocation")


def _truncated(chance: Random) -> tuple[bytes, Headers]:
    whole = _avro(chance)
    return whole[: chance.randrange(2, len(whole))], ()


def _huge_varint(chance: Random) -> tuple[bytes, Headers]:
    """A string that claims to have 2**40 to 2**62 bytes."""
    length, digits = 2 ** chance.randrange(41, 64), bytearray()
    while length > 0x7F:
        digits.append(0x80 | length & 0x7F)
        length >>= 7
    return _frame() + bytes((*digits, length)) + b"x", ()


def _bad_number(chance: Random) -> tuple[bytes, Headers]:
    numbers = (b"-1", b"1e3", b"", b" 1", b"9" * 5000, b"\xff", "\N{ARABIC-INDIC DIGIT ONE}".encode())
    name = chance.choice(("delay-ms", "depth", "accepted-at"))
    return _EVENT, (*_AWS, (name, chance.choice(numbers)))


def _bad_text(chance: Random) -> tuple[bytes, Headers]:
    texts = (b"\xff\xfe\xfd", b"\xed\xa0\x80", b"\xc0\x80", b"\x00", b"", b"work-aws\n", b"w" * 100_000)
    name = chance.choice(("function", "request-id", "qualifier"))
    return _EVENT, (*_AWS[: name != "function"], (name, chance.choice(texts)))


def _bad_json(chance: Random) -> tuple[bytes, Headers]:
    texts = (
        b"",
        b"null",
        b"[]",
        b'{"payload": 1}',
        b'{"function": "work-aws"}',
        b'{"function": 1, "payload": 1}',
        b'{"function": "work-aws", "payload": 1, "payload": 2}',
        b'{"function": "work-aws", "payload": 1, "delay": 5}',
        b'{"function": "\\ud800", "payload": 1}',
        b'{"function": "work-aws", "id": "\\u0000", "payload": 1}',
        b'{"function": "work-aws", "payload": NaN}',
        b'{"function": "work-aws", "payload": 1',
        b'\xef\xbb\xbf{"function": "work-aws", "payload": 1}',
        b'{"specversion": "1.0", "type": "t", "source": "s", "id": "1", "data": {}}',
    )
    return chance.choice(texts), ()


def _bad_cloudevent(chance: Random) -> tuple[bytes, Headers]:
    headers = {"ce_specversion": b"1.0", "ce_subject": b"work-aws", "ce_type": b"t", "ce_source": b"s"}
    name, value = chance.choice(
        (
            ("ce_specversion", b"0.3"),
            ("ce_subject", b""),
            ("ce_time", b"yesterday"),
            ("ce_time", b"2026-02-31T00:00:00Z"),
        )
    )
    return _EVENT, tuple((headers | {name: value}).items())


SMALL: dict[str, Make] = {
    "null": lambda chance: (None, _AWS),
    "noise": lambda chance: (chance.randbytes(chance.randrange(1, 200)), ()),
    "truncated Avro": _truncated,
    "Avro with something after it": lambda chance: (_avro(chance) + b"\x00", ()),
    "unknown fingerprint": lambda chance: (b"\xc3\x01" + chance.randbytes(8) + _avro(chance)[10:], ()),
    "unknown schema id": lambda chance: (b"\x00" + chance.randbytes(4) + _avro(chance)[10:], ()),
    "huge varint": _huge_varint,
    "endless varint": lambda chance: (_frame() + b"\xff" * chance.randrange(1, 100), ()),
    "bad number": _bad_number,
    "bad text": _bad_text,
    "bad JSON envelope": _bad_json,
    "bad CloudEvent": _bad_cloudevent,
    "unknown function": lambda chance: (_EVENT, (("function", b"work-%x" % chance.getrandbits(32)),)),
    "event that is not JSON": lambda chance: (b"\xff{not JSON", _AWS),
}
"""Each makes a value and headers, of a few bytes."""


# -- large ones ------------------------------------------------------------------------------------------------------


def _deep_envelope(chance: Random, request_id: str) -> Input:
    depth = chance.randrange(2_000, 300_000)
    return _dead(request_id, b'{"function": "work-aws", "payload": %b%b}' % (b"[" * depth, b"]" * depth), ())


def _deep_event(chance: Random, request_id: str) -> Input:
    depth = chance.randrange(2_000, 300_000)
    return _dead(request_id, b'{"a":' * depth + b"1" + b"}" * depth, _AWS)


def _large_key(chance: Random, request_id: str) -> Input:
    """Poison under a key of 1 MB."""
    value, headers = SMALL["truncated Avro"](chance)
    return _dead(request_id, value, headers, chance.randbytes(_MB))


def _large_event(chance: Random, request_id: str) -> Input:
    """More than AWS takes."""
    return _dead(request_id, b'"%b"' % (b"x" * chance.randrange(_MB, 3 * _MB)), _AWS)


def _many_headers(chance: Random, request_id: str) -> Input:
    headers = tuple((f"x-{number}", b"v") for number in range(chance.randrange(2_000, 8_000)))
    return _dead(request_id, b"\xc3\x01", headers)


_LARGE: tuple[Callable[[Random, str], Input], ...] = (
    _deep_envelope,
    _deep_event,
    _large_key,
    _large_event,
    _many_headers,
)


# -- strange ones ----------------------------------------------------------------------------------------------------


def strange(chance: Random, request_id: str) -> Input:
    """An invocation all the same."""
    made = invocation(chance, request_id, "succeed", 0)
    more: Headers = chance.choice(
        (
            (("traceparent", b"\xff\xff"),),
            (("", b""), ("X" * 1000, b"x")),
            (("accepted-at", b"253402300799999"),),
            tuple(("repeated", b"%d" % number) for number in range(1000)),
        )
    )
    if not made.headers:  # headers would win over what the value says of itself; these say nothing
        more = more[:0]
    key = chance.randbytes(_MB) if chance.randrange(4) == 0 else b""
    return made._replace(headers=(*made.headers, *more), key=key)


def broken_header(chance: Random, request_id: str) -> Input:
    """An invocation with a header whose name is no UTF-8."""
    made = invocation(chance, request_id, "succeed", 0)
    return made._replace(headers=((_PLACEHOLDER.decode(), b"v"), *made.headers), breaks_header=True)


_PLACEHOLDER = b"header-that-will-be-broken"
_CHECKSUM, _CHECKED = 17, 21
"""In a batch (version 2): where the checksum is, and where begins what it covers."""


def with_broken_header(item: Input, at_ms: int) -> bytes:
    """A batch with the record of *item*, the name of its first header broken."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    builder.append(0, at_ms, item.key, item.value, list(item.headers))
    batch = bytearray(bytes(builder.build()).replace(_PLACEHOLDER, b"\xff" * len(_PLACEHOLDER)))
    batch[_CHECKSUM:_CHECKED] = calc_crc32c(batch[_CHECKED:]).to_bytes(4, "big")
    return bytes(batch)
