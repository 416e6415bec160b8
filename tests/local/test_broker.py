"""The embedded broker: what it refuses without a JVM, and its whole life with one (marker `kafka`)."""

import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.errors import BrokerError, ConfigurationError
from streams.local.broker import PORTS, Broker, free_port, is_ready, port_is_free, server_properties
from streams.local.command import broker as broker_command
from streams.settings import state_folder


@contextmanager
def used_port() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """The port of a server that answers its first client's first request with *answer*, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def metadata(correlation_id: int, brokers: int) -> bytes:
    """The beginning of a Metadata answer, version 1."""
    return struct.pack(">iii", 8, correlation_id, brokers)


# Without a JVM


def test_state_lies_where_the_environment_says():
    assert state_folder({"STREAMS_STATE": "/s", "XDG_STATE_HOME": "/x"}) == Path("/s")
    assert state_folder({"XDG_STATE_HOME": "/x"}) == Path("/x/streams")
    assert state_folder({}) == Path.home() / ".local/state/streams"


def test_the_broker_listens_on_loopback_only():
    listeners = [line for line in server_properties(port=1, controller_port=2).splitlines() if "listeners=" in line]

    assert listeners == [
        "listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2",
        "advertised.listeners=PLAINTEXT://127.0.0.1:1",
    ]


def test_a_free_port_is_one_no_outgoing_connection_gets():
    port = free_port()

    assert port in PORTS
    assert port_is_free(port)


def test_a_broker_is_ready_when_it_names_itself_alive():
    with answering(metadata(1, brokers=1)) as port:
        assert is_ready(port)


@pytest.mark.parametrize(
    "answer",
    [metadata(1, brokers=0), metadata(2, brokers=1), metadata(1, brokers=1)[:7], b""],
    ids=["fenced", "not our answer", "cut short", "hung up"],
)
def test_a_broker_is_not_ready_before(answer: bytes):
    with answering(answer) as port:
        assert not is_ready(port)


def test_nobody_there_is_not_ready():
    assert not is_ready(free_port())


def test_a_used_port_is_named_with_what_to_do(tmp_path: Path):
    with used_port() as port, pytest.raises(BrokerError, match=f"Port {port} is in use.*STREAMS_BROKER.*--port"):
        Broker(tmp_path, port=port).start()


def test_a_half_formatted_folder_is_named_with_the_command_that_resets_it(tmp_path: Path):
    data = tmp_path / "kafka/data"
    data.mkdir(parents=True)
    (data / "bootstrap.checkpoint").touch()

    with pytest.raises(BrokerError) as refused:
        Broker(tmp_path).start()

    assert str(data) in str(refused.value)
    assert f"`streams broker --state {tmp_path} --reset`" in str(refused.value)


def test_the_reset_command_is_short_for_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STREAMS_STATE", str(tmp_path))
    (tmp_path / "kafka/data/torn").mkdir(parents=True)

    with pytest.raises(BrokerError, match="`streams broker --reset`"):
        Broker().start()


def test_a_folder_that_cannot_be_made_is_a_matter_of_configuration(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="STREAMS_STATE"):
        Broker(tmp_path / "file").start()


def test_a_folder_whose_owner_is_just_starting_is_refused(tmp_path: Path):
    (tmp_path / "kafka").mkdir()
    with (tmp_path / "kafka/broker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(BrokerError, match=r"already running.*just starting"):
            Broker(tmp_path).start()
        with pytest.raises(BrokerError, match="already running"):
            Broker(tmp_path).reset()


def test_reset_deletes_what_is_the_brokers_and_nothing_else(tmp_path: Path):
    (tmp_path / "kafka/data/topic-0").mkdir(parents=True)
    (tmp_path / "kafka/broker.lock").touch()
    (tmp_path / "kafka/mine.txt").touch()

    assert Broker(tmp_path).reset()
    assert [path.name for path in (tmp_path / "kafka").iterdir()] == ["mine.txt"]


def test_reset_leaves_a_folder_no_broker_ever_ran_in(tmp_path: Path):
    (tmp_path / "kafka/data").mkdir(parents=True)

    assert not Broker(tmp_path).reset()
    assert (tmp_path / "kafka/data").exists()


def test_an_ephemeral_broker_takes_no_state_folder(tmp_path: Path):
    with pytest.raises(ConfigurationError):
        Broker(tmp_path, ephemeral=True)


def test_an_address_is_known_only_after_the_first_start():
    with pytest.raises(BrokerError, match="start"):
        _ = Broker(ephemeral=True).bootstrap


def test_stopping_a_broker_that_does_not_run_is_nothing(tmp_path: Path):
    Broker(tmp_path).stop()


def test_the_command_exits_with_the_errors_code(tmp_path: Path):
    (tmp_path / "file").touch()
    with used_port() as port:
        taken = CliRunner().invoke(broker_command, ["--port", str(port), "--state", str(tmp_path)])
    misplaced = CliRunner().invoke(broker_command, ["--state", str(tmp_path / "file/below")])

    assert (taken.exit_code, misplaced.exit_code) == (BrokerError.exit_code, ConfigurationError.exit_code)
    assert f"Port {port} is in use" in taken.output


# With a JVM


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A running broker with a state folder; a test that kills it starts it again."""
    with Broker(tmp_path_factory.mktemp("state")) as broker:
        yield broker


