"""Huawei and OTC FunctionGraph, rule by rule. Samples of its record are in `test_golden.py`."""

import json
from dataclasses import replace
from typing import Any

import pytest

from streams.core.model import Ended, FunctionFailure, Outcome
from streams.core.policy import Backoff
from streams.providers.base import DeadLetterReason, InvalidEvent, Reference
from streams.providers.functiongraph import FunctionGraph

FG = FunctionGraph()
OTC = FunctionGraph(variant="otc")
URN = "urn:fss:cn-north-4:0123456789abcdef0123456789abcdef:function:default:resize"

OK = Outcome("returned", 200, b"done")
RAISED = Outcome("function_error", 500, b"{}", "ValueError", "no")
HANDLED = Outcome("function_error", 500, b"{}", "Error", "no", handled=True)
THROTTLED = Outcome("throttled", 429)
BROKEN = Outcome("system_error", 503)
MISSING = Outcome("target_missing", 404)

ENDED = Ended(
    request_id="1167bf8c",
    resource=URN + ":latest",
    executed_version="latest",
    event=b"{}",
    ending="succeeded",
    ended_at_ms=1597896005000,
    accepted_at_ms=1597896000001,
    attempts=1,
    executions=1,
    failures=0,
    started_at_ms=1597896001002,
    outcome=OK,
)


def document(provider: FunctionGraph = FG, **changes: Any) -> dict[str, Any]:
    """The record's JSON, read back."""
    read: dict[str, Any] = json.loads(provider.document(provider.record(replace(ENDED, **changes))))
    return read


# --- records

