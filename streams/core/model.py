"""The nouns every other module speaks: outcomes, endings, functions and invocations that have ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from streams.core.policy import Policy
from streams.core.values import value

OutcomeKind: TypeAlias = Literal["returned", "function_error", "throttled", "system_error", "target_missing"]
"""How an attempt ended. Only *function_error* and *returned* mean that the function ran."""

Ending: TypeAlias = Literal[
    "succeeded",
    "retries_exhausted",
    "expired",
    "zero_concurrency",
    "budget_spent",
    "target_missing",
    "loop",
    "cancelled",
]
"""Why an invocation is over, in our words; a provider's record says it in its own (`condition`).

- *retries_exhausted*: the attempts budget is spent.
- *expired*: the next try could only start at or after the age limit, or was picked up after it.
- *zero_concurrency*: the function may not run at all (reserved concurrency 0).
- *budget_spent*: throttles and system errors used up the provider's own time budget.
- *target_missing*: the function is gone and the provider does not retry that.
- *loop*: the chain function -> destination -> function was too deep.
- *cancelled*: somebody asked for it, before it was over.
"""

Cause: TypeAlias = Literal["raised", "handled", "timed_out", "exited", "response_too_large", "not_serializable"]
"""What went wrong inside a function."""

ServiceKind: TypeAlias = Literal[
    "sqs", "sns", "eventbridge", "s3", "mns-queue", "mns-topic", "fc-eventbridge", "smn", "obs", "dis"
]
"""The services outside Kafka that get deliveries, `destinations` has a sender for each."""

DestinationSetting: TypeAlias = Literal["on_success", "on_failure", "dead_letter"]
"""Which setting of a function sends something somewhere."""

RecordsKept: TypeAlias = Literal["all", "failures", "none"]
"""Which endings of a function are written to `<provider>.success` and `<provider>.failure`."""


@value
class Outcome:
    """How one attempt ended: a value, never an exception.

    *payload* is what the record splices as the response, unchanged: the result, or the provider's error document.
    None means that the record has no response payload.
    """

    kind: OutcomeKind
    status_code: int = 200
    payload: bytes | None = None
    error_type: str = ""
    error_message: str = ""
    handled: bool = False
    """The function reported the error itself (Alibaba's HandledInvocationError)."""
    is_json: bool = True
    """Whether *payload* is one JSON document (an HTTP target may answer anything)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionFailure:
    """What an invoker saw when a function failed; the provider turns it into its own error document.

    *trace* holds the formatted stack frames of the function, outermost first, as `traceback.format_list` writes them.
    *exit* says how a process died: ``"exit status 1"``, ``"signal: killed"``, or ``""`` when it gave no reason.
    """

    cause: Cause
    error_type: str = ""
    message: str = ""
    trace: tuple[str, ...] = ()
    exit: str = ""
    timeout_ms: int = 0
    """The function's time limit, for *timed_out*."""
    size_bytes: int = 0
    """The size of the refused response, for *response_too_large*."""


@dataclass(frozen=True, slots=True)
class PythonTarget:
    """A callable ``module:name(event, context)`` and where it runs."""

    module: str
    attribute: str
    isolation: Literal["inline", "thread", "process"]


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """A function behind a URL. *runtime_api*: it is a Lambda Runtime Interface Emulator, else plain HTTP."""

    url: str
    runtime_api: bool


@dataclass(frozen=True, slots=True)
class KafkaDestination:
    """``kafka://topic``: the record's JSON is produced there, inside the transaction."""

    topic: str


@dataclass(frozen=True, slots=True)
class FunctionDestination:
    """Another function of ours: the record's JSON becomes the event of a new invocation, one link deeper."""

    reference: str


@dataclass(frozen=True, slots=True)
class ServiceDestination:
    """A service outside Kafka, by its provider's address. What goes there goes through the topic `deliveries`."""

    address: str


Destination: TypeAlias = KafkaDestination | FunctionDestination | ServiceDestination


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One qualifier (version or alias) of a function: what to run, and under which rules."""

    name: str
    qualifier: str
    """As requested; the provider's word for the newest version when none was."""
    provider: str
    """Key into `PROVIDERS`."""
    resource: str
    """The qualified ARN or URN, exactly as records show it."""
    executed_version: str
    """The version that *qualifier* resolves to."""
    target: PythonTarget | HttpTarget
    timeout_ms: int
    policy: Policy
    reserved_concurrency: int | None = None
    """At most so many attempts at once; None: no limit of its own; 0: never run."""
    on_success: Destination | None = None
    on_failure: Destination | None = None
    dead_letter: KafkaDestination | ServiceDestination | None = None
    """Gets the event itself, byte for byte (AWS DeadLetterConfig)."""
    records: RecordsKept = "all"


@value
class Ended:
    """An invocation that is over: all that a record or a dead letter says about it."""

    request_id: str
    resource: str
    executed_version: str
    event: bytes
    ending: Ending
    ended_at_ms: int
    accepted_at_ms: int
    attempts: int
    """Attempts made, throttled ones included."""
    executions: int
    """Attempts in which the function ran."""
    failures: int
    """Attempts that counted against the attempts budget."""
    started_at_ms: int | None
    """When the last attempt began; None if none did."""
    outcome: Outcome | None
    """How the last attempt ended; None if there was none, or if a cancel cut it off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A place in a service outside Kafka, as a provider reads an address."""

    kind: ServiceKind
    region: str
    account: str
    """Or the project."""
    name: str
    """Of the queue, topic, bus, bucket or stream."""
    endpoint: str | None = None
    """Where the service answers; None: its client library knows."""
    prefix: str = ""
    """Of an object's name."""
    expires_days: int = 0
    """When an object is to be deleted; 0: never."""


@value
class Delivery:
    """Something that an ended invocation leaves for a service outside Kafka."""

    request_id: str
    provider: str
    """Key into `PROVIDERS`."""
    resource: str
    """The function's qualified ARN or URN."""
    address: str
    """Where it goes, in the provider's words."""
    is_event: bool
    """It is the event itself, for a dead-letter queue; else the record."""
    body: bytes
    succeeded: bool
    ended_at_ms: int
    accepted_at_ms: int
    attempts: int
    executions: int
    error_code: int | None = None
    """Of the event's dead letter, with *error_message*."""
    error_message: str = ""
    traceparent: str | None = None
    failures: int = 0
    """Tries so far."""
    waits: int = 0
    """How often too many others were to go to the same place."""
    tried_at_ms: int = 0
    """When it was tried first; 0: not yet."""
    due_at_ms: int = 0
    """When to try next."""

    @property
    def setting(self) -> DestinationSetting:
        """What sends it."""
        if self.is_event:
            return "dead_letter"
        return "on_success" if self.succeeded else "on_failure"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a service did not take a delivery."""

    message: str
    code: str = ""
    """The service's name for the error."""
    status_code: int | None = None
    may_pass: bool = True
    """Whether trying again can help."""
