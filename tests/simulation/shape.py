"""How worlds are made: what runs where, what is sent, how bad the network is, and what goes wrong. All from chance."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple, TypeAlias

from streams.codec.commands import cancel_headers
from streams.codec.envelope import Invocation
from streams.core.model import Function
from streams.settings import Settings

from .log import EPOCH_MS, Weather
from .registry import KNOWN, UNKNOWN, framed

POINTS = (
    "polled",
    "delivered",
    "before run",
    "after run",
    "before delivery",
    "after delivery",
    "scheduling",
    "offsets sent",
    "produced",
    "ended",
    "recovering",
    "acquired",
    "revoked",
)
"""Where a process can be struck, besides anywhere in time."""

Strike: TypeAlias = Literal["crash", "stop", "replace", "quit", "rebalance", "compact", "outage"]
"""*stop*: nothing of a process runs for a while. *replace*: the same, and another process gets its name meanwhile."""


class Input(NamedTuple):
    """A record that a client sends."""

    at_s: float
    number: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class Fault(NamedTuple):
    """Something goes wrong at a time, or when a process comes to *point* for the *nth* time in this world."""

    strike: Strike
    at_s: float
    point: str
    nth: int
    lasts_s: float


@dataclass(slots=True, kw_only=True)
class Shape:
    """How a world is made."""

    partitions: int
    names: list[str]
    static: bool
    settings: Settings
    weather: Weather
    unknown: float
    forgetful: bool
    """Finished requests are forgotten as soon as possible; then nobody sends the same request id twice."""
    inputs: list[Input]
    faults: list[Fault]
    commands: list[Input]
    """To cancel some of the inputs."""


def shape(rng: Random, functions: list[Function]) -> Shape:
    """A world's shape, drawn from chance."""
    partitions = rng.choice((1, 1, 2, 2, 3, 4))
    names = [f"w{number}" for number in range(rng.choice((1, 2, 2, 3)))]
    forgetful = rng.random() < 0.5
    span_s = rng.choice((0.1, 5.0, 60.0, 200.0))
    made = Shape(
        partitions=partitions,
        names=names,
        static=rng.random() < 0.4,
        settings=Settings(
            commit_interval_ms=rng.choice((0, 5, 100)),
            hold_max=rng.choice((1, 3, 2_000)),
            in_flight_max=rng.choice((2, 10, 2_000)),
            hold_s=rng.choice((1.0, 10.0)),
            long_max=rng.choice((1, 2, 1_000)),
            terminal_retention_s=rng.choice((0.0, 60.0)) if forgetful else 1e9,
            terminal_max=1 if forgetful else 10**9,
        ),
        weather=Weather(
            slow=rng.choice((0.0, 0.01, 0.05)),
            late_marker=rng.choice((0.0, 0.03, 0.2)),
            abort=rng.choice((0.0, 0.0, 0.02, 0.2)),
            answer_lost=rng.choice((0.0, 0.1)),
            refuse=rng.choice((0.0, 0.0, 0.2)),
        ),
        unknown=rng.choice((0.0, 0.0, 0.0, 0.03)),
        forgetful=forgetful,
        inputs=_inputs(rng, functions, partitions, span_s, forgetful),
        faults=_faults(rng, span_s),
        commands=[],
    )
    made.commands = _commands(rng, made.inputs, partitions)
    return made


def _faults(rng: Random, span_s: float) -> list[Fault]:
    count = rng.choice((0, 1, 2, 4, 7, 20))
    strikes: tuple[Strike, ...] = (*("crash", "stop", "rebalance") * 3, "replace", "quit", "compact")
    faults = [
        Fault(
            rng.choice(strikes),
            10 ** rng.uniform(0.0, 3.0) if rng.random() < 0.5 else rng.random() * (span_s + 10.0),
            rng.choice(POINTS) if rng.random() < 0.7 else "",
            1 + int(rng.expovariate(0.1)),
            rng.choice((0.5, 3.0, 12.0, 20.0, 45.0)),
        )
        for _ in range(count)
    ]
    if rng.random() < 0.15:
        faults.append(Fault("outage", rng.random() * (span_s + 100.0), "", 0, rng.choice((30.0, 400.0, 8000.0))))
    return faults


