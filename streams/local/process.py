"""A child process that does not outlive this one, however this one ends.

On Linux the kernel sees to it: the child asks for SIGKILL when its parent dies (PR_SET_PDEATHSIG). Two traps shape this
file. "Parent" means the *thread* that forked, so a child started from a pool thread would die with that thread: here
one thread starts the child and then does nothing but wait for it. And running Python between fork and exec is not safe
in a process with threads, so the request is made by a small program that then becomes the child.

Elsewhere a parent that is killed leaves the child running; whoever owns the child stops it at an ordinary exit.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Event, Thread

# Arguments: the parent's process id, then the command. The parent may be gone before the request is made; then there
# is nobody left to start anything for.
_BECOME = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class ChildProcess:
    """A running command, in a process group of its own: Ctrl-C in the terminal reaches us, and we decide.

    Its output goes to *log*, after what that file holds. *inherited* are file descriptors it keeps open.
    """

    def __init__(self, command: Sequence[str], *, folder: Path, log: Path, inherited: Sequence[int] = ()) -> None:
        self._ended = Event()
        started: Future[subprocess.Popen[bytes]] = Future()
        become = [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *command]
        Thread(target=self._keep, args=(started, become, folder, log, inherited), daemon=True).start()
        self._popen = started.result()

    def _keep(
        self,
        started: "Future[subprocess.Popen[bytes]]",
        command: Sequence[str],
        folder: Path,
        log: Path,
        inherited: Sequence[int],
    ) -> None:
        try:
            with log.open("ab") as output:
                popen = subprocess.Popen(
                    command,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=inherited,
                    process_group=0,
                )
        except OSError as error:
            started.set_exception(error)
            return
        started.set_result(popen)
        popen.wait()
        self._ended.set()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._popen.returncode if self._ended.is_set() else None

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it ends, at most *timeout_s*; whether it ended."""
        return self._ended.wait(timeout_s)

    def stop(self, timeout_s: float) -> None:
        """Ask it to end (SIGTERM), and after *timeout_s* do not ask any more (SIGKILL). It is gone on return."""
        self._signal(signal.SIGTERM)
        if not self.wait(timeout_s):
            self.kill()

    def kill(self) -> None:
        """End it at once (SIGKILL). It is gone on return."""
        self._signal(signal.SIGKILL)
        self.wait()

    def _signal(self, number: signal.Signals) -> None:
        if not self._ended.is_set():
            self._popen.send_signal(number)
