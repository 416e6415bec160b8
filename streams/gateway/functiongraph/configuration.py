"""FunctionGraph's asynchronous configuration: from a request to settings, and from settings to the document. Pure.

Bounds are those of the request side; the response side of the API reference still shows FC's [D]. A PUT replaces all
that was there [G]. A destination is a type and a parameter, a JSON text inside the JSON:

| destination | param | |
|---|---|---|
| ``OBS`` | ``{"bucket", "prefix", "expires"}``, *expires* from 0 to 365 days | [D] |
| ``SMN`` | ``{"topic_urn"}`` | [D] |
| ``DIS`` | ``{"stream_name"}``, not at OTC | [D] |
| ``FunctionGraph`` | ``{"func_urn"}`` | [D] |
| ``KAFKA`` | ``{"topic"}`` | ours: the SDK lets any type through |

As an address (`streams.toml`, dead letters), the last two are the URN and ``kafka://topic``; the others are type and
parameter with a blank between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from streams.functions.stored import CONFIGURATION, Entry
from streams.gateway.functiongraph.refusals import invalid_parameter, invalid_urn, not_acceptable
from streams.providers.base import read_json
from streams.providers.functiongraph import FunctionGraph

EXPIRES_DAYS_MAX = 365
KAFKA = "KAFKA"

_AGE = "max_async_event_age_in_seconds"
_RETRIES = "max_async_retry_attempts"
_LOG = "enable_async_status_log"
_LOG_FIELDS = ("log_group_id", "log_stream_id", "log_group_name", "log_stream_name")
"""Where Huawei keeps the statuses [M, newest SDK]; never shown again. They are in the read model here."""
_ENDS = ("on_success", "on_failure")
_NO_PARAM = (None, "", "{}")


class Change(NamedTuple):
    """What a PUT wants."""

    settings: dict[str, Any]
    """As in streams.toml."""
    api: dict[str, Any]
    """What only this API shows again."""


@dataclass(frozen=True, slots=True)
class Configured:
    """A version with an asynchronous configuration."""

    urn: str
    settings: Mapping[str, Any]
    api: Mapping[str, Any]
    created_at_ms: int
    modified_at_ms: int


def configured(urn: str, own: Mapping[str, Any], entry: Entry | None, file_at_ms: int) -> Configured | None:
    """The configuration of a version whose settings are *own*; None when it has none.

    *entry* is what an API has stored; without it the file of *file_at_ms* is where the settings come from.
    """
    if not any(setting in own for setting in CONFIGURATION):
        return None
    if entry is None:
        return Configured(urn, own, {}, file_at_ms, file_at_ms)
    return Configured(urn, own, entry.api, entry.api.get("created_at_ms", entry.modified_at_ms), entry.modified_at_ms)


# -- what is asked ---------------------------------------------------------------------------------------------------


def read_change(body: bytes, provider: FunctionGraph) -> Change:
    """The change that *body* wants. Raises `Refused`."""
    document = read_object(body)
    settings: dict[str, Any] = {
        "retries": _integer(document, _RETRIES, provider.retries.minimum, provider.retries.maximum),
        "age_max_s": _integer(document, _AGE, provider.age_s.minimum, provider.age_s.maximum),
    }
    defaults = {"retries": provider.retries.default, "age_max_s": provider.age_s.default}
    settings = {name: defaults[name] if value is None else value for name, value in settings.items()}
    destinations = document.get("destination_config")
    if not isinstance(destinations, dict | None):
        raise invalid_parameter("destination_config is not an object.")
    shown = {}
    for end in _ENDS:
        given = (destinations or {}).get(end)
        if given is not None and (address := _address(given, end, provider)) is not None:
            settings[end] = address
            shown[end] = {"destination": given["destination"], "param": given["param"]}
    log = document.get(_LOG)
    if not isinstance(log, bool | None):
        raise invalid_parameter(f"{_LOG} is not a boolean.")
    api: dict[str, Any] = {"destination_config": shown, _LOG: bool(log)}
    if provider.variant == "huawei":
        api |= {name: _text(document, name) for name in _LOG_FIELDS if document.get(name) is not None}
    return Change(settings, api)


def read_object(body: bytes) -> dict[str, Any]:
    """*body* as a JSON object. Raises `Refused`."""
    try:
        document = read_json(body or b"{}")
    except ValueError as error:
        raise not_acceptable(f"{error}") from None
    if not isinstance(document, dict):
        raise not_acceptable("The request body is not a JSON object")
    return document


def _integer(document: Mapping[str, Any], name: str, minimum: int, maximum: int) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if type(value) is not int or not minimum <= value <= maximum:
        raise invalid_parameter(f"{name} is not a whole number from {minimum} to {maximum}.")
    return value


def _text(document: Mapping[str, Any], name: str, where: str = "") -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise invalid_parameter(f"{where}{name} is not a text.")
    return value


def _address(given: object, end: str, provider: FunctionGraph) -> str | None:
    """The address of a destination; None when *given* names none."""
    if not isinstance(given, dict):
        raise invalid_parameter(f"destination_config.{end} is not an object.")
    if not given.get("destination") and given.get("param") in _NO_PARAM:
        return None
    where = f"destination_config.{end}."
    kind, text = _text(given, "destination", where), _text(given, "param", where)
    try:
        param = orjson.loads(text)
    except orjson.JSONDecodeError:
        param = None
    if not isinstance(param, dict):
        raise invalid_parameter(f"{where}param is not a JSON object in a string.")
    where += "param."
    match kind:
        case "FunctionGraph":
            urn = _text(param, "func_urn", where)
            if provider.parse_destination(urn) is not None:
                return urn
            if provider.parse_resource(urn) is None:
                raise invalid_urn()
        case "KAFKA":
            return f"kafka://{_text(param, 'topic', where)}"
        case "OBS":
            _text(param, "bucket", where)
            if not isinstance(param.get("prefix"), str | None):
                raise invalid_parameter(f"{where}prefix is not a text.")
            _integer(param, "expires", 0, EXPIRES_DAYS_MAX)
        case "SMN":
            if not _text(param, "topic_urn", where).startswith("urn:smn:"):
                raise invalid_parameter(f"{where}topic_urn is not the URN of an SMN topic.")
        case "DIS" if provider.variant == "huawei":
            _text(param, "stream_name", where)
        case _:
            kinds = "OBS, SMN, DIS" if provider.variant == "huawei" else "OBS, SMN"
            raise invalid_parameter(
                f"destination_config.{end}.destination is not one of {kinds}, FunctionGraph, KAFKA."
            )
    return f"{kind} {text}"


# -- what is shown ---------------------------------------------------------------------------------------------------


def document(found: Configured, provider: FunctionGraph) -> dict[str, Any]:
    """The configuration as GET and PUT answer it."""
    return {
        "func_urn": found.urn,
        **shared_members(found, provider),
        _LOG: found.api.get(_LOG, False),
    }


def shared_members(found: Configured, provider: FunctionGraph) -> dict[str, Any]:
    """What the list of a function's versions shows of a configuration, too."""
    destinations = found.api.get("destination_config")
    if destinations is None:
        destinations = {end: _destination(found.settings[end]) for end in _ENDS if found.settings.get(end)}
    return {
        _AGE: found.settings.get("age_max_s", provider.age_s.default),
        _RETRIES: found.settings.get("retries", provider.retries.default),
        "destination_config": destinations,
        "created_time": local_time(found.created_at_ms, provider).isoformat(),
        "last_modified": f"{local_time(found.modified_at_ms, provider):%Y-%m-%d %H:%M:%S}",
    }


def local_time(at_ms: int, provider: FunctionGraph) -> datetime:
    """Date and time where the provider is, to the second."""
    zone = datetime.strptime(provider.utc_offset, "%z").tzinfo
    return datetime.fromtimestamp(at_ms // 1000, zone)


def _destination(address: str) -> dict[str, str]:
    """The inverse of `_address`."""
    if address.startswith("kafka://"):
        return {"destination": KAFKA, "param": _json({"topic": address.removeprefix("kafka://")})}
    if address.startswith("urn:"):
        return {"destination": "FunctionGraph", "param": _json({"func_urn": address})}
    kind, _, param = address.partition(" ")
    return {"destination": kind, "param": param}


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
