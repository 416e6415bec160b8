"""FunctionGraph's lists of asynchronous invocations: what is asked for, and how each is shown. Pure.

| state | an invocation that |
|---|---|
| WAIT | was accepted, or waits for another attempt |
| RUNNING | has an attempt under way |
| SUCCESS | succeeded |
| FAIL | failed: its last attempt did, its function is gone, or it was cancelled (error 4208 [D]) |
| DISCARD | was given up without its function's fault: it grew too old, was throttled to the end, or was a loop [G] |

Times are UTC without a zone [D]. Lists are of the last hour unless another time is given, 100 a page, at most 500 [D].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from streams.console.store import InvocationStatus, Query
from streams.core.model import Ending, Function, OutcomeKind
from streams.gateway.functiongraph.refusals import invalid_query

LIMIT = 100
LIMIT_MAX = 500
MARKER_MAX = 10**9
WINDOW_MS = 3_600_000
IDS_MAX = 10
"""Ids in one question for active invocations."""
ID_CHARS_MAX = 64

_DISCARDED: frozenset[Ending] = frozenset({"expired", "zero_concurrency", "budget_spent", "loop"})
_FAILED: frozenset[Ending] = frozenset({"retries_exhausted", "target_missing", "cancelled"})
_STATES: Mapping[str, Mapping[str, Any]] = {
    "WAIT": {"statuses": frozenset({"waiting", "retrying"})},
    "RUNNING": {"statuses": frozenset({"running"})},
    "SUCCESS": {"statuses": frozenset({"succeeded"})},
    "FAIL": {"statuses": frozenset({"failed"}), "endings": _FAILED},
    "DISCARD": {"statuses": frozenset({"failed"}), "endings": _DISCARDED},
}
_STATE = {"waiting": "WAIT", "retrying": "WAIT", "running": "RUNNING", "succeeded": "SUCCESS"}
_ACTIVE = ("WAIT", "RUNNING")

_CODE_DIGITS_MAX = 9
_CODES: Mapping[OutcomeKind, int] = {
    "returned": 0,
    "function_error": 4002,  # function run exception [C]
    "throttled": 150429,  # the function has no instance left [C]
    "system_error": 150500,  # internal [C]
    "target_missing": 4001,  # entry not found [C]
}
_ENDINGS: Mapping[str, tuple[int, str]] = {
    "cancelled": (4208, "function invocation canceled"),  # [D]
    "expired": (408, "event age exceeded"),  # [G]
    "zero_concurrency": (150434, "function disabled"),  # [C] the code
    "loop": (508, "circular invocation"),  # [G]
}


def read_query(function: Function, given: Mapping[str, str], now_ms: int, *, active: bool) -> Query:
    """Which invocations of *function* a list is to have. Raises `Refused`."""
    begin_ms, end_ms = (_time(given, name) for name in ("query_begin_time", "query_end_time"))
    if end_ms is not None:
        end_ms += 1000  # that second, too
    if begin_ms is None:
        begin_ms = (now_ms if end_ms is None else end_ms) - WINDOW_MS
    if end_ms is not None and end_ms <= begin_ms:
        raise invalid_query("query_begin_time is after query_end_time.")
    chosen = given.get("status") or None
    if chosen is not None and chosen not in _STATES:
        raise invalid_query(f"status is not one of {', '.join(_STATES)}.")
    wanted: dict[str, Any] = dict(_STATES[chosen]) if chosen is not None else {}
    if active:
        states = [state for state in _ACTIVE if chosen in (None, state)]
        if not states:
            raise invalid_query(f"status is not one of {', '.join(_ACTIVE)}: others are not active.")
        wanted = {"statuses": frozenset().union(*(_STATES[state]["statuses"] for state in states))}
    return Query(
        provider=function.provider,
        function=function.name,
        qualifier=function.qualifier,
        accepted_from_ms=begin_ms,
        accepted_to_ms=end_ms,
        limit=limit(given, "limit", LIMIT, LIMIT_MAX),
        offset=marker(given),
        **wanted,
    )


def read_ids(given: Mapping[str, str], name: str) -> list[str]:
    """The request ids in a parameter, without repetition; none when it is absent or empty. Raises `Refused`."""
    ids = list(dict.fromkeys(part for part in given.get(name, "").split(",") if part))
    if len(ids) > (IDS_MAX if name == "requests" else 1) or any(len(one) > ID_CHARS_MAX for one in ids):
        raise invalid_query(f"{name} has too many ids, or one that is none.")
    return ids


def wants(query: Query, status: InvocationStatus, given: Mapping[str, str]) -> bool:
    """Whether *status*, found by its id, is among what *query* asks for. Only a time that was given counts."""
    if (status.function, status.qualifier) != (query.function, query.qualifier):
        return False
    if query.statuses and status.status not in query.statuses:
        return False
    if query.endings and status.ending is not None and status.ending not in query.endings:
        return False
    from_ms = query.accepted_from_ms if given.get("query_begin_time") else None
    to_ms = query.accepted_to_ms
    return (from_ms or 0) <= status.accepted_at_ms and (to_ms is None or status.accepted_at_ms < to_ms)


def limit(given: Mapping[str, str], name: str, default: int, maximum: int) -> int:
    """The length of a page: *default* for none and for 0, *maximum* for more. Raises `Refused`."""
    return min(_number(given, name) or default, maximum)


def marker(given: Mapping[str, str]) -> int:
    """Where a page begins. Raises `Refused`."""
    number = _number(given, "marker")
    if number > MARKER_MAX:
        raise invalid_query("marker is too large.")
    return number


def _number(given: Mapping[str, str], name: str) -> int:
    text = given.get(name, "")
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= ID_CHARS_MAX):
        raise invalid_query(f"{name} is not a whole number of at least 0.")
    return int(text)


def _time(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name, "")
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
        return int(at.replace(microsecond=0).timestamp()) * 1000
    except (ValueError, OverflowError):
        raise invalid_query(f"{name} is not like 2026-01-31T12:00:00.") from None


def page(found: Sequence[InvocationStatus], count: int, begin: int) -> dict[str, Any]:
    """A page of a list."""
    return {"invocations": [shown(status) for status in found], "count": count, "next_marker": begin + len(found)}


def shown(status: InvocationStatus) -> dict[str, Any]:
    """An invocation in a list."""
    code, message = _error(status)
    return {
        "request_id": status.request_id,
        "status": _STATE.get(status.status) or ("DISCARD" if status.ending in _DISCARDED else "FAIL"),
        "error_message": message,
        "error_code": code,
        "start_time": _utc(status.order_ms),
        "end_time": "" if status.ended_at_ms is None else _utc(status.ended_at_ms),
    }


def _error(status: InvocationStatus) -> tuple[int, str]:
    if status.ending is None or status.ending == "succeeded":
        return 0, ""
    if status.ending in _ENDINGS:
        return _ENDINGS[status.ending]
    return error_code(status.outcome_kind or "system_error", status.error_type), status.error_message


def error_code(kind: OutcomeKind, error_type: str) -> int:
    """The number of an attempt's error: its type if that is a number, else that of its kind; 0 if it returned."""
    if error_type.isascii() and error_type.isdecimal() and len(error_type) <= _CODE_DIGITS_MAX:
        return int(error_type)
    return _CODES[kind]


def _utc(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}"
