"""What can happen to an invocation, past tense. The names and fields are stored for ever (`schemas/Facts.avsc`)."""

from __future__ import annotations

from typing import TypeAlias

from streams.core.model import Ending, Outcome
from streams.core.values import value


@value
class Accepted:
    """We owe this invocation an outcome. *accepted_at_ms* starts its age; it may not run before *due_at_ms*."""

    at_ms: int
    accepted_at_ms: int
    due_at_ms: int
    depth: int


@value
class AttemptStarted:
    """Attempt number *attempt*, counted from 1, began."""

    attempt: int
    at_ms: int


@value
class AttemptFailed:
    """Attempt number *attempt* did not succeed; *outcome* says how."""

    attempt: int
    at_ms: int
    outcome: Outcome


@value
class RetryScheduled:
    """Attempt number *attempt* is to start at *due_at_ms*."""

    attempt: int
    at_ms: int
    due_at_ms: int


@value
class Succeeded:
    """Over: attempt number *attempt* returned *outcome*."""

    attempt: int
    at_ms: int
    outcome: Outcome


@value
class Failed:
    """Over without success. *attempt* is the last one that began, 0 if none did."""

    attempt: int
    at_ms: int
    ending: Ending


@value
class Delivered:
    """After the end: a service outside Kafka has the record, or the event (*is_event*)."""

    at_ms: int
    address: str
    is_event: bool


@value
class DeliveryFailed:
    """After the end: a service will not get the record, or the event; there is a dead letter."""

    at_ms: int
    address: str
    is_event: bool
    error_type: str
    error_message: str


Fact: TypeAlias = Accepted | AttemptStarted | AttemptFailed | RetryScheduled | Succeeded | Failed
"""Of an invocation's life: what `decide` decides."""

DeliveryFact: TypeAlias = Delivered | DeliveryFailed
"""Of what it left behind."""

Happened: TypeAlias = Fact | DeliveryFact
