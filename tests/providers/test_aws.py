"""AWS Lambda, rule by rule. Its records' samples are in `test_golden.py`, its retries in `core/test_lifecycle.py`."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from streams.core.model import Ended, FunctionFailure, Outcome
from streams.core.policy import Backoff
from streams.providers.aws import Aws
from streams.providers.base import DeadLetterReason, InvalidEvent, Reference

AWS = Aws()
ID = "8f5b0a2e-1111-4222-8333-444455556666"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:resize:$LATEST"

OK = Outcome("returned", 200, b'{"ok": true}')
ERROR = Outcome("function_error", 200, b'{"errorMessage": "no"}', "ValueError", "no")
THROTTLED = Outcome("throttled", 429)
MISSING = Outcome("target_missing", 404)
BROKEN = Outcome("system_error", 502, error_message="no host")

ENDED = Ended(
    request_id=ID,
    resource=ARN,
    executed_version="$LATEST",
    event=b"{}",
    ending="succeeded",
    ended_at_ms=1789403574817,
    accepted_at_ms=1789403500000,
    attempts=1,
    executions=1,
    failures=0,
    started_at_ms=1789403574000,
    outcome=OK,
)


def record(**changes: Any) -> dict[str, Any]:
    """The record's JSON, read back."""
    document: dict[str, Any] = json.loads(AWS.document(AWS.record(replace(ENDED, **changes))))
    return document


# --- records

RAN = {"statusCode": 200, "executedVersion": "$LATEST"}
FAILED = {**RAN, "functionError": "Unhandled"}

