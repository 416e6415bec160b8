"""What the providers' APIs say of functions, as the compacted topic `functions` keeps it.

There are two kinds of entries. That of a *function* changes settings of a function in `streams.toml`, or is a function
that the file does not have. That of a *qualifier* is its asynchronous configuration (retries, age, destinations) and
takes the place of the file's. Settings have the names and units of `streams.toml`, so one set of rules reads both;
`api` is what only the API shows again (descriptions, times) and no business of a worker.

The key is a JSON array, ``["aws", "resize"]`` or ``["aws", "resize", "prod"]``. Without a value, the file's word holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from streams.errors import StreamsError

CONFIGURATION = ("retries", "age_max_s", "on_success", "on_failure")
"""The settings of an asynchronous configuration."""


class UnreadableEntry(StreamsError):
    """A record of the topic that this version cannot read; whoever wrote it must put that right."""


class Key(NamedTuple):
    """What an entry is about."""

    provider: str
    name: str
    qualifier: str | None = None
    """None: the function itself; else the configuration of this version or alias."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What an API has said last."""

    settings: Mapping[str, Any] | None
    """None: the function, or the configuration, was deleted. A setting that is None is unset, whatever the file says.
    """
    qualifiers: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    """Versions and aliases of a function as in ``[function.qualifiers]``; None: deleted."""
    api: Mapping[str, Any] = field(default_factory=dict)
    modified_at_ms: int = 0


def write_key(key: Key) -> bytes:
    """The record's key."""
    return orjson.dumps([part for part in key if part is not None])


def read_key(data: bytes | None) -> Key:
    """Raises `UnreadableEntry`."""
    try:
        parts = orjson.loads(data or b"")
    except orjson.JSONDecodeError:
        parts = None
    if not (isinstance(parts, list) and len(parts) in (2, 3) and all(isinstance(part, str) for part in parts)):
        raise UnreadableEntry('its key is not like ["provider", "name"] or ["provider", "name", "qualifier"]')
    return Key(*parts)


def write_entry(entry: Entry) -> bytes:
    """The record's value."""
    return orjson.dumps(entry)


def read_entry(data: bytes) -> Entry:
    """Raises `UnreadableEntry`."""
    try:
        members = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UnreadableEntry(f"it is not JSON: {error}") from None
    kinds: dict[str, type | tuple[type, ...]] = {
        "settings": (dict, type(None)),
        "qualifiers": dict,
        "api": dict,
        "modified_at_ms": int,
    }
    if not isinstance(members, dict) or not members.keys() <= kinds.keys() or "settings" not in members:
        raise UnreadableEntry(f"it is not an object of {', '.join(kinds)}")
    for name, value in members.items():
        if not isinstance(value, kinds[name]):
            raise UnreadableEntry(f"{name} is of the wrong kind")
    if not all(isinstance(value, dict | None) for value in members.get("qualifiers", {}).values()):
        raise UnreadableEntry("qualifiers are not all objects")
    return Entry(**members)


def merged(
    table: Mapping[str, Any] | None, entries: Mapping[Key, Entry], key: Key, latest: str
) -> Mapping[str, Any] | None:
    """The file's *table* of the function *key*, with what *entries* say of it; None when there is no such function.

    *latest* is the provider's word for the newest version, whose configuration is the function's own.
    """
    entry = entries.get(key)
    if (entry is None and table is None) or (entry is not None and entry.settings is None):
        return None
    result: dict[str, Any] = {"name": key.name, "provider": key.provider, **(table or {})}
    qualifiers: dict[str, Mapping[str, Any] | None] = dict(result.get("qualifiers", {}))
    if entry is not None:
        if not {"target", "url"}.isdisjoint(entry.settings or {}):  # another target than the file's takes its place
            for name in ("target", "url", "runtime_api"):
                result.pop(name, None)
        result |= entry.settings or {}
        qualifiers |= entry.qualifiers
    for name, own in {latest: result, **qualifiers}.items():
        configuration = entries.get(key._replace(qualifier=name))
        if configuration is not None and own is not None:
            kept = {setting: value for setting, value in own.items() if setting not in CONFIGURATION}
            changed = kept | dict(configuration.settings or {})
            if name == latest:
                result = changed
            else:
                qualifiers[name] = _set(changed)
    result["qualifiers"] = {name: own for name, own in qualifiers.items() if own is not None}
    return _set(result)


def _set(table: Mapping[str, Any]) -> dict[str, Any]:
    """*table* without what was unset."""
    return {name: value for name, value in table.items() if value is not None}
