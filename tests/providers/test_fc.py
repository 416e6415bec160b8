"""Alibaba Cloud Function Compute, rule by rule. Samples of its record are in `test_golden.py`."""

import json
from dataclasses import replace
from typing import Any

import pytest

from streams.core.model import Ended, FunctionFailure, Outcome
from streams.core.policy import Backoff
from streams.providers.base import DeadLetterReason, InvalidEvent, Reference
from streams.providers.fc import FunctionCompute

FC = FunctionCompute()
ARN_2 = "acs:fc:::services/images.LATEST/functions/resize"
ARN_3 = "acs:fc:cn-hangzhou:1234567890123456:functions/resize"

OK = Outcome("returned", 200, b"done")
HANDLED = Outcome("function_error", 200, b'{"errorMessage": "no"}', "HandledInvocationError", "no", handled=True)
RAISED = Outcome("function_error", 200, b'{"errorMessage": "no"}', "ValueError", "no")
THROTTLED = Outcome("throttled", 429)
EXHAUSTED = Outcome("system_error", 503)
BROKEN = Outcome("system_error", 500)
MISSING = Outcome("target_missing", 404)

ENDED = Ended(
    request_id="1-6332",
    resource=ARN_3,
    executed_version="LATEST",
    event=b"{}",
    ending="succeeded",
    ended_at_ms=1660120276975,
    accepted_at_ms=1660120270000,
    attempts=1,
    executions=1,
    failures=0,
    started_at_ms=1660120276000,
    outcome=OK,
)


def document(provider: FunctionCompute = FC, **changes: Any) -> dict[str, Any]:
    """The record's JSON, read back."""
    read: dict[str, Any] = json.loads(provider.document(provider.record(replace(ENDED, **changes))))
    return read


# --- records