CASES: dict[str, tuple[dict[str, Any], tuple[str, int, object, object]]] = {
    "success at the first attempt": (
        {},
        ("Success", 1, RAN, {"ok": True}),
    ),
    "success after a failed attempt": (
        {"attempts": 2, "executions": 2, "failures": 1},
        ("Success", 1, RAN, {"ok": True}),
    ),
    "function error without retries": (
        {"ending": "retries_exhausted", "failures": 1, "outcome": ERROR},
        ("RetriesExhausted", 1, FAILED, {"errorMessage": "no"}),
    ),
    "function error with the default retries": (
        {"ending": "retries_exhausted", "attempts": 3, "executions": 3, "failures": 3, "outcome": ERROR},
        ("RetriesExhausted", 3, FAILED, {"errorMessage": "no"}),
    ),
    "next retry would be too late": (
        {"ending": "expired", "failures": 1, "outcome": ERROR},
        ("EventAgeExceeded", 1, FAILED, {"errorMessage": "no"}),
    ),
    "only throttled": (
        {"ending": "expired", "attempts": 6, "executions": 0, "outcome": THROTTLED},
        ("EventAgeExceeded", 0, {"statusCode": 429}, None),
    ),
    "throttled after a function error": (
        {"ending": "expired", "attempts": 2, "failures": 1, "outcome": THROTTLED},
        ("EventAgeExceeded", 1, {"statusCode": 429}, None),
    ),
    "aged out before any attempt": (
        {"ending": "expired", "attempts": 0, "executions": 0, "started_at_ms": None, "outcome": None},
        ("EventAgeExceeded", 0, None, None),
    ),
    "aged out in system errors": (
        {"ending": "expired", "executions": 0, "outcome": BROKEN},
        ("EventAgeExceeded", 0, {"statusCode": 500}, None),
    ),
    "reserved concurrency 0": (
        {"ending": "zero_concurrency", "attempts": 0, "executions": 0, "started_at_ms": None, "outcome": None},
        ("ZeroReservedConcurrency", 0, None, None),
    ),
    "reserved concurrency 0 after a function error": (
        {"ending": "zero_concurrency", "failures": 1, "outcome": ERROR},
        ("ZeroReservedConcurrency", 1, None, None),
    ),
    "deleted before it ran": (
        {"ending": "retries_exhausted", "attempts": 2, "executions": 0, "failures": 2, "outcome": MISSING},
        ("RetriesExhausted", 2, {"statusCode": 404}, None),
    ),
    "deleted after a function error": (
        {"ending": "retries_exhausted", "attempts": 2, "executions": 1, "failures": 2, "outcome": MISSING},
        ("RetriesExhausted", 2, {"statusCode": 404}, None),
    ),
    "cancelled while it ran": (
        {"ending": "cancelled", "outcome": None},
        ("Cancelled", 0, None, None),
    ),
    "cancelled between attempts": (
        {"ending": "cancelled", "failures": 1, "outcome": ERROR},
        (
            "Cancelled",
            1,
            {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            {"errorMessage": "no"},
        ),
    ),
    "chain of functions cut": (
        {"ending": "loop", "attempts": 0, "executions": 0, "started_at_ms": None, "outcome": None},
        (
            "RecursiveInvocation",
            0,
            {"statusCode": 400, "functionError": "RecursiveInvocationException"},
            None,
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_record_says_how_an_invocation_ended(case: str) -> None:
    changes, (condition, count, context, payload) = CASES[case]

    document = record(**changes)

    assert document["requestContext"]["condition"] == condition
    assert document["requestContext"]["approximateInvokeCount"] == count
    assert document.get("responseContext") == context
    assert document.get("responsePayload") == payload
    assert "deliveryError" not in document


def test_a_success_can_count_its_executions() -> None:
    ended = replace(ENDED, attempts=3, executions=2, failures=1)
    counted = replace(AWS, invoke_count_on_success="executions").record(ended)

    assert counted["requestContext"]["approximateInvokeCount"] == 2


def test_a_record_nests_event_and_response_unchanged() -> None:
    event, response = b' {"a": 1,\t"b":[ ]}\n', b'{"r":\n 1.50}'
    document = AWS.document(AWS.record(replace(ENDED, event=event, outcome=Outcome("returned", 200, response))))

    assert b'"requestPayload":' + event + b',"responseContext"' in document
    assert document.endswith(b'"responsePayload":' + response + b"}")


def test_a_null_response_is_a_response() -> None:
    document = AWS.document(AWS.record(replace(ENDED, outcome=AWS.returned(None, ID))))

    assert document.endswith(b',"responsePayload":null}')


def test_a_response_that_is_not_json_is_left_out_and_the_record_says_so() -> None:
    document = record(outcome=Outcome("returned", 200, b"plain text", is_json=False))

    assert "responsePayload" not in document
    assert document["deliveryError"]["errorCode"] == "InvalidRequestContentException"


def test_an_empty_response_leaves_no_trace() -> None:
    assert set(record(outcome=AWS.returned_bytes(b"", ID))).isdisjoint({"responsePayload", "deliveryError"})


def test_absent_parts_are_absent_keys_and_never_null() -> None:
    document = AWS.document(AWS.record(replace(ENDED, ending="zero_concurrency", outcome=None)))

    assert b"null" not in document


def test_the_timestamp_is_the_end_in_milliseconds() -> None:
    assert AWS.record(replace(ENDED, ended_at_ms=1789403574007))["timestamp"] == "2026-09-14T16:32:54.007Z"


def test_text_in_a_record_is_utf8_and_escaped_as_json_needs_it() -> None:
    document = AWS.document(AWS.record(replace(ENDED, request_id='λ"\n', executed_version="\x1b")))

    assert '"requestId":"λ\\"\\n"'.encode() in document
    assert b'"executedVersion":"\\u001b"' in document


# --- dead letters

FUNCTION_GONE = f"Function not found: {ARN}"
NO_CONCURRENCY = "Function not invoked. Function isconfigured with zero reserved concurrent executions"

DEAD_LETTERS: dict[str, tuple[dict[str, Any], DeadLetterReason]] = {
    "function error": (
        {"ending": "retries_exhausted", "outcome": ERROR},
        DeadLetterReason(200, "ValueError", "no"),
    ),
    "aged out, only throttled": (
        {"ending": "expired", "outcome": THROTTLED},
        DeadLetterReason(429, "TooManyRequestsException", "Rate Exceeded."),
    ),
    "target deleted": (
        {"ending": "retries_exhausted", "outcome": MISSING},
        DeadLetterReason(404, "ResourceNotFoundException", FUNCTION_GONE),
    ),
    "reserved concurrency 0": (
        {"ending": "zero_concurrency", "outcome": None},
        DeadLetterReason(None, "ZeroReservedConcurrency", NO_CONCURRENCY),
    ),
    "system error": (
        {"ending": "expired", "outcome": BROKEN},
        DeadLetterReason(500, "ServiceException", "no host"),
    ),
    "aged out before any attempt": (
        {"ending": "expired", "outcome": None},
        DeadLetterReason(None, "EventAgeExceeded", AWS.expired_message),
    ),
    "cancelled": (
        {"ending": "cancelled", "outcome": ERROR},
        DeadLetterReason(None, "Cancelled", "Invocation cancelled"),
    ),
    "chain of functions cut": (
        {"ending": "loop", "outcome": None},
        DeadLetterReason(400, "RecursiveInvocationException", AWS.recursion_message),
    ),
}


@pytest.mark.parametrize("case", DEAD_LETTERS)
def test_a_dead_letter_says_why(case: str) -> None:
    changes, reason = DEAD_LETTERS[case]

    assert AWS.dead_letter_reason(replace(ENDED, **changes)) == reason


def test_a_dead_letters_message_is_cut_after_1024_bytes() -> None:
    assert _message("x" * 1025) == "x" * 1024


def test_a_character_cut_in_two_becomes_the_replacement_character() -> None:
    assert _message("x" * 1022 + "λλ") == "x" * 1022 + "λ"
    assert _message("x" * 1023 + "λ") == "x" * 1023 + "\ufffd"
    assert _message("x" * 1021 + "😀") == "x" * 1021 + "\ufffd"


def _message(error_message: str) -> str:
    outcome = replace(ERROR, error_message=error_message)
    return AWS.dead_letter_reason(replace(ENDED, ending="retries_exhausted", outcome=outcome)).error_message


# --- policy


def test_without_settings_a_function_is_tried_three_times_in_six_hours() -> None:
    policy = AWS.policy(None, None)

    assert (policy.attempts_max, policy.age_max_ms) == (3, 6 * 3600 * 1000)


def test_retries_come_on_top_of_the_first_attempt() -> None:
    assert AWS.policy(0, 60).attempts_max == 1
    assert AWS.policy(0, 60).age_max_ms == 60_000


def test_function_errors_wait_one_minute_and_then_two() -> None:
    backoff = AWS.policy(None, None).failure_backoff

    assert [backoff.delay_ms(n) for n in (1, 2)] == [60_000, 120_000]


def test_throttles_wait_one_second_doubling_to_five_minutes() -> None:
    assert AWS.policy(None, None).throttle_backoff == Backoff(1000, 2, 300_000)


def test_no_concurrency_ends_a_deleted_function_retries_and_chains_have_16_links() -> None:
    policy = AWS.policy(None, None)

    assert (policy.zero_concurrency, policy.target_missing, policy.depth_max) == ("end", "retry", 16)
    assert (policy.throttled, policy.throttle_budget_ms) == ("retry", None)


# --- names


@pytest.mark.parametrize(
    ("text", "name", "qualifier"),
    [
        ("resize", "resize", None),
        ("resize:prod", "resize", "prod"),
        ("resize:7", "resize", "7"),
        ("resize:$LATEST", "resize", "$LATEST"),
        ("function:resize", "resize", None),
        ("123456789012:function:resize", "resize", None),
        ("123456789012:function:resize:prod", "resize", "prod"),
        ("arn:aws:lambda:us-east-1:123456789012:function:resize", "resize", None),
        ("arn:aws:lambda:us-east-1:123456789012:function:resize:prod", "resize", "prod"),
        (ARN, "resize", "$LATEST"),
    ],
)
def test_a_function_is_named_by_name_partial_arn_or_arn(text: str, name: str, qualifier: str | None) -> None:
    assert AWS.parse_reference(text) == Reference(name, qualifier)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "re size",
        "resize:",
        "resize:a:b",
        "resize:$latest",
        "resize\n",
        "arn:aws:sqs:us-east-1:123456789012:queue",
        "arn:aws:lambda:eu-west-1:123456789012:function:resize",
        "arn:aws:lambda:us-east-1:999999999999:function:resize",
        "arn:aws-cn:lambda:us-east-1:123456789012:function:resize",
        "999999999999:function:resize",
        "arn:aws:lambda:us-east-1:123456789012:layer:resize",
        "acs:fc:::functions/resize",
    ],
)
def test_anything_else_names_no_function_of_ours(text: str) -> None:
    assert AWS.parse_reference(text) is None


def test_only_an_arn_is_a_destination() -> None:
    assert AWS.parse_destination(ARN) == Reference("resize", "$LATEST")
    assert AWS.parse_destination("resize") is None
    assert AWS.parse_destination("arn:aws:sqs:us-east-1:123456789012:failed") is None


def test_a_resource_is_a_qualified_arn() -> None:
    assert AWS.resource("resize", "$LATEST") == ARN


# --- events


def test_an_event_is_parsed() -> None:
    assert AWS.read_event(b' {"a": [1, 2.5, null, "\xce\xbb"]}\n') == {"a": [1, 2.5, None, "λ"]}


def test_no_event_is_an_empty_object() -> None:
    assert AWS.read_event(b"") == {}
    assert AWS.event_bytes(b"") == b"{}"
    assert AWS.event_bytes(b" {}\n") == b" {}\n"


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        (b"123456789012345678901234567890", 123456789012345678901234567890),
        (b"[-9223372036854775809]", [-9223372036854775809]),
        (rb'"cut emoji \ud83d"', "cut emoji \ud83d"),
    ],
)
def test_an_event_keeps_what_a_python_runtime_would_keep(payload: bytes, event: object) -> None:
    assert AWS.read_event(payload) == event


