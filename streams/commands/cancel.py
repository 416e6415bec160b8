"""`streams cancel`: end invocations that wait or run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence

import click
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.codec.commands import cancel_headers
from streams.codec.envelope import REQUEST_ID_CHARS_MAX
from streams.codec.errors import InputRejected
from streams.codec.facts import read_facts
from streams.codec.text import checked
from streams.commands.base import connected, existing_topics, pass_settings, producing, progress, run, time_text
from streams.commands.documents import Documents, providers
from streams.commands.outcomes import GRACE_S, Outcomes
from streams.commands.reading import Decoder, Offsets, Reader, Record, partitions_of
from streams.core.facts import Fact, Failed, RetryScheduled, Succeeded
from streams.errors import BrokerError
from streams.settings import Settings

EXIT_NOT_CANCELLED = 1
EXIT_TIMED_OUT = 4

ASK_EVERY_S = 0.5
"""How often the workers' offsets are looked at."""


@click.command()
@click.argument("request_ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--wait/--no-wait", default=True, help="Wait until all are over, and print their records.  [default: wait]"
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0),
    default=300.0,
    show_default=True,
    metavar="S",
    help="Wait at most so long.",
)
@pass_settings
@click.pass_context
def cancel(ctx: click.Context, settings: Settings, request_ids: tuple[str, ...], wait: bool, timeout_s: float) -> None:
    """Cancel the invocations with these request IDs.

    What waits will not run. What runs is stopped: an `async def` function gets a CancelledError, a process is killed, a
    connection is closed; a thread is asked to stop, and what it returns counts for nothing. Each invocation ends with
    one record and one dead letter, `Cancelled`, and the record is printed.

    One that waits for a retry is over at once if its worker has it in memory. Otherwise it will not run either, but its
    record is written when the retry would have been due.

    Exit codes: 0 all are cancelled (with --no-wait: the commands are written), 1 some are over in another way or not
    known, 2 refused, 3 Kafka does not answer, 4 some were not over in time.

    \b
    Examples:
      streams cancel 9c1c7b0a-5b1e-4a57-a4a3-0a3b5a1b2c3d
      streams cancel --no-wait $(cat ids)
    """
    ids = tuple(dict.fromkeys(request_ids))
    try:
        for request_id in ids:
            checked(request_id, "A request id", REQUEST_ID_CHARS_MAX)
    except InputRejected as rejected:
        raise click.UsageError(rejected.message) from rejected
    ctx.exit(run(_cancel_and_wait(settings, ids, timeout_s) if wait else _cancel(settings, ids)))


async def _cancel(settings: Settings, ids: Sequence[str]) -> int:
    existing = await existing_topics(settings, (settings.topics.commands,))
    await _send(settings, ids, partitions_of((settings.topics.commands,), existing))
    return 0


async def _send(settings: Settings, ids: Iterable[str], partitions: Iterable[TopicPartition]) -> Offsets:
    """Write the commands to every partition: only one of them has the invocation, and we do not know which.

    Returns the offsets behind them.
    """
    headers = cancel_headers()
    try:
        async with producing(settings) as producer:
            sent = [
                await producer.send(topic, None, request_id.encode(), partition=number, headers=headers)
                for topic, number in partitions
                for request_id in ids
            ]
            written = await asyncio.gather(*sent)
    except KafkaError as error:
        raise BrokerError(f"Kafka did not take the commands: {error}") from error
    return {TopicPartition(at.topic, at.partition): at.offset + 1 for at in written}


async def _cancel_and_wait(settings: Settings, ids: Sequence[str], timeout_s: float) -> int:
    """Cancel, and print what becomes of the invocations. Returns the exit code."""
    topics = settings.topics
    followed = (*topics.records, topics.dlq, topics.facts)
    existing = await existing_topics(settings, (topics.commands, *followed))
    deadline = time.monotonic() + timeout_s
    async with Reader(settings, partitions_of(followed, existing)) as reader, Decoder(settings) as decoder:
        watch = _Watch(settings, ids, reader, decoder)
        first, start = await reader.bounds()
        commands = await _send(settings, ids, partitions_of((topics.commands,), existing))
        taken = asyncio.create_task(_taken(settings, commands))
        try:
            await watch.follow(start, deadline, taken)
        finally:
            taken.cancel()
        if watch.left() and not taken.done():
            click.echo(f"No worker has taken the commands within {timeout_s:g} s; is one running?", err=True)
            return EXIT_TIMED_OUT
        if watch.left():
            await watch.look_back({at: first[at] for at in first if at.topic == topics.facts}, start)
            watch.tell_what_waits()
            await watch.follow(start, deadline)
        return watch.exit_code()


