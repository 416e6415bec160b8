"""Worker processes, and a supervisor that starts again whatever ends without being told to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout

from streams.errors import StreamsError
from streams.local.broker import free_port
from streams.local.process import ChildProcess

LOOK_S = 0.1
"""The supervisor looks so often."""
STOP_S = 25.0
"""A worker that was told to stop is killed after that. It may take `drain_s`, and a last commit."""
FAILING_MAX_S = 300.0
"""A place whose workers have ended for so long before they came to work: something is wrong with the set-up. (A broker
that dies again and again is away for minutes.)"""
RESTART_PAUSE_S = 1.0
"""After such an end the next one is started so much later."""
LOG_LINES_SHOWN = 25
_ANSWER = ClientTimeout(total=2.0)
_EXIT_CONFIGURATION = 2


class CrewFailed(StreamsError):
    """Workers do not start."""


@dataclass(slots=True)
class Slot:
    """A place for one worker process after the other."""

    number: int
    name: str | None
    """The worker's name, which stays across restarts; None: each process is somebody new."""
    is_wanted: bool = False
    """Whether a process is to run here: one that ends is replaced."""
    process: ChildProcess | None = None
    log: Path | None = None
    http_port: int = 0
    is_doomed: bool = False
    """We have ended it ourselves, or told it to die: its end is no surprise."""
    starts: int = 0
    failing_since: float | None = None
    """Since when no worker here has come to work (`time.monotonic`)."""
    start_at: float = 0.0
    """Not to be started again before (`time.monotonic`)."""

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.exit_code is None else None


@dataclass(slots=True)
class Exit:
    """A worker that ended by itself."""

    slot: int
    code: int | None
    how: str