def _inputs(rng: Random, functions: list[Function], partitions: int, span_s: float, forgetful: bool) -> list[Input]:
    used = rng.sample(functions, rng.randint(1, 5))
    inputs = [
        _input(rng, number, used, rng.random() * span_s, partitions) for number in range(rng.choice((4, 10, 25, 25)))
    ]
    if not forgetful:
        repeated = [sent for sent in inputs if sent.key is not None and rng.random() < 0.2]
        inputs += [sent._replace(at_s=sent.at_s + 10 ** rng.uniform(-2.0, 2.5)) for sent in repeated]
    return inputs


def _input(rng: Random, number: int, functions: list[Function], at_s: float, partitions: int) -> Input:
    function, place = rng.choice(functions), rng.randrange(partitions)
    value = b'{"number": %d}' % number
    if rng.random() < 0.2:
        return Input(at_s, place, None, *_unnamed(rng, function.name, value))
    request_id = b"id-%d" % number
    headers: list[tuple[str, bytes | None]] = [("function", function.name.encode()), ("request-id", request_id)]
    if rng.random() < 0.05:
        headers.append(("accepted-at", b"%d" % (EPOCH_MS + round(at_s * 1000) - rng.choice((1_000, 50_000, 700_000)))))
    if rng.random() < 0.2:
        headers.append(("delay-ms", b"%d" % rng.choice((1, 700, 5_500, 95_000, 3_700_000))))
    return Input(at_s, place, request_id, value, tuple(headers))


def _commands(rng: Random, inputs: list[Input], partitions: int) -> list[Input]:
    """Cancels of some inputs: before they are there, while they run or wait, when they are over, and twice."""
    if rng.random() < 0.4:
        return []
    named = [sent for sent in inputs if sent.key is not None]
    commands: list[Input] = []
    for sent in rng.sample(named, rng.randint(0, len(named) // 2)):
        for _ in range(rng.choice((1, 1, 1, 2))):
            at_s = max(0.0, sent.at_s + rng.choice((-0.3, 0.0, 10 ** rng.uniform(-3.0, 3.6))))
            commands += _command(rng, sent, at_s, partitions)
    if rng.random() < 0.1:
        headers = rng.choice(
            ((), (("command", b"undo"),), (("command", b"cancel"), ("depth", b"deep"), ("function", b"f")))
        )
        commands.append(Input(rng.random() * 10.0, 0, b"id-0", b"{}", headers))
    return commands


PRODUCED_AT = b"where it was produced"
"""Stands for a record's coordinates, which a shape cannot know."""


def _command(rng: Random, sent: Input, at_s: float, partitions: int) -> list[Input]:
    """The command to cancel *sent*, by somebody who knows more or less of it."""
    assert sent.key is not None and sent.value is not None
    given = dict(sent.headers)
    function = (given["function"] or b"").decode()
    invocation = Invocation(sent.key.decode(), function, None, sent.value, 0, 0, 1, None)
    match rng.randrange(6):
        case 0 | 1:  # by whoever produced it, and knows where
            return [Input(at_s, sent.number, sent.key, None, (*cancel_headers(), ("origin", PRODUCED_AT)))]
        case 2:
            return [Input(at_s, number, sent.key, None, tuple(cancel_headers())) for number in range(partitions)]
        case 3:
            return [Input(at_s, sent.number, sent.key, None, tuple(cancel_headers()))]
        case 4:
            wrong = invocation._replace(function="a-gone")
            return [Input(at_s, sent.number, sent.key, sent.value, tuple(cancel_headers(wrong)))]
        case _:
            return [Input(at_s, sent.number, sent.key, sent.value, tuple(cancel_headers(invocation)))]


def _unnamed(rng: Random, function: str, event: bytes) -> tuple[bytes | None, tuple[tuple[str, bytes | None], ...]]:
    """Value and headers of a record without request id, and maybe without sense."""
    match rng.randrange(10):
        case 0 | 1:
            return rng.choice((b"\x00\xff", None, b"{}", b'{"function": "none", "payload": 1}')), ()
        case 2 | 3:
            return b"not json", (("function", b"a-plain"),)
        case 4:
            return framed(UNKNOWN, function, event), ()
        case 5 | 6:
            return framed(KNOWN, function, event), ()
        case _:
            return b'{"function": "%b", "payload": %b}' % (function.encode(), event), ()
