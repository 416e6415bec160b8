"""The command line without a broker: help, options, messages and exit codes."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from aiokafka import ConsumerRecord
from click.testing import CliRunner, Result

from streams.cli import COMMANDS, main
from streams.codec.avro import Codec, load_schemas
from streams.codec.dead_letter import dead_letter
from streams.codec.facts import facts_datum
from streams.commands.base import columns, time_text
from streams.commands.documents import Documents, concerns, is_about, may_concern, one_line
from streams.commands.outcomes import GRACE_S, Outcomes
from streams.commands.reading import Decoder
from streams.core.facts import Accepted, AttemptStarted, Fact, Succeeded
from streams.core.model import Outcome
from streams.providers import PROVIDERS
from streams.settings import Settings
from streams.topics import Topics

FUNCTIONS = """
[[function]]
name = "resize"
provider = "aws"
url = "http://127.0.0.1:9/"
retries = 1
age_max_s = 7200
timeout_s = 1.5
on_success = "kafka://resized"

[[function]]
name = "shop/order"
provider = "fc"
url = "http://127.0.0.1:9/"
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No functions file and no settings but the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("BROKER", "PREFIX", "CONFIG", "WORKER_NAME", "PARTITIONS"):
        monkeypatch.delenv(f"STREAMS_{name}", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))


def streams(*arguments: str, stdin: bytes | None = None, **env: str) -> Result:
    return CliRunner().invoke(main, arguments, input=stdin, env=env)


