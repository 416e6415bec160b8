"""What happens to a record: from its bytes to an attempt, and from an attempt's outcome to everything it leaves behind.

No Kafka client and no Faust in here: effects go into a `Partition`, which the committer writes. Every decision is
`core.lifecycle`'s; this module asks it, runs functions, and writes the answer down. All effects of one step of one
invocation are emitted before its record is finished, so they share a transaction with its offset.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from aiokafka import TopicPartition

from streams.codec.avro import Codec, Encode
from streams.codec.dead_letter import dead_letter
from streams.codec.envelope import InputRecord, Invocation, coordinates_id, read_invocation, request_id_of
from streams.codec.errors import AvroError, InputRejected, SchemaNeeded
from streams.codec.facts import facts_encoder
from streams.codec.journal import is_journal, read_journal, write_journal
from streams.codec.registry import Registry
from streams.codec.retry import Origin, Waiting, read_retry, retry_headers, woken_later
from streams.codec.state import pack, unpack
from streams.core.facts import Accepted, AttemptFailed, AttemptStarted, Fact, Failed, RetryScheduled, Succeeded
from streams.core.lifecycle import Accept, Command, Report, Start, State, decide, evolve
from streams.core.model import Destination, Ended, Function, FunctionDestination, KafkaDestination, Outcome
from streams.core.routing import Routes, routes
from streams.core.tiers import wake_at_ms
from streams.engine.partition import Batch, Partition, SourceRecord
from streams.engine.transaction import Headers
from streams.errors import BrokerError
from streams.functions import Functions
from streams.invokers import Call, Invokers, Runner
from streams.providers.base import InvalidEvent, Provider
from streams.topics import Topics

log = logging.getLogger(__name__)

RECORD_OVERHEAD_BYTES = 4096
"""Room for a record's key, headers and framing under its topic's size limit."""
_PREPARED_MAX = 10_000
_REJECTED = State("failed", 0, 0, 0, 0, 0, 0)
_MISSING = Outcome("target_missing", 404)
_REFUSED = object()
_COUNTED: dict[type[Fact], str] = {
    Accepted: "accepted",
    AttemptStarted: "started",
    AttemptFailed: "attempt_failed",
    RetryScheduled: "scheduled",
    Succeeded: "succeeded",
    Failed: "failed",
}
_RECORD_BYTES_DEFAULT = 1_048_588
"""Kafka's own default for a topic whose limit is not known."""


@dataclass(slots=True, eq=False)
class _Prepared:
    """A function, ready to run."""

    function: Function
    provider: Provider
    run: Runner | None
    """None: the function is gone, but invocations of it are still waiting."""
    encode_success: Encode
    encode_failure: Encode
    after_success: Routes
    after_failure: Routes
    reserved: int | None
    """This worker's share of the function's reserved concurrency."""
    running: int = 0
    """Attempts under way here."""
    long: int = 0
    """Those of them that are journaled."""


@dataclass(slots=True, eq=False)
class _Work:
    """One invocation while one of its records is being processed."""

    partition: Partition
    source: TopicPartition
    record: SourceRecord
    key: bytes
    invocation: Invocation
    prepared: _Prepared
    state: State | None
    arrived: Origin | None = None
    """The record with which it arrived, if that is another one than *record*."""
    facts: list[Fact] = field(default_factory=list)
    started_at_ms: int | None = None
    journaled: bool = False
    """The table holds all of it; its record's offset is released."""

    def abandon(self) -> None:
        """The attempt under way counts no longer: its partition is not ours any more."""
        self.prepared.running -= 1
        self.prepared.long -= self.journaled

    @property
    def origin(self) -> Origin:
        return self.arrived or Origin.of(self.record)

    def apply(self, command: Command) -> State:
        """Decide on *command* and evolve. Old news leaves the state as it was."""
        facts = decide(self.state, command, self.prepared.function.policy)
        for fact in facts:
            self.state = evolve(self.state, fact)
        self.facts += facts
        assert self.state is not None
        return self.state


