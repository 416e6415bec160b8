"""The access keys that may use a gateway: whose requests are let in, and with which secrets they are signed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from streams.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Keys:
    """One set of keys for all APIs. Without any, nobody has to sign."""

    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Secret by access key id."""
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Access key id by token (``Authorization: Bearer``, Huawei's ``X-Auth-Token``)."""

    def __bool__(self) -> bool:
        return bool(self.secrets or self.tokens)


def read_keys(path: Path) -> Keys:
    """Keys from a TOML file with tables like ``[[key]]``, each with *id*, *secret* and perhaps *token*.

    Raises `ConfigurationError` naming what is wrong; never a secret.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("key", [])
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not a TOML file") from error
    secrets: dict[str, str] = {}
    tokens: dict[str, str] = {}
    for number, table in enumerate(tables if isinstance(tables, list) else [None], 1):
        members = set(table) if isinstance(table, dict) else set()
        if not {"id", "secret"} <= members <= {"id", "secret", "token"} or not all(
            isinstance(value, str) and value for value in table.values()
        ):
            raise ConfigurationError(
                f'{path}, key number {number}: write [[key]] with id = "…", secret = "…" and, if you like, token = "…"'
            )
        if table["id"] in secrets:
            raise ConfigurationError(f"{path}, key number {number}: there is another key of this id")
        secrets[table["id"]] = table["secret"]
        if "token" in table:
            tokens[table["token"]] = table["id"]
    if not secrets:
        raise ConfigurationError(f"{path} has no [[key]]")
    return Keys(secrets, tokens)