CASES: dict[str, tuple[dict[str, Any], tuple[str, int, int, str, str]]] = {
    # changes: condition, count, statusCode, functionError, responsePayload
    "success": ({}, ("", 1, 200, "", "done")),
    "success after retries": ({"attempts": 3}, ("", 3, 200, "", "done")),
    "reported by the function": (
        {"ending": "retries_exhausted", "attempts": 4, "outcome": HANDLED},
        ("HandledInvocationError", 4, 200, "no", '{"errorMessage": "no"}'),
    ),
    "raised": (
        {"ending": "retries_exhausted", "attempts": 4, "outcome": RAISED},
        ("UnhandledInvocationError", 4, 200, "no", '{"errorMessage": "no"}'),
    ),
    "5 hours of throttling": (
        {"ending": "budget_spent", "attempts": 16, "outcome": THROTTLED},
        ("FunctionResourceExhausted", 16, 200, "", ""),
    ),
    "5 hours without resources": (
        {"ending": "budget_spent", "attempts": 16, "outcome": EXHAUSTED},
        ("FunctionResourceExhausted", 16, 503, "", ""),
    ),
    "5 hours of system errors": (
        {"ending": "budget_spent", "attempts": 16, "outcome": BROKEN},
        ("InternalServerError", 16, 500, "", ""),
    ),
    "function deleted": (
        {"ending": "target_missing", "outcome": MISSING},
        ("FunctionNotFound", 1, 404, "", ""),
    ),
    "aged out before any attempt": (
        {"ending": "expired", "attempts": 0, "started_at_ms": None, "outcome": None},
        ("EventAgeExceeded", 0, 200, "", ""),
    ),
    "aged out between attempts": (
        {"ending": "expired", "attempts": 2, "outcome": RAISED},
        ("EventAgeExceeded", 2, 200, "no", '{"errorMessage": "no"}'),
    ),
    "stopped while it ran": (
        {"ending": "cancelled", "outcome": None},
        ("Stopped", 1, 200, "", ""),
    ),
    "stopped between attempts": (
        {"ending": "cancelled", "attempts": 2, "outcome": RAISED},
        ("Stopped", 2, 200, "no", '{"errorMessage": "no"}'),
    ),
    "chain of functions cut": (
        {"ending": "loop", "attempts": 0, "started_at_ms": None, "outcome": None},
        ("RecursiveInvocation", 0, 200, "", ""),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_record_says_how_an_invocation_ended(case: str) -> None:
    changes, (condition, count, status, error, payload) = CASES[case]

    read = document(**changes)

    assert read["requestContext"]["condition"] == condition
    assert read["requestContext"]["approximateInvokeCount"] == count
    assert read["responseContext"] == {"statusCode": status, "functionError": error}
    assert read["responsePayload"] == payload


def test_a_record_has_every_key_always_and_in_this_order() -> None:
    rendered = FC.document(FC.record(replace(ENDED, outcome=None, ending="expired")))

    assert rendered == (
        b'{"timestamp":1660120276000,"requestContext":{"requestId":"1-6332","functionArn":"' + ARN_3.encode() + b'",'
        b'"condition":"EventAgeExceeded","approximateInvokeCount":1},"requestPayload":"{}",'
        b'"responseContext":{"statusCode":200,"functionError":""},"responsePayload":""}'
    )


def test_event_and_response_are_strings() -> None:
    read = document(event=b' {"a":\n"\xce\xbb"}', outcome=Outcome("returned", 200, b'"quoted"\x00'))

    assert read["requestPayload"] == ' {"a":\n"λ"}'
    assert read["responsePayload"] == '"quoted"\0'


def test_bytes_that_are_not_text_are_base64() -> None:
    assert document(event=b"\xff\x00", outcome=Outcome("returned", 200, b"\xfe"))["requestPayload"] == "/wA="
    assert document(event=b"\xff\x00", outcome=Outcome("returned", 200, b"\xfe"))["responsePayload"] == "/g=="


def test_bytes_that_are_not_text_can_be_latin_1() -> None:
    assert document(replace(FC, binary_payload="latin-1"), event=b"\xff\x00")["requestPayload"] == "\xff\0"


@pytest.mark.parametrize(
    ("timestamp", "expected_ms"), [("started", 1660120276000), ("accepted", 1660120270000), ("ended", 1660120276975)]
)
def test_the_timestamp_is_milliseconds_of_a_chosen_moment(timestamp: Any, expected_ms: int) -> None:
    assert document(replace(FC, timestamp=timestamp))["timestamp"] == expected_ms


def test_without_an_attempt_the_timestamp_is_the_acceptance() -> None:
    assert document(ending="expired", outcome=None, started_at_ms=None)["timestamp"] == 1660120270000


def test_guesses_can_be_corrected() -> None:
    provider = replace(FC, throttled_status_code=429, function_error="empty", unattempted_invoke_count=1)

    assert document(provider, ending="budget_spent", outcome=THROTTLED)["responseContext"]["statusCode"] == 429
    assert document(provider, ending="retries_exhausted", outcome=RAISED)["responseContext"]["functionError"] == ""
    unattempted = document(provider, ending="expired", attempts=0, outcome=None)
    assert unattempted["requestContext"]["approximateInvokeCount"] == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ending": "retries_exhausted", "outcome": RAISED}, DeadLetterReason(200, "ValueError", "no")),
        ({"ending": "budget_spent", "outcome": THROTTLED}, DeadLetterReason(429, "FunctionResourceExhausted", "")),
        ({"ending": "expired", "outcome": None}, DeadLetterReason(None, "EventAgeExceeded", "")),
        ({"ending": "cancelled", "outcome": None}, DeadLetterReason(None, "Stopped", "")),
        ({"ending": "cancelled", "outcome": RAISED}, DeadLetterReason(None, "Stopped", "")),
    ],
)
def test_a_dead_letter_says_why(changes: dict[str, Any], reason: DeadLetterReason) -> None:
    assert FC.dead_letter_reason(replace(ENDED, **changes)) == reason


# --- policy


def test_without_settings_a_function_is_tried_four_times_in_a_day() -> None:
    policy = FC.policy(None, None)

    assert (policy.attempts_max, policy.age_max_ms) == (4, 86_400_000)