class Processor:
    """Runs functions for the partitions of one worker."""

    def __init__(
        self,
        functions: Functions,
        invokers: Invokers,
        codec: Codec,
        registry: Registry | None,
        topics: Topics,
        locate: Callable[[str, bytes], TopicPartition | None],
        limits: Mapping[str, int],
        long_max: int,
    ) -> None:
        self.functions = functions
        self.topics = topics
        self._invokers = invokers
        self._codec = codec
        self._registry = registry
        self._locate = locate  # where a key belongs in a destination topic; None: there is no such topic
        self._limits = limits  # largest record of each topic, bytes
        self._long_max = long_max  # journaled attempts of one function before more are parked
        self._encode_facts = facts_encoder(codec.prefix("Facts", topics.facts))
        self.counters: Counter[tuple[str, str]] = Counter()
        """(what happened, provider or reason) -> how often, since the process started."""
        self._prepared: dict[tuple[str, str | None], _Prepared] = {}
        self._share = 1.0

    def set_share(self, share: float) -> None:
        """This worker owns *share* of all partitions, and gets that share of every reserved concurrency."""
        self._share = share
        for prepared in self._prepared.values():
            prepared.reserved = _part_of(prepared.function.reserved_concurrency, share)

    # -- records in ----------------------------------------------------------------------------------------------

    def invocations(self, batch: Batch) -> None:
        """Accept and start what landed on `invocations`."""
        now_ms = batch.partition.owner.now_ms()
        for record in batch.partition.accept(batch):
            self._accept_or_reject(batch.partition, batch.source, record, now_ms)

    def retries(self, batch: Batch) -> None:
        """Go on with what is due in a retry tier."""
        now_ms = batch.partition.owner.now_ms()
        for record in batch.partition.accept(batch):
            try:
                self._wake(batch.partition, batch.source, record, now_ms)
            except InputRejected as rejected:
                self._reject(batch.partition, batch.source, record, rejected.reason, rejected.message)

    def _accept_or_reject(
        self, partition: Partition, source: TopicPartition, record: SourceRecord, now_ms: int
    ) -> None:
        try:
            self._accept(partition, source, record, now_ms)
        except InputRejected as rejected:
            self._reject(partition, source, record, rejected.reason, rejected.message)
        except SchemaNeeded as needed:
            partition.spawn(self._accept_with_schema(partition, source, record, needed.schema_id))

    def _accept(self, partition: Partition, source: TopicPartition, record: SourceRecord, now_ms: int) -> None:
        invocation = read_invocation(record, now_ms, self._codec)
        key = invocation.request_id.encode()
        if key in partition.running or partition.requests.get(key) is not None:
            partition.finish(source, record.offset)  # accepted before: a second Accept decides nothing
            return
        prepared = self._prepare(invocation)
        event = self._read_event(partition, source, record, invocation, prepared)
        if event is _REFUSED:
            return
        work = _Work(partition, source, record, key, invocation, prepared, None)
        work.apply(Accept(now_ms, invocation.accepted_at_ms, invocation.due_at_ms, invocation.depth))
        partition.known += 1
        self._go_on(work, event, now_ms)

    def _wake(self, partition: Partition, source: TopicPartition, record: SourceRecord, now_ms: int) -> None:
        waiting = read_retry(record)
        invocation, carried = waiting.invocation, waiting.state
        key = invocation.request_id.encode()
        packed = partition.requests.get(key)
        if packed is None:
            raise InputRejected("StateMissing", "Nothing is known of it: it ended long ago, or the table was lost.")
        # The table decides what is old news; the record has what the table does not keep: the last outcome.
        state = replace(unpack(packed), last=carried.last)
        if key in partition.running or state.is_over or state.attempt != carried.attempt:
            partition.finish(source, record.offset)
        elif state.due_at_ms > now_ms:
            tier, wake_ms = wake_at_ms(now_ms, state.due_at_ms, self.functions.time_scale)
            partition.emit(self.topics.name(tier.topic), key, record.value, woken_later(record.headers, wake_ms))
            partition.finish(source, record.offset)
        else:
            prepared = self._prepare(invocation, waits=True)
            event = self._read_event(partition, source, record, invocation, prepared)
            if event is not _REFUSED:
                work = _Work(partition, source, record, key, invocation, prepared, state, waiting.origin)
                self._go_on(work, event, now_ms)

    async def _accept_with_schema(
        self, partition: Partition, source: TopicPartition, record: SourceRecord, schema_id: int
    ) -> None:
        """Fetch the writer's schema from the registry, then accept. A registry that is away is waited for."""
        assert self._registry is not None
        pause_s = 0.1
        while True:
            try:
                await self._registry.schema(schema_id)
                break
            except AvroError as error:
                self._reject(partition, source, record, "UndecodableInput", str(error))
                return
            except BrokerError as error:
                log.warning("waiting for the schema registry: %s", error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, 5.0)
        if not partition.closed:
            self._accept_or_reject(partition, source, record, partition.owner.now_ms())

    # -- functions -----------------------------------------------------------------------------------------------

    def _prepare(self, invocation: Invocation, waits: bool = False) -> _Prepared:
        """The function that *invocation* names.

        Raises InputRejected when there is none, unless it *waits* already: then its provider says what follows.
        """
        name = invocation.function, invocation.qualifier
        prepared = self._prepared.get(name)
        if prepared is None:
            found = self.functions.resolve(*name)
            if isinstance(found, Function):
                prepared = self._ready(found, self._invokers.prepare(found, self.functions.provider(found.provider)))
            elif waits and (gone := self.functions.gone(*name)) is not None:
                prepared = self._ready(gone, None)
            else:
                raise InputRejected("UnknownFunction", found)
            if len(self._prepared) < _PREPARED_MAX:
                self._prepared[name] = prepared
        return prepared

    def _ready(self, function: Function, run: Runner | None) -> _Prepared:
        provider = self.functions.provider(function.provider)
        success, failure = routes(function)
        encode_success, encode_failure = (
            self._codec.encoder(provider.record_schema, self.topics.name(f"{function.provider}.{ending}"))
            for ending in ("success", "failure")
        )
        reserved = _part_of(function.reserved_concurrency, self._share)
        return _Prepared(function, provider, run, encode_success, encode_failure, success, failure, reserved)

    def _read_event(
        self,
        partition: Partition,
        source: TopicPartition,
        record: SourceRecord,
        invocation: Invocation,
        prepared: _Prepared,
    ) -> object:
        """What the handler gets; `_REFUSED` when the provider would have refused the event at its door."""
        try:
            return prepared.provider.read_event(invocation.event)
        except InvalidEvent as invalid:
            reason = "OversizedInput" if len(invocation.event) > prepared.provider.payload_bytes_max else "InvalidEvent"
            self._reject(partition, source, record, reason, str(invalid), invalid, prepared.function)
            return _REFUSED

    def _go_on(self, work: _Work, event: object, now_ms: int) -> None:
        """Start the attempt that is due, or write down that none is."""
        state = work.state
        assert state is not None
        if state.status != "waiting" or state.due_at_ms > now_ms:
            self._settle(work, now_ms)
            return
        prepared = work.prepared
        parked = prepared.long >= self._long_max
        state = work.apply(Start(state.attempt, now_ms, prepared.running, prepared.reserved, parked))
        if state.status != "running":
            self._settle(work, now_ms)
            return
        work.started_at_ms = now_ms
        work.partition.running[work.key] = work
        prepared.running += 1
        prepared.long += work.journaled
        work.partition.spawn(self._attempt(work, event))

    async def _attempt(self, work: _Work, event: object) -> None:
        """Run the function once and write down what came of it."""
        prepared, invocation, state = work.prepared, work.invocation, work.state
        assert state is not None
        call = Call(
            invocation.request_id,
            invocation.event,
            event,
            state.attempt,
            invocation.accepted_at_ms,
            invocation.traceparent,
        )
        outcome = await prepared.run(call) if prepared.run is not None else _MISSING
        partition = work.partition
        if partition.closed:
            return  # another worker owns the partition now, and runs this attempt again
        del partition.running[work.key]
        work.abandon()
        now_ms = partition.owner.now_ms()
        work.apply(Report(state.attempt, now_ms, outcome))
        self._settle(work, now_ms)

    # -- long attempts -------------------------------------------------------------------------------------------

    def journal(self, partition: Partition, started_before_ms: int) -> None:
        """Write attempts that began before *started_before_ms* to the table and let go of their records' offsets."""
        for work in partition.running.values():
            assert isinstance(work, _Work) and work.state is not None and work.started_at_ms is not None
            if work.started_at_ms >= started_before_ms:
                break  # the oldest come first
            if not work.journaled:
                function = work.prepared.function
                headers = retry_headers(
                    work.invocation, work.state, function.resource, function.qualifier, 0, work.origin
                )
                entry = write_journal(pack(work.state), headers, work.invocation.event)
                partition.put(work.key, entry, over=False)
                self._emit_facts(work)
                partition.finish(work.source, work.record.offset)
                work.journaled = True
                work.prepared.long += 1

    def rearm(self, partition: Partition) -> None:
        """Start again the long attempts that were under way when the partition's last owner let go of it."""
        now_ms = partition.owner.now_ms()
        for key, entry in list(partition.requests.open.items()):
            if is_journal(entry):
                waiting = read_journal(entry)
                try:
                    self._start_again(partition, key, waiting, now_ms)
                except (InputRejected, InvalidEvent) as refused:  # the function's configuration has changed
                    record = replace(waiting.origin, value=waiting.invocation.event)
                    value, headers = dead_letter(
                        self._codec,
                        self.topics.dlq,
                        record,
                        refused.reason if isinstance(refused, InputRejected) else "InvalidEvent",
                        now_ms,
                        request_id=waiting.invocation.request_id,
                        error_message=str(refused),
                        executions=waiting.state.executions,
                        accepted_at_ms=waiting.state.accepted_at_ms,
                    )
                    partition.emit(self.topics.dlq, key, value, headers)
                    partition.put(key, pack(replace(_REJECTED, due_at_ms=now_ms)), over=True)
                    partition.owner.changed(partition)

    def _start_again(self, partition: Partition, key: bytes, waiting: Waiting, now_ms: int) -> None:
        prepared = self._prepare(waiting.invocation, waits=True)
        event = prepared.provider.read_event(waiting.invocation.event)
        state = replace(waiting.state, status="waiting", due_at_ms=now_ms)
        record = replace(waiting.origin, value=waiting.invocation.event)
        work = _Work(partition, partition.sources[0], record, key, waiting.invocation, prepared, state, waiting.origin)
        work.journaled = True
        self._go_on(work, event, now_ms)

    # -- effects out ---------------------------------------------------------------------------------------------

    def _settle(self, work: _Work, now_ms: int) -> None:
        """Write down where the invocation stands now: over, or waiting for its next attempt."""
        partition, state, function = work.partition, work.state, work.prepared.function
        assert state is not None
        if state.is_over:
            self._end(work, state, now_ms)
        else:
            tier, wake_ms = wake_at_ms(now_ms, state.due_at_ms, self.functions.time_scale)
            headers = retry_headers(work.invocation, state, function.resource, function.qualifier, wake_ms, work.origin)
            partition.emit(self.topics.name(tier.topic), work.key, work.invocation.event, headers)
        partition.put(work.key, pack(state), state.is_over)
        self._emit_facts(work)
        if work.journaled:
            partition.owner.changed(partition)
        else:
            partition.finish(work.source, work.record.offset)

    def _emit_facts(self, work: _Work) -> None:
        function, invocation = work.prepared.function, work.invocation
        facts = self._encode_facts(
            invocation.request_id, function.resource, function.provider, invocation.traceparent, work.facts
        )
        work.partition.emit(self.topics.facts, work.key, facts)
        for fact in work.facts:
            self.counters[_COUNTED[type(fact)], function.provider] += 1
        work.facts = []

    def _end(self, work: _Work, state: State, now_ms: int) -> None:
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
            headers = _record_headers(function, condition, ended, work.invocation)
            self._write(work, ended, routes.record_topic, encode(record), headers)
        if routes.destination is not None:
            self._send(work, ended, routes.destination, prepared.provider.document(record), condition)
        if routes.dead_letter_queue is not None:
            self._send_to_queue(work, ended, routes.dead_letter_queue)
        if routes.dead_letter:
            self._dead_letter(work, ended, condition)

    def _write(self, work: _Work, ended: Ended, topic: str, value: bytes, headers: Headers) -> None:
        """Write a record to a topic of ours."""
        name = self.topics.name(topic)
        if self._fits(name, value):
            work.partition.emit(name, work.key, value, headers)
        else:
            self._dead_letter(work, ended, "RecordTooLarge", f"The record has {len(value)} bytes, too many for {name}.")

    def _send(self, work: _Work, ended: Ended, destination: Destination, document: bytes, condition: str) -> None:
        """Send the record's JSON to where the function's configuration wants it."""
        headers = _record_headers(work.prepared.function, condition, ended, work.invocation)
        match destination:
            case KafkaDestination(topic):
                self._produce(work, ended, topic, document, headers)
            case FunctionDestination(reference):
                link: Headers = [("function", reference.encode()), ("depth", b"%d" % (work.invocation.depth + 1))]
                if work.invocation.traceparent is not None:
                    link.append(("traceparent", work.invocation.traceparent.encode()))
                work.partition.emit(self.topics.invocations, work.key, document, link)
            case _:
                assert_never(destination)

    def _send_to_queue(self, work: _Work, ended: Ended, queue: KafkaDestination) -> None:
        """Send the event itself, with AWS's message attributes as headers."""
        reason = work.prepared.provider.dead_letter_reason(ended)
        headers: Headers = [("RequestID", ended.request_id.encode()), ("ErrorMessage", reason.error_message.encode())]
        if reason.error_code is not None:
            headers.insert(1, ("ErrorCode", b"%d" % reason.error_code))
        self._produce(work, ended, queue.topic, ended.event, headers)

    def _produce(self, work: _Work, ended: Ended, topic: str, value: bytes, headers: Headers) -> None:
        """Write to a topic that is not ours, in the same transaction; what cannot be written is a dead letter."""
        target = self._locate(topic, work.key)
        if target is None:
            fault = f"The destination kafka://{topic} does not exist; create the topic, then redrive."
        elif not self._fits(topic, value):
            fault = f"The record has {len(value)} bytes, too many for kafka://{topic}."
        else:
            work.partition.emit_to(target, work.key, value, headers)
            return
        self._dead_letter(work, ended, "DestinationDeliveryFailed", fault)

    def _fits(self, topic: str, value: bytes) -> bool:
        return len(value) + RECORD_OVERHEAD_BYTES <= self._limits.get(topic, _RECORD_BYTES_DEFAULT)

    def _dead_letter(self, work: _Work, ended: Ended, reason: str, fault: str | None = None) -> None:
        """A dead letter for an invocation that ended: the event, and why. *fault* replaces the provider's message."""
        why = work.prepared.provider.dead_letter_reason(ended)
        value, headers = dead_letter(
            self._codec,
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

    def _reject(
        self,
        partition: Partition,
        source: TopicPartition,
        record: SourceRecord,
        reason: str,
        message: str,
        invalid: InvalidEvent | None = None,
        function: Function | None = None,
    ) -> None:
        """A dead letter for an input that is not an invocation we can run.

        It is remembered under the record's coordinates, so that the record delivered again leaves no second one, and
        another record with the same request id is not taken for it.
        """
        key = coordinates_id(record.topic, record.partition, record.offset).encode()
        if partition.requests.get(key) is None:
            partition.known += 1
            self.counters["rejected", reason] += 1
            request_id = request_id_of(record)
            now_ms = partition.owner.now_ms()
            value, headers = dead_letter(
                self._codec,
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
        partition.finish(source, record.offset)

    def _bounded(self, record: SourceRecord) -> InputRecord:
        """*record*, without its value if that was compressed so well that no topic of ours could hold it."""
        if record.value is None or self._fits(self.topics.dlq, record.value):
            return record
        log.error("the value of %s-%d/%d is too large for a dead letter", record.topic, record.partition, record.offset)
        return Origin.of(record)


def _record_headers(function: Function, condition: str, ended: Ended, invocation: Invocation) -> Headers:
    headers: Headers = [
        ("function", function.resource.encode()),
        ("condition", condition.encode()),
        ("attempts", b"%d" % ended.executions),
    ]
    if invocation.traceparent is not None:
        headers.append(("traceparent", invocation.traceparent.encode()))
    return headers


def _part_of(reserved: int | None, share: float) -> int | None:
    """This worker's part of a reserved concurrency: at least 1, so that every worker makes progress."""
    return reserved if not reserved else max(1, int(reserved * share + 1e-9))
