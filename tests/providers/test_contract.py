"""What every cloud must hold, run over `PROVIDERS`."""

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from avro.io import BinaryDecoder, BinaryEncoder, DatumReader, DatumWriter
from avro.schema import Schema
from avro.schema import parse as parse_schema
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.core.model import Cause, Ended, Ending, FunctionFailure, Outcome
from streams.providers import PROVIDERS
from streams.providers.base import InvalidEvent, Provider, Reference, json_writer
from streams.topics import RECORD_TOPICS

SCHEMAS = {
    provider.record_schema: parse_schema(
        (Path(__file__).parents[2] / "schemas" / f"{provider.record_schema}.avsc").read_text()
    )
    for provider in PROVIDERS.values()
}

every_provider = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
quickly = settings(max_examples=60, deadline=None)

ENDED = Ended(
    request_id="8f5b0a2e",
    resource="resource",
    executed_version="1",
    event=b"{}",
    ending="succeeded",
    ended_at_ms=1_789_403_574_817,
    accepted_at_ms=1_789_403_500_000,
    attempts=1,
    executions=1,
    failures=0,
    started_at_ms=1_789_403_574_000,
    outcome=None,
)


def read_back(schema: Schema, record: dict[str, Any]) -> dict[str, Any]:
    """*record*, written and read by the reference implementation, which refuses what does not fit the schema."""
    written = BytesIO()
    DatumWriter(schema).write(record, BinaryEncoder(written))
    read = DatumReader(schema, schema).read(BinaryDecoder(BytesIO(written.getvalue())))
    assert isinstance(read, dict)
    return read


def check_record(provider: Provider, ended: Ended) -> None:
    """The record fits its schema and survives it, and its document is JSON."""
    record = provider.record(ended)
    document = provider.document(record)

    assert provider.document(read_back(SCHEMAS[provider.record_schema], record)) == document
    json.loads(document)
    provider.dead_letter_reason(ended).error_message.encode()


# --- strategies

any_text = st.text(st.characters(exclude_categories=()), max_size=20)
"""Lone surrogates included."""

odd_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**64),
    st.floats(),
    any_text,
    st.binary(max_size=20),
    st.decimals(),
    st.sets(st.integers()),
    st.builds(object),
    st.just(Exception("no")),
)
odd_values = st.recursive(
    odd_leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.one_of(any_text, st.integers()), inner, max_size=3),
    max_leaves=8,
)

causes: list[Cause] = ["raised", "handled", "timed_out", "exited", "response_too_large", "not_serializable"]
failures = st.builds(
    FunctionFailure,
    cause=st.sampled_from(causes),
    error_type=any_text,
    message=any_text,
    trace=st.lists(any_text, max_size=3).map(tuple),
    exit=any_text,
    timeout_ms=st.integers(0, 900_000),
    size_bytes=st.integers(0, 10**8),
)

unsuccessful: list[tuple[Ending, Outcome | None]] = [
    ("expired", None),
    ("zero_concurrency", None),
    ("loop", None),
    ("cancelled", None),
    ("cancelled", Outcome("throttled", 429)),
    ("expired", Outcome("throttled", 429, error_message="Rate Exceeded.")),
    ("budget_spent", Outcome("throttled", 429)),
    ("budget_spent", Outcome("system_error", 503)),
    ("expired", Outcome("system_error", 500, error_message="no host")),
    ("retries_exhausted", Outcome("target_missing", 404)),
    ("target_missing", Outcome("target_missing", 404)),
]


def recursive_list() -> list[object]:
    itself: list[object] = []
    itself.append(itself)
    return itself


def deep_list() -> list[object]:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


class Unspeakable(dict[str, int]):
    """Raises when it is written, and raises again when the error is asked what it is."""

    class Error(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def items(self) -> Any:
        raise self.Error


# --- the contract


@every_provider
def test_a_provider_is_registered_under_its_name_and_has_its_topics(provider: Provider) -> None:
    assert PROVIDERS[provider.name] is provider
    assert {f"{provider.name}.success", f"{provider.name}.failure"} <= set(RECORD_TOPICS)


@every_provider
def test_bounds_hold_their_default(provider: Provider) -> None:
    assert provider.retries.default in provider.retries
    assert provider.age_s.default in provider.age_s


@every_provider
def test_every_setting_within_bounds_gives_a_policy_that_means_it(provider: Provider) -> None:
    for retries in range(provider.retries.minimum, provider.retries.maximum + 1):
        for age_s in (provider.age_s.minimum, provider.age_s.default, provider.age_s.maximum):
            policy = provider.policy(retries, age_s)

            assert (policy.attempts_max, policy.age_max_ms) == (1 + retries, 1000 * age_s)


@every_provider
def test_the_schema_is_named_after_its_file(provider: Provider) -> None:
    assert SCHEMAS[provider.record_schema].fullname == f"streams.{provider.record_schema}"  # type: ignore[attr-defined]


@every_provider
@pytest.mark.parametrize("name", ["resize", "a", "Resize-2_x"])
@pytest.mark.parametrize("qualifier", ["1", "prod", "Blue-2_x"])
def test_a_resource_names_its_function(provider: Provider, name: str, qualifier: str) -> None:
    resource = provider.resource(name, qualifier)

    assert provider.parse_reference(resource) == Reference(name, qualifier)
    assert provider.parse_destination(resource) == Reference(name, qualifier)
    assert provider.parse_resource(resource) == Reference(name, qualifier)


@every_provider
def test_a_resource_of_the_newest_version_names_its_function(provider: Provider) -> None:
    reference = provider.parse_reference(provider.resource("resize", provider.latest))

    assert reference is not None
    assert reference.name == "resize"
    assert reference.qualifier in (None, provider.latest)


@every_provider
def test_a_resource_of_another_region_names_its_function_but_is_no_reference_of_ours(provider: Provider) -> None:
    elsewhere = replace(provider, region="elsewhere").resource("resize", "1")  # type: ignore[type-var]

    assert provider.parse_resource(elsewhere) == Reference("resize", "1")
    assert provider.parse_reference(elsewhere) is None


@every_provider
def test_one_clouds_resource_means_nothing_to_another(provider: Provider) -> None:
    for other in PROVIDERS.values():
        if other is not provider:
            assert provider.parse_reference(other.resource("resize", "1")) is None
            assert provider.parse_destination(other.resource("resize", "1")) is None
            assert provider.parse_resource(other.resource("resize", "1")) is None


@every_provider
@given(text=st.text() | st.text("arn:acsfcuss/.$LATEST19"))
@quickly
def test_any_text_may_be_asked_whether_it_is_a_reference(provider: Provider, text: str) -> None:
    provider.parse_reference(text)
    provider.parse_destination(text)
    provider.parse_resource(text)


@every_provider
@given(payload=st.binary() | odd_values.map(lambda value: repr(value).encode(errors="replace")))
@example(b"")
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"{" + b" " * 2_000_000)
@example(b'{"a":' + b"9" * 5_000 + b"}")
@example(rb'{"a":"\ud800"}')
@quickly
def test_an_event_is_read_and_can_be_recorded_or_is_invalid(provider: Provider, payload: bytes) -> None:
    try:
        provider.read_event(payload)
    except InvalidEvent as refused:
        assert refused.code
        assert 400 <= refused.status_code < 500
        assert str(refused)
        return
    check_record(provider, replace(ENDED, event=provider.event_bytes(payload), outcome=Outcome("returned", 200, b"{}")))


