"""A PostgreSQL of one's own: a temporary folder, a Unix socket in it and no port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

WITHIN_S = 30.0


def programs() -> Path | None:
    """The folder with `initdb` and `postgres`: on the PATH, or where Debian puts them; None if there is none."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return installed[-1].parent if installed else None


class Postgres:
    """A server; use it as ``with``. Started by root it runs as somebody else, since it refuses to run as root."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="streams-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"postgresql://tester@/postgres?host={self._folder}"

    def __enter__(self) -> Self:
        try:
            account = self._account()
            options = ["--username=tester", "--auth=trust", "--encoding=UTF8", "--no-sync", "--locale=C.UTF-8"]
            made = subprocess.run(
                [self._programs / "initdb", f"--pgdata={self._folder / 'data'}", *options],
                **account,
                capture_output=True,
                text=True,
            )
            assert made.returncode == 0, made.stdout + made.stderr
            with (self._folder / "log").open("wb") as log:
                self._process = subprocess.Popen(
                    [self._programs / "postgres", "-D", "data", "-k", self._folder, "-h", "", "-F"],
                    **account,
                    stdout=log,
                    stderr=log,
                )
            self._await_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # what PostgreSQL calls a fast shutdown
            self._process.wait(WITHIN_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _account(self) -> dict[str, object]:
        """Who runs the server, and in which folder."""
        here: dict[str, object] = {"cwd": self._folder}
        if os.geteuid() != 0:
            return here
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
        os.chown(self._folder, user.pw_uid, user.pw_gid)
        return here | {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def _await_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + WITHIN_S
        ask = [self._programs / "pg_isready", "-q", "-h", self._folder]
        while subprocess.run(ask).returncode != 0:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.05)
