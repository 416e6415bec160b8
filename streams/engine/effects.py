"""What an invocation leaves behind: retries, records, dead letters, deliveries, facts, state.

Everything goes into its partition's outputs, from where one transaction takes it together with the offset.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import assert_never

from aiokafka import TopicPartition

from streams.codec.avro import Codec
from streams.codec.dead_letter import DELIVERY_FAILED, dead_letter
from streams.codec.delivery import delivery_headers
from streams.codec.envelope import InputRecord, Invocation, bytes_around, coordinates_id, request_id_of
from streams.codec.facts import EncodeFacts, facts_encoder
from streams.codec.retry import Origin, retry_headers
from streams.codec.state import pack
from streams.core.facts import (
    Accepted,
    AttemptFailed,
    AttemptStarted,
    Delivered,
    DeliveryFact,
    DeliveryFailed,
    Fact,
    Failed,
    RetryScheduled,
    Succeeded,
)
from streams.core.lifecycle import State
from streams.core.model import (
    Delivery,
    Destination,
    Ended,
    Function,
    FunctionDestination,
    KafkaDestination,
    Refusal,
    ServiceDestination,
)
from streams.core.tiers import wake_at_ms
from streams.engine.partition import Partition
from streams.engine.transaction import Headers
from streams.engine.work import Work
from streams.providers.base import DeadLetterReason, InvalidEvent
from streams.topics import Topics

log = logging.getLogger(__name__)

WORKER_CRASHED = "WorkerCrashed"
"""Error type of an attempt that killed its worker (`careful`), and reason of its dead letter."""

CANCELLED = "Cancelled"
"""Reason of the dead letter of a cancelled invocation, whatever its provider calls that."""

SHUT_MS = 60_000
"""A topic that took nothing is not tried again for so long: each try undoes a transaction."""

RECORD_OVERHEAD_BYTES = 4096
"""Room for a record's key, headers and framing under its topic's size limit."""
_RECORD_BYTES_DEFAULT = 1_048_588
"""Kafka's own limit, for a topic whose limit is not known."""
_REJECTED = State("failed", 0, 0, 0, 0, 0, 0)
_counter = partial(defaultdict[str, int], int)
"""Half as dear as `Counter`, which is written in Python."""
_COUNTED: dict[type[Fact], str] = {
    Accepted: "accepted",
    AttemptStarted: "started",
    AttemptFailed: "attempt_failed",
    RetryScheduled: "scheduled",
    Succeeded: "succeeded",
    Failed: "failed",
}