CASES: dict[str, tuple[dict[str, Any], tuple[str, int, int, str]]] = {
    # changes: condition, count, status_code, response_payload
    "success": ({}, ("", 0, 200, "done")),
    "success after a retry": ({"attempts": 2}, ("", 1, 200, "done")),
    "raised": (
        {"ending": "retries_exhausted", "attempts": 2, "outcome": RAISED},
        ("UnhandledInvocationError", 1, 500, "{}"),
    ),
    "reported by the function": (
        {"ending": "retries_exhausted", "outcome": HANDLED},
        ("HandledInvocationError", 0, 500, "{}"),
    ),
    "throttled and discarded": (
        {"ending": "budget_spent", "executions": 0, "outcome": THROTTLED},
        ("FunctionResourceExhausted", 0, 429, ""),
    ),
    "function deleted": (
        {"ending": "target_missing", "executions": 0, "outcome": MISSING},
        ("FunctionNotFound", 0, 404, ""),
    ),
    "aged out in system errors": (
        {"ending": "expired", "attempts": 7, "executions": 0, "outcome": BROKEN},
        ("EventAgeExceeded", 6, 503, ""),
    ),
    "aged out before any attempt": (
        {"ending": "expired", "attempts": 0, "started_at_ms": None, "outcome": None},
        ("EventAgeExceeded", 0, 200, ""),
    ),
    "cancelled": (
        {"ending": "cancelled", "outcome": None},
        ("4208", 0, 500, '{\n  "errorMessage": "function invocation canceled",\n  "errorType": "4208"\n}'),
    ),
    "chain of functions cut": (
        {"ending": "loop", "attempts": 0, "started_at_ms": None, "outcome": None},
        ("RecursiveInvocation", 0, 200, ""),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_record_says_how_an_invocation_ended(case: str) -> None:
    changes, (condition, count, status, payload) = CASES[case]

    read = document(**changes)

    assert read["request_context"]["condition"] == condition
    assert read["request_context"]["approximate_invoke_count"] == count
    assert read["response_context"] == {"status_code": status, "function_error": ""}
    assert read["response_payload"] == payload


def test_a_record_has_every_key_always_and_in_this_order() -> None:
    rendered = FG.document(FG.record(replace(ENDED, outcome=None, ending="expired")))

    assert rendered == (
        b'{"timestamp":"2020-08-20T04:00:01.002000000+00:00","request_context":{"request_id":"1167bf8c",'
        b'"function_urn":"' + URN.encode() + b':latest","condition":"EventAgeExceeded","approximate_invoke_count":0},'
        b'"request_payload":"{}","response_context":{"status_code":200,"function_error":""},"response_payload":""}'
    )


@pytest.mark.parametrize(
    ("utc_offset", "timestamp"),
    [
        ("+00:00", "2020-08-20T04:00:01.002000000+00:00"),
        ("+08:00", "2020-08-20T12:00:01.002000000+08:00"),
        ("-03:30", "2020-08-20T00:30:01.002000000-03:30"),
    ],
)
def test_the_timestamp_is_the_last_attempts_start_in_nanoseconds_with_offset(utc_offset: str, timestamp: str) -> None:
    assert document(replace(FG, utc_offset=utc_offset))["timestamp"] == timestamp


def test_without_an_attempt_the_timestamp_is_the_acceptance() -> None:
    read = document(ending="expired", outcome=None, started_at_ms=None)

    assert read["timestamp"] == "2020-08-20T04:00:00.001000000+00:00"


@pytest.mark.parametrize("utc_offset", ["", "8", "Asia/Shanghai"])
def test_an_offset_that_is_none_is_refused(utc_offset: str) -> None:
    with pytest.raises(ValueError, match="is not an offset"):
        FunctionGraph(utc_offset=utc_offset)


def test_bytes_that_are_not_text_are_base64() -> None:
    assert document(outcome=Outcome("returned", 200, b"\xff\x00"))["response_payload"] == "/wA="


def test_guesses_can_be_corrected() -> None:
    provider = replace(FG, invoke_count_base=1, function_error_status_code=200, function_error="message")

    outcome = provider.failed(FunctionFailure(cause="timed_out", timeout_ms=3000), "id")
    read = document(provider, ending="retries_exhausted", attempts=2, outcome=outcome)

    assert read["request_context"]["approximate_invoke_count"] == 2
    assert read["response_context"] == {"status_code": 200, "function_error": "call invoke timeout 3s"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ending": "retries_exhausted", "outcome": RAISED}, DeadLetterReason(500, "ValueError", "no")),
        ({"ending": "budget_spent", "outcome": THROTTLED}, DeadLetterReason(429, "FunctionResourceExhausted", "")),
        ({"ending": "expired", "outcome": None}, DeadLetterReason(None, "EventAgeExceeded", "")),
    ],
)
def test_a_dead_letter_says_why(changes: dict[str, Any], reason: DeadLetterReason) -> None:
    assert FG.dead_letter_reason(replace(ENDED, **changes)) == reason


# --- policy


@pytest.mark.parametrize(
    ("retries", "age_max_s", "attempts_max", "age_max_ms"),
    [
        (None, None, 1, 3_600_000),  # nothing configured: no retry
        (None, 60, 2, 60_000),  # configured, but not this field: its default
        (0, None, 1, 3_600_000),
        (3, 86_400, 4, 86_400_000),
    ],
)
def test_retries_depend_on_whether_anything_is_configured(
    retries: int | None, age_max_s: int | None, attempts_max: int, age_max_ms: int
) -> None:
    policy = FG.policy(retries, age_max_s)

    assert (policy.attempts_max, policy.age_max_ms) == (attempts_max, age_max_ms)


def test_the_age_without_configuration_is_a_setting() -> None:
    assert replace(FG, unconfigured_age_s=86_400).policy(None, None).age_max_ms == 86_400_000


def test_waits_are_settings() -> None:
    policy = FG.policy(None, None)

    assert policy.failure_backoff == Backoff(1000)
    assert policy.throttle_backoff == Backoff(1000, 2, 60_000)


def test_a_throttled_invocation_waits_or_is_discarded() -> None:
    assert FG.policy(None, None).throttled == "retry"
    assert FunctionGraph(variant="otc", throttled="end").policy(None, None).throttled == "end"


# --- names


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("resize", "resize", None),
        ("resize:latest", "resize", "latest"),
        ("resize:v1.0", "resize", "v1.0"),
        ("resize:!prod", "resize", "!prod"),
        (URN, "resize", None),
        (URN + ":latest", "resize", "latest"),
    ],
)
def test_a_function_is_named_by_name_or_urn(text: str, name: str, version: str | None) -> None:
    assert FG.parse_reference(text) == Reference(name, version)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "re size",
        "resize:",
        "resize:a:b",
        "resize\n",
        "urn:smn:cn-north-4:0123456789abcdef0123456789abcdef:topic",
        URN.replace("cn-north-4", "eu-de"),
        URN.replace("0123456789abcdef", "f"),
        URN.replace("default", "other"),
        "arn:aws:lambda:us-east-1:123456789012:function:resize",
    ],
)
def test_anything_else_names_no_function_of_ours(text: str) -> None:
    assert FG.parse_reference(text) is None


def test_only_a_urn_is_a_destination() -> None:
    assert FG.parse_destination(URN + ":latest") == Reference("resize", "latest")
    assert FG.parse_destination("resize") is None
    assert FG.parse_destination("urn:smn:cn-north-4:p:topic") is None


def test_a_resource_is_a_urn_with_its_version() -> None:
    assert FG.resource("resize", "latest") == URN + ":latest"


# --- events


def test_an_event_is_a_json_object() -> None:
    assert FG.read_event(b'{"k": [1, "v"]}') == {"k": [1, "v"]}


