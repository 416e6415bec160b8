"""The command line on a real broker: topics, invocations, and reading back records that were made by hand."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from streams.cli import main
from streams.codec.avro import Codec, load_schemas
from streams.codec.dead_letter import dead_letter
from streams.codec.facts import facts_datum
from streams.core.facts import (
    Accepted,
    AttemptFailed,
    AttemptStarted,
    Delivered,
    Fact,
    Failed,
    RetryScheduled,
    Succeeded,
)
from streams.core.model import Outcome
from streams.functions.stored import Entry, Key, write_entry, write_key
from streams.topics import Topics

pytestmark = pytest.mark.kafka

CODEC = Codec(load_schemas())
PARTITIONS = 3
NOW = 1_767_225_600_000


class Streams:
    """The command, with a prefix of its own on the session's broker."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.prefix = f"cli-{uuid.uuid4().hex[:8]}."
        self.topics = Topics(self.prefix)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["--broker", self.bootstrap, "--prefix", self.prefix, *arguments])

    def start(self, *arguments: str, stdout: int = subprocess.PIPE) -> "subprocess.Popen[str]":
        """The command as a process of its own."""
        command = [sys.executable, "-m", "streams", "--broker", self.bootstrap, "--prefix", self.prefix, *arguments]
        return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)

    def lines(self, *arguments: str) -> list[str]:
        """The output of a command that succeeds."""
        done = self.run(*arguments)
        assert (done.exit_code, done.stderr) == (0, "")
        return done.stdout.splitlines()

    def documents(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines("records", "--json", *arguments)]

    def produce(
        self, topic: str, key: str, value: bytes, headers: Any = (), timestamp: int = 0, partition: int = 0
    ) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap})
        producer.produce(topic, value, key.encode(), headers=list(headers), timestamp=timestamp, partition=partition)
        assert producer.flush(10) == 0


@pytest.fixture
def streams(broker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Streams]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # loading functions adds to it
    command = Streams(broker.bootstrap)
    yield command
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    ours = [name for name in admin.list_topics(timeout=10).topics if name.startswith(command.prefix)]
    for deleted in admin.delete_topics(ours).values() if ours else ():
        deleted.result(10)


@pytest.fixture
def made(streams: Streams) -> Streams:
    """With the topics there."""
    streams.lines("topics", "create", "--partitions", str(PARTITIONS))
    return streams