@pytest.mark.parametrize(
    "payload",
    [b"{", b"nope", b" ", b"\xff", b'"\xff"', b"{}{}", b"[" * 100_000, b'{"a":' * 5000, b"[NaN]", rb'["\ud83d", NaN]'],
)
def test_an_event_that_is_not_json_is_refused_as_the_api_does(payload: bytes) -> None:
    with pytest.raises(InvalidEvent, match=r"^Could not parse request body into json: ") as refused:
        AWS.read_event(payload)

    assert (refused.value.code, refused.value.status_code) == ("InvalidRequestContentException", 400)


def test_an_event_of_one_mebibyte_is_the_largest() -> None:
    largest = b'"' + b"x" * (1_048_576 - 2) + b'"'
    AWS.read_event(largest)

    with pytest.raises(InvalidEvent) as refused:
        AWS.read_event(largest + b" ")

    assert (refused.value.code, refused.value.status_code) == ("RequestEntityTooLargeException", 413)
    assert str(refused.value) == (
        "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"
    )


# --- responses


@pytest.mark.parametrize(
    ("value", "payload"),
    [
        (None, b"null"),
        ({"a": [1, 2]}, b'{"a": [1, 2]}'),
        ("λ", '"λ"'.encode()),
        ({1: True, None: 2.0}, b'{"1": true, "null": 2.0}'),
        (10**30, b"1" + b"0" * 30),
        ("\ud83d", rb'"\ud83d"'),
        ([Decimal("1.10"), Decimal("1E+2")], b"[1.10, 1E+2]"),
        ((1, 2), b"[1, 2]"),
    ],
)
def test_a_value_is_written_as_the_python_runtime_writes_it(value: object, payload: bytes) -> None:
    assert AWS.returned(value, ID) == Outcome("returned", 200, payload)


