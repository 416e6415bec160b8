"""A process dies where it was told to, and nowhere else."""

import os
import signal
import subprocess
import sys

import pytest

PASSES = """
import asyncio
from streams.engine.crashpoints import reach, reach_next

async def main():
    for number in range(3):
        reach("before-run")
        print(number, flush=True)
    reach_next("mid-transaction")
    print("sent", flush=True)
    await asyncio.sleep(0)
    print("answered", flush=True)

asyncio.run(main())
"""


def passes(crash_at: str) -> tuple[int, list[str]]:
    """Exit code and output of a process with these points."""
    done = subprocess.run(
        [sys.executable, "-c", PASSES], env={"STREAMS_CRASH_AT": crash_at}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.split()


@pytest.mark.parametrize(
    ("crash_at", "code", "output"),
    [
        ("", 0, ["0", "1", "2", "sent", "answered"]),
        ("after-claim", 0, ["0", "1", "2", "sent", "answered"]),
        ("before-run", -signal.SIGKILL, []),
        ("before-run:3", -signal.SIGKILL, ["0", "1"]),
        ("mid-transaction", -signal.SIGKILL, ["0", "1", "2", "sent"]),
    ],
)
def test_it_dies_at_the_passage_it_was_told(crash_at: str, code: int, output: list[str]) -> None:
    assert passes(crash_at) == (code, output)


def test_it_freezes_where_it_was_told() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PASSES], env={"STREAMS_CRASH_AT": "before-run:2:STOP"}, stdout=subprocess.PIPE
    )
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate()
    finally:
        process.kill()

    assert os.WIFSTOPPED(status)
    assert output.split() == [b"0", b"1", b"2", b"sent", b"answered"]
