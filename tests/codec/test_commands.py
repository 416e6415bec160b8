"""Commands: what is written is read, and nothing else is taken for one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.codec.avro import Codec, load_schemas
from streams.codec.commands import Cancellation, cancel_headers, read_command
from streams.codec.dead_letter import dead_letter
from streams.codec.envelope import Invocation
from streams.codec.errors import InputRejected
from streams.codec.retry import Origin

from .samples import NOW, Record

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
INVOCATION = Invocation("id ☃", "arn:f", "prod", b"{}", 0, 0, 2, TRACE)
ORIGIN = Origin("invocations", 3, 77, NOW, b"key", (("function", b"resize"), ("x", None)))
KEY = "id ☃".encode()
WORDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
CODEC = Codec(load_schemas())


def test_the_headers_of_a_cancel():
    assert cancel_headers() == [("command", b"cancel")]
    assert cancel_headers(INVOCATION, ORIGIN) == [
        ("command", b"cancel"),
        ("function", b"arn:f"),
        ("depth", b"2"),
        ("qualifier", b"prod"),
        ("traceparent", TRACE.encode()),
        ("origin", b"invocations/3/77/1767225600123"),
        ("origin-key", b"key"),
        ("origin-header-function", b"resize"),
        ("origin-header-x", None),
    ]


@given(
    st.builds(
        Invocation,
        WORDS,
        WORDS,
        st.none() | WORDS,
        st.binary(),
        st.just(0),
        st.just(0),
        st.integers(1, 99),
        st.none() | st.just(TRACE),
    )
)
@settings(max_examples=50, deadline=None)
def test_what_was_written_is_read(invocation):
    headers = cancel_headers(invocation, ORIGIN)
    record = Record(invocation.event, headers, key=invocation.request_id.encode())

    assert read_command(record) == Cancellation(invocation.request_id, invocation, ORIGIN)


def test_who_knows_the_id_only_says_no_more():
    record = Record(None, cancel_headers(), "commands", key=KEY)

    assert read_command(record) == Cancellation("id ☃", None, Origin.of(record))


def test_an_event_without_its_function_is_not_enough():
    assert read_command(Record(b"{}", cancel_headers(), key=KEY)).invocation is None


def test_without_an_origin_the_command_is_where_the_event_is_found():
    record = Record(b"{}", cancel_headers(INVOCATION), "commands", key=KEY)

    assert read_command(record).origin == Origin.of(record)


def test_what_is_no_trace_context_is_ignored():
    headers = [("command", b"cancel"), ("function", b"f"), ("traceparent", b"nonsense")]

    [invocation] = [read_command(Record(b"{}", headers, key=KEY)).invocation]
    assert invocation is not None
    assert invocation.traceparent is None


@pytest.mark.parametrize(
    ("key", "headers"),
    [
        (KEY, {"command": b"undo"}),
        (KEY, {"command": None}),
        (None, {}),
        (b"", {}),
        (b"\xff", {}),
        (b"x" * 257, {}),
        (b"a\nb", {}),
        (KEY, {"function": b""}),
        (KEY, {"function": b"\xff"}),
        (KEY, {"function": b"x" * 513}),
        (KEY, {"qualifier": b""}),
        (KEY, {"depth": b"0"}),
        (KEY, {"depth": b"deep"}),
        (KEY, {"origin": b"invocations/3"}),
        (KEY, {"origin": b"invocations/-3/77/1"}),
        (KEY, {"origin": b"invocations/2147483648/77/1"}),
        (KEY, {"origin": b"invocations/3/9223372036854775808/1"}),
        (KEY, {"origin": b"x" * 250 + b"/3/77/1"}),
    ],
)
def test_what_cannot_be_read_is_refused(key, headers):
    good = dict(cancel_headers(INVOCATION, ORIGIN))

    with pytest.raises(InputRejected):
        read_command(Record(b"{}", list((good | headers).items()), key=key))


GOOD = dict(cancel_headers(INVOCATION, ORIGIN))


@given(
    st.none() | st.binary(max_size=20),
    st.dictionaries(st.sampled_from(sorted(GOOD)), st.none() | st.binary(max_size=20), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_any_headers_are_read_or_refused(key, changes):
    try:
        command = read_command(Record(b"", list((GOOD | changes).items()), key=key))
        dead_letter(CODEC, "dlq", command.origin, "Cancelled", NOW, request_id=command.request_id, error_message="")
    except InputRejected:
        pass
