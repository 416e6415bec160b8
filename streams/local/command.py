"""`streams broker`: the embedded broker in the foreground."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from streams.errors import StreamsError
from streams.local.broker import DEFAULT_PORT, HEAP_MB, Broker


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True, help="Loopback port.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="State folder.  [default: $STREAMS_STATE, else $XDG_STATE_HOME/streams, else ~/.local/state/streams]",
)
@click.option("--reset", is_flag=True, help="First delete the topics, offsets and logs of this broker.")
@click.option(
    "--heap", "heap_mb", type=click.IntRange(min=128), default=HEAP_MB, show_default=True, help="JVM heap, MB."
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def broker(port: int, state: Path | None, reset: bool, heap_mb: int, quiet: bool) -> None:
    """Run a real Kafka broker on this machine until Ctrl-C.

    One node, reachable from this machine only; nothing but Python is needed. The first start downloads Kafka (45 MB).
    Topics and offsets are kept for the next start.
    """
    kafka = Broker(state, port=port, heap_mb=heap_mb, lasts=True, quiet=quiet)
    with _errors_as_exit_codes(), _terminated_like_interrupted():
        if reset and kafka.reset():
            _say(quiet, f"Deleted what was in {kafka.folder}.")
        with kafka:
            _say(quiet, f"Kafka is ready at {kafka.bootstrap}, with its data in {kafka.folder}; Ctrl-C stops it.")
            _say(quiet, f"Look inside with: kcat -b {kafka.bootstrap} -L")
            try:
                kafka.wait()
            except KeyboardInterrupt:
                _say(quiet, "Stopping.")


def _say(quiet: bool, line: str) -> None:
    if not quiet:
        click.echo(line)


@contextmanager
def _errors_as_exit_codes() -> Iterator[None]:
    """Let click print our errors as it prints its own, and end with the error's exit code."""
    try:
        yield
    except StreamsError as error:
        failure = click.ClickException(str(error))
        failure.exit_code = error.exit_code
        raise failure from error


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Within, SIGTERM (a supervisor's way to stop us) does what Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