async def _taken(settings: Settings, commands: Offsets) -> None:
    """Returns once workers are done with all *commands*, and what they wrote because of them can be read."""
    async with connected(settings) as cluster:
        while True:
            offsets = await cluster.committed_offsets(settings.topics.app_id)
            if all(offsets.get(partition, 0) >= end for partition, end in commands.items()):
                break
            await asyncio.sleep(ASK_EVERY_S)
    await asyncio.sleep(GRACE_S)


class _Watch:
    """What becomes of the invocations *ids*."""

    def __init__(self, settings: Settings, ids: Iterable[str], reader: Reader, decoder: Decoder) -> None:
        self._ids = frozenset(ids)
        self._facts = settings.topics.facts
        self._reader = reader
        self._decoder = decoder
        self._latest: dict[str, Fact] = {}
        """The latest fact of each."""
        self._outcomes = Outcomes(settings.topics, Documents(providers(settings)))
        for request_id in self._ids:
            self._outcomes.expect(request_id, request_id)
        self._given_up: set[str] = set()
        """Those of which nothing more is to come: over before, or not known."""

    def left(self) -> list[str]:
        """Those that may still end."""
        ended = {request_id for request_id, fact in self._latest.items() if isinstance(fact, Succeeded | Failed)}
        ended -= self._outcomes.missing
        return sorted(self._ids - ended - self._given_up)

    async def follow(self, start: Offsets, deadline: float, taken: asyncio.Task[None] | None = None) -> None:
        """Print the records of those that end, until all have, or it is too late, or *taken* is done."""
        if not self.left():
            return
        async for records in self._reader.follow(start):
            for line in await self._outcomes.read(records, self._decoder):
                click.echo(line)
            for record in records:
                await self._read_facts(record)
            if taken is not None and taken.done():
                taken.result()
                return
            if not self.left() or time.monotonic() > deadline:
                return

    async def look_back(self, first: Offsets, end: Offsets) -> None:
        """Find out from older facts why the others do not end."""
        before = set(self._latest)
        shown, total = 0, sum(end[partition] - first[partition] for partition in first)
        with progress("Looking", total) as bar:
            async for records in self._reader.range(first, end):
                for record in records:
                    if (record.key or b"").decode(errors="replace") not in before:
                        await self._read_facts(record)
                bar.update(self._reader.passed - shown)
                shown = self._reader.passed

    async def _read_facts(self, record: Record) -> None:
        request_id = (record.key or b"").decode(errors="replace")
        if record.topic == self._facts and request_id in self._ids and record.value is not None:
            for fact in read_facts((await self._decoder.decode(record.value))[1]).facts:
                self._latest[request_id] = fact

    def tell_what_waits(self) -> None:
        """Say what is known of those that have not ended, and give up those that will not."""
        for request_id in self.left():
            match self._latest.get(request_id):
                case Succeeded() | Failed() as end:
                    self._given_up.add(request_id)
                    if isinstance(end, Failed) and end.ending == "cancelled":
                        click.echo(f"{request_id} was cancelled before", err=True)
                case RetryScheduled() as retry:
                    at = time_text(retry.due_at_ms)
                    click.echo(
                        f"{request_id} will not run again; its record is written when it was due: {at}", err=True
                    )
                case None:
                    self._given_up.add(request_id)
                    click.echo(
                        f"{request_id} is not known. Either no worker has accepted it yet (then cancel it again), or "
                        "its facts are not kept any more, or the id is of another cluster or prefix",
                        err=True,
                    )

    def exit_code(self) -> int:
        """Says what was not cancelled, and gives the exit code."""
        code = 0
        for request_id in sorted(self._ids):
            fact = self._latest.get(request_id)
            if isinstance(fact, Succeeded):
                click.echo(f"{request_id} is over: it succeeded", err=True)
                code = EXIT_NOT_CANCELLED
            elif isinstance(fact, Failed) and fact.ending != "cancelled":
                click.echo(f"{request_id} is over: it failed ({fact.ending})", err=True)
                code = EXIT_NOT_CANCELLED
            elif fact is None:
                code = EXIT_NOT_CANCELLED
        if left := self.left():
            click.echo(f"{len(left)} of {len(self._ids)} are not over yet: {', '.join(left[:5])}", err=True)
            return EXIT_TIMED_OUT
        return code