@pytest.mark.parametrize(
    "value", [float("nan"), {"a": [float("inf")]}, Decimal("NaN"), Decimal("-Infinity"), b"\xff", b"text"]
)
def test_a_value_that_is_written_but_not_as_json_still_succeeds(value: object) -> None:
    outcome = AWS.returned(value, ID)

    assert (outcome.kind, outcome.is_json) == ("returned", False)


def test_bytes_are_returned_as_they_are() -> None:
    assert AWS.returned(b'{"a":1}', ID) == Outcome("returned", 200, b'{"a":1}')


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({1, 2}, "Object of type set is not JSON serializable"),
        ({(1, 2): 3}, "keys must be str, int, float, bool or None, not tuple"),
        (object, "Object of type type is not JSON serializable"),
    ],
)
def test_a_value_that_cannot_be_written_is_a_marshal_error(value: object, why: str) -> None:
    outcome = AWS.returned(value, ID)

    assert outcome.kind == "function_error"
    assert (
        outcome.payload
        == json.dumps(
            {
                "errorMessage": f"Unable to marshal response: {why}",
                "errorType": "Runtime.MarshalError",
                "requestId": ID,
                "stackTrace": [],
            }
        ).encode()
    )


def test_a_response_may_have_6291556_bytes() -> None:
    assert AWS.returned_bytes(b'"' + b"x" * 6_291_554 + b'"', ID).kind == "returned"

    assert AWS.returned("x" * 6_291_555, ID).payload == (
        b'{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"Response payload size exceeded maximum allowed '
        b'payload size (6291556 bytes)."}'
    )
    assert AWS.returned_bytes(b"x" * 6_291_557, ID).error_type == "Function.ResponseSizeTooLarge"


