"""A child process ends with its parent, and only then."""

import fcntl
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from streams.local.process import ChildProcess

FOREVER = "exec tail -f /dev/null"


def a_child(folder: Path, script: str, inherited: tuple[int, ...] = ()) -> ChildProcess:
    return ChildProcess(["/bin/sh", "-c", script], folder=folder, log=folder / "log", inherited=inherited)


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A pipe: reading it waits until the child has written to it."""
    path = tmp_path / "ready"
    os.mkfifo(path)
    return path


def test_its_exit_code_is_known_once_it_ended(tmp_path: Path):
    child = a_child(tmp_path, "exit 7")

    assert child.wait(10)
    assert child.exit_code == 7


def test_its_output_is_appended_to_the_log(tmp_path: Path):
    (tmp_path / "log").write_text("before\n")

    a_child(tmp_path, "echo out; echo err >&2").wait()

    assert (tmp_path / "log").read_text() == "before\nout\nerr\n"


def test_a_command_that_does_not_exist_says_so_in_the_log(tmp_path: Path):
    child = ChildProcess(["/nonexistent"], folder=tmp_path, log=tmp_path / "log")

    child.wait()

    assert child.exit_code == 1
    assert "No such file" in (tmp_path / "log").read_text()


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        ChildProcess(["/bin/true"], folder=tmp_path / "nowhere", log=tmp_path / "log")


def test_stopping_asks_first(tmp_path: Path, ready: Path):
    child = a_child(tmp_path, "trap 'kill $!; exit 3' TERM; echo > ready; tail -f /dev/null & wait")
    ready.read_text()

    child.stop(timeout_s=10)

    assert child.exit_code == 3


def test_stopping_does_not_ask_for_ever(tmp_path: Path, ready: Path):
    child = a_child(tmp_path, f"trap '' TERM; echo > ready; {FOREVER}")
    ready.read_text()

    child.stop(timeout_s=0.05)

    assert child.exit_code == -signal.SIGKILL


def test_it_outlives_the_thread_that_started_it(tmp_path: Path, ready: Path):
    children: list[ChildProcess] = []

    def start() -> None:
        children.append(a_child(tmp_path, f"echo > ready; {FOREVER}"))
        ready.read_text()  # by now it has asked to die with its parent; earlier, the end of this thread would go unseen

    starter = Thread(target=start)
    starter.start()
    starter.join()

    ended = children[0].wait(0.3)
    children[0].kill()

    assert not ended


@pytest.mark.skipif(sys.platform != "linux", reason="only the Linux kernel sees to it")
def test_it_does_not_outlive_a_killed_parent(tmp_path: Path, ready: Path):
    start = (
        "import sys; from pathlib import Path; from streams.local.process import ChildProcess\n"
        "folder = Path(sys.argv[1])\n"
        f"child = ChildProcess(['/bin/sh', '-c', 'echo $$ > ready; {FOREVER}'], folder=folder, log=folder / 'log')\n"
        "child.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", start, str(tmp_path)])
    child = os.pidfd_open(int(ready.read_text()))

    parent.kill()
    parent.wait()
    ended, _, _ = select.select([child], [], [], 10)

    os.close(child)
    assert ended


def test_a_lock_it_inherits_is_held_until_it_ends(tmp_path: Path):
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = a_child(tmp_path, FOREVER, inherited=(lock.fileno(),))

    with (tmp_path / "lock").open() as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.kill()
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
