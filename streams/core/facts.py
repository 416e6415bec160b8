"""What can happen to an invocation, past tense. The names and fields are stored for ever (`schemas/Facts.avsc`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from streams.core.model import Ending, Outcome


@dataclass(frozen=True, slots=True)
class Accepted:
    """We owe this invocation an outcome. *accepted_at_ms* starts its age; it may not run before *due_at_ms*."""

    at_ms: int
    accepted_at_ms: int
    due_at_ms: int
    depth: int


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """Attempt number *attempt*, counted from 1, began."""

    attempt: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """Attempt number *attempt* did not succeed; *outcome* says how."""

    attempt: int
    at_ms: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """Attempt number *attempt* is to start at *due_at_ms*."""

    attempt: int
    at_ms: int
    due_at_ms: int


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Over: attempt number *attempt* returned *outcome*."""

    attempt: int
    at_ms: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Failed:
    """Over without success. *attempt* is the last one that began, 0 if none did."""

    attempt: int
    at_ms: int
    ending: Ending


Fact: TypeAlias = Accepted | AttemptStarted | AttemptFailed | RetryScheduled | Succeeded | Failed