def test_an_http_functions_answer_is_kept_and_checked_for_json() -> None:
    assert AWS.returned_bytes(b' {"a": 1}', ID) == Outcome("returned", 200, b' {"a": 1}')
    assert not AWS.returned_bytes(b"<html>", ID).is_json


# --- failures


@pytest.mark.parametrize(
    ("failure", "payload"),
    [
        (
            FunctionFailure(cause="timed_out", timeout_ms=1000),
            f'{{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: {ID} Error: '
            'Task timed out after 1.00 seconds"}',
        ),
        (
            FunctionFailure(cause="exited"),
            f'{{"errorType":"Runtime.ExitError","errorMessage":"RequestId: {ID} Error: '
            'Runtime exited without providing a reason"}',
        ),
        (
            FunctionFailure(cause="exited", exit="exit status 1"),
            f'{{"errorType":"Runtime.ExitError","errorMessage":"RequestId: {ID} Error: '
            'Runtime exited with error: exit status 1"}',
        ),
        (
            FunctionFailure(cause="exited", exit="signal: segmentation fault"),
            f'{{"errorType":"Runtime.ExitError","errorMessage":"RequestId: {ID} Error: '
            'Runtime exited with error: signal: segmentation fault"}',
        ),
        (
            FunctionFailure(cause="raised", error_type="ValueError", message="λ", trace=("  File\n", "    x\n")),
            f'{{"errorMessage": "λ", "errorType": "ValueError", "requestId": "{ID}", '
            '"stackTrace": ["  File\\n", "    x\\n"]}',
        ),
    ],
)
def test_a_failure_has_awss_own_error_document(failure: FunctionFailure, payload: str) -> None:
    outcome = AWS.failed(failure, ID)

    assert (outcome.kind, outcome.status_code, outcome.is_json) == ("function_error", 200, True)
    assert outcome.payload == payload.encode()
    assert outcome.error_type == json.loads(payload)["errorType"]
    assert outcome.error_message == json.loads(payload)["errorMessage"]


def test_a_message_that_cannot_be_encoded_is_escaped() -> None:
    outcome = AWS.failed(FunctionFailure(cause="raised", error_type="E", message="cut \ud83d"), ID)

    assert outcome.error_message == "cut \\ud83d"
    assert json.loads(outcome.payload or b"")["errorMessage"] == "cut \\ud83d"