def settings_of(*arguments: str, **env: str) -> Settings:
    """The settings that a command gets."""
    seen = []

    @click.command()
    @click.pass_obj
    def probe(settings: Settings) -> None:
        seen.append(settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.commands.topics.topics", probe)
        result = streams(*arguments, "topics", **env)
    assert result.exit_code == 0, result.output
    [settings] = seen
    return settings


def leaves(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """*command* and all below it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from leaves(below, (*path, name))


@contextmanager
def silent_server() -> Iterator[int]:
    """The port of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def toml(tmp_path: Path) -> str:
    path = tmp_path / "functions.toml"
    path.write_text(FUNCTIONS)
    return str(path)


class TestHelp:
    @pytest.mark.parametrize(
        "path", [path for path, _ in leaves(main, ())], ids=lambda path: " ".join(path) or "streams"
    )
    def test_every_command_explains_itself(self, path: tuple[str, ...]):
        result = streams(*path, "--help")

        assert result.exit_code == 0
        assert len(result.output.split("Options:")[0].split()) > 10

    def test_every_option_has_a_help_text(self):
        options = [
            (path, option.name)
            for path, command in leaves(main, ())
            for option in command.params
            if isinstance(option, click.Option) and not option.help and not isinstance(option.type, click.Choice)
        ]

        assert options == []

    def test_the_global_options_name_their_variables_and_defaults(self):
        output = " ".join(streams("--help").output.split())

        for text in ("env var: STREAMS_BROKER; default: (127.0.0.1:9092)", "STREAMS_PREFIX", "STREAMS_CONFIG"):
            assert text in output

    def test_the_package_can_be_run(self):
        done = subprocess.run(
            [sys.executable, "-m", "streams", "--version"], capture_output=True, text=True, check=True
        )

        assert done.stdout.startswith("streams ")

    def test_an_unknown_command_is_refused(self):
        assert streams("dance").exit_code == 2

    def test_a_command_loads_no_other(self):
        code = (
            "import sys; from streams.cli import main; main(['broker', '--help'], standalone_mode=False); "
            "print('aiokafka' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

        assert done.stdout.splitlines()[-1] == "False"
        assert "broker" in COMMANDS


class TestPrecedence:
    def test_without_anything_the_defaults_hold(self):
        assert settings_of() == Settings()

    def test_the_environment_wins_over_defaults(self):
        settings = settings_of(
            STREAMS_BROKER="b:1", STREAMS_PREFIX="p.", STREAMS_CONFIG="c.toml", STREAMS_PARTITIONS="3"
        )

        assert settings == Settings(broker="b:1", prefix="p.", config=Path("c.toml"), partitions=3)

    def test_an_option_wins_over_the_environment(self):
        settings = settings_of(
            "--broker", "o:1", "--prefix", "", "--config", "o.toml", STREAMS_BROKER="b:1", STREAMS_PREFIX="p."
        )

        assert settings == Settings(broker="o:1", prefix="", config=Path("o.toml"))

    def test_the_read_model_is_a_file_of_the_prefix_in_the_state_folder_unless_one_is_named(self):
        usual = settings_of("--prefix", "p.", STREAMS_STATE="/s").read_model_url()
        named = settings_of(STREAMS_STATE="/s", STREAMS_READ_MODEL="postgresql://u:secret@h/d")

        assert usual == "/s/p.read-model.db"
        assert named.read_model_url() == "postgresql://u:secret@h/d"
        assert "secret" not in repr(named)

    def test_a_setting_that_is_no_number_is_an_error_of_ours(self):
        result = streams("topics", "list", STREAMS_PARTITIONS="many")

        assert result.exit_code == 2
        assert result.output == "Error: STREAMS_PARTITIONS='many' is not a number\n"

    def test_a_prefix_must_fit_topic_names(self):
        result = streams("--prefix", "a b", "topics", "list")

        assert result.exit_code == 2
        assert "'a b' cannot be a prefix" in result.output


class TestCancel:
    @pytest.mark.parametrize("request_id", ["", "a\nb", "x" * 257], ids=["nothing", "two lines", "too long"])
    def test_what_cannot_be_an_id_is_refused_before_anything_is_sent(self, request_id: str):
        result = streams("--broker", "127.0.0.1:1", "cancel", "some-id", request_id)

        assert result.exit_code == 2
        assert "A request id" in result.output

    def test_no_id_is_too_few(self):
        assert streams("cancel").exit_code == 2


class TestBrokerAway:
    @pytest.mark.parametrize(
        "command",
        [
            ("topics", "list"),
            ("topics", "create"),
            ("invoke", "f"),
            ("invoke", "f", "--wait"),
            ("cancel", "some-id"),
            ("cancel", "some-id", "--no-wait"),
            ("records",),
            ("show", "some-id"),
            ("--config", "functions.toml", "worker"),
        ],
        ids=" ".join,
    )
    def test_nobody_listens(self, command: tuple[str, ...], toml: str):
        result = streams("--broker", "127.0.0.1:1", *command)

        assert result.exit_code == 3
        assert result.output.startswith("Error: no Kafka broker answers at 127.0.0.1:1")
        assert "streams broker" in result.output

    def test_somebody_listens_but_does_not_answer(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("streams.commands.base.CONNECT_TIMEOUT_S", 0.2)
        with silent_server() as port:
            result = streams("--broker", f"127.0.0.1:{port}", "topics", "list")

        assert result.exit_code == 3
        assert f"no Kafka broker answers at 127.0.0.1:{port} within" in result.output

    def test_what_is_no_address_is_refused(self):
        result = streams("--broker", "kafka:port", "topics", "list")

        assert result.exit_code == 2
        assert "cannot connect to 'kafka:port'" in result.output


class TestFunctions:
    def test_a_line_for_each(self, toml: str):
        result = streams("--broker", "127.0.0.1:1", "--config", toml, "functions", "list")

        assert result.exit_code == 0
        assert "what the file says" in result.stderr and "no Kafka broker answers at 127.0.0.1:1" in result.stderr
        lines = [line.split() for line in result.stdout.splitlines()]
        assert lines[1] == "resize aws $LATEST http://127.0.0.1:9/ 1500ms 1 2h kafka://resized - -".split()
        assert lines[2] == "shop/order fc LATEST http://127.0.0.1:9/ 1min 3 1d - - -".split()

    def test_all_faults_at_once(self, tmp_path: Path):
        file = tmp_path / "streams.toml"  # found by itself
        file.write_text('[[function]]\nname = "f"\nprovider = "azure"\nretry = 1\n[[function]]\nprovider = "aws"\n')

        result = streams("functions", "list")

        assert result.exit_code == 2
        for text in ("streams.toml", "azure", "retry: unknown key; did you mean retries?", "name: is missing"):
            assert text in result.output

    def test_without_a_file_and_without_kafka(self):
        result = streams("--broker", "127.0.0.1:1", "functions", "list")

        assert result.exit_code == 2
        assert "no functions file" in result.output and "no Kafka broker answers" in result.output

    def test_one_with_where_each_setting_comes_from(self, toml: str):
        result = streams("--broker", "127.0.0.1:1", "--config", toml, "functions", "show", "resize")

        assert result.exit_code == 0
        lines = [line.split() for line in result.stdout.splitlines()]
        assert lines[0] == ["arn:aws:lambda:us-east-1:123456789012:function:resize:$LATEST"]
        for line in (
            "url http://127.0.0.1:9/ streams.toml",
            "timeout_s 1500ms streams.toml",
            "age_max_s 2h streams.toml",
            "on_success kafka://resized streams.toml",
            "on_failure - default",
            "records all default",
        ):
            assert line.split() in lines

    @pytest.mark.parametrize("name", ["nobody", "resize:prod"])
    def test_one_that_is_not_there(self, toml: str, name: str):
        result = streams("--broker", "127.0.0.1:1", "--config", toml, "functions", "show", name)

        assert result.exit_code == 2
        assert result.output.splitlines()[-1].startswith(f"Error: {name}: ")

    def test_nothing_is_reset_without_kafka(self, toml: str):
        result = streams("--broker", "127.0.0.1:1", "--config", toml, "functions", "reset", "resize")

        assert result.exit_code == 3
        assert "no Kafka broker answers" in result.output

    def test_an_empty_file(self, tmp_path: Path):
        (tmp_path / "streams.toml").write_text("")

        assert streams("--broker", "127.0.0.1:1", "functions", "list").stdout == "There are no functions.\n"


class TestInvoke:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("f", "--payload", "1", "--file", "-"), "exclude each other"),
            (("f", "--id", "x", "--count", "2"), "--id names one invocation"),
            (("f", "--timeout", "1"), "--timeout needs --wait"),
            (("f", "--count", "0"), "--count"),
            (("f", "--file", "missing.json"), "missing.json"),
            ((), "FUNCTION"),
        ],
    )
    def test_contradictions_are_refused(self, arguments: tuple[str, ...], message: str):
        result = streams("invoke", *arguments)

        assert result.exit_code == 2
        assert message in result.output

    def test_an_unknown_function_is_refused_with_a_guess(self, toml: str):
        result = streams("--config", toml, "invoke", "resise")

        assert result.exit_code == 2
        assert "resise" in result.output
        assert "Did you mean resize?" in result.output

    def test_an_event_the_provider_refuses_is_refused_in_its_words(self, toml: str):
        result = streams("--config", toml, "invoke", "resize", "--payload", "{not json")

        assert result.exit_code == 2
        assert "InvalidRequestContentException (400): Could not parse request body into json" in result.output

    def test_a_payload_above_the_limit_is_refused_in_the_providers_words(self, toml: str):
        result = streams("--config", toml, "invoke", "shop/order", "--file", "-", stdin=bytes(131_073))

        assert result.exit_code == 2
        assert "EntityTooLarge (400): payload size exceeds maximum allowed size (131072 bytes)" in result.output


class TestRecords:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--from-beginning", "--last", "1"), "exclude each other"),
            (("--topic", "invocations"), "--topic invocations: the topics that can be read are aws.success"),
            (("--last", "-1"), "--last"),
        ],
    )
    def test_contradictions_are_refused(self, arguments: tuple[str, ...], message: str):
        result = streams("records", *arguments)

        assert result.exit_code == 2
        assert message in result.output

    def test_line_breaks_between_tokens_become_blanks(self):
        document = b'{"requestPayload":{\r\n  "a": "x\\ny",\n"b":\r1}}'

        line = one_line(document)

        assert b"\n" not in line and b"\r" not in line
        assert json.loads(line) == json.loads(document)

    @pytest.mark.parametrize(
        "function", ["resize", "arn:aws:lambda:us-east-1:123456789012:function:resize:$LATEST", "function:resize"]
    )
    def test_a_function_by_name_or_arn(self, function: str):
        assert is_about(function, "arn:aws:lambda:us-east-1:123456789012:function:resize:$LATEST")

    def test_a_name_is_not_part_of_a_name(self):
        assert not is_about("size", "arn:aws:lambda:us-east-1:123456789012:function:resize:$LATEST")
        assert not is_about("res", "acs:fc:cn-hangzhou:1:functions/resize")

    def test_a_function_of_fc_2_by_service_and_name(self):
        assert is_about("shop/order", "acs:fc:::services/shop.LATEST/functions/order")
        assert not is_about("shop/order", "acs:fc:::services/other.LATEST/functions/order")

    def test_a_dead_letter_is_found_by_the_id_its_producer_gave(self):
        letter = {"request_id": "coordinates", "headers": [{"name": "Request-Id", "value": b"mine"}], "value": b""}

        assert may_concern("mine", b"coordinates", b"... mine ...")
        assert concerns("mine", "DeadLetter", letter)
        assert concerns("coordinates", "DeadLetter", letter)
        assert not concerns("other", "DeadLetter", letter)


