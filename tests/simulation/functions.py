"""What the simulated workers run: functions of all three providers, whose outcomes are drawn from chance once and then
stay the same for each attempt of each invocation, wherever and however often it is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, NamedTuple, TypeAlias

from streams.core.model import (
    Delivery,
    Destination,
    Function,
    FunctionDestination,
    KafkaDestination,
    Outcome,
    PythonTarget,
    Refusal,
    Service,
    ServiceDestination,
)
from streams.invokers import Call, Runner
from streams.invokers.call import raised, timed_out
from streams.laws import Execution
from streams.providers import PROVIDERS
from streams.providers.base import Provider

DESTINATIONS = ("sent", "failed", "queue")
NEVER_WAITS = 0.3
"""So many functions end in the turn of the loop in which they begin."""
"""Topics that records are sent to; a fourth one, ``nowhere``, does not exist."""

_QUEUES = [ServiceDestination(f"arn:aws:sqs:us-east-1:123456789012:{name}") for name in ("done", "undone", "dead")]
_UNKNOWN = ServiceDestination("acs:mq:cn-hangzhou:123:/instances/i/topic/t")
"""Nothing delivers there."""

Kind: TypeAlias = Literal["good", "error", "system", "throttle"]


def function(
    provider: str,
    name: str,
    *,
    retries: int | None = None,
    age_max_s: int | None = None,
    timeout_s: float = 30.0,
    reserved: int | None = None,
    on_success: Destination | None = None,
    on_failure: Destination | None = None,
    dead_letter: KafkaDestination | ServiceDestination | None = None,
) -> Function:
    """A function with its provider's own rules."""
    cloud = PROVIDERS[provider]
    return Function(
        name=name,
        qualifier=cloud.latest,
        provider=provider,
        resource=cloud.resource(name, cloud.latest),
        executed_version=cloud.latest,
        target=PythonTarget("tests", name, "inline"),
        timeout_ms=round(timeout_s * 1000),
        policy=cloud.policy(retries, age_max_s),
        reserved_concurrency=reserved,
        on_success=on_success,
        on_failure=on_failure,
        dead_letter=dead_letter,
    )


def _to(provider: str, name: str) -> FunctionDestination:
    cloud = PROVIDERS[provider]
    return FunctionDestination(cloud.resource(name, cloud.latest))


def catalogue(rng: Random) -> list[Function]:
    """All functions of a world."""
    sent, failed, queue = map(KafkaDestination, DESTINATIONS)
    narrow = rng.choice((1, 1, 2))
    return [
        function("aws", "a-plain", timeout_s=rng.choice((3.0, 60.0))),
        function("aws", "a-short", age_max_s=60, timeout_s=5.0),
        function("aws", "a-narrow", age_max_s=rng.choice((60, 900)), reserved=narrow),
        function("aws", "a-closed", reserved=0),
        function("aws", "a-sent", retries=1, on_success=sent, on_failure=failed, dead_letter=queue),
        function("aws", "a-chain", retries=0, on_success=_to("aws", "a-plain"), on_failure=_to("fc", "f_plain")),
        function("aws", "a-loop", retries=0, timeout_s=1.0, on_success=_to("aws", "a-loop")),
        function("aws", "a-served", retries=1, on_success=_QUEUES[0], on_failure=_QUEUES[1], dead_letter=_QUEUES[2]),
        function("fc", "f_served", retries=1, on_success=_QUEUES[0], on_failure=_UNKNOWN),
        function("aws", "a-astray", retries=0, on_success=KafkaDestination("nowhere"), on_failure=failed),
        function("fc", "f_plain", timeout_s=rng.choice((2.0, 60.0))),
        function("fc", "f_eager", retries=8, age_max_s=rng.choice((20, 600))),
        function("fc", "f_narrow", age_max_s=rng.choice((60, 1800)), reserved=narrow, on_failure=failed),
        function("fc", "f_closed", age_max_s=rng.choice((30, 40_000)), reserved=0),
        function("functiongraph", "g-plain", retries=3, on_success=sent),
        function("functiongraph", "g-narrow", age_max_s=300, reserved=narrow),
    ]