def test_settings_count_retries_and_seconds() -> None:
    policy = FC.policy(0, 1)

    assert (policy.attempts_max, policy.age_max_ms) == (1, 1000)


def test_throttles_double_from_half_a_second_without_cap_for_five_hours() -> None:
    policy = FC.policy(None, None)

    assert policy.throttle_backoff == Backoff(500)
    assert [policy.throttle_backoff.delay_ms(n) for n in (1, 2, 3, 15)] == [500, 1000, 2000, 8_192_000]
    assert policy.throttle_budget_ms == 5 * 3600 * 1000


def test_function_errors_wait_as_throttles_do_unless_set() -> None:
    assert FC.policy(None, None).failure_backoff == Backoff(500)
    assert replace(FC, failure_delay_ms=9).policy(None, None).failure_backoff == Backoff(9)


def test_no_concurrency_throttles_a_deleted_function_ends_and_chains_may_be_long() -> None:
    policy = FC.policy(None, None)

    assert (policy.zero_concurrency, policy.target_missing, policy.depth_max) == ("throttle", "end", 100)


# --- names


@pytest.mark.parametrize(
    ("text", "name", "qualifier"),
    [
        ("resize", "resize", None),
        ("resize:prod", "resize", "prod"),
        ("images/resize", "images/resize", None),
        ("images.prod/resize", "images/resize", "prod"),
        ("images/resize:prod", "images/resize", "prod"),
        (ARN_2, "images/resize", "LATEST"),
        ("acs:fc:::services/images/functions/resize", "images/resize", None),
        ("acs:fc:cn-hangzhou:1234567890123456:services/images.prod/functions/resize", "images/resize", "prod"),
        (ARN_3, "resize", None),
        ("acs:fc:::functions/resize", "resize", None),
        ("acs:fc:cn-hangzhou::functions/resize/prod", "resize", "prod"),
        ("acs:fc:::functions/resize.prod", "resize", "prod"),
    ],
)
def test_a_function_is_named_by_name_or_arn_of_either_version(text: str, name: str, qualifier: str | None) -> None:
    assert FC.parse_reference(text) == Reference(name, qualifier)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "re size",
        "1resize",
        "a/b/c",
        "resize:",
        "resize\n",
        "acs:mns:::/queues/q/messages",
        "acs:fc:cn-beijing:1234567890123456:functions/resize",
        "acs:fc:cn-hangzhou:999:functions/resize",
        "acs:fc:cn-hangzhou:1234567890123456/functions/resize",
        "arn:aws:lambda:us-east-1:123456789012:function:resize",
    ],
)
def test_anything_else_names_no_function_of_ours(text: str) -> None:
    assert FC.parse_reference(text) is None


def test_only_an_arn_is_a_destination() -> None:
    assert FC.parse_destination(ARN_2) == Reference("images/resize", "LATEST")
    assert FC.parse_destination(ARN_3) == Reference("resize", None)
    assert FC.parse_destination("resize") is None
    assert FC.parse_destination("acs:mns:::/queues/q/messages") is None


def test_a_resource_has_the_form_of_its_version() -> None:
    assert FC.resource("images/resize", "LATEST") == ARN_2
    assert FC.resource("resize", "LATEST") == ARN_3
    assert FC.resource("resize", "prod") == ARN_3 + "/prod"
    assert replace(FC, qualifier_separator=".").resource("resize", "prod") == ARN_3 + ".prod"


# --- events


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff\x00", b"x" * 131_072])
def test_an_event_is_bytes_and_need_not_be_json(payload: bytes) -> None:
    assert FC.read_event(payload) == payload
    assert FC.event_bytes(payload) == payload


def test_an_event_above_128_kb_is_refused_as_the_api_does() -> None:
    with pytest.raises(InvalidEvent) as refused:
        FC.read_event(b"x" * 131_073)

    assert (refused.value.code, refused.value.status_code) == ("EntityTooLarge", 400)
    assert str(refused.value) == "payload size exceeds maximum allowed size (131072 bytes)"