def test_no_event_is_an_empty_object_and_recorded_as_it_came() -> None:
    assert FG.read_event(b"") == {}
    assert FG.event_bytes(b"") == b""


@pytest.mark.parametrize("payload", [b"{", b"[1]", b'"text"', b"null", b"\xff", b"[" * 100_000])
def test_an_event_that_is_no_json_object_is_refused_as_the_api_does(payload: bytes) -> None:
    with pytest.raises(InvalidEvent, match=r"^Not acceptable\.") as refused:
        FG.read_event(payload)

    assert (refused.value.code, refused.value.status_code) == ("FSS.0406", 406)


def test_an_event_above_256_kb_is_refused_as_the_api_does() -> None:
    largest = b'{"k":"' + b"x" * (262_144 - 8) + b'"}'
    FG.read_event(largest)

    with pytest.raises(InvalidEvent, match=r"^The request body is too large\.$") as refused:
        FG.read_event(largest + b" ")

    assert (refused.value.code, refused.value.status_code) == ("FSS.0413", 413)


# --- responses


@pytest.mark.parametrize(
    ("value", "payload", "is_json"),
    [
        ("hello world!", b"hello world!", False),
        (None, b"", False),
        ({"a": [1]}, b'{"a": [1]}', True),
    ],
)
def test_text_is_returned_as_it_is_and_the_rest_as_json(value: object, payload: bytes, is_json: bool) -> None:
    assert FG.returned(value, "id") == Outcome("returned", 200, payload, is_json=is_json)


def test_a_return_value_above_256_kb_becomes_null_and_still_succeeds() -> None:
    outcome = FG.returned("x" * 262_145, "id")

    assert outcome == Outcome("returned", 200, None)
    assert document(outcome=outcome)["response_payload"] is None
    assert document(outcome=outcome)["response_context"]["status_code"] == 200
    assert FG.returned("x" * 262_144, "id").payload is not None
    assert FG.returned_bytes(b"x" * 262_145, "id").payload is None


def test_a_return_value_above_256_kb_can_become_empty() -> None:
    assert (
        document(replace(FG, oversize_response="empty"), outcome=Outcome("returned", 200, None))["response_payload"]
        == ""
    )


def test_otc_keeps_a_return_value_above_256_kb() -> None:
    assert OTC.returned("x" * 262_145, "id").payload == b"x" * 262_145


@pytest.mark.parametrize("provider", [FG, OTC])
def test_a_return_value_above_6_mb_is_an_error(provider: FunctionGraph) -> None:
    outcome = provider.returned_bytes(b"x" * 6_291_457, "id")

    assert (outcome.kind, outcome.error_type) == ("function_error", "4004")
    assert outcome.error_message == "response body size 6291457 exceeds the limit of 6291456"


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", "\ud800"])
def test_a_value_that_cannot_be_written_is_an_error(value: object) -> None:
    outcome = FG.returned(value, "id")

    assert (outcome.kind, outcome.error_type) == ("function_error", "4007")
    assert outcome.error_message.startswith("function result is invalid, error: ")


# --- failures


@pytest.mark.parametrize(
    ("failure", "error_type", "message"),
    [
        (FunctionFailure(cause="raised", error_type="E", message="λ"), "E", "function invocation exception, error: λ"),
        (FunctionFailure(cause="handled", error_type="E", message="m"), "E", "function entry exception, error: m"),
        (FunctionFailure(cause="timed_out", timeout_ms=500), "4010", "call invoke timeout 0.5s"),
        (FunctionFailure(cause="exited", exit="signal: killed"), "4204", "runtime process is exited"),
    ],
)
def test_a_failure_has_the_clouds_own_error_document(failure: FunctionFailure, error_type: str, message: str) -> None:
    outcome = FG.failed(failure, "id")

    assert (outcome.kind, outcome.status_code, outcome.error_type) == ("function_error", 500, error_type)
    assert outcome.error_message == message
    assert outcome.handled == (failure.cause == "handled")
    error = json.loads(outcome.payload or b"")
    assert (error["errorMessage"], error["errorType"]) == (message, error_type)


def test_an_error_document_is_indented_by_two_blanks() -> None:
    failure = FunctionFailure(cause="raised", error_type="E", message="m", trace=("  File\n    x\n",))

    assert FG.failed(failure, "id").payload == (
        b'{\n  "errorMessage": "function invocation exception, error: m",\n  "errorType": "E",\n'
        b'  "stackTrace": [\n    "File",\n    "x"\n  ]\n}'
    )


def test_an_error_document_can_be_compact() -> None:
    payload = replace(FG, indented_errors=False).failed(FunctionFailure(cause="exited"), "id").payload

    assert payload == b'{"errorMessage":"runtime process is exited","errorType":"4204"}'