class TestWorker:
    def test_a_faulty_file_is_found_before_anything_is_connected(self, tmp_path: Path):
        (tmp_path / "streams.toml").write_text("[[function]]\nname = 3\n")

        result = streams("--broker", "127.0.0.1:1", "worker")

        assert result.exit_code == 2
        assert "streams.toml cannot be used" in result.output


def test_columns_are_aligned_and_numbers_flush_right():
    assert columns([["name", "count"], ["a", "5"], ["long-name", "12345"], ["x", ""]]) == (
        "name       count\na              5\nlong-name  12345\nx"
    )


def test_times_are_utc_with_milliseconds():
    assert time_text(1_767_225_600_123) == "2026-01-01T00:00:00.123Z"


def test_no_color_is_honoured():
    seen = []

    @click.command()
    @click.pass_context
    def probe(ctx: click.Context) -> None:
        seen.append(ctx.color)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streams.commands.topics.topics", probe)
        streams("topics", NO_COLOR="1")
        streams("topics", NO_COLOR="")

    assert seen == [False, None]


def test_a_closed_pipe_is_quiet():
    """As in `streams --help | true`."""
    reader, writer = socket.socketpair()
    reader.close()
    done = subprocess.run(
        [sys.executable, "-m", "streams", "functions", "--help"], stdout=writer, stderr=subprocess.PIPE
    )
    writer.close()

    assert done.stderr == b""


