"""Functions in child processes: how they die, and that nothing of them stays."""

import asyncio
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.core.model import PythonTarget
from streams.invokers import Invokers, Runner
from streams.invokers.process import _read_outcome, _Unreadable
from streams.providers import PROVIDERS

from . import targets
from .conftest import call, function, python


@pytest.fixture
def prepare(invokers: Invokers) -> Callable[..., Runner]:
    def prepare(target: Callable[..., object], timeout_s: float = 10) -> Runner:
        return invokers.prepare(function(python(target, "process"), timeout_s=timeout_s), PROVIDERS["aws"])

    return prepare


def is_running(pid: int) -> bool:
    """Whether process *pid* runs; one that nobody has waited for does not."""
    try:
        os.kill(pid, 0)
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # no Linux, or it has just ended
        return not Path("/proc").exists()


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(5):
        while is_running(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_death_is_an_outcome_and_the_next_call_gets_a_new_process(prepare: Callable[..., Runner]) -> None:
    run = prepare(targets.do)
    deaths = {
        "crash": "signal: segmentation fault",
        "exit_hard": "exit status 3",
        "kill_itself": "signal: killed",
    }

    for target, ending in deaths.items():
        outcome = await run(call(json.dumps([target, None]).encode()))
        assert outcome.error_type == "Runtime.ExitError"
        assert outcome.error_message.endswith(f"Runtime exited with error: {ending}")


async def test_a_death_is_noticed_though_a_process_is_left_behind(prepare: Callable[..., Runner]) -> None:
    began = time.monotonic()

    outcome = await prepare(targets.leave_a_process)(call(b"2"))

    assert outcome.error_message.endswith("exit status 4")
    assert time.monotonic() - began < 2


async def test_a_process_serves_many_calls(prepare: Callable[..., Runner]) -> None:
    run = prepare(targets.ignore_signals)  # which it also survives

    outcomes = await asyncio.gather(*(run(call()) for _ in range(10)))

    assert len({outcome.payload for outcome in outcomes}) == 1


async def test_a_process_that_died_idle_is_replaced(prepare: Callable[..., Runner]) -> None:
    run = prepare(targets.ignore_signals)
    first = int((await run(call())).payload or b"")
    os.kill(first, signal.SIGKILL)
    [idle] = run.__self__._idle  # type: ignore[attr-defined]  # until the parent has noticed, a call would die with it
    async with asyncio.timeout(5):
        while idle.is_alive:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    outcome = await run(call())

    assert outcome.kind == "returned"
    assert outcome.payload != str(first).encode()


async def test_a_timeout_kills_what_the_function_started(prepare: Callable[..., Runner], tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    outcome = await prepare(targets.start_a_process, timeout_s=0.5)(call(json.dumps(str(pid_file)).encode()))

    assert outcome.error_type == "Sandbox.Timedout"
    await until_gone(int(pid_file.read_text()))


async def test_importing_does_not_count_as_time(
    invokers: Invokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time; time.sleep(0.3)\ndef handler(event, context): return 1\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    target = PythonTarget("slow_to_import", "handler", "process")

    outcome = await invokers.prepare(function(target, timeout_s=0.2), PROVIDERS["aws"])(call())

    assert outcome.payload == b"1"


async def test_a_module_that_cannot_be_imported_is_an_error_until_it_can(
    invokers: Invokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "broken_for_a_while.py"
    module.write_text("import os; os.environ['NOT_YET']")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    target = PythonTarget("broken_for_a_while", "handler", "process")
    run = invokers.prepare(function(target), PROVIDERS["aws"])

    assert (await run(call())).error_type == "KeyError"

    module.write_text("def handler(event, context): return 'now it works'")
    assert (await run(call())).payload == b'"now it works"'


async def test_what_is_no_message_is_a_system_error(prepare: Callable[..., Runner]) -> None:
    outcome = await prepare(targets.print_garbage)(call())

    assert outcome.kind == "system_error"


@pytest.mark.parametrize(
    "head",
    [
        ["returned", "200", "", "", False, True, False],
        ["returned", 200, 7, "", False, True, False],
        ["returned", 200, "", "", None, True, False],
        ["over", 200, "", "", False, True, False],
        [],
    ],
)
def test_a_message_that_a_function_made_up_is_none(head: list[Any]) -> None:
    """Its types are looked at here: whatever is made of them later would stop the worker."""
    with pytest.raises(_Unreadable):
        _read_outcome(json.dumps(head).encode(), b"")


def test_a_message_that_is_nested_for_ever_is_none() -> None:
    with pytest.raises(_Unreadable):
        _read_outcome(b"[" * 100_000, b"")


async def test_a_function_that_forks_answers_once(prepare: Callable[..., Runner]) -> None:
    """The other one's answer would be taken for that of the next call."""
    run = prepare(targets.fork)

    assert [(await run(call())).payload for _ in range(3)] == [b'"parent"'] * 3


async def test_a_huge_result_stays_in_the_process(prepare: Callable[..., Runner]) -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    outcome = await prepare(targets.be_huge)(call(b"50000000"))

    assert outcome.error_type == "Function.ResponseSizeTooLarge"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 25_000


async def test_stdin_is_empty(prepare: Callable[..., Runner]) -> None:
    assert (await prepare(targets.stdin)(call())).payload == b'""'


async def test_a_cancelled_call_ends_its_process(prepare: Callable[..., Runner]) -> None:
    run = prepare(targets.ignore_signals)
    pid = int((await run(call())).payload or b"")
    task = asyncio.ensure_future(run(call()))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await until_gone(pid)


async def test_closing_ends_all_processes(prepare: Callable[..., Runner], invokers: Invokers, tmp_path: Path) -> None:
    idle = int((await prepare(targets.ignore_signals)(call())).payload or b"")
    pid_file = tmp_path / "pid"
    hanging = asyncio.ensure_future(prepare(targets.start_a_process)(call(json.dumps(str(pid_file)).encode())))
    async with asyncio.timeout(5):
        while not pid_file.exists() or not pid_file.read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    await invokers.close()

    with pytest.raises(asyncio.CancelledError):
        await hanging
    for pid in (idle, int(pid_file.read_text())):
        await until_gone(pid)


PARENT = """
import asyncio, os, signal
from invokers.conftest import call, function, python
from streams.invokers import Invokers
from streams.providers import PROVIDERS

async def main():
    invokers = Invokers()
    await invokers.start()
    run = invokers.prepare(function(python("ignore_signals", "process")), PROVIDERS["aws"])
    print((await run(call())).payload.decode(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_processes_die_with_their_parent() -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    output, _ = await parent.communicate()

    assert parent.returncode == -signal.SIGKILL
    await until_gone(int(output))
