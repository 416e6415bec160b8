"""`streams doctor` as a command, without a cluster."""

import pytest
from click.testing import CliRunner, Result

from streams.cli import main
from streams.commands import doctor as command
from streams.doctor.report import Options, Report
from streams.doctor.run import Request, size_of
from streams.doctor.scenarios import SCENARIOS


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What would have been run."""
    asked: list[Request] = []

    def remember(request: Request) -> Report:
        asked.append(request)
        return Report(request.options, [])

    monkeypatch.setattr(command, "run_doctor", remember)
    return asked


@pytest.mark.parametrize(
    "arguments",
    [
        ("--scenario", "earthquake"),
        ("--seed", "-1"),
        ("--seed", "x"),
        ("--scale", "0"),
        ("--scale", "-2"),
        ("--keep-logs", __file__),
        ("surprise",),
    ],
)
def test_a_wrong_argument_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert "Error:" in result.output


def test_all_scenarios_are_run_unless_some_are_named(requests: list[Request]) -> None:
    assert run("--seed", "3").exit_code == 0
    assert run("--scenario", "storm", "--scenario", "kill", "--full", "--scale", "0.1").exit_code == 0

    assert [scenario.name for scenario in requests[0].scenarios] == list(SCENARIOS)
    assert requests[0].options == Options(3, False, 1.0)
    assert [scenario.name for scenario in requests[1].scenarios] == ["kill", "storm"]
    assert requests[1].options[1:] == (True, 0.1)


def test_a_named_cluster_is_used(requests: list[Request], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMS_BROKER", raising=False)
    run()
    CliRunner().invoke(main, ["--broker", "kafka-1:9092", "--prefix", "p.", "doctor"])

    assert requests[0].settings is None
    assert requests[1].settings is not None
    assert (requests[1].settings.broker, requests[1].settings.prefix) == ("kafka-1:9092", "p.")


def test_an_interrupted_run_is_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(request: Request) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run_doctor", interrupt)

    assert run().exit_code == 130


def test_what_cannot_be_run_is_skipped_and_says_why() -> None:
    short, full = Options(1, False, 1.0), Options(1, True, 1.0)

    assert size_of(SCENARIOS["soak"], short, True) == (
        None,
        "it takes too long for the short form (--full runs it)",
    )
    assert size_of(SCENARIOS["soak"], full, True)[0] is not None
    size, why = size_of(SCENARIOS["broker"], short, False)
    assert size is None
    assert "not ours" in why
    assert size_of(SCENARIOS["broker"], short, True)[0] == SCENARIOS["broker"].short
