"""Where an ended invocation is written."""

from __future__ import annotations

from dataclasses import dataclass

from streams.core.model import Destination, Function, KafkaDestination, ServiceDestination


@dataclass(frozen=True, slots=True)
class Routes:
    """What one ending of a function leaves behind, all of it in one transaction."""

    record_topic: str | None
    """``<provider>.success`` or ``<provider>.failure`` without prefix; None when the function keeps no such records."""
    destination: Destination | None
    """Gets the record's JSON."""
    dead_letter: bool
    """Whether a dead letter goes to ``dlq``."""
    dead_letter_queue: KafkaDestination | ServiceDestination | None
    """Gets the event itself."""


def routes(function: Function) -> tuple[Routes, Routes]:
    """(after success, after failure). A failure goes to its destination *and* its dead-letter queue (AWS, measured)."""
    keeps_success = function.records == "all"
    keeps_failure = function.records != "none"
    return (
        Routes(f"{function.provider}.success" if keeps_success else None, function.on_success, False, None),
        Routes(
            f"{function.provider}.failure" if keeps_failure else None, function.on_failure, True, function.dead_letter
        ),
    )