@dataclass(slots=True)
class Crew:
    """The workers of a trial."""

    folder: Path
    environment: Mapping[str, str]
    """What a worker finds in its environment besides ours."""
    names: Sequence[str | None]
    exits: list[Exit] = field(default_factory=list)
    slots: list[Slot] = field(init=False)
    more: dict[int, dict[str, str]] = field(default_factory=dict)
    """More environment, by slot."""

    def __post_init__(self) -> None:
        self.slots = [Slot(number, name) for number, name in enumerate(self.names)]

    # -- acts ----------------------------------------------------------------------------------------------------

    def start(self, number: int, **environment: str) -> None:
        """Start a worker; *environment* is for this process only."""
        slot = self.slots[number]
        if _was_ready(slot):
            slot.failing_since = None
        slot.is_wanted, slot.is_doomed = True, False
        slot.starts += 1
        slot.http_port = free_port()
        slot.log = self.folder / f"worker-{number}.{slot.starts}.log"
        http = {"STREAMS_HTTP": f"127.0.0.1:{slot.http_port}"}
        given = json.dumps({**self.environment, **self.more.get(number, {}), **http, **environment})
        name = ["--name", slot.name] if slot.name else []
        command = [sys.executable, "-m", "streams.doctor.worker", given, *name]
        slot.process = ChildProcess(command, folder=self.folder, log=slot.log)

    def kill(self, number: int, back_after_s: float = 0.0) -> None:
        """SIGKILL; it is gone on return, and another one comes *back_after_s* later."""
        slot = self.slots[number]
        slot.is_doomed, slot.start_at = True, time.monotonic() + back_after_s
        if slot.process is not None:
            slot.process.kill()

    def expect_end(self, number: int) -> None:
        """Its end will be no surprise, and nobody takes its place."""
        slot = self.slots[number]
        slot.is_wanted, slot.is_doomed = False, True

    def terminate(self, number: int) -> None:
        """SIGTERM; it ends some time later, and nobody takes its place."""
        self.expect_end(number)
        self._signal(self.slots[number], signal.SIGTERM)

    def freeze(self, number: int) -> None:
        """SIGSTOP: it does nothing more, and does not know."""
        self._signal(self.slots[number], signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        """SIGCONT."""
        self._signal(self.slots[number], signal.SIGCONT)

    async def frozen(self, number: int, within_s: float) -> bool:
        """Wait until this worker has frozen by itself; False when it has not *within_s*. Linux only."""
        deadline = time.monotonic() + within_s
        while not _is_frozen(self.slots[number].pid):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    def _signal(self, slot: Slot, number: signal.Signals) -> None:
        if slot.pid is not None:
            os.kill(slot.pid, number)

    # -- supervision ---------------------------------------------------------------------------------------------

    async def supervise(self) -> None:
        """Start again what ends, for ever. Raises `CrewFailed` when that is no use."""
        while True:
            for slot in self.slots:
                self._look_after(slot)
            await asyncio.sleep(LOOK_S)

    def _look_after(self, slot: Slot) -> None:
        process = slot.process
        if process is None or process.exit_code is None:
            return
        if not slot.is_doomed:
            self.exits.append(Exit(slot.number, process.exit_code, self.end_of(slot, process.exit_code)))
            slot.is_doomed = True
            if process.exit_code == _EXIT_CONFIGURATION or self._has_failed(slot):
                raise CrewFailed(f"a worker ended with exit code {process.exit_code}:\n{self.log_end(slot)}")
        if slot.is_wanted and time.monotonic() >= slot.start_at:
            self.start(slot.number)

    def _has_failed(self, slot: Slot) -> bool:
        """Whether workers here end without coming to work, and have done so for too long."""
        if _was_ready(slot):
            return False
        now = time.monotonic()
        slot.failing_since = slot.failing_since or now
        slot.start_at = max(slot.start_at, now + RESTART_PAUSE_S)
        return now - slot.failing_since > FAILING_MAX_S

    async def ready(self, *numbers: int, within_s: float = 180.0) -> None:
        """Wait until these workers have partitions and know their state. Raises `CrewFailed`."""
        deadline = time.monotonic() + within_s
        async with ClientSession(timeout=_ANSWER) as session:
            for number in numbers:
                while not await _is_ready(self.slots[number], session):
                    if time.monotonic() > deadline:
                        end = self.log_end(self.slots[number])
                        raise CrewFailed(f"a worker was not ready within {within_s:.0f} s:\n{end}")
                    await asyncio.sleep(LOOK_S)

    async def gone(self, number: int, within_s: float = STOP_S) -> int | None:
        """Wait until the process in this slot has ended; its exit code, or None if it has not."""
        process = self.slots[number].process
        if process is None:
            return None
        await asyncio.to_thread(process.wait, within_s)
        return process.exit_code

    async def stop(self) -> list[str]:
        """Tell all to stop, and wait for that. What was wrong with it."""
        async with ClientSession(timeout=_ANSWER) as session:
            ready = [slot for slot in self.slots if slot.pid is not None and await _is_ready(slot, session)]
        for slot in self.slots:
            self.terminate(slot.number)
        codes = await asyncio.gather(*(self.gone(slot.number) for slot in ready))
        return [
            f"worker {slot.number} "
            + (self.end_of(slot, code) if code is not None else f"did not stop within {STOP_S:.0f} s")
            for slot, code in zip(ready, codes, strict=True)
            if code != 0
        ]

    def close(self) -> None:
        """End whatever still runs."""
        for slot in self.slots:
            slot.is_wanted = False
            if slot.process is not None:
                slot.process.kill()

    def end_of(self, slot: Slot, code: int | None) -> str:
        """How it ended, and the last that it said."""
        words = self.log_end(slot).rpartition("\n")[2]
        return f"ended with exit code {code}: {words}"

    def log_end(self, slot: Slot) -> str:
        """The last lines of its log, without Faust's tables."""
        if slot.log is None:
            return ""
        lines = [line for line in slot.log.read_text(errors="replace").splitlines() if not line.startswith(("|", "+"))]
        return "\n".join(lines[-LOG_LINES_SHOWN:])


def _was_ready(slot: Slot) -> bool:
    return slot.log is not None and "Worker ready" in slot.log.read_text(errors="replace")


def _is_frozen(pid: int | None) -> bool:
    """Whether /proc has the state T for it, behind a name that may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


async def _is_ready(slot: Slot, session: ClientSession) -> bool:
    try:
        async with session.get(f"http://127.0.0.1:{slot.http_port}/ready") as answer:
            return answer.status == 200
    except (ClientError, TimeoutError):
        return False
