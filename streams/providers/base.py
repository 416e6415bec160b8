"""What every cloud's file provides. A provider is a frozen dataclass: its fields are the settings of its table in
`streams.toml` (account, region, and every constant the provider does not document, with our guess as default), its
methods are pure functions of their arguments.

Below the contract is what the clouds share, most of it about JSON as a Python runtime reads and writes it.

Marks used in the clouds' files: **[V]** recorded against the real cloud by others, **[N]** a third party's raw capture
of the real cloud, **[D]** documentation or SDK model, **[C]** the provider's own published code or fixture, **[E]** an
emulator's guess, **[G]** our guess: nothing states it. Sources are named in `tests/golden/<cloud>/SOURCES.md`.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]  # not in typeshed
from typing import Any, ClassVar, Literal, Protocol

import orjson

from streams.core.model import DestinationSetting, Ended, FunctionFailure, Outcome, Service
from streams.core.policy import Bounds, DeliveryPolicy, Policy


@dataclass(frozen=True, slots=True)
class Reference:
    """A function as a caller named it. *qualifier* is None when the caller gave none."""

    name: str
    qualifier: str | None


class InvalidEvent(Exception):
    """The provider would have refused this event at its door. *code* and the message are the provider's own."""

    def __init__(self, code: str, status_code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status_code = status_code


@dataclass(frozen=True, slots=True)
class DeadLetterReason:
    """What a dead letter says about an invocation that ended without success (AWS: the message attributes)."""

    error_code: int | None
    error_type: str
    error_message: str


class Provider(Protocol):
    """One cloud. Every method is pure."""

    name: ClassVar[str]
    """Key in `PROVIDERS`, first word of its topics."""
    latest: ClassVar[str]
    """The qualifier meant when none is given: ``$LATEST``, ``LATEST``, ``latest``."""
    payload_bytes_max: ClassVar[int]
    """Largest event of an asynchronous invocation."""
    retries: ClassVar[Bounds]
    """Retries after the first attempt."""
    tells_what_runs: ClassVar[bool]
    """Whether its API tells of an invocation that it runs right now."""
    record_schema: ClassVar[str]
    """Name of the Avro schema of its records, a file in `schemas/`."""

    @property
    def age_s(self) -> Bounds:
        """Maximum age of an event, seconds."""

    @property
    def cancelled_is_sent(self) -> bool:
        """Whether the failure destination gets the record of a cancelled invocation."""

    def policy(self, retries: int | None, age_max_s: int | None) -> Policy:
        """The rules for a function with these settings; None means the setting is absent. Values are in bounds."""

    def delivery_policy(self) -> DeliveryPolicy:
        """What follows when a service does not take a delivery."""

    def resource(self, name: str, qualifier: str) -> str:
        """The qualified ARN or URN of a function as this provider's records show it."""

    def parse_resource(self, resource: str) -> Reference | None:
        """The function that *resource* names, of whatever account or region: the way back from `resource`.

        None when *resource* is not an ARN or URN of this provider.
        """

    def parse_reference(self, text: str) -> Reference | None:
        """A full or partial ARN/URN, or ``name:qualifier``, of this provider; None when *text* is not one."""

    def parse_destination(self, address: str) -> Reference | None:
        """The function that *address* names as a destination of this provider; None when it names something else."""

    def parse_service(self, address: str, route: DestinationSetting) -> Service | None:
        """The service outside Kafka that *address* names, if *route* may lead there and we can deliver there."""

    def read_event(self, payload: bytes) -> object:
        """What a Python handler receives. Raises `InvalidEvent` for what the provider refuses at its door."""

    def event_bytes(self, payload: bytes) -> bytes:
        """The event as stored and recorded (AWS turns an empty payload into ``{}``)."""

    def returned(self, value: object, request_id: str) -> Outcome:
        """The outcome of a Python handler that returned *value*: its bytes, or a failure to serialize or to fit."""

    def returned_bytes(self, body: bytes, request_id: str) -> Outcome:
        """The outcome of an HTTP function that answered *body*."""

    def failed(self, failure: FunctionFailure, request_id: str) -> Outcome:
        """The outcome of a function that failed, with the provider's error document as its payload."""

    def condition(self, ended: Ended) -> str:
        """The provider's word for how *ended* ended, as its record and a dead letter give it."""

    def record(self, ended: Ended) -> dict[str, Any]:
        """The record in the shape of its Avro schema; event and response stay bytes."""

    def document(self, record: Mapping[str, Any]) -> bytes:
        """The JSON document the cloud would send, exact to the byte, from `record` (or from Avro read back)."""

    def dead_letter_reason(self, ended: Ended) -> DeadLetterReason:
        """Why *ended* went to the dead letters."""


_NINES = bytes(ord("9") if chr(code).isascii() and chr(code).isdigit() else 0 for code in range(256))
"""Makes every digit a 9 and everything else a 0: so a long number is found ten times as fast as with `re`."""
_LONG_NUMBER = b"9" * 19
"""So many digits may not fit the 64 bits of orjson, which would make a float of them."""


def read_json(payload: bytes) -> object:
    """The one JSON document in *payload*, with the values that CPython's `json` gives. Raises ValueError.

    orjson does nearly all the work. It differs from `json` in integers beyond 64 bits (it rounds them) and in lone
    surrogates (``"\\ud83d"``, which JavaScript makes by cutting an emoji; it refuses them): those take the slow way.
    """
    try:
        value: object = orjson.loads(payload)
        exact = _LONG_NUMBER not in payload.translate(_NINES)
    except orjson.JSONDecodeError:
        if b"\\u" not in payload:
            raise
        exact = False
    return value if exact else _read_json_slowly(payload)


def _read_json_slowly(payload: bytes) -> object:
    try:
        return json.loads(payload.decode(), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def is_json(payload: bytes) -> bool:
    """Whether *payload* is one JSON document."""
    try:
        read_json(payload)
    except ValueError:
        return False
    return True


def json_writer(default: Callable[[Any], object] | None = None) -> Callable[[object], tuple[bytes, bool]]:
    """A function that writes a value as CPython's `json` does, with blanks after ``,`` and ``:``, and says whether the
    result is JSON.

    It is not when the value holds NaN or an infinity, which `json` writes all the same. *default* stands in for values
    that `json` cannot write. The function raises what `json` raises (TypeError, ValueError, RecursionError) and
    whatever an odd object's own methods raise.

    It keeps what `json.dumps` makes anew at every call, the encoder in C: 0.9 us for a small result instead of 2.9.
    """
    slow = json.JSONEncoder(ensure_ascii=False, default=default)
    encode = c_make_encoder(
        None,  # it does not look for values that contain themselves: those end as a RecursionError
        slow.default,
        encode_basestring,
        None,
        slow.key_separator,
        slow.item_separator,
        slow.sort_keys,
        slow.skipkeys,
        False,
    )

    def write(value: object) -> tuple[bytes, bool]:
        try:
            text = "".join(encode(value, 0))
            strict = True
        except (ValueError, RecursionError):
            text, strict = _dump_slowly(value, default)
        try:
            return text.encode(), strict
        except UnicodeEncodeError:  # lone surrogates, whose escape is valid JSON: "\\ud83d"
            return text.encode(errors="backslashreplace"), strict

    return write


def _dump_slowly(value: object, default: Callable[[Any], object] | None) -> tuple[str, bool]:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=default), True
    except ValueError:
        return json.dumps(value, ensure_ascii=False, default=default), False


write_json = json_writer()
"""Refuses every value that `json` does not know."""


def quote_payload(payload: bytes, binary: Literal["base64", "latin-1"]) -> bytes:
    """*payload* as a JSON string; *binary* says how to write bytes that are not UTF-8."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        text = payload.decode("latin-1") if binary == "latin-1" else b64encode(payload).decode()
    return orjson.dumps(text)


def plain(text: str) -> str:
    """*text* with lone surrogates escaped, so that it can be encoded (an exception's message may hold anything)."""
    return text.encode(errors="backslashreplace").decode()


def message_of(error: Exception) -> str:
    """The message of *error*, or its type when even asking raises: a handler's objects may raise their own errors."""
    try:
        return str(error)
    except Exception:
        return type(error).__name__


def seconds(duration_ms: int) -> str:
    """*duration_ms* in seconds, as short as possible: ``3``, ``0.5``."""
    return f"{duration_ms / 1000:g}"


def filled(endpoint: str, **values: str) -> str:
    """*endpoint* with every ``{name}`` replaced by its value."""
    for name, value in values.items():
        endpoint = endpoint.replace(f"{{{name}}}", value)
    return endpoint
