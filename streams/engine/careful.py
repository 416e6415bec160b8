"""Long attempts, and attempts that may have killed the worker.

**Journal.** An attempt that takes longer than *hold_s* must not hold its record's offset. It is written to the table
with all that is needed to run it again (`codec.journal`), and its record is finished. After a crash or a rebalance the
partition's next owner starts it again from there.

**Suspects.** An event that kills the worker (a crash of the interpreter, `os._exit`, the memory limit) would be
delivered again and kill the next worker, for ever. So what may have been under way when a worker died is written to the
table *before* it is started again, and whatever is found there after the next death is a suspect. Each further death
leaves fewer of them, until one is alone with it:

| suspicion | what is known | how it runs |
|---|---|---|
| 0 | journaled because it took long | as usual |
| 1 | it may have been under way when a worker died | written down first, then as usual |
| 2 | it was under way at a second death | written down first, with few other suspects at a time |
| 3 | it was one of those few at a third | written down first, then alone: nothing else is started meanwhile |
| beyond | the worker died while it ran alone | not run: the attempt failed, `WorkerCrashed` |

Alone at once would need fewer deaths; but a worker that dies with thousands under way, through no fault of theirs,
would run them one by one, and the next death would hit an innocent one alone.

An entry that is found raises the suspicion by one, so a worker that lets go of a partition in good order writes one
less. A failed attempt counts as the provider's policy says; the invocation's next one runs alone at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from streams.codec.errors import InputRejected
from streams.codec.journal import Journal, is_journal, read_journal, write_journal
from streams.codec.retry import retry_headers
from streams.codec.state import pack
from streams.core.facts import AttemptStarted
from streams.core.lifecycle import Start, State, decide
from streams.core.model import FunctionFailure, Outcome
from streams.engine.effects import WORKER_CRASHED
from streams.engine.partition import Partition
from streams.engine.work import Work
from streams.providers.base import InvalidEvent

if TYPE_CHECKING:
    from streams.engine.processor import Processor

log = logging.getLogger(__name__)

TURN_S = 10.0
"""A suspect's turn lasts at most so long; what has not killed the worker by then may share it with others."""

_LONG, _MAYBE, _FEW, _ALONE = 0, 1, 2, 3
AT_ONCE = {_ALONE: 1, _FEW: 32}
"""So many suspects run at the same time, by suspicion."""