# --- responses


@pytest.mark.parametrize(
    ("value", "payload", "is_json"),
    [
        ("λ", "λ".encode(), False),
        (b"\xff", b"\xff", False),
        (None, b"null", True),
        ({"a": [1]}, b'{"a": [1]}', True),
        (float("nan"), b"NaN", False),
    ],
)
def test_text_and_bytes_are_returned_as_they_are_and_the_rest_as_json(
    value: object, payload: bytes, is_json: bool
) -> None:
    assert FC.returned(value, "id") == Outcome("returned", 200, payload, is_json=is_json)


def test_none_can_be_an_empty_response() -> None:
    assert replace(FC, none_response="").returned(None, "id").payload == b""


def test_a_value_that_cannot_be_written_is_an_unhandled_error() -> None:
    outcome = FC.returned({1, 2}, "id")

    assert (outcome.kind, outcome.error_type, outcome.handled) == ("function_error", "TypeError", False)
    assert outcome.payload == (
        b'{"errorMessage": "Object of type set is not JSON serializable", "errorType": "TypeError", "stackTrace": []}'
    )


def test_a_response_above_the_limit_is_an_error() -> None:
    provider = replace(FC, response_bytes_max=4)

    assert provider.returned("four", "id").kind == "returned"
    assert provider.returned("fiver", "id").payload == (
        b'{"errorMessage": "response size exceeds maximum allowed size (4 bytes)"}'
    )
    assert provider.returned_bytes(b"fiver", "id").kind == "function_error"


def test_an_http_functions_answer_is_kept() -> None:
    assert FC.returned_bytes(b"<html>", "id") == Outcome("returned", 200, b"<html>", is_json=False)


# --- failures


@pytest.mark.parametrize(
    ("failure", "payload", "handled"),
    [
        (FunctionFailure(cause="handled", message="this is error"), '{"errorMessage": "this is error"}', True),
        (
            FunctionFailure(cause="timed_out", timeout_ms=3000),
            '{"errorMessage": "Function time out after 3 seconds"}',
            False,
        ),
        (
            FunctionFailure(cause="exited", exit="exit status 1"),
            '{"errorMessage": "Process exited unexpectedly before completing request"}',
            False,
        ),
        (
            FunctionFailure(cause="raised", error_type="E", message="λ", trace=("not a frame",)),
            '{"errorMessage": "λ", "errorType": "E", "stackTrace": [["not a frame"]]}',
            False,
        ),
    ],
)
def test_a_failure_has_the_clouds_own_error_document(failure: FunctionFailure, payload: str, handled: bool) -> None:
    outcome = FC.failed(failure, "id")

    assert (outcome.kind, outcome.status_code, outcome.handled) == ("function_error", 200, handled)
    assert outcome.payload == payload.encode()
    assert outcome.error_message == json.loads(payload)["errorMessage"]


@pytest.mark.parametrize(
    ("frame", "parts"),
    [
        ('  File "/a, b.py", line 12, in f\n    x = 1\n', ['File "/a, b.py"', "line 12", "in f", "x = 1"]),
        ('  File "/a.py", line 12, in f\n', ['File "/a.py"', "line 12", "in f"]),
        ('  File "/a.py", line 1, in f\n    x + y\n    ~~^~~\n', ['File "/a.py"', "line 1", "in f", "x + y"]),
    ],
)
def test_a_stack_frame_is_a_list_of_its_parts(frame: str, parts: list[str]) -> None:
    outcome = FC.failed(FunctionFailure(cause="raised", error_type="E", message="", trace=(frame,)), "id")

    assert json.loads(outcome.payload or b"")["stackTrace"] == [parts]


def test_an_event_may_become_a_week_old_or_a_month_where_that_is_still_wanted() -> None:
    assert (FC.age_s.minimum, FC.age_s.maximum, FC.age_s.default) == (1, 604_800, 86_400)
    assert replace(FC, legacy_age_limit=True).age_s.maximum == 2_592_000