class Plan(NamedTuple):
    """How one attempt goes."""

    kind: Kind
    duration_s: float


def plan(seed: int, call: Call) -> Plan:
    """What becomes of *call*: the same for every execution of the same attempt."""
    rng = Random(f"{seed} {call.request_id}")
    style = rng.random()
    failures = rng.choice((1, 1, 2, 3, 20))
    duration_s = 10 ** rng.uniform(-3.0, 0.7)
    if style < 0.45:
        return Plan("good", duration_s)
    if style < 0.7:
        return Plan("error" if call.attempt <= failures else "good", duration_s)
    if style < 0.8:
        return Plan("system" if call.attempt <= failures else "good", duration_s)
    if style < 0.85:
        return Plan("throttle" if call.attempt <= failures else "good", duration_s)
    if style < 0.95:
        return Plan("good", rng.uniform(2.0, 40.0))
    return Plan("good", 1e9)


@dataclass(slots=True, eq=False)
class Run:
    """An execution, as the function records it."""

    request_id: str
    attempt: int
    process: str
    started_ms: float
    ended_ms: float | None = None

    def seen(self) -> Execution:
        return Execution(self.request_id, self.attempt, self.process, self.started_ms, self.ended_ms)


class Invokers:
    """Runs functions for one worker process; the contract of the real ones is tested in `tests/invokers`."""

    def __init__(
        self,
        seed: int,
        clock_ms: Callable[[], float],
        point: Callable[[str], None],
        begin: Callable[[Call, Plan], Run],
    ) -> None:
        self._seed = seed
        self._clock_ms = clock_ms
        self._point = point
        self._begin = begin

    def prepare(self, function: Function, provider: Provider) -> Runner:
        # Attempts that never wait are written down together (`engine.attempts`).
        waits = Random(f"{self._seed}/{function.resource}").random() > NEVER_WAITS

        async def run(call: Call) -> Outcome:
            planned = plan(self._seed, call)
            self._point("before run")
            if planned.kind == "system" or planned.kind == "throttle":
                if waits:
                    await asyncio.sleep(0.01)
                kind: Any = "system_error" if planned.kind == "system" else "throttled"
                return Outcome(kind, 500, error_message="It did not run.")
            limit_s = function.timeout_ms / 1000
            execution = self._begin(call, planned)
            if waits:
                await asyncio.sleep(min(planned.duration_s, limit_s))
            execution.ended_ms = self._clock_ms()
            self._point("after run")
            if planned.duration_s > limit_s:
                return provider.failed(timed_out(function.timeout_ms), call.request_id)
            if planned.kind == "error":
                return provider.failed(raised(ValueError("It went wrong.")), call.request_id)
            return provider.returned({"attempt": call.attempt}, call.request_id)

        return run


class Services:
    """The services outside Kafka, for one worker process: busy, away or of another opinion now and then.

    Whether a delivery is refused for good is drawn once, and stays the same for each try.
    """

    def __init__(
        self, seed: int, rng: Random, point: Callable[[str], None], arrived: Callable[[Delivery], None]
    ) -> None:
        self._seed = seed
        self._rng = rng
        self._point = point
        self._arrived = arrived

    async def send(self, delivery: Delivery, service: Service) -> Refusal | None:
        self._point("before delivery")
        style = self._rng.random()
        await asyncio.sleep(10.0 if style < 0.02 else 10 ** self._rng.uniform(-3.0, 0.0))
        if Random(f"{self._seed} {delivery.request_id} {delivery.address}").random() < 0.1:
            return Refusal("Nobody knows this queue.", "NonExistentQueue", 400, may_pass=False)
        if style < 0.3:
            return Refusal("Not now.", "InternalFailure", 500)
        self._arrived(delivery)
        self._point("after delivery")
        return Refusal("Nobody heard the answer.", "Timeout") if style > 0.95 else None
