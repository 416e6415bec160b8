"""What became of some invocations: the first thing on our topics that says so for good.

That is the record on `<provider>.success` or `<provider>.failure`; for what was never an invocation, its dead letter.
Functions may keep no records (``records = "none"``). Their ends show in `facts` and `dlq` only, written in the same
transaction as a record would be: if none has shown up a moment later, there is none.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from streams.codec.dead_letter import DELIVERY_FAILED
from streams.codec.facts import read_facts
from streams.commands.documents import Documents, one_line
from streams.commands.reading import Decoder, Record
from streams.core.facts import Failed, Succeeded
from streams.topics import Topics

GRACE_S = 1.0
"""The partitions of one transaction become readable one after the other, within milliseconds."""


class Outcomes:
    """Outcomes of expected invocations, each as a line of JSON."""

    def __init__(self, topics: Topics, documents: Documents) -> None:
        self.missing: set[str] = set()
        """Request ids without an outcome so far."""
        self.failed = 0
        """Outcomes so far that are no success."""
        self._topics = topics
        self._documents = documents
        self._other_ids: dict[str, str] = {}
        self._without_record: dict[str, tuple[float, bytes, bool]] = {}
        """Ended, by facts or dead letter: when to stop waiting for the record, what to print then, success."""

    def expect(self, request_id: str, other_id: str) -> None:
        """Wait for this invocation, whose dead letter may call it *other_id*."""
        self.missing.add(request_id)
        self._other_ids[other_id] = request_id

    async def read(self, records: Iterable[Record], decoder: Decoder) -> list[bytes]:
        """The lines for those of *records* that end an expected invocation."""
        now = time.monotonic()
        lines = []
        for record in records:
            named = (record.key or b"").decode(errors="replace")
            expected = self._other_ids.get(named, named)
            if expected in self.missing and record.value is not None:
                schema, datum = await decoder.decode(record.value)
                if self._is_final(record.topic, expected, named, datum):
                    lines.append(self._end(expected, self._line(schema, datum), record.topic.endswith(".success")))
                else:
                    self._remember(expected, now, schema, datum)
        overdue = [expected for expected, (until, *_) in self._without_record.items() if now > until]
        return lines + [self._end(expected, *self._without_record[expected][1:]) for expected in overdue]

    def _is_final(self, topic: str, expected: str, named: str, datum: Mapping[str, Any]) -> bool:
        """Whether nothing better can come: a record, or the dead letter of what was never an invocation."""
        if topic == self._topics.dlq:
            return datum["provider"] is None or named != expected
        return topic != self._topics.facts

    def _remember(self, expected: str, now: float, schema: str, datum: Mapping[str, Any]) -> None:
        """An end that a record should tell of in a moment. A dead letter says more than facts do."""
        if schema == "DeadLetter" and datum["reason"] == DELIVERY_FAILED:
            return  # it has ended, in one way or another
        last = next(reversed(read_facts(datum).facts), None) if schema == "Facts" else None
        if schema == "DeadLetter" or (isinstance(last, Succeeded | Failed) and expected not in self._without_record):
            line = self._line(schema, datum)
            self._without_record[expected] = (now + GRACE_S, line, isinstance(last, Succeeded))

    def _line(self, schema: str, datum: Mapping[str, Any]) -> bytes:
        return one_line(self._documents.write(schema, datum))

    def _end(self, expected: str, line: bytes, succeeded: bool) -> bytes:
        self._without_record.pop(expected, None)
        self.missing.discard(expected)
        self.failed += not succeeded
        return line
