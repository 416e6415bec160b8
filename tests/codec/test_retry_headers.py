"""Retry records carry all that the next attempt needs, and nothing else is taken for one."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.codec.dead_letter import HEADERS_MAX
from streams.codec.envelope import Invocation
from streams.codec.errors import InputRejected
from streams.codec.retry import (
    LAST_PAYLOAD_BYTES_MAX,
    RETRY_OVERHEAD_BYTES,
    Origin,
    Waiting,
    read_retry,
    retry_headers,
    wake_at_ms,
    woken_later,
)
from streams.core.lifecycle import State
from streams.core.model import Outcome, OutcomeKind

from .samples import NOW, TEXTS, Record, batch_bytes

INVOCATION = Invocation("id ☃", "resize:prod", "prod", b"{}", NOW, NOW, 2, "00-trace")
LAST = Outcome("function_error", 200, b'{"errorMessage":"no"}', "Error", "no", True, False)
STATE = State("waiting", 3, 2, 1, 1, NOW, NOW + 60_000, LAST)
ORIGIN = Origin("invocations", 3, 77, NOW, b"key", (("function", b"resize"), ("x", None), ("x", b"")))
COUNTS = st.integers(0, 2**31 - 1)
TIMES = st.integers(0, 2**50)
WORDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)


def test_the_headers_of_a_retry():
    assert retry_headers(INVOCATION, STATE, "arn:f", "prod", NOW + 9, ORIGIN) == [
        ("wake-at", b"1767225600132"),
        ("request-id", "id ☃".encode()),
        ("function", b"arn:f"),
        ("qualifier", b"prod"),
        ("attempt", b"3"),
        ("executions", b"2"),
        ("failures", b"1"),
        ("throttles", b"1"),
        ("accepted-at", b"1767225600123"),
        ("due-at", b"1767225660123"),
        ("depth", b"2"),
        ("traceparent", b"00-trace"),
        (
            "last",
            b'{"kind":"function_error","status_code":200,"error_type":"Error","error_message":"no",'
            b'"handled":true,"is_json":false}',
        ),
        ("last-payload", b'{"errorMessage":"no"}'),
        ("origin", b"invocations/3/77/1767225600123"),
        ("origin-key", b"key"),
        ("origin-header-function", b"resize"),
        ("origin-header-x", None),
        ("origin-header-x", b""),
    ]


@given(
    st.builds(Invocation, WORDS, WORDS, WORDS, st.binary(), TIMES, TIMES, st.integers(1, 99), st.none() | WORDS),
    st.builds(
        State,
        st.just("waiting"),
        st.integers(1, 2**31 - 1),
        COUNTS,
        COUNTS,
        COUNTS,
        TIMES,
        TIMES,
        st.none()
        | st.builds(
            Outcome,
            st.sampled_from(get_args(OutcomeKind)),
            COUNTS,
            st.none() | st.binary(),
            TEXTS,
            TEXTS,
            st.booleans(),
        ),
    ),
    TIMES,
    st.builds(
        Origin,
        st.from_regex(r"[a-zA-Z0-9._-]{1,20}", fullmatch=True),
        COUNTS,
        st.integers(0, 2**63 - 1),
        st.integers(-1, 2**50),
        st.none() | st.binary(),
        st.lists(st.tuples(TEXTS, st.none() | st.binary()), max_size=4).map(tuple),
    ),
)
@settings(max_examples=50, deadline=None)
def test_what_was_written_is_read(invocation, state, wake_at, origin):
    headers = retry_headers(invocation, state, "f", "q", wake_at, origin)
    again = invocation._replace(
        function="f", qualifier="q", accepted_at_ms=state.accepted_at_ms, due_at_ms=state.due_at_ms
    )

    assert read_retry(Record(invocation.event, headers)) == Waiting(again, state, origin)
    assert wake_at_ms(headers) == wake_at

    later = woken_later(headers, 5)
    assert read_retry(Record(invocation.event, later)) == Waiting(again, state, origin)
    assert wake_at_ms(later) == 5
    assert later[0][0] == "wake-at"


def test_the_origin_of_a_record_is_the_record_without_its_value():
    record = Record(b"value", ORIGIN.headers, "invocations", 3, 77, NOW, b"key")

    assert Origin.of(record) == ORIGIN


def test_a_long_response_is_not_carried_and_a_long_message_is_cut():
    long = Outcome("function_error", 200, b"x" * (LAST_PAYLOAD_BYTES_MAX + 1), "E" * 999, "é\ud800" * 9999)
    state = State("waiting", 2, 1, 1, 0, NOW, NOW, long)

    last = read_retry(Record(b"", retry_headers(INVOCATION, state, "f", "q", NOW, ORIGIN))).state.last

    assert last is not None
    assert last.payload is None
    assert (last.error_type, last.error_message) == ("E" * 256, "é?" * 1365)


@pytest.mark.parametrize(
    "headers",
    [(), (("", b""),) * 100_000, (("n" * 49, b"v"),) * 5000, (("n" * 63, b"v" * 63),) * HEADERS_MAX],
    ids=lambda headers: f"{len(headers)} headers",
)
def test_a_retry_record_is_never_larger_than_its_allowance(headers):
    widest = Invocation("☃" * 256, "☃" * 512, "☃" * 256, b"", NOW, NOW, 10**6, "00-" + "x" * 300)
    last = Outcome("function_error", 200, b"x" * LAST_PAYLOAD_BYTES_MAX, "\x01" * 256, "\x01" * 4096)
    state = State("waiting", *[2**31 - 1] * 4, 2**62, 2**62, last)

    record = Record(b"event", headers, "t" * 249, 2**31 - 1, 2**63 - 1, 2**62, b"key")

    written = retry_headers(widest, state, widest.function, "☃" * 256, 2**62, Origin.of(record))

    allowed = batch_bytes(record.key, record.value, headers) + RETRY_OVERHEAD_BYTES
    assert batch_bytes("☃".encode() * 256, record.value, written) <= allowed


GOOD = dict(retry_headers(INVOCATION, STATE, "f", "q", NOW, ORIGIN))
OPTIONAL = {"qualifier", "traceparent", "last", "last-payload", "origin-key"}
NECESSARY = sorted(name for name in GOOD.keys() - OPTIONAL if not name.startswith("origin-header-"))


def read_both(record: Record) -> None:
    """Read all that a tier and then a worker read."""
    wake_at_ms(record.headers)
    read_retry(record)


@pytest.mark.parametrize("name", NECESSARY)
def test_a_missing_header_is_named(name):
    headers = [(n, v) for n, v in GOOD.items() if n != name]

    with pytest.raises(InputRejected, match=f"no header {name}"):
        read_both(Record(b"", headers))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("wake-at", b"soon"),
        ("attempt", b"0"),
        ("executions", b"-1"),
        ("due-at", b"99999999999999999999"),
        ("request-id", b""),
        ("request-id", b"\xff"),
        ("function", b"a\nb"),
        ("last", b""),
        ("last", b"[]"),
        ("last", b"{}"),
        ("last", GOOD["last"].replace(b"function_error", b"vanished")),
        ("last", GOOD["last"].replace(b"200", b'"200"')),
        ("traceparent", b"\xff"),
        ("origin", b"\xff"),
        ("origin", b"invocations/3/77"),
        ("origin", b"invocations/x/77/5"),
        ("origin", b"invocations/3/9223372036854775808/5"),
    ],
)
def test_a_damaged_header_is_refused(name, value):
    with pytest.raises(InputRejected, match="header"):
        read_both(Record(b"", list((GOOD | {name: value}).items())))


def test_a_null_value_is_refused():
    with pytest.raises(InputRejected) as rejected:
        read_retry(Record(None, list(GOOD.items())))

    assert rejected.value.reason == "NullInput"


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), st.none() | st.binary(max_size=20), max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_headers_are_read_or_refused(changes):
    try:
        read_both(Record(b"", list((GOOD | changes).items())))
    except InputRejected:
        pass
