"""`streams invoke`: produce invocations, and wait for what becomes of them."""

from __future__ import annotations

import asyncio
import difflib
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

import click
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from streams.codec.envelope import coordinates_id
from streams.commands.base import existing_topics, pass_settings, producing, progress, run
from streams.commands.documents import Documents, providers
from streams.commands.outcomes import Outcomes
from streams.commands.reading import Decoder, Reader, partitions_of
from streams.errors import BrokerError, ConfigurationError
from streams.functions import load_functions
from streams.providers.base import InvalidEvent
from streams.settings import Settings

EXIT_FAILED = 1
EXIT_TIMED_OUT = 4

BATCH = 1000
"""So many invocations are on their way to the broker at once."""
BAR_FROM = 5000
"""Fewer are produced before a progress bar could be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to produce, *count* times."""

    function: str
    qualifier: str | None
    payload: bytes
    request_id: str | None
    key: str | None
    delay_s: float
    count: int

    def ids(self) -> Iterator[str]:
        for _ in range(self.count):
            yield self.request_id or str(uuid.uuid4())

    def headers(self, request_id: str) -> list[tuple[str, bytes]]:
        headers = [("function", self.function.encode()), ("request-id", request_id.encode())]
        if self.qualifier is not None:
            headers.append(("qualifier", self.qualifier.encode()))
        if self.delay_s:
            headers.append(("delay-ms", b"%d" % round(self.delay_s * 1000)))
        return headers


@click.command()
@click.argument("function")
@click.option("--payload", metavar="JSON", help="The event, as it is.  [default: {}]")
@click.option(
    "--file",
    type=click.File("rb"),
    metavar="PATH",
    help="Read the event from a file, byte for byte; - is standard input.",
)
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Invoke it so often.")
@click.option("--qualifier", help="Version or alias.  [default: the newest version]")
@click.option("--id", "request_id", help="The request id; the same id twice is one invocation.  [default: random]")
@click.option("--key", help="Key of the Kafka record: equal keys share a partition.  [default: the request id]")
@click.option(
    "--delay", "delay_s", type=click.FloatRange(0), default=0.0, metavar="S", help="Not before S seconds from now."
)
@click.option("--wait", is_flag=True, help="Wait for the outcomes, and print each as a line of JSON.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0),
    metavar="S",
    help="Wait at most so long.  [default: 300; with --wait]",
)
@pass_settings
@click.pass_context
def invoke(
    ctx: click.Context,
    settings: Settings,
    function: str,
    payload: str | None,
    file: IO[bytes] | None,
    count: int,
    qualifier: str | None,
    request_id: str | None,
    key: str | None,
    delay_s: float,
    wait: bool,
    timeout_s: float | None,
) -> None:
    """Invoke FUNCTION asynchronously.

    FUNCTION is a name, name:qualifier, ARN or URN. The request ids are printed when the broker has the invocations for
    good; with --wait, instead, the record of each that has ended: the provider's JSON document, or the dead letter of
    what was never an invocation. If there is a functions file, FUNCTION must be in it and the event must be one that
    its provider takes.

    Exit codes: 0 all succeeded (without --wait: were accepted), 1 some failed, 2 refused, 3 Kafka does not answer,
    4 some had no outcome in time.

    \b
    Examples:
      streams invoke resize --payload '{"width": 640}'
      streams invoke resize --file event.json --wait | jq .responsePayload
      streams invoke resize --count 100000 > ids
      streams invoke arn:aws:lambda:us-east-1:123456789012:function:resize:live --delay 30
    """
    if payload is not None and file is not None:
        raise click.UsageError("--payload and --file exclude each other.")
    if request_id is not None and count > 1:
        raise click.UsageError("--id names one invocation; with --count, leave it out.")
    if timeout_s is not None and not wait:
        raise click.UsageError("--timeout needs --wait.")
    event = file.read() if file is not None else (payload or "{}").encode("utf-8", "surrogateescape")
    request = Request(
        function=function,
        qualifier=qualifier,
        payload=event,
        request_id=request_id,
        key=key,
        delay_s=delay_s,
        count=count,
    )
    _refuse_unknown(settings, request)
    if wait:
        ctx.exit(run(_invoke_and_wait(settings, request, 300.0 if timeout_s is None else timeout_s)))
    run(_invoke(settings, request))


