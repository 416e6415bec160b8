"""The hand-written encoder of `Facts` against fastavro and the reference library."""

from dataclasses import replace
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.codec.facts import FactsRecord, facts_datum, facts_encoder, read_facts
from streams.core.facts import (
    Accepted,
    AttemptFailed,
    AttemptStarted,
    Delivered,
    DeliveryFailed,
    Failed,
    RetryScheduled,
    Succeeded,
)
from streams.core.model import Ending, Outcome, OutcomeKind

from .samples import CODEC, INTS, LONGS, NOW, SCHEMAS, TEXTS, fastavro_write, plain, reference_read

ENCODE = facts_encoder(CODEC.prefix("Facts"))

OUTCOMES = st.builds(
    Outcome, st.sampled_from(get_args(OutcomeKind)), INTS, st.none() | st.binary(max_size=3), TEXTS, TEXTS
)
ACCEPTED = st.builds(Accepted, LONGS, LONGS, LONGS, INTS)
STARTED = st.builds(AttemptStarted, INTS, LONGS)
SUCCEEDED = st.builds(Succeeded, INTS, LONGS, OUTCOMES)
FACT = st.one_of(
    ACCEPTED,
    STARTED,
    st.builds(AttemptFailed, INTS, LONGS, OUTCOMES),
    st.builds(RetryScheduled, INTS, LONGS, LONGS),
    SUCCEEDED,
    st.builds(Failed, INTS, LONGS, st.sampled_from(get_args(Ending))),
)
DELIVERIES = st.lists(
    st.builds(Delivered, LONGS, TEXTS, st.booleans())
    | st.builds(DeliveryFailed, LONGS, TEXTS, st.booleans(), TEXTS, TEXTS),
    max_size=3,
)
FACTS = st.lists(FACT, max_size=5) | st.tuples(ACCEPTED, STARTED, SUCCEEDED)
"""The last ones are encoded in a way of their own."""


@given(TEXTS, TEXTS, TEXTS, st.none() | TEXTS, st.none() | LONGS, FACTS, DELIVERIES)
@settings(max_examples=60, deadline=None)
def test_bytes_are_those_of_fastavro_and_read_by_the_reference_library(
    request_id, function, provider, trace, offset, facts, deliveries
):
    data = ENCODE(request_id, function, provider, trace, offset, facts, deliveries)
    datum = facts_datum(request_id, function, provider, trace, offset, facts, deliveries)

    assert data == CODEC.encode("Facts", datum)
    assert data[10:] == fastavro_write("Facts", datum)
    assert reference_read(SCHEMAS.current["Facts"].text, data[10:]) == plain(datum)


@given(FACTS, DELIVERIES)
@settings(max_examples=50, deadline=None)
def test_facts_come_back_without_what_is_not_kept(facts, deliveries):
    kept = tuple(without_payload(fact) for fact in facts)

    name, datum = CODEC.decode(ENCODE("r", "arn", "aws", None, 7, facts, deliveries))

    assert name == "Facts"
    read = read_facts(datum)
    assert read == FactsRecord("r", "arn", "aws", None, 7, kept, tuple(deliveries))
    assert read.happened == (*kept, *deliveries)


def without_payload(fact):
    match fact:
        case AttemptFailed():
            return replace(fact, outcome=replace(fact.outcome, payload=None))
        case Succeeded():
            return replace(fact, outcome=Outcome("returned", fact.outcome.status_code))
        case _:
            return fact


def test_an_error_message_is_cut_between_characters_and_needs_no_valid_unicode():
    outcome = Outcome("function_error", 200, None, "\ud800E", "é" * 3000)

    _, datum = CODEC.decode(ENCODE("r", "arn", "aws", None, None, [AttemptFailed(1, NOW, outcome)]))

    read = read_facts(datum).facts[0]
    assert isinstance(read, AttemptFailed)
    assert (read.outcome.error_type, read.outcome.error_message) == ("?E", "é" * 2048)


def test_a_registered_topic_has_its_own_framing():
    encode = facts_encoder(b"\x00\x00\x00\x00\x05")

    assert encode("r", "arn", "aws", None, None, ())[:5] == b"\x00\x00\x00\x00\x05"
