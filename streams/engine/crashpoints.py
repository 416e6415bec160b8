"""Places where a worker can be told to die, so that tests and `streams doctor` hit every window between two steps.

``STREAMS_CRASH_AT=mid-transaction:3`` kills this process (SIGKILL: nothing is flushed, closed or said) when it passes
that point for the third time. ``mid-transaction:3:STOP`` freezes it there instead (SIGSTOP), so that something else can
be broken at that moment. It is read once, at import; without it a passage costs one comparison.

| point | where |
|---|---|
| after-poll | records have left the fetcher and nobody has accepted them |
| before-run, after-run | around a function's execution |
| during-schedule | a retry is decided and not yet committed |
| mid-transaction | records and offsets are written, the transaction is not ended |
| before-acknowledgement | the end of the transaction is sent and its answer not read |
| before-bookkeeping | the transaction is committed and our memory does not know |
| during-recovery | some of a partition's state is read |
| after-claim | partitions are claimed and nothing of them runs |
| during-drain | told to stop, and everything has ended that could |
"""

from __future__ import annotations

import asyncio
import os
import signal

POINTS = (
    "after-poll",
    "before-run",
    "after-run",
    "during-schedule",
    "mid-transaction",
    "before-acknowledgement",
    "before-bookkeeping",
    "during-recovery",
    "after-claim",
    "during-drain",
)

VARIABLE = "STREAMS_CRASH_AT"

_POINT, _passage, _signal, *_ = (*os.environ.get(VARIABLE, "").split(":"), "", "")
_left = int(_passage or 1)
_SIGNAL = signal.Signals[f"SIG{_signal or 'KILL'}"]


def reach(point: str) -> None:
    """This process passes *point*."""
    if point == _POINT:
        _pass()


def reach_next(point: str) -> None:
    """This process passes *point* as soon as what runs now waits for something: when it has sent, before any answer."""
    if point == _POINT:
        asyncio.get_running_loop().call_soon(_pass)


def _pass() -> None:
    global _left
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), _SIGNAL)