@every_provider
@given(value=odd_values)
@example(float("nan"))
@example([Decimal("sNaN"), "\0decimal:1"])
@quickly
def test_whatever_a_handler_returns_gives_an_outcome_that_can_be_recorded(provider: Provider, value: object) -> None:
    outcome = provider.returned(value, "8f5b0a2e")

    ending: Ending = "succeeded" if outcome.kind == "returned" else "retries_exhausted"
    check_record(provider, replace(ENDED, ending=ending, outcome=outcome))


def written(write: Callable[[], str]) -> str | tuple[type[Exception], str]:
    """What *write* returns, else what it raises."""
    try:
        return write()
    except Exception as error:
        return type(error), str(error)


@given(value=odd_values)
@example([float("nan"), float("inf"), 1e22, 0.1])
@example({1: True, None: "\ud83d", 0.5: "\u2028"})
@example([recursive_list()])
@settings(max_examples=500, deadline=None)
@pytest.mark.parametrize("default", [None, str], ids=["refusing", "taking all"])
def test_json_is_written_as_pythons_json_writes_it(default: Callable[[Any], object] | None, value: object) -> None:
    def text(allow_nan: bool) -> str | tuple[type[Exception], str]:
        return written(lambda: json.dumps(value, ensure_ascii=False, allow_nan=allow_nan, default=default))

    payload = written(lambda: json_writer(default)(value)[0].decode())
    expected = text(allow_nan=True)

    assert payload == (expected.encode(errors="backslashreplace").decode() if isinstance(expected, str) else expected)
    if isinstance(expected, str):
        assert json_writer(default)(value)[1] == (text(allow_nan=False) == expected)


@every_provider
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(recursive_list(), id="recursive"),
        pytest.param(deep_list(), id="deep"),
        pytest.param(Unspeakable(a=1), id="unspeakable"),
    ],
)
def test_a_value_that_nobody_can_write_is_a_function_error(provider: Provider, value: object) -> None:
    outcome = provider.returned(value, "8f5b0a2e")

    assert outcome.kind == "function_error"
    check_record(provider, replace(ENDED, ending="retries_exhausted", outcome=outcome))


@every_provider
@given(body=st.binary() | any_text.map(lambda text: json.dumps(text).encode()))
@example(b"")
@example(b"[" * 100_000)
@example(b"NaN")
@quickly
def test_whatever_an_http_function_answers_can_be_recorded(provider: Provider, body: bytes) -> None:
    check_record(provider, replace(ENDED, outcome=provider.returned_bytes(body, "8f5b0a2e")))


@every_provider
@given(failure=failures)
@quickly
def test_whatever_a_function_dies_of_can_be_recorded(provider: Provider, failure: FunctionFailure) -> None:
    outcome = provider.failed(failure, "8f5b0a2e")

    assert outcome.kind == "function_error"
    assert outcome.handled == (failure.cause == "handled" and provider.name != "aws")
    json.loads(outcome.payload or b"")
    check_record(provider, replace(ENDED, ending="retries_exhausted", failures=1, outcome=outcome))


@every_provider
@pytest.mark.parametrize(("ending", "outcome"), unsuccessful)
@pytest.mark.parametrize("attempts", [0, 1, 7])
def test_every_ending_can_be_recorded(
    provider: Provider, ending: Ending, outcome: Outcome | None, attempts: int
) -> None:
    ended = replace(
        ENDED,
        ending=ending,
        outcome=outcome,
        attempts=attempts,
        started_at_ms=ENDED.started_at_ms if attempts else None,
    )

    check_record(provider, ended)
    assert provider.condition(ended) != provider.condition(replace(ENDED, outcome=Outcome("returned")))