def read_all(streams: Streams, topic: str, count: int) -> list[Any]:
    """All *count* messages of *topic*, by an independent client."""
    consumer = Consumer({"bootstrap.servers": streams.bootstrap, "group.id": "none", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    messages = consumer.consume(count, timeout=30)
    consumer.close()
    assert len(messages) == count
    return messages


def until_partitions(admin: AdminClient, topic: str, count: int) -> None:
    """Wait until the broker knows what the controller has done."""
    deadline = time.monotonic() + 10
    while len(getattr(admin.list_topics(timeout=10).topics.get(topic), "partitions", ())) != count:
        assert time.monotonic() < deadline


def aws(request_id: str, condition: str = "Success", event: bytes = b'{ "n" : 1 }') -> bytes:
    context = {
        "requestId": request_id,
        "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:resize:$LATEST",
        "condition": condition,
        "approximateInvokeCount": 1,
    }
    record = {
        "version": "1.0",
        "timestamp": "2026-01-01T00:00:00.000Z",
        "requestContext": context,
        "requestPayload": event,
    }
    response = {"responseContext": {"statusCode": 200}, "responsePayload": b'"\xe4\xb8\x96"', "deliveryError": None}
    return CODEC.encode("AwsInvocationRecord", record | response)


def facts(request_id: str, *facts: Fact, delivered: Delivered | None = None) -> bytes:
    deliveries = () if delivered is None else (delivered,)
    return CODEC.encode("Facts", facts_datum(request_id, "arn:…:resize:$LATEST", "aws", None, 7, facts, deliveries))


# topics


def test_topics_are_created_once(streams: Streams):
    first = streams.lines("topics", "create", "--partitions", "3")
    second = streams.lines("topics", "create", "--partitions", "5")

    assert first == [f"Made {len(streams.topics.all)} topics with 3 partitions."]
    assert second == ["All topics exist already."]


def test_new_topics_fit_those_that_exist(made: Streams):
    admin = AdminClient({"bootstrap.servers": made.bootstrap})
    admin.delete_topics([made.topics.dlq])[made.topics.dlq].result(10)
    until_partitions(admin, made.topics.dlq, 0)

    lines = made.lines("topics", "create", "--partitions", "7")

    assert lines == ["Made 1 topic with 3 partitions."]


def test_destinations_are_created_too(streams: Streams):
    Path("streams.toml").write_text(
        f'[[function]]\nname = "f"\nprovider = "aws"\nurl = "http://h"\non_success = "kafka://{streams.prefix}results"'
    )

    assert f"Made {len(streams.topics.all) + 1} topics" in streams.lines("topics", "create")[0]
    assert any(line.startswith(f"{streams.prefix}results ") for line in streams.lines("topics", "list"))


def test_the_list_shows_partitions_records_and_lag(made: Streams):
    made.lines("invoke", "f", "--count", "5")

    rows = {line.split()[0]: line.split()[1:] for line in made.lines("topics", "list")}

    assert rows["topic"] == ["partitions", "records", "lag"]
    assert rows[made.topics.invocations] == ["3", "5", "5"]
    assert rows[made.topics.tiers[0]] == ["3", "0", "0"]
    assert rows[made.topics.dlq] == ["3", "0"]


def test_missing_topics_are_a_fault(streams: Streams):
    done = streams.run("topics", "list")

    assert done.exit_code == 2
    assert done.stdout == ""
    assert "topics are missing" in done.stderr


def test_differing_partition_counts_are_a_fault(made: Streams):
    admin = AdminClient({"bootstrap.servers": made.bootstrap})
    grown = NewPartitions(made.topics.invocations, 4)
    admin.create_partitions([grown])[made.topics.invocations].result(10)
    until_partitions(admin, made.topics.invocations, 4)

    for command in ("list", "create"):
        done = made.run("topics", command)

        assert done.exit_code == 2
        assert f"{made.topics.invocations} has 4" in done.stderr


def test_a_worker_is_refused_without_topics(streams: Streams):
    Path("streams.toml").write_text('[[function]]\nname = "f"\nprovider = "aws"\nurl = "http://h"')

    done = streams.run("worker")

    assert done.exit_code == 2
    assert "topics are missing" in done.stderr
    assert "Traceback" not in done.stderr


# invoke


def test_each_invocation_has_an_id_of_its_own(made: Streams):
    ids = made.lines(
        "invoke", "resize", "--count", "2500", "--payload", '{"ü":1}', "--qualifier", "live", "--delay", "1.5"
    )

    messages = read_all(made, made.topics.invocations, 2500)
    headers = [dict(message.headers()) for message in messages]
    assert len(set(ids)) == 2500
    assert {header["request-id"].decode() for header in headers} == set(ids)
    assert {message.key().decode() for message in messages} == set(ids)
    assert {message.value() for message in messages} == {'{"ü":1}'.encode()}
    assert headers[0] | {"request-id": b""} == {
        "function": b"resize",
        "request-id": b"",
        "qualifier": b"live",
        "delay-ms": b"1500",
    }


def test_an_event_from_a_file_is_sent_byte_for_byte(made: Streams):
    event = bytes(range(256)) * 8192  # 2 MiB, more than a producer's default
    Path("event").write_bytes(event)

    assert made.lines("invoke", "f", "--file", "event", "--id", "mine", "--key", "customer-7") == ["mine"]

    [message] = read_all(made, made.topics.invocations, 1)
    assert message.value() == event
    assert message.key() == b"customer-7"


def test_an_event_larger_than_the_topic_takes_is_refused(made: Streams):
    Path("event").write_bytes(bytes(17 * 1024 * 1024))

    done = made.run("invoke", "f", "--file", "event")

    assert done.exit_code == 2
    assert f"the event has {17 * 1024 * 1024} bytes" in done.stderr


def test_without_topics_nothing_is_invoked(streams: Streams):
    done = streams.run("invoke", "f")

    assert done.exit_code == 2
    assert f"no topic {streams.topics.invocations}" in done.stderr


def test_what_has_no_outcome_in_time_is_named(made: Streams):
    done = made.run("invoke", "f", "--id", "lonely", "--wait", "--timeout", "0.3")

    assert done.exit_code == 4
    assert done.stderr == "1 of 1 had no outcome within 0.3 s: lonely\n"


# records


def test_a_record_is_the_providers_document(made: Streams):
    made.produce(made.topics.records[0], "id-1", aws("id-1"))

    [line] = made.lines("records", "--json")

    assert line == (
        '{"version":"1.0","timestamp":"2026-01-01T00:00:00.000Z","requestContext":{"requestId":"id-1","functionArn":'
        '"arn:aws:lambda:us-east-1:123456789012:function:resize:$LATEST","condition":"Success","approximateInvokeCount":1},'
        '"requestPayload":{ "n" : 1 },"responseContext":{"statusCode":200},"responsePayload":"世"}'
    )


def test_people_get_a_head_and_indentation(made: Streams):
    made.produce(made.topics.records[0], "id-1", aws("id-1"), timestamp=NOW, partition=2)

    lines = made.lines("records")

    assert lines[0] == f"{made.prefix}aws.success  2026-01-01T00:00:00.000Z  id-1  Success  (partition 2, offset 0)"
    assert json.loads("".join(lines[1:]))["requestPayload"] == {"n": 1}


def test_a_dead_letter_has_its_payload_as_text_or_base64(made: Streams):
    for key, payload in (("text", b"{}"), ("binary", b"\xff\x00")):
        original = ConsumerRecord(
            made.topics.invocations, 1, 5, NOW, 0, None, payload, None, 0, 1, (("function", b"f"),)
        )
        value, headers = dead_letter(
            CODEC, made.topics.dlq, original, "UnknownFunction", NOW, request_id=key, error_message="no such function"
        )
        made.produce(made.topics.dlq, key, value, headers)

    letters = {letter["request_id"]: letter for letter in made.documents("--topic", "dlq")}

    assert letters["text"]["payload"] == "{}"
    assert letters["binary"]["payload_base64"] == "/wA="
    assert letters["text"]["reason"] == "UnknownFunction"
    assert letters["text"]["headers"] == [{"name": "function", "value": "f"}]


def test_records_are_chosen_by_function_and_id(made: Streams):
    for number in range(3):
        made.produce(made.topics.records[number % 2], f"id-{number}", aws(f"id-{number}"))
    made.produce(made.topics.facts, "id-1", facts("id-1", Accepted(NOW, NOW, NOW, 1)))

    assert len(made.documents("--function", "resize")) == 3
    assert made.documents("--function", "size") == []
    assert [document["requestContext"]["requestId"] for document in made.documents("--id", "id-1")] == ["id-1"]
    assert [document["facts"][0]["fact"] for document in made.documents("--topic", "facts", "--id", "id-1")] == [
        "Accepted"
    ]


def test_the_latest_are_found_behind_transaction_markers(made: Streams):
    """Aborted records and markers use up offsets; the latest three are still the latest three, in the order of time."""
    transactional = Producer({"bootstrap.servers": made.bootstrap, "transactional.id": f"{made.prefix}test"})
    transactional.init_transactions(30)
    topic = made.topics.records[0]
    for number in range(4):
        transactional.begin_transaction()
        value = aws(f"id-{number}")
        transactional.produce(topic, value, f"id-{number}", partition=number % PARTITIONS, timestamp=NOW + number)
        transactional.commit_transaction(30)
    for _ in range(20):
        transactional.begin_transaction()
        transactional.produce(topic, aws("aborted"), "aborted", partition=0)
        transactional.flush(30)  # else librdkafka may trip over what it throws away
        transactional.abort_transaction(30)

    documents = made.documents("--last", "3")

    assert [document["requestContext"]["requestId"] for document in documents] == ["id-1", "id-2", "id-3"]
    assert made.documents("--last", "0") == []
    assert len(made.documents()) == 4


def test_what_cannot_be_decoded_is_named_and_passed_over(made: Streams):
    made.produce(made.topics.dlq, "bad", b"not avro")
    made.produce(made.topics.dlq, "good", aws("id-1"))

    done = made.run("records", "--json")

    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == 1
    assert f"{made.topics.dlq}, partition 0, offset 0: The data begin neither" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_comes_is_followed_until_interrupted(made: Streams, number: signal.Signals):
    made.produce(made.topics.records[0], "before", aws("before"))
    with made.start("records", "--follow", "--last", "1", "--json") as process:
        assert process.stdout is not None and process.stderr is not None
        assert "before" in process.stdout.readline()
        made.produce(made.topics.records[0], "after", aws("after"))
        assert "after" in process.stdout.readline()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_whoever_has_seen_enough_may_leave(made: Streams):
    """As in `streams records --json | head -1`."""
    for number in range(50):
        made.produce(made.topics.records[0], str(number), aws(str(number), event=b'"%b"' % (b"x" * 10_000)))
    reader, writer = os.pipe()
    with made.start("records", "--json", stdout=writer) as process:
        os.close(writer)
        assert os.read(reader, 10)
        os.close(reader)
        assert process.stderr is not None
        assert process.stderr.read() == ""


# show


def test_the_life_of_a_request(made: Streams):
    failure = Outcome("function_error", 200, error_type="ValueError", error_message="oops")
    first = (Accepted(NOW, NOW, NOW, 1), AttemptStarted(1, NOW + 2), AttemptFailed(1, NOW + 9, failure))
    made.produce(
        made.topics.facts, "mine", facts("mine", *first, RetryScheduled(2, NOW + 9, NOW + 60_009)), partition=1
    )
    waiting = made.lines("show", "mine")
    second = (AttemptStarted(2, NOW + 60_010), Succeeded(2, NOW + 60_512, Outcome("returned", 200)))
    made.produce(made.topics.facts, "mine", facts("mine", *second), partition=1)
    made.produce(
        made.topics.facts, "mine", facts("mine", delivered=Delivered(NOW + 60_600, "arn:q", False)), partition=1
    )
    made.produce(made.topics.records[0], "mine", aws("mine"), partition=1)
    made.produce(made.topics.facts, "other", facts("other", Accepted(NOW, NOW, NOW, 1)))

    ended = made.lines("show", "mine")

    assert waiting[1] == "waiting for attempt 2, due 2026-01-01T00:01:00.009Z, after 1 failed and 0 throttled attempts"
    assert ended[:10] == [
        "mine  arn:…:resize:$LATEST",
        "succeeded at attempt 2, after 1 failed and 0 throttled attempts",
        "",
        "2026-01-01T00:00:00.000Z       +0 ms  accepted",
        "2026-01-01T00:00:00.002Z       +2 ms  attempt 1 started",
        "2026-01-01T00:00:00.009Z       +9 ms  attempt 1 failed: function_error 200 ValueError: oops",
        "2026-01-01T00:00:00.009Z       +9 ms  attempt 2 scheduled for +1 min 0 s",
        "2026-01-01T00:01:00.010Z  +1 min 0 s  attempt 2 started",
        "2026-01-01T00:01:00.512Z  +1 min 0 s  succeeded with status 200",
        "2026-01-01T00:01:00.600Z  +1 min 0 s  record delivered to arn:q",
    ]
    assert ended[11] == f"{made.prefix}aws.success, partition 1, offset 0"
    assert json.loads("".join(ended[12:]))["requestContext"]["requestId"] == "mine"


def test_an_unknown_request(made: Streams):
    done = made.run("show", "nobody")

    assert done.exit_code == 1
    assert done.stderr.startswith("Error: nothing is known of request nobody.")


# cancel: the workers are played by hand here; with real ones it is tested in `test_cancel`


def workers_are_done(made: Streams) -> None:
    """Commit offsets of `commands` that no command will reach."""
    consumer = Consumer({"bootstrap.servers": made.bootstrap, "group.id": made.topics.app_id})
    consumer.commit(
        offsets=[TopicPartition(made.topics.commands, number, 1_000) for number in range(PARTITIONS)],
        asynchronous=False,
    )
    consumer.close()


def test_a_cancel_is_written_to_every_partition_once_for_each_id(made: Streams):
    assert made.lines("cancel", "--no-wait", "one", "other", "one") == []

    commands = read_all(made, made.topics.commands, 2 * PARTITIONS)
    assert {(command.key(), command.partition()) for command in commands} == {
        (key, number) for key in (b"one", b"other") for number in range(PARTITIONS)
    }
    assert {(command.value(), tuple(command.headers())) for command in commands} == {(None, (("command", b"cancel"),))}


def test_what_cannot_be_cancelled_is_told_apart(made: Streams):
    accepted = Accepted(NOW, NOW, NOW, 1)
    for request_id, *life in (
        ("succeeded", accepted, AttemptStarted(1, NOW), Succeeded(1, NOW, Outcome("returned", 200))),
        ("expired", accepted, Failed(0, NOW, "expired")),
        ("cancelled", accepted, Failed(0, NOW, "cancelled")),
    ):
        made.produce(made.topics.facts, request_id, facts(request_id, *life))
    workers_are_done(made)

    done = made.run("cancel", "succeeded", "expired", "cancelled", "nobody")
    again = made.run("cancel", "cancelled")

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "cancelled was cancelled before",
        "nobody is not known. Either no worker has accepted it yet (then cancel it again), or its facts are not kept "
        "any more, or the id is of another cluster or prefix",
        "expired is over: it failed (expired)",
        "succeeded is over: it succeeded",
    ]
    assert again.exit_code == 0


def test_a_retry_that_its_worker_had_not_in_memory_ends_later(made: Streams):
    waits = facts("late", Accepted(NOW, NOW, NOW, 1), RetryScheduled(2, NOW, NOW + 60_000))
    made.produce(made.topics.facts, "late", waits)
    workers_are_done(made)

    done = made.run("cancel", "--timeout", "3", "late")

    assert done.exit_code == 4
    assert done.stderr.splitlines() == [
        "late will not run again; its record is written when it was due: 2026-01-01T00:01:00.000Z",
        "1 of 1 are not over yet: late",
    ]


def test_nobody_takes_the_command(made: Streams):
    done = made.run("cancel", "--timeout", "0.5", "mine")

    assert (done.exit_code, done.stdout) == (4, "")
    assert done.stderr == "No worker has taken the commands within 0.5 s; is one running?\n"


class TestFunctions:
    """What an API has stored is shown with its time, and can be forgotten."""

    FILE = """
[[function]]
name = "resize"
provider = "aws"
url = "http://127.0.0.1:9/"
retries = 2
on_failure = "kafka://failed"
[function.qualifiers.prod]
retries = 1
"""

    @pytest.fixture
    def changed(self, streams: Streams, tmp_path: Path) -> Streams:
        (tmp_path / "streams.toml").write_text(self.FILE)
        assert streams.run("topics", "create").exit_code == 0
        for key, entry in {
            Key("aws", "resize"): Entry(settings={"timeout_s": 5}, modified_at_ms=NOW),
            Key("aws", "resize", "$LATEST"): Entry(settings={"retries": 0}, modified_at_ms=NOW),
            Key("aws", "stored"): Entry(settings={"url": "http://127.0.0.1:9/"}, modified_at_ms=NOW),
        }.items():
            streams.produce(streams.topics.functions, write_key(key).decode(), write_entry(entry))
        return streams

    def shown(self, streams: Streams, *arguments: str) -> dict[str, tuple[str, str]]:
        """Value and origin by setting."""
        lines = [line.split(maxsplit=2) for line in streams.lines("functions", "show", *arguments)[2:]]
        return {setting: (value, origin) for setting, value, origin in lines}

    def test_all_that_there_are(self, changed: Streams) -> None:
        lines = [line.split()[:6] for line in changed.lines("functions", "list")[1:]]

        assert lines == [
            ["resize", "aws", "$LATEST", "http://127.0.0.1:9/", "5s", "0"],
            ["resize", "aws", "prod", "http://127.0.0.1:9/", "5s", "1"],
            ["stored", "aws", "$LATEST", "http://127.0.0.1:9/", "1min", "2"],
        ]

    def test_where_each_setting_comes_from(self, changed: Streams) -> None:
        api = "API, 2026-01-01T00:00:00.000Z"
        latest, prod = self.shown(changed, "resize"), self.shown(changed, "resize", "--qualifier", "prod")

        assert latest["url"] == prod["url"] == ("http://127.0.0.1:9/", "streams.toml")
        assert latest["timeout_s"] == prod["timeout_s"] == ("5s", api)
        assert (latest["retries"], prod["retries"]) == (("0", api), ("1", "streams.toml"))
        assert latest["on_failure"] == ("-", "default")  # the API's configuration took the place of the file's

    def test_back_to_the_word_of_the_file(self, changed: Streams) -> None:
        assert changed.lines("functions", "reset", "resize", "--qualifier", "$LATEST") == [
            "aws resize: the configuration of $LATEST that an API had stored is forgotten"
        ]
        shown = self.shown(changed, "resize")
        assert (shown["retries"][0], shown["on_failure"][0], shown["timeout_s"][0]) == ("2", "kafka://failed", "5s")
        assert changed.lines("functions", "reset", "resize")[0].startswith("aws resize: the settings")
        assert self.shown(changed, "resize")["timeout_s"] == ("1min", "default")
        assert "no such function now" in changed.lines("functions", "reset", "stored")[-1]
        nothing = changed.run("functions", "reset", "resize")
        assert (nothing.exit_code, "no API has stored anything" in nothing.stderr) == (2, True)
