"""One function per decoder: bytes in, nothing out. Anything but the decoder's own errors is a finding."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields

from streams.codec.avro import Codec, load_schemas
from streams.codec.commands import read_command
from streams.codec.dead_letter import dead_letter
from streams.codec.delivery import delivery_headers, is_delivery, read_delivery
from streams.codec.envelope import read_invocation, request_id_of
from streams.codec.errors import AvroError, InputRejected
from streams.codec.facts import read_facts
from streams.codec.journal import read_journal
from streams.codec.retry import read_retry, wake_at_ms
from streams.codec.state import StateError, ended_at_ms, unpack
from streams.errors import ConfigurationError
from streams.functions.file import _Reader
from streams.providers import PROVIDERS
from streams.providers.base import InvalidEvent
from streams.settings import Settings

CODEC = Codec(load_schemas())
NOW_MS = 1_790_000_000_000
_NAMES = ("function", "request-id", "qualifier", "accepted-at", "delay-ms", "depth", "traceparent", "ce_specversion",
          "ce_subject", "ce_id", "ce_time", "wake-at", "attempt", "executions", "failures", "throttles", "due-at",
          "last", "last-payload", "command", "destination", "provider", "content", "outcome", "ended-at",
          "waits", "tried-at", "error-code", "error-message", "origin", "origin-key", "origin-header-x", "other",
          "FUNCTION")  # fmt: skip


@dataclass
class Record:
    """A Kafka record made of fuzz."""

    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    topic: str = "invocations"
    partition: int = 0
    offset: int = 0
    timestamp: int = -1
    key: bytes | None = None


def record(data: bytes) -> Record:
    """Headers and value cut out of *data*: a byte names a header (0: no more follow), a byte gives its length."""
    headers: list[tuple[str, bytes | None]] = []
    at = 0
    while at + 1 < len(data) and data[at]:
        name, size = _NAMES[data[at] % len(_NAMES)], data[at + 1]
        headers.append((name, None if size == 255 else data[at + 2 : at + 2 + size]))
        at += 2 + (0 if size == 255 else size)
    return Record(data[at + 1 :] if at < len(data) else None, tuple(headers))


def envelope(data: bytes) -> None:
    made = record(data)
    with contextlib.suppress(InputRejected):
        read_invocation(made, NOW_MS, CODEC)
    request_id_of(made).encode()


def retry(data: bytes) -> None:
    made = record(data)
    with contextlib.suppress(InputRejected):
        wake_at_ms(made.headers)
    with contextlib.suppress(InputRejected):
        read_retry(made)


def deliveries(data: bytes) -> None:
    made = record(data)
    is_delivery(made.headers)
    with contextlib.suppress(InputRejected):
        delivery = read_delivery(made)
        delivery_headers(delivery, NOW_MS)


def services(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for provider in PROVIDERS.values():
        for start in ("", "arn:aws:sqs:", "acs:mns:", "OBS ", "SMN ", "DIS "):
            provider.parse_service(start + text, "on_failure")


def commands(data: bytes) -> None:
    """The first byte is the length of the key; what else there is to know is in headers."""
    key, rest = data[1 : 1 + sum(data[:1])], data[1 + sum(data[:1]) :]
    made = record(rest)
    made.key = None if data[:1] == b"\xff" else key
    if len(data) % 2:
        made.headers = (("command", b"cancel"), *made.headers)
    with contextlib.suppress(InputRejected):
        given = read_command(made)
        dead_letter(CODEC, "dlq", given.origin, "Cancelled", NOW_MS, request_id=given.request_id, error_message="")


def avro(data: bytes) -> None:
    with contextlib.suppress(AvroError):
        CODEC.decode(data)


def avro_bodies(data: bytes) -> None:
    """Past the framing, where random bytes hardly ever get: each schema's body."""
    for name in CODEC._current:
        with contextlib.suppress(AvroError):
            found, datum = CODEC.decode(CODEC.prefix(name) + data)
            if found == "Facts":
                read_facts(datum)
            for provider in PROVIDERS.values():
                if found == provider.record_schema:
                    provider.document(datum)


def table(data: bytes) -> None:
    with contextlib.suppress(StateError):
        unpack(data)
        ended_at_ms(data)
        read_journal(data)


def events(data: bytes) -> None:
    for provider in PROVIDERS.values():
        with contextlib.suppress(InvalidEvent):
            provider.read_event(data)
        provider.returned_bytes(data, "id")


def references(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for provider in PROVIDERS.values():
        provider.parse_reference(text)
        provider.parse_destination(text)


def configuration(data: bytes) -> None:
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        return
    with contextlib.suppress(ConfigurationError):
        _Reader().functions(document)


def environment(data: bytes) -> None:
    """Settings are read from the environment: a line's first byte names one, the others are its text."""
    names = [setting.name.upper() for setting in fields(Settings)]
    lines = (line for line in data.splitlines() if line)
    with contextlib.suppress(ConfigurationError):
        Settings.from_env(
            {f"STREAMS_{names[line[0] % len(names)]}": line[1:].decode("utf-8", "replace") for line in lines}
        )


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        envelope,
        retry,
        deliveries,
        services,
        commands,
        avro,
        avro_bodies,
        table,
        events,
        references,
        configuration,
        environment,
    )
}
