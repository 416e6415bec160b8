"""What became of invocations, as the APIs tell it: from the read model, and from what this gateway accepted last."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, MutableSequence, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TypeAlias

from streams.codec.errors import AvroError
from streams.console.payloads import Payloads
from streams.console.store import InvocationStatus, Page, Query, ReadModel
from streams.core.facts import Happened
from streams.core.model import Function

SEEN_WITHIN_S = 1.0
"""An id that is not known is looked for so long: facts are in the read model some tens of milliseconds after a worker
wrote them."""
LOOK_EVERY_S = 0.05
REMEMBERED = 20_000
"""So many of the invocations that this gateway accepted last are known to it before any worker has read them."""
WAITED_FOR_MAX = 100
"""A list waits for no more of them."""
LISTED_MAX = 1_000
"""So many of them, at most, are looked up for a list."""

_Accepted: TypeAlias = tuple[Function, int, int, int]
"""The function, partition and offset on `invocations`, and when."""


class Statuses:
    """Asks the read model without blocking the loop."""

    def __init__(self, model: ReadModel, payloads: Payloads | None = None) -> None:
        """Without *payloads*, none are found."""
        self._model = model
        self._payloads = payloads
        # Two generations: to forget the older one costs nothing.
        self._accepted: dict[str, _Accepted] = {}
        self._accepted_before: dict[str, _Accepted] = {}

    def remember(self, function: Function, request_id: str, partition: int, offset: int, at_ms: int) -> None:
        """An invocation was accepted here; no worker may have read it yet."""
        if len(self._accepted) >= REMEMBERED:
            self._accepted, self._accepted_before = {}, self._accepted
        self._accepted[request_id] = function, partition, offset, at_ms

    async def get(self, provider: str | None, *request_ids: str) -> InvocationStatus | None:
        """The invocation that has one of the ids, the one accepted last if there were several. None when nobody knows
        it.
        """
        deadline = asyncio.get_running_loop().time() + SEEN_WITHIN_S
        while True:
            found = await self.known(provider, *request_ids)
            if found is not None:
                return found
            if asyncio.get_running_loop().time() > deadline:
                return None
            await asyncio.sleep(LOOK_EVERY_S)

    async def known(self, provider: str | None, *request_ids: str) -> InvocationStatus | None:
        """The same, without waiting for what may be under way."""
        found = await asyncio.to_thread(self._find, provider, request_ids)
        if found is not None:
            return found
        for request_id in request_ids:
            remembered = self._remembered(request_id)
            if remembered is not None and provider in (None, remembered.provider):
                return remembered
        return None

    def _find(self, provider: str | None, request_ids: Sequence[str]) -> InvocationStatus | None:
        return next((found[0] for id in request_ids if (found := self._model.find(id, provider))), None)

    async def list(self, query: Query) -> Page:
        """One page of invocations. Raises InvalidToken."""
        return await asyncio.to_thread(self._model.list, query)

    async def until_seen(self, provider: str, name: str, since_ms: int) -> None:
        """Wait, not long, until the read model has what this gateway has accepted of a function since *since_ms*.

        So whoever invokes and then lists finds it. Not more than the newest are looked at.
        """
        deadline = asyncio.get_running_loop().time() + SEEN_WITHIN_S
        wanted = {
            request_id
            for request_id, (function, _, _, at_ms) in islice(reversed(self._accepted.items()), WAITED_FOR_MAX)
            if at_ms >= since_ms and (function.provider, function.name) == (provider, name)
        }
        while wanted := wanted - (await asyncio.to_thread(self._model.known, provider, wanted)).keys():
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(LOOK_EVERY_S)

    async def find(self, provider: str, request_ids: Collection[str]) -> dict[str, InvocationStatus]:
        """Those of *request_ids* that anybody knows, by id."""
        wanted, deadline = set(request_ids), asyncio.get_running_loop().time() + SEEN_WITHIN_S
        while True:
            found = await asyncio.to_thread(self._model.known, provider, wanted)
            for request_id in wanted - found.keys():
                remembered = self._remembered(request_id)
                if remembered is not None and remembered.provider == provider:
                    found[request_id] = remembered
            if len(found) == len(wanted) or asyncio.get_running_loop().time() > deadline:
                return found
            await asyncio.sleep(LOOK_EVERY_S)

    async def page(self, query: Query) -> tuple[Sequence[InvocationStatus], int]:
        """The invocations that *query* wants from its offset on, newest first, and how many there are in all."""
        waiting = self._waiting(query) if not query.statuses or "waiting" in query.statuses else []
        return await asyncio.to_thread(self._page, query, waiting)

    def _page(self, query: Query, waiting: Sequence[InvocationStatus]) -> tuple[Sequence[InvocationStatus], int]:
        assert query.provider is not None
        known = self._model.known(query.provider, [status.request_id for status in waiting])
        unknown = [status for status in waiting if status.request_id not in known]
        count = len(unknown) + sum(self._model.counts(query).values())
        items = unknown[query.offset : query.offset + query.limit]
        if len(items) < query.limit:
            rest = replace(query, offset=max(0, query.offset - len(unknown)), limit=query.limit - len(items))
            items += self._model.list(rest).items
        return items, count

    def _waiting(self, query: Query) -> Sequence[InvocationStatus]:
        """What of `remember` *query* may want, newest first; the read model may know better."""
        first_ms, to_ms = query.accepted_from_ms or 0, query.accepted_to_ms
        wanted: MutableSequence[InvocationStatus] = []
        newest = chain(reversed(self._accepted.items()), reversed(self._accepted_before.items()))
        for request_id, (function, partition, offset, at_ms) in newest:
            if at_ms < first_ms or len(wanted) == LISTED_MAX:
                break
            if (function.provider, function.name) != (query.provider, query.function):
                continue
            if query.qualifier in (None, function.qualifier) and (to_ms is None or at_ms < to_ms):
                wanted.append(_waiting(request_id, function, partition, offset, at_ms))
        return wanted

    def _remembered(self, request_id: str) -> InvocationStatus | None:
        remembered = self._accepted.get(request_id) or self._accepted_before.get(request_id)
        return _waiting(request_id, *remembered) if remembered is not None else None

    async def event(self, status: InvocationStatus) -> bytes | None:
        """The event of the invocation; None when it is not there (any more). Raises BrokerError."""
        return await self._payloads.event(status) if self._payloads is not None else None

    async def payloads(self, status: InvocationStatus) -> tuple[bytes | None, bytes | None]:
        """The event of the invocation, and the response in its record; None for one that is not there (any more).

        Raises BrokerError.
        """
        if self._payloads is None:
            return None, None
        event = await self.event(status)
        [place] = await asyncio.to_thread(self._model.records, [status]) if status.ending is not None else [None]
        try:
            found = await self._payloads.record(status.request_id, place) if place is not None else None
        except AvroError:
            found = None  # another version wrote it
        record = found[1] if found is not None else {}
        return event, record.get("responsePayload", record.get("response_payload"))

    async def events(self, status: InvocationStatus) -> Sequence[Happened]:
        """All that happened to it, in order."""
        return await asyncio.to_thread(self._model.events, status)


def _waiting(request_id: str, function: Function, partition: int, offset: int, at_ms: int) -> InvocationStatus:
    """An invocation that no worker has said anything of."""
    return InvocationStatus(
        partition=partition,
        first_offset=-1,
        last_offset=-1,
        offset=offset,
        request_id=request_id,
        provider=function.provider,
        resource=function.resource,
        function=function.name,
        qualifier=function.qualifier,
        traceparent=None,
        depth=1,
        status="waiting",
        ending=None,
        attempts=0,
        accepted_at_ms=at_ms,
        due_at_ms=None,
        started_at_ms=None,
        ended_at_ms=None,
        changed_at_ms=at_ms,
        outcome_kind=None,
        status_code=None,
        error_type="",
        error_message="",
    )