def _refuse_unknown(settings: Settings, request: Request) -> None:
    """Raise what the worker would refuse, if there is a functions file to ask."""
    file = settings.functions_file()
    if file is None:
        return
    functions = load_functions(file)
    function = functions.resolve(request.function, request.qualifier)
    if isinstance(function, str):
        near = difflib.get_close_matches(request.function, sorted({known.name for known in functions}), 1)
        meant = f" Did you mean {near[0]}?" if near and near[0] != request.function else ""
        raise ConfigurationError(f"{request.function} in {file}: {function}{meant}")
    try:
        functions.provider(function.provider).read_event(request.payload)
    except InvalidEvent as invalid:
        raise ConfigurationError(
            f"{function.provider} refuses this event: {invalid.code} ({invalid.status_code}): {invalid}"
        ) from invalid


async def _invoke(settings: Settings, request: Request) -> None:
    await existing_topics(settings, (settings.topics.invocations,))
    bar_from = sys.maxsize if sys.stdout.isatty() else BAR_FROM  # there, the ids themselves show that it goes on
    async with producing(settings) as producer:
        async for request_id, _ in _produce(producer, settings.topics.invocations, request, bar_from):
            click.echo(request_id)


async def _invoke_and_wait(settings: Settings, request: Request, timeout_s: float) -> int:
    """Produce, then print each outcome. Returns the exit code."""
    topics = settings.topics
    followed = (*topics.records, topics.dlq, topics.facts)
    existing = await existing_topics(settings, (topics.invocations, *followed))
    outcomes = Outcomes(topics, Documents(providers(settings)))
    async with Reader(settings, partitions_of(followed, existing)) as reader, Decoder(settings) as decoder:
        _, start = await reader.bounds()
        async with producing(settings) as producer:
            async for request_id, other_id in _produce(producer, topics.invocations, request, BAR_FROM):
                outcomes.expect(request_id, other_id)
        deadline = time.monotonic() + timeout_s
        async for records in reader.follow(start):
            for line in await outcomes.read(records, decoder):
                click.echo(line)
            if not outcomes.missing or time.monotonic() > deadline:
                break
    if outcomes.missing:
        few = ", ".join(sorted(outcomes.missing)[:5]) + (", …" if len(outcomes.missing) > 5 else "")
        click.echo(f"{len(outcomes.missing)} of {request.count} had no outcome within {timeout_s:g} s: {few}", err=True)
        return EXIT_TIMED_OUT
    return EXIT_FAILED if outcomes.failed else 0


async def _produce(producer: Any, topic: str, request: Request, bar_from: int) -> AsyncIterator[tuple[str, str]]:
    """Produce, and yield the id of each invocation that the broker has, with the id that a dead letter would give it
    if it were not an invocation at all."""
    ids = request.ids()
    with progress("Invoking", request.count, least=bar_from) as bar:
        while batch := list(islice(ids, BATCH)):
            for request_id, at in zip(batch, await _produce_batch(producer, topic, request, batch), strict=True):
                yield request_id, coordinates_id(topic, at.partition, at.offset)
            bar.update(len(batch))


async def _produce_batch(producer: Any, topic: str, request: Request, batch: list[str]) -> list[Any]:
    try:
        sent = [
            await producer.send(
                topic, request.payload, (request.key or request_id).encode(), headers=request.headers(request_id)
            )
            for request_id in batch
        ]
        return await asyncio.gather(*sent)
    except MessageSizeTooLargeError as error:
        raise ConfigurationError(f"the event has {len(request.payload)} bytes, more than {topic} takes") from error
    except KafkaError as error:
        raise BrokerError(f"Kafka did not take the invocation: {error}") from error