class Careful:
    """The attempts of one worker that need care."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._suspects: dict[int, deque[tuple[Work, object]]] = {suspicion: deque() for suspicion in AT_ONCE}
        """Those that wait for their turn, by suspicion; the most suspicious first."""
        self._turns: dict[Work, int] = {}
        """Whose turn it is, and their suspicion."""
        self._held: list[tuple[Work, object]] = []
        self._quiet = asyncio.Event()

    # -- starting ------------------------------------------------------------------------------------------------

    def holds_back(self, work: Work, event: object) -> bool:
        """Whether *work* waits because a suspect runs alone; it goes on by itself afterwards."""
        if not self.is_one_alone or _suspicion(work) >= _ALONE:
            return False
        self._held.append((work, event))
        work.partition.held.add(work.key)
        return True

    def take_held(self, partition: Partition, key: bytes) -> Work | None:
        """The invocation that waits because a suspect runs alone: it is not to go on. None: it does not wait."""
        if key not in partition.held:
            return None
        partition.held.discard(key)
        [work] = [work for work, _ in self._held if work.partition is partition and work.key == key]
        self._held = [entry for entry in self._held if entry[0] is not work]
        return work

    def cut_off(self, work: Work) -> None:
        """The attempt of *work* is not to go on, or not to start if it waits for its turn."""
        for suspects in self._suspects.values():
            for suspect in [suspect for suspect in suspects if suspect[0] is work]:
                suspects.remove(suspect)
        self.ended(work)

    def starts(self, work: Work, event: object) -> bool:
        """Start the attempt of *work* here if it needs care; False: it does not."""
        work.suspicion = _suspicion(work)
        if work.suspicion < _MAYBE:
            if work.journaled:
                self._write(work, work.suspicion)  # its next owner must know that it was under way
            return False
        if work.suspicion == _MAYBE:
            self._write(work, _MAYBE)
            work.task = work.partition.spawn(self._run_written(work, event))
        else:
            suspicion = min(work.suspicion, _ALONE)
            self._write(work, suspicion - 1)  # until its turn comes it has nothing to do with a death
            self._suspects[suspicion].append((work, event))
            self._next_suspects()
        return True

    async def _run_written(self, work: Work, event: object) -> None:
        """Run once the table says that it runs."""
        await work.partition.owner.written(work.partition)
        await self._run(work, event)

    async def _run(self, work: Work, event: object) -> None:
        """Run, unless it took so long to write that down that the attempt may not start any more."""
        now_ms = work.partition.owner.now_ms()
        waiting = replace(work.state, status="waiting", due_at_ms=now_ms) if work.state is not None else None
        if _may_start(work, waiting, now_ms):
            await self._processor.attempts.make(work, event)
        else:
            work.end()
            self.ended(work)
            work.state = waiting
            self._processor.go_on(work, event, now_ms)

    # -- suspects ------------------------------------------------------------------------------------------------

    @property
    def is_one_alone(self) -> bool:
        """Whether a suspect runs, and nothing else may start meanwhile."""
        return bool(self._turns) and _ALONE in self._turns.values()

    @property
    def _waiting(self) -> int:
        return sum(not work.partition.closed for suspects in self._suspects.values() for work, _ in suspects)

    def _next_suspects(self) -> None:
        """Give their turns to as many suspects as may run; when none is alone, go on with what was held back."""
        for suspicion, suspects in self._suspects.items():
            while suspects and not self.is_one_alone and self._has_room(suspicion):
                work, event = suspects.popleft()
                if not work.partition.closed:
                    self._turns[work] = suspicion
                    work.task = work.partition.spawn(self._run_suspect(work, event, suspicion))
                    work.task.add_done_callback(lambda _, work=work: self._over(work))  # type: ignore[misc]  # a default
        if not self.is_one_alone:
            held, self._held = self._held, []
            for work, event in held:
                if not work.partition.closed:
                    work.partition.held.discard(work.key)
                    self._processor.go_on(work, event, work.partition.owner.now_ms())

    def _has_room(self, suspicion: int) -> bool:
        return sum(turn == suspicion for turn in self._turns.values()) < AT_ONCE[suspicion]

    async def _run_suspect(self, work: Work, event: object, suspicion: int) -> None:
        if suspicion == _ALONE:
            await self._others_ended(work)
        self._write(work, suspicion)
        await work.partition.owner.written(work.partition)
        asyncio.get_running_loop().call_later(TURN_S, self._over, work)
        await self._run(work, event)

    async def _others_ended(self, work: Work) -> None:
        """Wait until nothing but *work* is under way, at most `TURN_S`."""
        self._quiet.clear()
        if work.partition.owner.under_way() > self._waiting + 1:
            try:
                await asyncio.wait_for(self._quiet.wait(), TURN_S)
            except TimeoutError:
                log.warning("a suspect starts although other attempts are still under way")

    def _over(self, work: Work) -> None:
        """The turn of *work* is over: it has ended, or has run long enough."""
        if self._turns.pop(work, None) is not None:
            self._next_suspects()

    def ended(self, work: Work) -> None:
        """An attempt ended; a suspect may be waiting for quiet."""
        if self.is_one_alone and work.partition.owner.under_way() <= self._waiting + 1:
            self._quiet.set()

    # -- the journal ---------------------------------------------------------------------------------------------

    def journal(self, partition: Partition, started_before_ms: int) -> None:
        """Write attempts that began before *started_before_ms* to the table and let go of their records' offsets."""
        for work in partition.running.values():
            assert isinstance(work, Work) and work.started_at_ms is not None
            if work.started_at_ms >= started_before_ms:
                break  # the oldest come first
            if not work.long:
                work.long = True
                work.prepared.load.long += 1
                if not work.journaled:
                    self._write(work, work.suspicion)

    def show(self, partition: Partition, started_before_ms: int) -> None:
        """Write attempts that began before *started_before_ms* to the table if their cloud tells what runs: with that
        go the facts that say so.
        """
        for work in partition.running.values():
            assert isinstance(work, Work) and work.started_at_ms is not None
            if work.started_at_ms >= started_before_ms:
                break
            if not work.journaled and work.prepared.provider.tells_what_runs:
                self._write(work, work.suspicion)

    def let_go(self, partition: Partition) -> None:
        """Before *partition* may be given up in good order: what is still under way gets no more suspicious by that."""
        for work in partition.running.values():
            assert isinstance(work, Work)
            if work.journaled:
                self._write(work, work.suspicion - 1)

    def _write(self, work: Work, suspicion: int) -> None:
        function, state = work.prepared.function, work.state
        assert state is not None
        headers = retry_headers(work.invocation, state, function.resource, function.qualifier, 0, work.origin)
        entry = write_journal(pack(state), suspicion, headers, work.invocation.event)
        work.partition.put(work.key, entry, over=False)
        if work.facts:
            self._processor.effects.facts(work)
        if not work.journaled:
            work.partition.finish(work.source, work.record.offset)
            work.journaled = True
        work.partition.owner.changed(work.partition)

    def rearm(self, partition: Partition) -> None:
        """Start again what was under way when the partition's last owner let go of it, or died."""
        for key, entry in list(partition.requests.journaled.items()):
            if is_journal(entry):
                journal = read_journal(entry)
                try:
                    self._start_again(partition, key, journal)
                except InputRejected as rejected:  # the function's configuration has changed
                    record = replace(journal.waiting.origin, value=journal.waiting.invocation.event)
                    self._processor.effects.reject(partition, record, rejected.reason, rejected.message, accepted=key)

    def _start_again(self, partition: Partition, key: bytes, journal: Journal) -> None:
        waiting, now_ms = journal.waiting, partition.owner.now_ms()
        prepared = self._processor.prepare(waiting.invocation, waits=True)
        try:
            event = prepared.provider.read_event(waiting.invocation.event)
        except InvalidEvent as invalid:
            raise InputRejected("UndecodableInput", str(invalid)) from invalid
        record = replace(waiting.origin, value=waiting.invocation.event)
        source = partition.sources[0]
        state = replace(waiting.state, status="waiting", due_at_ms=now_ms)
        work = Work(partition, source, record, key, waiting.invocation, prepared, state, waiting.origin)
        work.journaled = True
        work.suspicion = journal.suspicion + 1
        if journal.suspicion < _ALONE:
            self._processor.go_on(work, event, now_ms)
            return
        log.error("invocation %s killed the worker in attempt %d", key.decode(), state.attempt)
        work.state = replace(state, status="running")
        work.begin(now_ms)
        self._processor.report(((work, _crashed(work), now_ms),))


def _suspicion(work: Work) -> int:
    """How suspicious *work* is before it starts."""
    if work.suspicion:
        return work.suspicion
    if work.state is not None and work.state.last is not None and work.state.last.error_type == WORKER_CRASHED:
        return _ALONE
    if not work.journaled and work.record.offset < work.partition.careful_until.get(work.source, 0):
        return _MAYBE
    return _LONG


def _may_start(work: Work, waiting: State | None, now_ms: int) -> bool:
    """Whether the attempt of *work*, whose state is *waiting*, is still young enough to start."""
    assert waiting is not None
    begun = decide(waiting, Start(waiting.attempt, now_ms), work.prepared.function.policy)
    return isinstance(begun[0], AttemptStarted)


def _crashed(work: Work) -> Outcome:
    """The outcome of an attempt that killed its worker: to the function it is the death of its process."""
    failure = FunctionFailure(cause="exited", exit="signal: killed")
    return replace(work.prepared.provider.failed(failure, work.invocation.request_id), error_type=WORKER_CRASHED)
