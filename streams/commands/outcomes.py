"""What became of some invocations: the first thing on our topics that says so for good.

That is the record on `<provider>.success` or `<provider>.failure`; for what was never an invocation, its dead letter.
Functions may keep no records (``records = "none"``). Their ends show in `facts` and `dlq` only, written in the same
transaction as a record would be: if none has shown up a moment later, there is none.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from streams.codec.facts import read_facts
from streams.commands.documents import Documents, one_line, original_header, request_id
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
        lines = [line for record in records if (line := await self._read(record, decoder, now)) is not None]
        for expected, (until, line, succeeded) in list(self._without_record.items()):
            if now > until:
                lines += self._end(expected, line, succeeded)
        return lines

    async def _read(self, record: Record, decoder: Decoder, now: float) -> bytes | None:
        named = (record.key or b"").decode(errors="replace")
        expected = self._other_ids.get(named, named)
        if expected not in self.missing or record.value is None:
            return None
        schema, datum = await decoder.decode(record.value)
        line = one_line(self._documents.write(schema, datum))
        if record.topic == self._topics.facts:
            last = read_facts(datum).facts[-1]
            if isinstance(last, Succeeded | Failed):
                self._without_record.setdefault(expected, (now + GRACE_S, line, isinstance(last, Succeeded)))
        elif record.topic != self._topics.dlq:
            return next(iter(self._end(expected, line, record.topic.endswith(".success"))))
        elif datum["provider"] is None or named != expected:  # never an invocation: there will be no record
            return next(iter(self._end(expected, line, False)))
        else:
            self._without_record[expected] = (now + GRACE_S, line, False)
        return None

    def _end(self, expected: str, line: bytes, succeeded: bool) -> list[bytes]:
        """Count an outcome, once."""
        self._without_record.pop(expected, None)
        if expected not in self.missing:
            return []
        self.missing.discard(expected)
        self.failed += not succeeded
        return [line]