CODEC = Codec(load_schemas())
OURS = Topics("p.")


@dataclass(frozen=True)
class Read:
    """A record as a consumer has it."""

    topic: str
    key: bytes
    value: bytes | None


def success(request_id: str) -> Read:
    return Read("p.fc.success", request_id.encode(), CODEC.encode("FcInvocationRecord", fc_record(request_id, "")))


def failure(request_id: str) -> Read:
    return Read("p.fc.failure", request_id.encode(), CODEC.encode("FcInvocationRecord", fc_record(request_id, "Oops")))


def fc_record(request_id: str, condition: str) -> dict[str, Any]:
    context = {"requestId": request_id, "functionArn": "arn", "condition": condition, "approximateInvokeCount": 1}
    response = {"statusCode": 200, "functionError": ""}
    return {
        "timestamp": 1,
        "requestContext": context,
        "requestPayload": b"{}",
        "responseContext": response,
        "responsePayload": b"",
    }


def letter(key: str, provider: str | None, reason: str = "Oops") -> Read:
    record = ConsumerRecord("p.invocations", 0, 7, 1, 0, None, b"\xff", None, 0, 1, ())
    value, _ = dead_letter(
        CODEC, "p.dlq", record, reason, 1, request_id=key, error_message="no", provider=provider, function="arn"
    )
    return Read("p.dlq", key.encode(), value)