def create_topic(bootstrap: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, 1)])[name].result(30)


def produce(bootstrap: str, topic: str, value: bytes) -> None:
    acknowledged: Future[object] = Future()
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    producer.produce(topic, value, on_delivery=lambda error, _: acknowledged.set_result(error))
    producer.flush(30)
    assert acknowledged.result(0) is None


def first_value(bootstrap: str, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader"})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        (message,) = consumer.consume(1, 30)
        return message.value()
    finally:
        consumer.close()


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


@pytest.mark.kafka
def test_a_started_broker_serves_at_once(kept: Broker):
    create_topic(kept.bootstrap, "at-once")
    produce(kept.bootstrap, "at-once", b"hello")

    assert first_value(kept.bootstrap, "at-once") == b"hello"


@pytest.mark.kafka
def test_topics_are_not_created_by_accident(kept: Broker):
    topics = AdminClient({"bootstrap.servers": kept.bootstrap}).list_topics("nobody-made-this", timeout=30).topics

    assert topics["nobody-made-this"].error is not None


@pytest.mark.kafka
def test_a_second_broker_in_the_folder_is_told_of_the_first(kept: Broker):
    with pytest.raises(BrokerError, match=f"already running.*pid {kept.pid}, at {kept.bootstrap}"):
        Broker(kept.folder.parent).start()

    create_topic(kept.bootstrap, "undisturbed")


@pytest.mark.kafka
def test_a_killed_broker_comes_back_on_its_port_with_its_data_in_spite_of_its_lock_file(kept: Broker):
    bootstrap, pid = kept.bootstrap, kept.pid
    assert pid is not None
    create_topic(bootstrap, "kept")
    produce(bootstrap, "kept", b"before the crash")

    kept.kill()
    assert kept.pid is None
    assert not process_exists(pid)
    assert f"pid {pid}" in (kept.folder / "broker.lock").read_text()
    kept.start()

    assert kept.bootstrap == bootstrap
    assert first_value(bootstrap, "kept") == b"before the crash"


@pytest.mark.kafka
def test_a_stopped_ephemeral_broker_leaves_nothing():
    with Broker(ephemeral=True) as broker:
        pid, port = broker.pid, int(broker.bootstrap.rpartition(":")[2])
        assert pid is not None
        assert broker.log.exists()

    assert broker.pid is None
    assert not process_exists(pid)
    assert not broker.folder.exists()
    assert port_is_free(port)


@pytest.mark.kafka
def test_a_broker_that_dies_at_start_is_quoted(tmp_path: Path):
    data = tmp_path / "kafka/data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\nnode.id=2\n")
    broker = Broker(tmp_path)

    with pytest.raises(BrokerError) as died:
        broker.start()

    assert "Stored node id 2 doesn't match" in str(died.value)
    assert "--reset" in str(died.value)
    assert broker.pid is None


@pytest.mark.kafka
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "supervisor"])
def test_the_command_runs_until_it_is_told_to_stop(tmp_path: Path, number: signal.Signals):
    port = free_port()
    start = "from streams.local.command import broker; broker()"
    command = [sys.executable, "-c", start, "--port", str(port), "--state", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(2)]
        ready = is_ready(port)
        process.send_signal(number)
        process.wait(30)

    assert ready
    assert f"127.0.0.1:{port}" in said[0]
    assert f"kcat -b 127.0.0.1:{port}" in said[1]
    assert process.returncode == 0
    assert port_is_free(port)
