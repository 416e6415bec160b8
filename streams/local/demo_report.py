"""What `streams demo` prints."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from streams.commands.base import columns
from streams.commands.documents import Documents, pretty
from streams.local import jars
from streams.local.demo_mix import INPUTS, Tally
from streams.settings import Settings

LIVE_INTERVAL_S = 1.0
FAULTS_SHOWN = 10


class Clock:
    """Says what is going on, and how long it took."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def total_s(self) -> float:
        return time.monotonic() - self._started

    @contextmanager
    def phase(self, what: str) -> Iterator[None]:
        """Print *what*, and its duration at the end."""
        started = time.monotonic()
        click.echo(f"{what} …", nl=False)
        try:
            yield
        except BaseException:
            click.echo()
            raise
        click.echo(f" {time.monotonic() - started:.1f} s")

    @contextmanager
    def live(self, what: str) -> Iterator[Live]:
        """A phase whose line changes once a second, if there is a terminal."""
        click.echo(f"{what} …", nl=False)
        live = Live(what)
        try:
            yield live
        except BaseException:
            click.echo()
            raise
        live.end()


class Live:
    """The line of a phase."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started = time.monotonic()
        self._next = self._started + LIVE_INTERVAL_S

    def show(self, tally: Tally) -> None:
        """How far it is, once a second and only on a terminal."""
        if not sys.stdout.isatty() or time.monotonic() < self._next:
            return
        self._next += LIVE_INTERVAL_S
        lives = tally.lives.values()
        counts = {
            "succeeded": sum(life.successes for life in lives),
            "retries": sum(life.retries for life in lives),
            "failed": sum(life.failures for life in lives),
            "dead letters": sum(life.dead_letters for life in lives),
            "to go": len(tally.missing),
        }
        text = ", ".join(f"{count} {name}" for name, count in counts.items())
        click.echo(f"\r\x1b[K{self._what} … {time.monotonic() - self._started:.0f} s: {text}", nl=False)

    def end(self) -> None:
        start = f"\r\x1b[K{self._what} …" if sys.stdout.isatty() else ""
        click.echo(f"{start} {time.monotonic() - self._started:.1f} s")


def table(tally: Tally) -> str:
    """The outcomes by provider."""
    head = ["", "invoked", "succeeded", "retried", "throttled", "failed", "dead-lettered"]
    rows = [[group, *map(str, counts)] for group, counts in tally.rows()]
    total = ["total", *(str(sum(int(row[at]) for row in rows)) for at in range(1, len(head)))]
    return columns([head, *rows, total])


def checks(tally: Tally, faults: list[str]) -> str:
    """What was checked, or what is wrong."""
    if faults:
        shown = [f"✗ {fault}" for fault in faults[:FAULTS_SHOWN]]
        more = [f"✗ and {len(faults) - FAULTS_SHOWN} more"] if len(faults) > FAULTS_SHOWN else []
        return click.style("\n".join((*shown, *more)), fg="red")
    inputs = sum(case.group == INPUTS for case in tally.cases.values())
    lines = (
        f"✓ each of {len(tally.cases) - inputs} invocations has exactly one outcome, the one it must have",
        f"✓ each of {inputs} inputs that are no invocations has exactly one dead letter",
    )
    return click.style("\n".join(lines), fg="green")


def samples(tally: Tally, documents: Documents) -> Iterator[str]:
    """One record of each kind, as its cloud would send it."""
    for group, (schema, datum) in sorted(tally.samples.items()):
        yield f"{click.style(f'A record of {group}:', bold=True)}\n{pretty(documents.write(schema, datum))}\n"


def how_to(settings: Settings) -> str:
    """How to go on with what runs."""
    topic = settings.topics.invocations
    prefix = f" --prefix {settings.prefix}" if settings.prefix else ""
    folder = jars.cache_folder(os.environ)
    classpath = f"{folder}/*" if folder.is_dir() else "folder-with-kafka-clients-and-slf4j-api/*"
    java = JAVA.replace("BROKER", settings.broker).replace("TOPIC", topic).replace("CLASSPATH", classpath)
    return f"""\
{_head("Broker and workers keep running. In another terminal, follow what comes:")}

streams --broker {settings.broker}{prefix} records --follow --last 0

{_head("Invoke a function with kcat (aws-succeeds, aws-fails-once, fc-http, demo/succeeds, fg-always-fails …):")}

echo '{{"hello": "kcat"}}' | kcat -b {settings.broker} -t {topic} -P -H function=aws-succeeds -H request-id=kcat-$$

{_head("… without headers:")}

echo '{{"function": "fg-succeeds", "payload": {{"hello": "kcat"}}}}' | kcat -b {settings.broker} -t {topic} -P

{_head("… from Java (a JDK runs this source file as it is):")}

{java}
{_head("… or with this tool:")}

streams --broker {settings.broker}{prefix} invoke fc-fails-once --payload '{{"hello": "streams"}}' --wait

Ctrl-C stops everything."""


JAVA = """\
cat > Invoke.java <<'END'
import java.util.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.*;

public class Invoke {
    public static void main(String[] args) throws Exception {
        var settings = Map.<String, Object>of("bootstrap.servers", "BROKER", "acks", "all");
        var id = UUID.randomUUID().toString();
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            var event = new ProducerRecord<>("TOPIC", id, "{\\"hello\\": \\"Java\\"}");
            event.headers().add("function", "aws-fails-once".getBytes());
            event.headers().add("request-id", id.getBytes());
            producer.send(event).get();
            System.out.println(id);
        }
    }
}
END
java -cp 'CLASSPATH' Invoke.java
"""


def _head(text: str) -> str:
    return click.style(text, bold=True)
