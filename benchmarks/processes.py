"""Worker processes of contenders: started, frozen, killed, and what they take, from outside."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from streams.local.process import ChildProcess

ROOT = Path(__file__).parents[1]
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_STOP_S = 15.0


class Worker:
    """A process, and all that it has started: they share a process group."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
        env = shutil.which("env")
        assert env is not None
        given = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}
        settings = [f"{name}={value}" for name, value in given.items()]
        self.log = log
        self._process = ChildProcess([env, *settings, *command], folder=folder, log=log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.exit_code is not None

    def freeze(self) -> None:
        """SIGSTOP: it uses nothing of the machine."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, to all of them; gone on return."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what is left after a while."""
        self._signal(signal.SIGTERM)
        self._process.wait(_STOP_S)
        self.kill()

    def cpu_s(self) -> float:
        """User and system time so far, with that of children that have ended."""
        return sum(_ticks(fields) for fields in _group(self._process.pid)) * _TICK_S

    def core_wait_s(self) -> float:
        """How long its main threads were ready to run so far and had no core; 0 where the kernel does not say."""
        waited_ns = 0
        for pid in _members(self._process.pid):
            with contextlib.suppress(OSError):
                waited_ns += int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
        return waited_ns / 1e9

    def rss_mb(self) -> float:
        """Resident memory."""
        pages = sum(int(fields[21]) for fields in _group(self._process.pid))
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def log_end(self) -> str:
        """The last lines of its log, without Faust's tables."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line[:1] not in ("|", "+")]
        return "\n".join(lines[-25:])

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass


def _ticks(fields: Sequence[str]) -> int:
    """utime, stime, cutime, cstime."""
    return sum(map(int, fields[11:15]))


def _group(leader: int) -> list[list[str]]:
    """The fields of `/proc/*/stat` behind the name, of every process in the group."""
    return list(_members(leader).values())


def _members(leader: int) -> dict[str, list[str]]:
    """The same by process id."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            if int(fields[2]) == leader:
                found[folder.name] = fields
    return found
