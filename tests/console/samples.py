"""Facts to project."""

from streams.codec.facts import FactsRecord
from streams.console.projection import Located
from streams.core.facts import (
    Accepted,
    AttemptFailed,
    AttemptStarted,
    DeliveryFact,
    Fact,
    Failed,
    RetryScheduled,
    Succeeded,
)
from streams.core.model import Outcome

NOW = 1_767_225_600_000
ARN = "arn:aws:lambda:us-east-1:123456789012:function:resize:prod"
RAISED = Outcome("function_error", 200, None, "ValueError", "no such key")


def at(
    offset: int, request_id: str, *facts: Fact, partition: int = 0, resource: str = ARN, provider: str = "aws"
) -> Located:
    """*facts* at *offset* of `facts`; an accepted invocation was read from 1000 further."""
    accepted = bool(facts) and isinstance(facts[0], Accepted)
    source = offset + 1000 if accepted else None
    return Located(partition, offset, FactsRecord(request_id, resource, provider, None, source, facts))


def delivery(offset: int, request_id: str, *deliveries: DeliveryFact, partition: int = 0) -> Located:
    """What became of what a request left, at *offset* of `facts`."""
    return Located(partition, offset, FactsRecord(request_id, ARN, "aws", None, None, (), deliveries))


def accepted(at_ms: int = NOW, due_at_ms: int | None = None) -> Accepted:
    return Accepted(at_ms + 2, at_ms, at_ms if due_at_ms is None else due_at_ms, 1)


def succeeded(at_ms: int = NOW) -> tuple[Fact, ...]:
    """A whole life in one transaction, as on the fast path."""
    return accepted(at_ms), AttemptStarted(1, at_ms + 3), Succeeded(1, at_ms + 8, Outcome("returned"))


def failed_once(at_ms: int = NOW) -> tuple[Fact, ...]:
    """A first attempt that failed, and the wait for the second."""
    return (
        accepted(at_ms),
        AttemptStarted(1, at_ms + 3),
        AttemptFailed(1, at_ms + 5, RAISED),
        RetryScheduled(2, at_ms + 5, at_ms + 60_005),
    )


def exhausted(at_ms: int = NOW) -> tuple[Fact, ...]:
    """A last attempt that failed."""
    return (
        AttemptStarted(2, at_ms + 60_006),
        AttemptFailed(2, at_ms + 60_010, RAISED),
        Failed(2, at_ms + 60_010, "retries_exhausted"),
    )
