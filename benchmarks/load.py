"""The process that produces: as fast as it can, at a steady rate, or until it is told to stop.

    python -m benchmarks.load '{"contender": "streams", "first": 0, "count": 1000, "rate": null, ...}'

It is outside of what is measured, and speaks librdkafka where the carrier is Kafka. Its last line of output is a JSON
object: how many requests were sent and refused, and how long that took. Acknowledgement times go to a file, as 8-byte
doubles of `time.monotonic` (one clock for all processes of a machine) in the order of requests.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypedDict

from confluent_kafka import Message, Producer

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.contenders.place import Place
from benchmarks.functions import event

_TICK_S = 0.001
"""librdkafka waits for whole milliseconds: for less it does not wait at all, and who asks again takes a core."""
CHUNK = 500
"""Requests that a sender is given at once when there is no rate."""


class Order(TypedDict):
    """What is to be produced."""

    contender: str
    function: str
    event_bytes: int
    seed: int
    first: int
    """Number of the first request."""
    count: int | None
    """None: until standard input ends."""
    rate: float | None
    """Requests a second; None: as fast as possible."""
    acks: str | None
    """File for the times of acknowledgement."""


class Sender(Protocol):
    """Puts events in."""

    def send(self, batch: Sequence[tuple[str, bytes]]) -> None:
        """The carrier has all of *batch* on return (Kafka: it will be told of later)."""

    def wait(self, seconds: float) -> None:
        """Nothing is due for so long."""


def request_id(number: int) -> str:
    """Request ids are numbers, so that who counts them needs little memory."""
    return f"r{number:09d}"


class KafkaSender:
    """Records on the input topic, spread over its partitions; acknowledged by all replicas."""

    def __init__(self, place: Place, topic: str, first: int, acks: array[float]) -> None:
        self._topic, self._partitions, self._acks, self._first = topic, place.partitions, acks, first
        self._function = place.function.encode()
        self.failed = 0
        self._producer = Producer(
            {
                "bootstrap.servers": place.broker,
                "enable.idempotence": True,
                "linger.ms": 1,
                "batch.size": 512 << 10,
                "queue.buffering.max.messages": 500_000,
                "queue.buffering.max.kbytes": 512 << 10,
                "socket.nagle.disable": True,
            }
        )

    def send(self, batch: Sequence[tuple[str, bytes]]) -> None:
        for name, value in batch:
            number = int(name[1:])
            headers: list[tuple[str, str | bytes | None]] = [
                ("function", self._function),
                ("request-id", name.encode()),
            ]
            while True:
                try:
                    self._producer.produce(
                        self._topic, value, name, number % self._partitions, headers=headers,
                        on_delivery=self._acknowledged(number),
                    )  # fmt: skip
                    break
                except BufferError:
                    self._producer.poll(0.1)
        self._producer.poll(0)

    def _acknowledged(self, number: int) -> Callable[[Any, Message], None]:
        def acknowledged(error: Any, message: Message) -> None:
            if error is None:
                self._acks[number - self._first] = time.monotonic()
            else:
                self.failed += 1

        return acknowledged

    def wait(self, seconds: float) -> None:
        """Take acknowledgements as they come: they are timed when they are told of."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) >= _TICK_S:
            self._producer.poll(left)
        if left > 0:
            time.sleep(left)
            self._producer.poll(0)

    def flush(self) -> None:
        while self._producer.flush(1.0):
            pass


class _Own(Protocol):
    def send(self, batch: Sequence[tuple[str, bytes]]) -> None:
        """The carrier has all of *batch* on return."""


class _Timed:
    """A contender's own sender, with the times at which it returned."""

    def __init__(self, sender: _Own, first: int, acks: array[float]) -> None:
        self._sender, self._first, self._acks = sender, first, acks

    def send(self, batch: Sequence[tuple[str, bytes]]) -> None:
        self._sender.send(batch)
        now = time.monotonic()
        for name, _ in batch:
            self._acks[int(name[1:]) - self._first] = now

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)


def batches(order: Order, acks: array[float], wait: Callable[[float], None]) -> Iterator[list[tuple[str, bytes]]]:
    """What is due, again and again, with room for its acknowledgements in *acks*."""
    sent, count, rate, started = 0, order["count"], order["rate"], time.monotonic()
    while count is None or sent < count:
        if rate is None:
            due = CHUNK
        else:
            due = int((time.monotonic() - started) * rate) + 1 - sent
            if due <= 0:
                wait(max(0.0, started + sent / rate - time.monotonic()))
                continue
        due = due if count is None else min(due, count - sent)
        if count is None and _is_over():
            return
        numbers = range(order["first"] + sent, order["first"] + sent + due)
        acks.extend([0.0] * due)
        yield [(request_id(number), event(number, order["event_bytes"], order["seed"])) for number in numbers]
        sent += due


def _is_over() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


def input_topic(contender: Contender, place: Place) -> str:
    """Where its events land."""
    return f"{place.prefix}invocations" if contender.module == "product" else place.input


def main(text: str) -> None:
    order: Order = json.loads(text)
    contender, place, acks = CONTENDERS[order["contender"]], Place.from_env(os.environ), array("d")
    kafka: KafkaSender | None = None
    sender: Sender
    if contender.has_sender:
        own = import_module(f"benchmarks.contenders.{contender.module}").Sender()
        sender = _Timed(own, order["first"], acks)
    else:
        sender = kafka = KafkaSender(place, input_topic(contender, place), order["first"], acks)
    began = time.monotonic()
    for batch in batches(order, acks, sender.wait):
        sender.send(batch)
    took_s = time.monotonic() - began
    if kafka is not None:
        kafka.flush()
    if order["acks"] is not None:
        Path(order["acks"]).write_bytes(acks.tobytes())
    print(json.dumps({"sent": len(acks), "failed": kafka.failed if kafka else 0, "took_s": took_s}), flush=True)
    os._exit(0)  # senders keep threads and loops that nobody needs any more


if __name__ == "__main__":
    main(sys.argv[1])
