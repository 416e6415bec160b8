"""Process settings, read once from the environment (prefix `STREAMS_`) and passed down."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from streams.errors import ConfigurationError
from streams.topics import Topics


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a process needs to know besides its functions (`streams.toml`)."""

    broker: str = "127.0.0.1:9092"
    """Bootstrap servers of the Kafka cluster, ``host:port[,host:port…]``; IPv6 as ``[::1]:9092``."""
    prefix: str = ""
    """Put before every topic name and the consumer group."""
    config: Path | None = None
    """The functions file. Default: ``streams.toml`` in the current folder if there is one."""
    partitions: int = 8
    """Partition count of topics that `streams topics create` makes."""
    replication: int = 1
    """Replication factor of topics that `streams topics create` makes."""
    worker_name: str | None = None
    """A name that stays with a worker across restarts (a StatefulSet's pod name, for instance) and that no two running
    workers share: a restarted worker then gets its partitions back at once. None: a new name at every start."""
    commit_interval_ms: int = 5
    """Least time between the starts of two transactions of a worker."""
    session_timeout_ms: int = 15_000
    """A worker that is silent for so long has its partitions taken away."""
    hold_max: int = 200
    """Records of one retry tier partition kept in memory while they wait; the rest waits in Kafka."""
    hold_bytes_max: int = 512 << 10
    """Bytes of them. There are a hundred such partitions on a worker, and all may be full."""
    in_flight_max: int = 2_000
    """Accepted and unfinished records of one partition before it is paused."""
    in_flight_bytes_max: int = 8 << 20
    """Bytes of them, and of what finished ones leave until it is committed."""
    hold_s: float = 10.0
    """An attempt that takes longer no longer holds its record's offset: it is journaled, and survives a crash so."""
    long_max: int = 1_000
    """At most so many longer attempts of one function per worker; more of its invocations are parked meanwhile."""
    drain_s: float = 10.0
    """How long a stopping worker waits for running functions."""
    terminal_retention_s: float = 3600.0
    """How long a finished request id is remembered, for idempotent acceptance."""
    terminal_max: int = 50_000
    """At most so many finished request ids are remembered per partition."""
    http: str | None = None
    """Serve ``/ready``, ``/live`` and ``/metrics`` on this ``host:port``; None: not at all."""
    threads: int = 32
    """Threads for plain ``def`` functions."""
    read_model: str | None = field(default=None, repr=False)  # it may have a password
    """The read model of `streams console`: a SQLAlchemy URL or the path of a SQLite file. None: `read_model_url`."""
    read_model_retention_s: float = 7 * 24 * 3600.0
    """The read model forgets invocations of which nothing has happened for so long (as `facts` does by default)."""
    state: Path = field(default_factory=lambda: state_folder({}))
    """Where local state lives, see `state_folder`."""
    schema_registry: str | None = None
    """URL of a schema registry (Confluent's API); None: single-object encoding, which needs none."""
    security_protocol: str = "PLAINTEXT"
    """``PLAINTEXT``, ``SSL``, ``SASL_PLAINTEXT`` or ``SASL_SSL``."""
    ssl_cafile: str | None = None
    """Certificate authorities to trust; None: the system's."""
    ssl_certfile: str | None = None
    """Client certificate, with *ssl_keyfile*."""
    ssl_keyfile: str | None = None
    sasl_mechanism: str = "PLAIN"
    """``PLAIN``, ``SCRAM-SHA-256`` or ``SCRAM-SHA-512``."""
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Settings from ``STREAMS_BROKER``, ``STREAMS_PREFIX`` and so on. Raises `ConfigurationError`."""
        given: dict[str, Any] = {"state": state_folder(env)}
        for setting in fields(cls):
            text = env.get(f"STREAMS_{setting.name.upper()}", "")
            if text:
                given[setting.name] = _parse(setting.name, str(setting.type), text)
        return replace(cls(), **given)

    @property
    def topics(self) -> Topics:
        return Topics(self.prefix)

    def functions_file(self) -> Path | None:
        """Where the functions are described; None when there is no such file."""
        if self.config is not None:
            return self.config
        here = Path("streams.toml")
        return here if here.is_file() else None

    def read_model_url(self) -> str:
        """The read model: as set, else a SQLite file in the state folder that is named after the prefix."""
        return self.read_model or str(self.state / f"{self.prefix}read-model.db")

    def kafka(self) -> dict[str, Any]:
        """How to connect, as aiokafka's clients take it."""
        options: dict[str, Any] = {"bootstrap_servers": self.broker, "security_protocol": self.security_protocol}
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = self.ssl_context()
        if self.security_protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return options

    def ssl_context(self) -> ssl.SSLContext:
        """Raises `ConfigurationError` when a certificate file cannot be read."""
        try:
            context = ssl.create_default_context(cafile=self.ssl_cafile)
            if self.ssl_certfile:
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        except OSError as error:
            raise ConfigurationError(f"cannot read the TLS certificates: {error}. Check STREAMS_SSL_*.") from error
        return context


def state_folder(environ: Mapping[str, str]) -> Path:
    """Where local state lives: `$STREAMS_STATE`, else `$XDG_STATE_HOME/streams`, else `~/.local/state/streams`."""
    if chosen := environ.get("STREAMS_STATE"):
        return Path(chosen)
    base = environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "streams"


def _parse(name: str, kind: str, text: str) -> Any:
    try:
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
    except ValueError:
        raise ConfigurationError(f"STREAMS_{name.upper()}={text!r} is not a number") from None
    return Path(text) if kind.startswith("Path") else text