@dataclass(slots=True)
class Effects:
    """Writes effects for one worker."""

    codec: Codec
    topics: Topics
    time_scale: float
    locate: Callable[[str, bytes], TopicPartition | None]
    """The partition of a key in a destination topic; None: there is no such topic."""
    limits: Mapping[str, int]
    """Largest record of each topic, bytes."""
    counters: defaultdict[str, defaultdict[str, int]] = field(default_factory=lambda: defaultdict(_counter))
    """Provider or reason -> what happened -> how often, since the process started."""
    _shut: dict[TopicPartition | None, tuple[int, str]] = field(default_factory=dict)
    """Partitions of destinations that take nothing: until when they are not tried, and why."""
    _encode_facts: EncodeFacts = field(init=False)

    def __post_init__(self) -> None:
        self._encode_facts = facts_encoder(self.codec.prefix("Facts", self.topics.facts))

    # -- invocations ---------------------------------------------------------------------------------------------

    def settle(self, settled: Sequence[tuple[Work, int]], record_to_come: bool = False) -> None:
        """Write down where invocations stand at these times: over, or waiting for their next attempt.

        Each step is taken for all before the next: that costs a quarter less of all that is done for a request, as code
        and branches stay in the processor's caches.

        *record_to_come*: they were cancelled, and their records in a retry tier have not come yet.
        """
        for work, now_ms in settled:
            state = work.state
            assert state is not None
            if state.is_over:
                self._end(work, state, now_ms)
            else:
                self._retry(work, state, now_ms)
        for work, _ in settled:
            state = work.state
            assert state is not None
            work.partition.put(work.key, pack(state, record_to_come), state.is_over and not record_to_come)
        for work, _ in settled:
            self.facts(work)
        for work, _ in settled:
            if work.journaled:
                work.partition.owner.changed(work.partition)
            else:
                work.partition.finish(work.source, work.record.offset)

    def _retry(self, work: Work, state: State, now_ms: int) -> None:
        """Let it wait in a retry tier."""
        function = work.prepared.function
        tier, wake_ms = wake_at_ms(now_ms, state.due_at_ms, self.time_scale)
        headers = retry_headers(work.invocation, state, function.resource, function.qualifier, wake_ms, work.origin)
        work.partition.emit(self.topics.name(tier.topic), work.key, work.invocation.event, headers)

    def facts(self, work: Work) -> None:
        """Write what has happened to *work* since the last time."""
        function, invocation, facts = work.prepared.function, work.invocation, work.facts
        offset = work.record.offset if facts and isinstance(facts[0], Accepted) else None
        value = self._encode_facts(
            invocation.request_id, function.resource, function.provider, invocation.traceparent, offset, facts
        )
        work.partition.emit(self.topics.facts, work.key, value)
        counted = self.counters[function.provider]
        for fact in facts:
            counted[_COUNTED[type(fact)]] += 1
        work.facts = []

    def _end(self, work: Work, state: State, now_ms: int) -> None:
        """Leave the record, what its destinations get, and a dead letter if it failed."""
        prepared, function = work.prepared, work.prepared.function
        succeeded = state.status == "succeeded"
        ended = Ended(
            request_id=work.invocation.request_id,
            resource=function.resource,
            executed_version=function.executed_version,
            event=prepared.provider.event_bytes(work.invocation.event),
            ending="succeeded" if succeeded else work.facts[-1].ending,  # type: ignore[union-attr]  # Failed is last
            ended_at_ms=now_ms,
            accepted_at_ms=state.accepted_at_ms,
            attempts=state.attempt,
            executions=state.executions,
            failures=state.failures,
            started_at_ms=work.started_at_ms,
            outcome=state.last,
        )
        record = prepared.provider.record(ended)
        routes = prepared.after_success if succeeded else prepared.after_failure
        encode = prepared.encode_success if succeeded else prepared.encode_failure
        condition = prepared.provider.condition(ended)
        if routes.record_topic is not None:
            self._write(work, ended, self.topics.name(routes.record_topic), encode(record), condition)
        is_sent = ended.ending != "cancelled" or prepared.provider.cancelled_is_sent
        if routes.destination is not None and is_sent:
            self._send(work, ended, routes.destination, prepared.provider.document(record), condition)
        if routes.dead_letter_queue is not None and is_sent:
            self._send_to_queue(work, ended, routes.dead_letter_queue)
        if routes.dead_letter:
            self._dead_letter(work, ended, _reason(ended) or condition or ended.ending)

    def _write(self, work: Work, ended: Ended, topic: str, value: bytes, condition: str) -> None:
        """Write the record to a topic of ours."""
        if self._fits(topic, value):
            headers = _record_headers(work.prepared.function, condition, ended, work.invocation)
            work.partition.emit(topic, work.key, value, headers)
        else:
            self._dead_letter(
                work, ended, "RecordTooLarge", f"The record has {len(value)} bytes, too many for {topic}."
            )

    def _send(self, work: Work, ended: Ended, destination: Destination, document: bytes, condition: str) -> None:
        """Send the record's JSON to where the function's configuration wants it."""
        match destination:
            case KafkaDestination(topic):
                headers = _record_headers(work.prepared.function, condition, ended, work.invocation)
                self._produce(work, ended, topic, document, headers)
            case FunctionDestination(reference):
                link: Headers = [("function", reference.encode()), ("depth", b"%d" % (work.invocation.depth + 1))]
                if work.invocation.traceparent is not None:
                    link.append(("traceparent", work.invocation.traceparent.encode()))
                if self._fits(self.topics.invocations, document):
                    work.partition.emit(self.topics.invocations, work.key, document, link)
                else:
                    fault = f"The record has {len(document)} bytes, too many for an invocation of {reference}."
                    self._dead_letter(work, ended, DELIVERY_FAILED, fault)
            case ServiceDestination(address):
                self._deliver(work, ended, address, document)
            case _:
                assert_never(destination)

    def _send_to_queue(self, work: Work, ended: Ended, queue: KafkaDestination | ServiceDestination) -> None:
        """Send the event itself, with AWS's message attributes as headers."""
        reason = work.prepared.provider.dead_letter_reason(ended)
        if isinstance(queue, ServiceDestination):
            self._deliver(work, ended, queue.address, ended.event, reason)
            return
        headers: Headers = [("RequestID", ended.request_id.encode()), ("ErrorMessage", reason.error_message.encode())]
        if reason.error_code is not None:
            headers.insert(1, ("ErrorCode", b"%d" % reason.error_code))
        self._produce(work, ended, queue.topic, ended.event, headers)

    def _deliver(
        self, work: Work, ended: Ended, address: str, body: bytes, event_of: DeadLetterReason | None = None
    ) -> None:
        """Send *body* to a service outside Kafka: the record, or the event of a dead letter."""
        if not self._fits(self.topics.deliveries, body):
            fault = f"{len(body)} bytes are too many for {address}."
            self._dead_letter(work, ended, DELIVERY_FAILED, fault)
            return
        delivery = Delivery(
            request_id=ended.request_id,
            provider=work.prepared.function.provider,
            resource=ended.resource,
            address=address,
            is_event=event_of is not None,
            body=body,
            succeeded=ended.ending == "succeeded",
            ended_at_ms=ended.ended_at_ms,
            accepted_at_ms=ended.accepted_at_ms,
            attempts=ended.attempts,
            executions=ended.executions,
            error_code=event_of.error_code if event_of is not None else None,
            error_message=event_of.error_message if event_of is not None else "",
            traceparent=work.invocation.traceparent,
        )
        work.partition.emit(self.topics.deliveries, work.key, body, delivery_headers(delivery, ended.ended_at_ms))

    def _produce(self, work: Work, ended: Ended, topic: str, value: bytes, headers: Headers) -> None:
        """Write to a topic that is not ours, in the same transaction; what cannot be written is a dead letter."""
        target = self.locate(topic, work.key)
        until_ms, why = self._shut.get(target, (0, ""))
        if target is None:
            fault = f"kafka://{topic} does not exist; create the topic, then redrive."
        elif not self._fits(topic, value):
            fault = f"The record has {len(value)} bytes, too many for kafka://{topic}."
        elif ended.ended_at_ms < until_ms:
            fault = _not_taken(topic, why)
        else:
            work.partition.emit_to(target, work.key, value, headers, partial(self._refused, work, ended, target))
            return
        self._dead_letter(work, ended, DELIVERY_FAILED, fault)

    def _refused(self, work: Work, ended: Ended, target: TopicPartition, why: str, is_for_all: bool) -> None:
        """A topic that is not ours did not take the record of *work*, nor does it take any other if *is_for_all*."""
        if is_for_all:
            self._shut[target] = work.partition.owner.now_ms() + SHUT_MS, why
        self._dead_letter(work, ended, DELIVERY_FAILED, _not_taken(target.topic, why))

    def _fits(self, topic: str, value: bytes) -> bool:
        return len(value) <= self._room(topic)

    def _room(self, topic: str) -> int:
        """The largest value that a record of *topic* may have."""
        return self.limits.get(topic, _RECORD_BYTES_DEFAULT) - RECORD_OVERHEAD_BYTES

    # -- deliveries ----------------------------------------------------------------------------------------------

    def deliver_later(self, partition: Partition, key: bytes | None, delivery: Delivery, time_scale: float) -> None:
        """Let *delivery* wait on a retry topic until it is due."""
        tier, wake_ms = wake_at_ms(partition.owner.now_ms(), delivery.due_at_ms, time_scale)
        partition.emit(self.topics.name(tier.topic), key, delivery.body, delivery_headers(delivery, wake_ms))

    def delivered(self, partition: Partition, delivery: Delivery) -> None:
        """A service has it."""
        self.counters[delivery.provider]["delivered"] += 1
        self._delivery_fact(
            partition, delivery, Delivered(partition.owner.now_ms(), delivery.address, delivery.is_event)
        )

    def _delivery_fact(self, partition: Partition, delivery: Delivery, fact: DeliveryFact) -> None:
        value = self._encode_facts(
            delivery.request_id, delivery.resource, delivery.provider, delivery.traceparent, None, (), (fact,)
        )
        partition.emit(self.topics.facts, delivery.request_id.encode(), value)

    def undelivered(self, partition: Partition, record: InputRecord, delivery: Delivery, refusal: Refusal) -> None:
        """A dead letter for *delivery*, which *record* is: what should have been delivered, and why it was not."""
        now_ms = partition.owner.now_ms()
        failed = DeliveryFailed(now_ms, delivery.address, delivery.is_event, refusal.code, refusal.message)
        self._delivery_fact(partition, delivery, failed)
        tries = f" after {delivery.failures + 1} tries" if delivery.failures else ""
        self.counters[delivery.provider]["delivery_failed"] += 1
        value, headers = dead_letter(
            self.codec,
            self.topics.dlq,
            record,
            DELIVERY_FAILED,
            now_ms,
            request_id=delivery.request_id,
            error_code=refusal.status_code,
            error_type=refusal.code,
            error_message=f"Not delivered to {delivery.address}{tries}: {refusal.message}",
            provider=delivery.provider,
            function=delivery.resource,
            attempts=delivery.attempts,
            executions=delivery.executions,
            accepted_at_ms=delivery.accepted_at_ms,
        )
        partition.emit(self.topics.dlq, delivery.request_id.encode(), value, headers)

    # -- dead letters --------------------------------------------------------------------------------------------

    def _dead_letter(self, work: Work, ended: Ended, reason: str, fault: str | None = None) -> None:
        """A dead letter for an invocation that ended: the event, and why. *fault* replaces the provider's message."""
        why = work.prepared.provider.dead_letter_reason(ended)
        value, headers = dead_letter(
            self.codec,
            self.topics.dlq,
            replace(work.origin, value=work.invocation.event),
            reason,
            ended.ended_at_ms,
            request_id=ended.request_id,
            error_code=None if fault else why.error_code,
            error_type="" if fault else why.error_type,
            error_message=fault or why.error_message,
            provider=work.prepared.function.provider,
            function=ended.resource,
            attempts=ended.attempts,
            executions=ended.executions,
            accepted_at_ms=ended.accepted_at_ms,
        )
        work.partition.emit(self.topics.dlq, work.key, value, headers)

    def reject(
        self,
        partition: Partition,
        record: InputRecord,
        reason: str,
        message: str,
        *,
        accepted: bytes | None = None,
        invalid: InvalidEvent | None = None,
        function: Function | None = None,
    ) -> None:
        """A dead letter for an input that is not an invocation we can run. The caller finishes its record.

        It is remembered under the record's coordinates, so that the record delivered again leaves no second one, and
        another record with the same request id is not taken for it. *accepted* is the key of an invocation that was
        accepted before and is over with this.
        """
        key = accepted or coordinates_id(record.topic, record.partition, record.offset).encode()
        if accepted is None:
            if partition.requests.get(key) is not None:
                return
            partition.known += 1
        self.counters[reason]["rejected"] += 1
        request_id = accepted.decode() if accepted else request_id_of(record)
        now_ms = partition.owner.now_ms()
        value, headers = dead_letter(
            self.codec,
            self.topics.dlq,
            self._bounded(record),
            reason,
            now_ms,
            request_id=request_id,
            error_code=invalid.status_code if invalid else None,
            error_type=invalid.code if invalid else "",
            error_message=message,
            provider=function.provider if function else None,
            function=function.resource if function else None,
        )
        partition.emit(self.topics.dlq, request_id.encode(), value, headers)
        partition.put(key, pack(replace(_REJECTED, due_at_ms=now_ms)), over=True)
        partition.owner.changed(partition)

    def _bounded(self, record: InputRecord) -> InputRecord:
        """*record*, without what was compressed so well that no topic of ours could hold it."""
        around, room = bytes_around(record), self._room(self.topics.dlq)
        if len(record.value or b"") + around <= room:
            return record
        log.error("%s-%d/%d is too large for a dead letter", record.topic, record.partition, record.offset)
        origin = Origin.of(record)
        return origin if around <= room else replace(origin, key=None, headers=())


def _not_taken(topic: str, why: str) -> str:
    return f"kafka://{topic} did not take the record: {why}. Put that right, then redrive."


def _reason(ended: Ended) -> str:
    """Why *ended* is a dead letter, if that is for us to say rather than for its provider."""
    if ended.ending == "cancelled":
        return CANCELLED
    crashed = ended.outcome is not None and ended.outcome.error_type == WORKER_CRASHED
    return WORKER_CRASHED if crashed else ""


def _record_headers(function: Function, condition: str, ended: Ended, invocation: Invocation) -> Headers:
    headers = _same_headers(function.resource, condition, ended.executions)
    if invocation.traceparent is not None:
        return [*headers, ("traceparent", invocation.traceparent.encode())]
    return headers


@lru_cache(maxsize=1024)
def _same_headers(resource: str, condition: str, executions: int) -> Headers:
    """What most records of a function share, also in memory: nobody changes it."""
    return [("function", resource.encode()), ("condition", condition.encode()), ("attempts", b"%d" % executions)]
