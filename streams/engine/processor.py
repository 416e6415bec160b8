"""What happens to a record: from its bytes to an attempt, and from an attempt's outcome to its effects.

No Kafka client and no Faust in here: effects go into a `Partition`, which the committer writes. Every decision is
`core.lifecycle`'s; this module asks it, runs functions, and has `effects` write the answer down. All effects of one
step of one invocation are emitted before its record is finished, so they share a transaction with its offset.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from aiokafka import TopicPartition

from streams.codec.commands import read_command
from streams.codec.delivery import is_delivery
from streams.codec.envelope import Invocation, read_invocation
from streams.codec.errors import AvroError, InputRejected, SchemaNeeded
from streams.codec.registry import Registry
from streams.codec.retry import Waiting, read_retry, woken_later
from streams.codec.state import is_cancelled, unpack
from streams.core.lifecycle import Accept, Report, Start
from streams.core.model import Function, Outcome
from streams.core.routing import routes
from streams.core.tiers import wake_at_ms
from streams.engine.attempts import Attempts, EndedAttempt
from streams.engine.cancels import Cancels
from streams.engine.careful import Careful
from streams.engine.crashpoints import reach
from streams.engine.deliveries import Deliveries, Send
from streams.engine.effects import Effects
from streams.engine.partition import Batch, Partition, SourceRecord
from streams.engine.work import Load, Prepared, Work
from streams.errors import StreamsError
from streams.functions import Functions
from streams.invokers import Call, Invokers, Runner
from streams.invokers.call import NOT_STARTED, raised
from streams.providers.base import InvalidEvent

log = logging.getLogger(__name__)

_PREPARED_MAX = 10_000
_MISSING = Outcome("target_missing", 404)


class Processor:
    """Runs functions for the partitions of one worker."""

    def __init__(
        self,
        functions: Functions,
        invokers: Invokers,
        registry: Registry | None,
        effects: Effects,
        long_max: int,
        send: Send,
    ) -> None:
        self.functions = functions
        self.effects = effects
        self.topics = effects.topics
        self.careful = Careful(self)
        self.cancels = Cancels(self)
        self._deliveries = Deliveries(effects, send, lambda: self.functions)
        self.attempts = Attempts(self._run, self.report)
        self._invokers = invokers
        self._registry = registry
        self._long_max = long_max  # journaled attempts of one function before more of its invocations are parked
        self._prepared: dict[tuple[str, str | None], Prepared] = {}  # by what an invocation calls it
        self._runners: dict[str, tuple[Function, Runner]] = {}  # by resource
        self._loads: defaultdict[tuple[str, str], Load] = defaultdict(Load)  # by provider and name
        self._share = 1.0

    def configure(self, functions: Functions) -> None:
        """From now on, these are the functions. What is under way ends as it began."""
        self.functions = functions
        self._prepared.clear()
        resources = {function.resource for function in functions}
        for resource in self._runners.keys() - resources:
            self._invokers.release(self._runners.pop(resource)[1])

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
        if batch.partition.early:
            self.cancels.forget_early(batch.partition)

    def retries(self, batch: Batch) -> None:
        """Go on with what is due in a retry tier."""
        self._each(batch, self._retry)

    def commands(self, batch: Batch) -> None:
        """Cancel what is to be cancelled."""
        self._each(batch, self._command)

    def deliver(self, batch: Batch) -> None:
        """Try what has come on `deliveries`."""
        self._each(batch, self._deliveries.take)

    def _each(self, batch: Batch, step: Callable[[Partition, TopicPartition, SourceRecord, int], None]) -> None:
        """Do *step* for every record of *batch*; those that it rejects are dead letters."""
        now_ms = batch.partition.owner.now_ms()
        for record in batch.partition.accept(batch):
            try:
                step(batch.partition, batch.source, record, now_ms)
            except InputRejected as rejected:
                self._reject(batch.partition, batch.source, record, rejected)

    def _retry(self, partition: Partition, source: TopicPartition, record: SourceRecord, now_ms: int) -> None:
        step = self._deliveries.take if is_delivery(record.headers) else self._wake
        step(partition, source, record, now_ms)

    def _command(self, partition: Partition, source: TopicPartition, record: SourceRecord, now_ms: int) -> None:
        self.cancels.cancel(partition, source, record, read_command(record), now_ms)

    def _accept_or_reject(
        self, partition: Partition, source: TopicPartition, record: SourceRecord, now_ms: int
    ) -> None:
        try:
            self._accept(partition, source, record, now_ms)
        except InputRejected as rejected:
            self._reject(partition, source, record, rejected)
        except SchemaNeeded as needed:
            partition.spawn(self._accept_with_schema(partition, source, record, needed.schema_id))

    def _accept(self, partition: Partition, source: TopicPartition, record: SourceRecord, now_ms: int) -> None:
        invocation = read_invocation(record, now_ms, self.effects.codec)
        key = invocation.request_id.encode()
        if partition.is_busy(key) or partition.requests.get(key) is not None:
            partition.finish(source, record.offset)  # accepted before: a second Accept decides nothing
            return
        prepared = self.prepare(invocation)
        try:
            event = prepared.provider.read_event(invocation.event)
        except InvalidEvent as invalid:
            self._refuse(partition, source, record, invalid, prepared.function, len(invocation.event))
            return
        work = Work(partition, source, record, key, invocation, prepared, None)
        partition.known += 1
        may_start = not (partition.early or self.careful.is_one_alone or self._is_full(prepared))
        if may_start and work.accept_and_start(now_ms):
            self._start(work, event, now_ms)
            return
        work.apply(Accept(now_ms, invocation.accepted_at_ms, invocation.due_at_ms, invocation.depth))
        if partition.early and self.cancels.came_before(work, now_ms):
            return
        self.go_on(work, event, now_ms)

    def _wake(self, partition: Partition, source: TopicPartition, record: SourceRecord, now_ms: int) -> None:
        waiting = read_retry(record)
        key = waiting.invocation.request_id.encode()
        packed = partition.requests.get(key)
        if packed is None:
            raise InputRejected("StateMissing", "Nothing is known of it: it ended long ago, or the table was lost.")
        # The table decides what is old news; the record has what the table does not keep: the last outcome.
        state = replace(unpack(packed), last=waiting.state.last)
        try:
            if is_cancelled(packed):
                self.cancels.wake(waiting, state, partition, source, record, now_ms)
            elif partition.is_busy(key) or state.is_over or state.attempt != waiting.state.attempt:
                partition.finish(source, record.offset)
            elif state.due_at_ms > now_ms:
                self.hand_on(partition, key, record, state.due_at_ms, now_ms)
                partition.finish(source, record.offset)
            else:
                self._try_again(Waiting(waiting.invocation, state, waiting.origin), partition, source, record, now_ms)
        except InputRejected as rejected:  # its cloud is configured otherwise now, so that nobody knows its function
            self.effects.reject(partition, record, rejected.reason, rejected.message, accepted=key)
            partition.finish(source, record.offset)

    def hand_on(self, partition: Partition, key: bytes, record: SourceRecord, due_at_ms: int, now_ms: int) -> None:
        """Write *record* to the next tier in which it waits until *due_at_ms*."""
        tier, wake_ms = wake_at_ms(now_ms, due_at_ms, self.functions.time_scale)
        partition.emit(self.topics.name(tier.topic), key, record.value, woken_later(record.headers, wake_ms))

    def _try_again(
        self, waiting: Waiting, partition: Partition, source: TopicPartition, record: SourceRecord, now_ms: int
    ) -> None:
        """The attempt that *record* waited for is due."""
        invocation, key = waiting.invocation, waiting.invocation.request_id.encode()
        prepared = self.prepare(invocation, waits=True)
        try:
            event = prepared.provider.read_event(invocation.event)
        except InvalidEvent as invalid:  # the function belongs to another provider than when it was accepted
            self._refuse(partition, source, record, invalid, prepared.function, len(invocation.event), key)
            return
        work = Work(partition, source, record, key, invocation, prepared, waiting.state, waiting.origin)
        self.go_on(work, event, now_ms)

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
                self._reject(partition, source, record, InputRejected("UndecodableInput", str(error)))
                return
            except StreamsError as error:  # away, or it refuses us: the operator's to put right, the record waits
                log.warning("waiting for the schema registry: %s", error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, 5.0)
        if not partition.closed:
            self._accept_or_reject(partition, source, record, partition.owner.now_ms())

    def _reject(
        self, partition: Partition, source: TopicPartition, record: SourceRecord, rejected: InputRejected
    ) -> None:
        self.effects.reject(partition, record, rejected.reason, rejected.message)
        partition.finish(source, record.offset)

    def _refuse(
        self,
        partition: Partition,
        source: TopicPartition,
        record: SourceRecord,
        invalid: InvalidEvent,
        function: Function,
        size_bytes: int,
        accepted: bytes | None = None,
    ) -> None:
        """The provider would have refused the event at its door."""
        too_large = size_bytes > self.functions.provider(function.provider).payload_bytes_max
        reason = "OversizedInput" if too_large else "InvalidEvent"
        self.effects.reject(
            partition, record, reason, str(invalid), accepted=accepted, invalid=invalid, function=function
        )
        partition.finish(source, record.offset)

    # -- functions -----------------------------------------------------------------------------------------------

    def prepare(self, invocation: Invocation, waits: bool = False) -> Prepared:
        """The function that *invocation* names.

        Raises InputRejected when there is none, unless it *waits* already: then its provider says what follows.
        """
        name = invocation.function, invocation.qualifier
        prepared = self._prepared.get(name)
        if prepared is None:
            found = self.functions.resolve(*name)
            if isinstance(found, Function):
                prepared = self._found(found)
            elif waits and (gone := self.functions.gone(*name)) is not None:
                prepared = self._ready(gone, None)
            else:
                raise InputRejected("UnknownFunction", found)
            if len(self._prepared) < _PREPARED_MAX:
                self._prepared[name] = prepared
        return prepared

    def _found(self, function: Function) -> Prepared:
        """*function*, prepared once, whatever it is called: an invocation's name for it and a retry's ARN are one."""
        own_name = function.resource, None
        if own_name not in self._prepared:
            self._prepared[own_name] = self._ready(function, self._runner(function))
        return self._prepared[own_name]

    def _runner(self, function: Function) -> Runner:
        """What runs *function*: what ran it before it was configured anew, unless that changed how it is run."""
        before = self._runners.get(function.resource)
        if before is not None:
            known, run = before
            if (known.target, known.timeout_ms) == (function.target, function.timeout_ms):
                return run
            self._invokers.release(run)
        run = self._invokers.prepare(function, self.functions.provider(function.provider))
        self._runners[function.resource] = function, run
        return run

    def _ready(self, function: Function, run: Runner | None) -> Prepared:
        provider = self.functions.provider(function.provider)
        after_success, after_failure = routes(function)
        encode_success, encode_failure = (
            self.effects.codec.encoder(provider.record_schema, self.topics.name(f"{function.provider}.{ending}"))
            for ending in ("success", "failure")
        )
        reserved = _part_of(function.reserved_concurrency, self._share)
        load = self._loads[function.provider, function.name]
        return Prepared(
            function, provider, run, encode_success, encode_failure, after_success, after_failure, reserved, load
        )

    # -- attempts ------------------------------------------------------------------------------------------------

    def go_on(self, work: Work, event: object, now_ms: int) -> None:
        """Start the attempt that is due, or write down that none is."""
        state = work.state
        assert state is not None
        if state.status == "waiting" and state.due_at_ms <= now_ms:
            if self.careful.holds_back(work, event):
                return
            prepared = work.prepared
            parked = self._is_full(prepared)
            state = work.apply(Start(state.attempt, now_ms, prepared.load.running, prepared.reserved, parked))
        if state.status == "running":
            self._start(work, event, now_ms)
        else:
            self.effects.settle(((work, now_ms),))

    def _is_full(self, prepared: Prepared) -> bool:
        """Whether no more of it may start, for reasons of ours."""
        return prepared.load.long >= self._long_max

    def _start(self, work: Work, event: object, now_ms: int) -> None:
        work.begin(now_ms)
        if not self.careful.starts(work, event):
            self.attempts.start(work, event)

    async def _run(self, work: Work, event: object) -> Outcome | None:
        """Run the function once. None: what came of it is for another worker to find out, or for nobody."""
        invocation, run, state = work.invocation, work.prepared.run, work.state
        assert state is not None
        call = Call(
            invocation.request_id,
            invocation.event,
            event,
            state.attempt,
            invocation.accepted_at_ms,
            invocation.traceparent,
            partial(_may_start, work),
        )
        partition = work.partition
        if partition.owner.has_drained:
            return None  # the next owner runs it
        reach("before-run")
        try:
            outcome = await run(call) if run is not None else _MISSING
        except asyncio.CancelledError as error:
            if _is_moot(work):
                raise
            outcome = work.prepared.provider.failed(raised(error), invocation.request_id)  # none of us has cancelled it
        reach("after-run")
        if partition.closed or work.cut:
            return None  # another worker owns the partition now, and runs this attempt again; or it is cancelled
        if outcome is NOT_STARTED and partition.owner.has_drained:
            return None
        return outcome

    def report(self, ended: Sequence[EndedAttempt]) -> None:
        """Write down what came of these attempts."""
        for work, outcome, at_ms in ended:
            assert work.state is not None
            work.end()
            self.careful.ended(work)
            if outcome.kind == "returned":
                work.succeed(at_ms, outcome)
            else:
                work.apply(Report(work.state.attempt, at_ms, outcome))
        self.effects.settle([(work, at_ms) for work, _, at_ms in ended])
        if any(work.state is not None and work.state.status == "waiting" for work, _, _ in ended):
            reach("during-schedule")


def _may_start(work: Work) -> bool:
    """Whether the attempt of *work*, which has waited for its turn, may still begin."""
    expires_at_ms = work.invocation.accepted_at_ms + work.prepared.function.policy.age_max_ms
    return not _is_moot(work) and work.partition.owner.now_ms() < expires_at_ms


def _is_moot(work: Work) -> bool:
    """Whether another worker runs the attempt of *work*, or nobody is to."""
    return work.partition.closed or work.cut or work.partition.owner.has_drained


def _part_of(reserved: int | None, share: float) -> int | None:
    """This worker's part of a reserved concurrency: at least 1, so that every worker makes progress."""
    return reserved if not reserved else max(1, int(reserved * share + 1e-9))
