"""What became of invocations, as the APIs tell it: from the read model, and from what this gateway accepted last."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

from streams.console.store import InvocationStatus, Page, Query, ReadModel
from streams.core.facts import Fact
from streams.core.model import Function

SEEN_WITHIN_S = 1.0
"""An id that is not known is looked for so long: facts are in the read model some tens of milliseconds after a worker
wrote them."""
LOOK_EVERY_S = 0.05
REMEMBERED = 20_000
"""So many of the invocations that this gateway accepted last are known to it before any worker has read them."""

_Accepted: TypeAlias = tuple[Function, int, int, int]
"""The function, partition and offset on `invocations`, and when."""


class Statuses:
    """Asks the read model without blocking the loop."""

    def __init__(self, model: ReadModel) -> None:
        self._model = model
        # Two generations: to forget the older one costs nothing.
        self._accepted: dict[str, _Accepted] = {}
        self._accepted_before: dict[str, _Accepted] = {}

    def remember(self, function: Function, request_id: str, partition: int, offset: int, at_ms: int) -> None:
        """An invocation was accepted here; no worker may have read it yet."""
        if len(self._accepted) >= REMEMBERED:
            self._accepted, self._accepted_before = {}, self._accepted
        self._accepted[request_id] = function, partition, offset, at_ms

    async def get(self, provider: str | None, request_id: str) -> InvocationStatus | None:
        """The invocation, the one accepted last if there were several. None when nobody knows it."""
        deadline = asyncio.get_running_loop().time() + SEEN_WITHIN_S
        while True:
            found = await asyncio.to_thread(self._model.find, request_id, provider)
            if found:
                return found[0]
            remembered = self._accepted.get(request_id) or self._accepted_before.get(request_id)
            if remembered is not None and provider in (None, remembered[0].provider):
                return _waiting(request_id, *remembered)
            if asyncio.get_running_loop().time() > deadline:
                return None
            await asyncio.sleep(LOOK_EVERY_S)

    async def list(self, query: Query) -> Page:
        """One page of invocations. Raises InvalidToken."""
        return await asyncio.to_thread(self._model.list, query)

    async def events(self, status: InvocationStatus) -> Sequence[Fact]:
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
