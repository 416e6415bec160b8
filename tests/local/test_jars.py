"""The jars of the broker: locked, verified, complete or absent. A small Maven repository on loopback stands in."""

import hashlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from streams.errors import BrokerError
from streams.local import jars
from streams.local.jars import Jar, cache_folder, fetch, locked_jars, parse_lock

CONTENT = b"a jar, as far as anyone here looks"
JAR = Jar(group="org.example", artifact="thing", version="1.0", sha256=hashlib.sha256(CONTENT).hexdigest())


class SilentHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class TornOnceHandler(SilentHandler):
    """Breaks the connection in the middle of the first jar it sends."""

    torn = False

    def copyfile(self, source: object, outputfile: object) -> None:
        if self.path.endswith(".jar") and not TornOnceHandler.torn:
            TornOnceHandler.torn = True
            self.wfile.write(CONTENT[:5])
        else:
            super().copyfile(source, outputfile)  # type: ignore[misc]  # the stubs want their own protocols


def serve(folder: Path, handler: type[SilentHandler]) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server


def use_repository(server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make *server* the user's Maven repository, in jgo's own configuration file."""
    settings = tmp_path / "jgo.conf"
    settings.write_text(f"[repositories]\ncentral = http://127.0.0.1:{server.server_port}\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The published file of JAR; its repository is tmp_path/"repository"."""
    file = tmp_path / "repository/org/example/thing/1.0/thing-1.0.jar"
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    return file


@pytest.fixture
def repository(tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    server = serve(tmp_path / "repository", SilentHandler)
    use_repository(server, tmp_path, monkeypatch)
    yield server
    server.shutdown()
    server.server_close()


def test_the_lock_holds_kafka_and_the_log_binding_at_the_pinned_versions():
    locked = {f"{jar.group}:{jar.artifact}:{jar.version}" for jar in locked_jars()}

    assert {jars.KAFKA, jars.LOG_BINDING} <= locked


def test_the_clients_are_those_of_the_broker_and_only_one_slf4j_is_there():
    versions = [(jar.artifact, jar.version) for jar in locked_jars()]

    assert [version for artifact, version in versions if artifact == "kafka-clients"] == [jars.KAFKA_VERSION]
    assert [version for artifact, version in versions if artifact == "slf4j-api"] == ["1.7.36"]


def test_no_two_jars_share_a_file_name():
    names = [jar.file_name for jar in locked_jars()]

    assert len(set(names)) == len(names)


def test_a_lock_line_reads_back_as_the_jar_it_was_written_from():
    assert [JAR] == parse_lock(JAR.lock_line)


def test_the_cache_follows_xdg():
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/streams/jars")
    assert cache_folder({}) == Path.home() / ".cache/streams/jars"


@pytest.mark.usefixtures("repository")
def test_a_missing_jar_is_downloaded_and_nothing_else_is_left(tmp_path: Path):
    cache = tmp_path / "cache"

    assert fetch([JAR], cache) == [cache / "thing-1.0.jar"]
    assert [(file.name, file.read_bytes()) for file in cache.iterdir()] == [("thing-1.0.jar", CONTENT)]


def test_progress_is_one_line_where_there_is_no_terminal_and_none_when_quiet(
    tmp_path: Path, repository: ThreadingHTTPServer, capsys: pytest.CaptureFixture[str]
):
    fetch([JAR], tmp_path / "loud")
    loud = capsys.readouterr()
    fetch([JAR], tmp_path / "silent", quiet=True)
    silent = capsys.readouterr()

    assert loud.out == ""
    assert len(loud.err.splitlines()) == 1
    assert jars.KAFKA_VERSION in loud.err
    assert (silent.out, silent.err) == ("", "")


def test_a_cached_jar_needs_no_repository(tmp_path: Path, repository: ThreadingHTTPServer, published: Path):
    cache = tmp_path / "cache"
    fetch([JAR], cache)
    published.unlink()

    assert fetch([JAR], cache) == [cache / "thing-1.0.jar"]


@pytest.mark.usefixtures("repository")
def test_a_jar_with_other_content_is_refused_and_not_kept(tmp_path: Path, published: Path):
    published.write_bytes(CONTENT + b"!")

    with pytest.raises(BrokerError, match=r"thing-1\.0\.jar arrived with other content"):
        fetch([JAR], tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_torn_download_is_tried_again(tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch):
    server = serve(tmp_path / "repository", TornOnceHandler)
    use_repository(server, tmp_path, monkeypatch)

    (path,) = fetch([JAR], tmp_path / "cache")

    assert TornOnceHandler.torn
    assert path.read_bytes() == CONTENT
    server.shutdown()
    server.server_close()


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path, repository: ThreadingHTTPServer):
    repository.shutdown()
    repository.server_close()

    with pytest.raises(BrokerError, match="needs the network once"):
        fetch([JAR], tmp_path / "cache")