def fact(request_id: str, *facts: Fact) -> Read:
    datum = facts_datum(request_id, "arn", "fc", None, None, facts)
    return Read("p.facts", request_id.encode(), CODEC.encode("Facts", datum))


ACCEPTED = Accepted(1, 1, 1, 1)
SUCCEEDED = Succeeded(1, 2, Outcome("returned", 200))


class TestOutcomes:
    """What `invoke --wait` and `cancel` take for the outcome."""

    @pytest.fixture
    def outcomes(self) -> Outcomes:
        outcomes = Outcomes(OURS, Documents(PROVIDERS))
        outcomes.expect("id", "coordinates")
        return outcomes

    async def read(self, outcomes: Outcomes, *records: Read) -> list[dict[str, Any]]:
        async with Decoder(Settings()) as decoder:
            lines = await outcomes.read(records, decoder)  # type: ignore[arg-type]  # they have all that is used
        return [json.loads(line) for line in lines]

    async def test_a_record_is_one(self, outcomes: Outcomes):
        [line] = await self.read(outcomes, success("other"), fact("id", ACCEPTED, SUCCEEDED), success("id"))

        assert line["requestContext"]["requestId"] == "id"
        assert (outcomes.missing, outcomes.failed) == (set(), 0)

    async def test_the_first_one_counts(self, outcomes: Outcomes):
        assert len(await self.read(outcomes, failure("id"), letter("id", "fc"), failure("id"))) == 1
        assert outcomes.failed == 1

    async def test_the_dead_letter_of_a_failure_waits_for_its_record(self, outcomes: Outcomes):
        assert await self.read(outcomes, letter("id", "fc")) == []
        [line] = await self.read(outcomes, failure("id"))

        assert line["requestContext"]["condition"] == "Oops"

    async def test_the_dead_letter_of_a_delivery_is_none(self, outcomes: Outcomes):
        undelivered = letter("id", "aws", "DestinationDeliveryFailed")

        assert await self.read(outcomes, fact("id", ACCEPTED, SUCCEEDED), undelivered) == []
        [line] = await self.read(outcomes, success("id"))
        assert line["requestContext"]["requestId"] == "id"
        assert outcomes.failed == 0

    @pytest.mark.parametrize("key", ["id", "coordinates"])
    async def test_the_dead_letter_of_what_was_no_invocation_is_one(self, outcomes: Outcomes, key: str):
        [line] = await self.read(outcomes, letter(key, None))

        assert line["reason"] == "Oops"
        assert line["payload_base64"] == "/w=="
        assert (outcomes.missing, outcomes.failed) == (set(), 1)

    @pytest.mark.parametrize(
        ("end", "failed"), [(fact("id", ACCEPTED, SUCCEEDED), 0), (letter("id", "fc"), 1)], ids=["facts", "dead letter"]
    )
    async def test_without_a_record_the_rest_is_one_a_moment_later(
        self, outcomes: Outcomes, end: Read, failed: int, monkeypatch: pytest.MonkeyPatch
    ):
        assert await self.read(outcomes, end) == []
        now = time.monotonic()
        monkeypatch.setattr("streams.commands.outcomes.time.monotonic", lambda: now + GRACE_S + 0.1)

        assert len(await self.read(outcomes)) == 1
        assert (outcomes.missing, outcomes.failed) == (set(), failed)

    async def test_facts_on_the_way_are_none(self, outcomes: Outcomes):
        assert await self.read(outcomes, fact("id", ACCEPTED, AttemptStarted(1, 1)), Read("p.dlq", b"id", None)) == []
        assert outcomes.missing == {"id"}
