"""Delivery records: what is written is read back, and nothing else is taken for one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.codec.delivery import delivery_headers, is_delivery, read_delivery
from streams.codec.errors import InputRejected
from streams.codec.retry import wake_at_ms, woken_later
from streams.core.model import Delivery

DELIVERY = Delivery(
    request_id="r-1",
    provider="aws",
    resource="arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST",
    address="arn:aws:sqs:us-east-1:123456789012:q",
    is_event=False,
    body=b'{"a": 1}',
    succeeded=True,
    ended_at_ms=1_790_000_000_123,
    accepted_at_ms=1_790_000_000_000,
    attempts=2,
    executions=1,
)


@dataclass
class Record:
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    topic: str = "deliveries"
    partition: int = 0
    offset: int = 0
    timestamp: int = -1
    key: bytes | None = b"r-1"


def record(delivery: Delivery) -> Record:
    return Record(delivery.body, tuple(delivery_headers(delivery, 5)))


words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=200)
counts = st.integers(0, 2**31 - 1)
times = st.integers(0, 2**63 - 1)


@given(
    st.builds(
        Delivery,
        request_id=words,
        provider=st.sampled_from(("aws", "fc", "functiongraph")),
        resource=words,
        address=words,
        is_event=st.booleans(),
        body=st.binary(max_size=100),
        succeeded=st.booleans(),
        ended_at_ms=times,
        accepted_at_ms=times,
        attempts=counts,
        executions=counts,
        error_code=st.none() | counts,
        error_message=st.text(st.characters(codec="utf-8"), max_size=200),
        traceparent=st.none() | st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        failures=counts,
        waits=counts,
        tried_at_ms=times,
        due_at_ms=times,
    )
)
def test_what_is_written_is_read_back(delivery: Delivery):
    written = record(delivery)

    assert read_delivery(written) == delivery
    assert is_delivery(written.headers)
    assert wake_at_ms(written.headers) == 5


def test_it_is_still_known_when_it_goes_on_to_another_tier():
    headers = woken_later(record(DELIVERY).headers, 9)

    assert is_delivery(headers)
    assert wake_at_ms(headers) == 9


def test_an_address_may_be_any_text():
    address = 'OBS {\n  "bucket": "b"\n}'

    assert read_delivery(record(replace(DELIVERY, address=address))).address == address


def test_a_lone_surrogate_in_a_message_does_not_matter():
    assert read_delivery(record(replace(DELIVERY, error_message="\ud83d"))).error_message == "?"


def test_nothing_to_deliver_is_said():
    with pytest.raises(InputRejected, match="value is null") as rejected:
        read_delivery(Record(None, record(DELIVERY).headers))

    assert rejected.value.reason == "NullInput"


@pytest.mark.parametrize(
    "name", [name for name, _ in delivery_headers(DELIVERY, 0) if name != "wake-at"], ids=lambda name: name
)
def test_a_header_that_is_missing_or_odd_is_named(name: str):
    given = record(DELIVERY)

    with pytest.raises(InputRejected, match=name):
        read_delivery(replace(given, headers=tuple(header for header in given.headers if header[0] != name)))
    with pytest.raises(InputRejected, match=name):
        read_delivery(replace(given, headers=(*given.headers, (name, b"\xff"))))
