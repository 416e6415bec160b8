"""What functions write down is read, however they ended; and what workers say of themselves."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from streams.cluster import Topic
from streams.doctor import functions
from streams.doctor.evidence import Evidence
from streams.doctor.executions import Executions
from streams.doctor.inputs import DELIVERED
from streams.doctor.load import Sent
from streams.doctor.metrics import read
from streams.doctor.scenarios.soak import Sample, faults, growth_of, slope
from streams.doctor.watch import Silence, Watch
from streams.laws import Execution
from streams.laws import Sample as Counters
from streams.settings import Settings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (functions.EXECUTIONS, functions.FAILED):
        (tmp_path / name).mkdir()
    monkeypatch.setenv(functions.FOLDER, str(tmp_path))
    functions._diary.cache_clear()
    return tmp_path


def executions(folder: Path) -> Executions:
    found = Executions(folder / functions.EXECUTIONS)
    found.read()
    return found


async def test_an_execution_writes_down_its_beginning_and_its_end(folder: Path) -> None:
    event = {"do": "succeed", "ms": 1}

    assert await functions.work(json.dumps(event).encode(), SimpleNamespace(request_id="r")) == event
    [execution] = executions(folder).of("r")
    assert execution.ended_ms is not None
    assert execution.ended_ms >= execution.started_ms + 1


async def test_a_function_that_fails_once_fails_once_whatever_process_runs_it(folder: Path) -> None:
    event, context = {"do": "fail once", "ms": 0}, SimpleNamespace(aws_request_id="r")
    with pytest.raises(ValueError, match="had to fail"):
        await functions.work(event, context)
    functions._diary.cache_clear()  # another process

    assert await functions.work(event, context) == event
    assert [execution.attempt for execution in executions(folder).of("r")] == [1, 2]
    assert len({execution.process for execution in executions(folder).of("r")}) == 2


def test_lines_are_read_as_they_are_written_and_half_ones_later(tmp_path: Path) -> None:
    file, found = tmp_path / "p", Executions(tmp_path)
    file.write_text("began r 1.5\nbegan s 2.0\nended r 3.")
    found.read()
    assert found.of("r") == [Execution("r", 1, "p", 1.5, None)]
    file.write_text("began r 1.5\nbegan s 2.0\nended r 3.5\n")
    found.read()

    assert found.of("r") == [Execution("r", 1, "p", 1.5, 3.5)]
    assert found.of("s") == [Execution("s", 1, "p", 2.0, None)]
    assert found.of("t") == []


def test_what_runs_again_after_it_was_judged_is_noticed(tmp_path: Path) -> None:
    settings = Settings()
    topics = (*settings.topics.all, settings.topics.name(DELIVERED))
    evidence = Evidence(settings, {name: Topic(name, 1, 1_000) for name in topics}, tmp_path)
    (tmp_path / "p").write_text("began r 1\nended r 2\nbegan s 3\n")
    evidence._executions.read()
    case = evidence.case({"r": Sent("success", "aws", 9, None)}, kills=1)

    assert case.history.since_ms == {"p": 1}
    assert evidence.stray() == []
    (tmp_path / "q").write_text("began r 5\n")
    evidence._executions.read()
    assert evidence.stray() == ["r"]


def test_what_was_written_before_a_fault_does_not_end_its_silence() -> None:
    settings = Settings()
    watch = Watch(settings, {name: Topic(name, 1, 1_000) for name in settings.topics.all}, lambda _: None)
    watch.struck()

    def see(at_ms: float) -> None:
        watch._see([SimpleNamespace(key=b"r", partition=0, timestamp=at_ms)])

    see(watch.silences[0].began_ms - 1)
    assert not watch.is_back
    see(watch.silences[0].began_ms + 1)
    assert watch.is_back


def test_metrics_say_whether_everything_is_accounted_for() -> None:
    page = "# HELP x\nstreams_waiting 3.0\nstreams_running 1.0\nstreams_ended 5.0\nstreams_drift -1.0\nother 2.0\n"

    assert read(page) == Counters(accepted=8, waiting=3, running=1, ended=5)


def test_a_silence_lasts_until_the_last_partition_is_back() -> None:
    assert Silence(100.0, 0, {0: 101.0, 1: 104.5}).worst_s() == 4.5
    assert Silence(100.0, 0).worst_s() is None


def test_memory_that_grows_is_a_fault_and_what_happens_while_warming_up_is_not() -> None:
    assert slope([0, 1, 2], [5, 7, 9]) == 2
    steady = [Sample(3600.0 * hour / 10, 100.0 + (50 - 5 * hour if hour < 10 else 0), 40) for hour in range(40)]
    growing = [Sample(3600.0 * hour / 10, 100.0 + hour, 40 + hour) for hour in range(40)]

    assert found(steady) == []
    assert found(growing) == ["memory", "files"]


def test_in_minutes_only_what_grows_by_much_is_a_fault() -> None:
    noisy = [Sample(10.0 * number, 100.0 + 2 * (number % 7), 40 + number % 3) for number in range(60)]
    leaking = [Sample(10.0 * number, 100.0 + number, 40 + number) for number in range(60)]

    assert found(noisy) == []
    assert found(leaking) == ["memory", "files"]
    assert growth_of(leaking[:2]) is None


def found(samples: list[Sample]) -> list[str]:
    growth = growth_of(samples)
    assert growth is not None
    return [violation.law for violation in faults(growth)]
