"""AWS Lambda: asynchronous invocation (`InvocationType=Event`), its records and its dead letters.

Sources, read by November 2026 (marks in `base.py`, files and dates in `tests/golden/aws/SOURCES.md`):

- [D] Lambda developer guide, "Asynchronous invocation" and "Dead-letter queues"; botocore's service model 1.44.5.
- [V] LocalStack's snapshots, recorded against AWS (tests/aws/services/lambda_ at 8b9a79f0).
- [N] stackd's raw captures of AWS (testdata/aws/lambda at 9dc356f5).
- [C] The Python runtime's own code (aws-lambda-python-runtime-interface-client), for what a handler's result becomes.

What sets AWS apart from the other two:

- Event and response are nested in the record as JSON, byte for byte, blanks included; what there is not, has no key.
  A capture with AWS's own MD5 proves both (`tests/golden/aws/captured_retries_exhausted.json`).
- A record says why it was sent (`RetriesExhausted`, `EventAgeExceeded`), not which error it was.
- Retries come 1 and 2 minutes after function errors; throttles wait 1 s, doubling to 5 minutes, until the age ends.
- Reserved concurrency 0 ends an invocation at once; a deleted function uses up retries.
- There is a dead-letter queue besides destinations; both get a failed invocation.
- Chains of functions are cut after 16 links.

Not followed: the second retry was measured after 114 s [N] where the page says two minutes [D]; we wait the nominal
time. Jitter at long waits and a reset of the throttle wait after an execution are unknown; there is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar, Literal

import orjson

from streams.core.model import DestinationSetting, Ended, Ending, FunctionFailure, Outcome, Service, ServiceKind
from streams.core.policy import Backoff, Bounds, DeliveryPolicy, Policy
from streams.providers.base import (
    DeadLetterReason,
    InvalidEvent,
    Reference,
    is_json,
    json_writer,
    message_of,
    plain,
    read_json,
    write_json,
)

_NAME = r"(?P<name>[a-zA-Z0-9_-]{1,140})(?::(?P<qualifier>\$LATEST|[a-zA-Z0-9_-]{1,128}))?"
"""Longer than a name may be: a name of 65 characters is well-formed and merely unknown [V]."""
_ARN = re.compile(rf"arn:(?P<partition>[^:]*):lambda:(?P<region>[^:]*):(?P<account>[^:]*):function:{_NAME}")
_PARTIAL_ARN = re.compile(rf"(?:(?P<account>\d{{12}}):)?(?:function:)?{_NAME}")

_SERVICE_ARN = re.compile(r"arn:[^:]*:(?P<service>[a-z0-9]+):(?P<region>[^:]*):(?P<account>[^:]*):(?P<resource>.*)")
_SERVICES: dict[str, tuple[ServiceKind, frozenset[DestinationSetting], re.Pattern[str]]] = {
    "sqs": ("sqs", frozenset({"on_success", "on_failure", "dead_letter"}), re.compile(r"([A-Za-z0-9_-]{1,80})")),
    "sns": ("sns", frozenset({"on_success", "on_failure", "dead_letter"}), re.compile(r"([A-Za-z0-9_-]{1,256})")),
    "events": (
        "eventbridge",
        frozenset({"on_success", "on_failure"}),
        re.compile(r"event-bus/([/.A-Za-z0-9_-]{1,256})"),
    ),
    "s3": ("s3", frozenset({"on_failure"}), re.compile(r"([a-z0-9][a-z0-9.-]{2,62})")),
}
"""By the service in an ARN: what it is, which settings may name it [D], and the rest of its ARN. Names of FIFO queues
and topics end with ``.fifo`` and do not match: Lambda takes none [N]."""

_CONDITIONS: dict[Ending, str] = {
    "succeeded": "Success",
    "retries_exhausted": "RetriesExhausted",
    "expired": "EventAgeExceeded",
    "zero_concurrency": "ZeroReservedConcurrency",
    # A deleted function uses up retries [N] and throttles end with the age [D]: our policy never ends these two ways.
    "target_missing": "RetriesExhausted",
    "budget_spent": "EventAgeExceeded",
}

_ERROR_CODES: dict[str, tuple[int, str]] = {
    "throttled": (429, "TooManyRequestsException"),
    "target_missing": (404, "ResourceNotFoundException"),
}
"""By outcome: status code, and the code of the error that the Invoke API gives in this case [D]."""

_DELIVERY_ERROR = {
    "statusCode": 400,
    "errorCode": "InvalidRequestContentException",
    "errorMessage": "The function response payload could not be parsed as JSON.",
}
"""What a record has instead of a response that is not JSON [N streaming_async.json]."""

_DECIMAL = re.compile(rb'"\\u0000decimal:([-+.0-9E]+)"')


def _json_default(value: object) -> object:
    """What the Python runtime writes for a Decimal: its digits, or NaN [C]. `_unquoted_decimals` completes it."""
    if isinstance(value, Decimal):
        return f"\0decimal:{value}" if value.is_finite() else math.nan if value.is_nan() else float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_write_result = json_writer(_json_default)


def _unquoted_decimals(payload: bytes) -> bytes:
    return _DECIMAL.sub(rb"\1", payload) if rb"\u0000decimal:" in payload else payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Aws:
    """AWS Lambda in one account and region."""

    account: str = "123456789012"
    """Twelve digits; part of every ARN."""
    region: str = "us-east-1"
    """Part of every ARN."""
    partition: str = "aws"
    """Part of every ARN: ``aws``, ``aws-cn``, ``aws-us-gov``."""
    concurrent_executions: int = 1000
    """The account's limit as the API shows it [V]; reserved concurrency is bounded by it. Nothing else enforces it."""
    invoke_count_on_success: Literal["one", "executions"] = "one"
    """`approximateInvokeCount` of a success after failed attempts. Four captures show 1 [N]; a public log of 2022
    shows the executions, and AWS calls the number approximate."""
    system_error_status_code: int = 500
    """`statusCode` of a record whose last attempt met a system error. [G] No such record was ever seen."""
    expired_message: str = "Function not invoked. Event age exceeded"
    """Dead-letter message of an event that aged out without an attempt. [G] In the manner of the message for reserved
    concurrency 0; no such dead letter was ever seen."""
    cancelled_condition: str = "Cancelled"
    """Condition of an invocation that was cancelled. A word of ours: Lambda cannot cancel."""
    cancelled_is_sent: bool = True
    """Whether the failure destination and the dead-letter queue get an invocation that was cancelled. Ours, too."""
    cancelled_message: str = "Invocation cancelled"
    """Dead-letter message of an invocation that was cancelled. Ours, too."""
    recursion_condition: str = "RecursiveInvocation"
    """Condition of a chain that was cut. [E] The page only says that the event is kept for the failure destination."""
    recursion_status_code: int = 400
    """`statusCode` of a chain that was cut. [E] It is the status of RecursiveInvocationException [D]."""
    recursion_error: str = "RecursiveInvocationException"
    """`functionError` of a chain that was cut. [E]"""
    recursion_message: str = (
        "Lambda has detected your function being invoked in a recursive loop with other Amazon Web Services resources "
        "and stopped your function's invocation."
    )
    """Dead-letter message of a chain that was cut. [G] It is what the API says of that exception [D]."""
    delivery_delay_ms: int = 500
    """Wait before a destination or dead-letter queue is tried again; doubles. [G] Nothing says
    that Lambda tries again; Alibaba's documented way."""
    delivery_budget_s: int = 1_800
    """So long after the first try there is no further one, seconds. [G] Likewise."""

    name: ClassVar[str] = "aws"
    latest: ClassVar[str] = "$LATEST"
    payload_bytes_max: ClassVar[int] = 1_048_576
    """Of an event; 262,144 until October 2025 [D]."""
    response_bytes_max: ClassVar[int] = 6_291_556
    """Of a response [V]."""
    retries: ClassVar[Bounds] = Bounds(0, 2, 2)
    """MaximumRetryAttempts [D]."""
    age_s: ClassVar[Bounds] = Bounds(60, 21_600, 21_600)
    """MaximumEventAgeInSeconds [D]."""
    tells_what_runs: ClassVar[bool] = False
    record_schema: ClassVar[str] = "AwsInvocationRecord"
    failure_backoff: ClassVar[Backoff] = Backoff(60_000)
    """One minute before the second attempt, two before the third [D]; no fourth."""
    throttle_backoff: ClassVar[Backoff] = Backoff(1_000, cap_ms=300_000)
    """From 1 second to 5 minutes [D]; attempts at 0, 1, 3, 7, 15 and 31 s were measured [N outcomes_expiry.json]."""
    chain_links_max: ClassVar[int] = 16
    """Of a chain of functions; the next invocation is dropped [D; N recursion_execution.json]."""
    error_message_bytes_max: ClassVar[int] = 1024
    """Of a dead letter's message: "the first 1 KB" [D], in UTF-8, a cut character replaced [N]."""
    zero_concurrency_message: ClassVar[str] = (
        "Function not invoked. Function isconfigured with zero reserved concurrent executions"
    )
    """Dead-letter message for reserved concurrency 0; the missing blank is AWS's [N]."""

    def policy(self, retries: int | None, age_max_s: int | None) -> Policy:
        return Policy(
            attempts_max=1 + (self.retries.default if retries is None else retries),
            age_max_ms=1000 * (self.age_s.default if age_max_s is None else age_max_s),
            failure_backoff=self.failure_backoff,
            throttle_backoff=self.throttle_backoff,
            zero_concurrency="end",  # [V] test_reserved_concurrency
            target_missing="retry",  # [N] async_deleted_targets_analysis.json
            depth_max=self.chain_links_max,
        )

    def delivery_policy(self) -> DeliveryPolicy:
        return DeliveryPolicy(Backoff(self.delivery_delay_ms), 1000 * self.delivery_budget_s)

    def resource(self, name: str, qualifier: str) -> str:
        return f"arn:{self.partition}:lambda:{self.region}:{self.account}:function:{name}:{qualifier}"

    def parse_resource(self, resource: str) -> Reference | None:
        match = _ARN.fullmatch(resource)
        return None if match is None else _reference(match)

    def parse_reference(self, text: str) -> Reference | None:
        """``name``, ``account:function:name`` or a full ARN, each with or without ``:qualifier`` [D].

        None for another account or region: a function there is not ours, even if it has the same name.
        """
        match = _ARN.fullmatch(text)
        if match is not None:
            return _reference(match) if self._is_ours(match) else None
        match = _PARTIAL_ARN.fullmatch(text)
        if match is None or match["account"] not in (None, self.account):
            return None
        return _reference(match)

    def parse_destination(self, address: str) -> Reference | None:
        match = _ARN.fullmatch(address)
        return _reference(match) if match is not None and self._is_ours(match) else None

    def parse_service(self, address: str, route: DestinationSetting) -> Service | None:
        match = _SERVICE_ARN.fullmatch(address)
        if match is None or match["service"] not in _SERVICES:
            return None
        kind, routes, pattern = _SERVICES[match["service"]]
        named = pattern.fullmatch(match["resource"])
        if named is None or route not in routes:
            return None
        return Service(
            kind=kind, region=match["region"] or self.region, account=match["account"] or self.account, name=named[1]
        )

    def _is_ours(self, match: re.Match[str]) -> bool:
        return match.group("partition", "region", "account") == (self.partition, self.region, self.account)

    def read_event(self, payload: bytes) -> object:
        """Messages are AWS's [V, D]; where it then quotes its JSON parser, we quote ours."""
        if len(payload) > self.payload_bytes_max:
            limit = f"limit {self.payload_bytes_max} bytes"
            message = f"{len(payload)} byte payload is too large for the Event invocation type ({limit})"
            raise InvalidEvent("RequestEntityTooLargeException", 413, message)
        try:
            return read_json(payload or b"{}")
        except ValueError as error:
            message = f"Could not parse request body into json: Could not parse payload into json: {error}"
            raise InvalidEvent("InvalidRequestContentException", 400, message) from error

    def event_bytes(self, payload: bytes) -> bytes:
        return payload or b"{}"

    def returned(self, value: object, request_id: str) -> Outcome:
        """The response as the Python 3.12 runtime writes it: `json` with blanks, no ASCII escapes, digits for Decimal,
        bytes unchanged [C]; NaN makes it something that is not JSON."""
        if isinstance(value, bytes):
            return self.returned_bytes(value, request_id)
        try:
            payload, strict = _write_result(value)
        except Exception as error:  # the value's own methods may raise anything; the runtime catches the same
            return self.failed(FunctionFailure(cause="not_serializable", message=message_of(error)), request_id)
        return self._sized(_unquoted_decimals(payload), strict, request_id)

    def returned_bytes(self, body: bytes, request_id: str) -> Outcome:
        return self._sized(body, is_json(body), request_id)

    def _sized(self, payload: bytes, strict: bool, request_id: str) -> Outcome:
        if len(payload) > self.response_bytes_max:
            return self.failed(FunctionFailure(cause="response_too_large", size_bytes=len(payload)), request_id)
        return Outcome("returned", 200, payload, is_json=strict)

    def failed(self, failure: FunctionFailure, request_id: str) -> Outcome:
        """Errors the runtime reports carry request id and stack trace, in the runtime's JSON [C]; errors the platform
        reports are compact and have the type first [V test_lambda]."""
        error_type, message = self._described(failure, request_id)
        if failure.cause in ("raised", "handled", "not_serializable"):
            payload = _runtime_error(message, error_type, request_id, failure.trace)
        else:
            payload = orjson.dumps({"errorType": error_type, "errorMessage": message})
        return Outcome("function_error", 200, payload, error_type, message)

    def _described(self, failure: FunctionFailure, request_id: str) -> tuple[str, str]:
        """Type and message of a failure, as AWS words them [V; C for MarshalError]."""
        match failure.cause:
            case "raised" | "handled":
                return plain(failure.error_type), plain(failure.message)
            case "not_serializable":
                return "Runtime.MarshalError", f"Unable to marshal response: {plain(failure.message)}"
            case "timed_out":
                duration = f"{failure.timeout_ms / 1000:.2f} seconds"
                return "Sandbox.Timedout", f"RequestId: {request_id} Error: Task timed out after {duration}"
            case "exited":
                how = f"with error: {plain(failure.exit)}" if failure.exit else "without providing a reason"
                return "Runtime.ExitError", f"RequestId: {request_id} Error: Runtime exited {how}"
            case "response_too_large":
                limit = f"maximum allowed payload size ({self.response_bytes_max} bytes)"
                return "Function.ResponseSizeTooLarge", f"Response payload size exceeded {limit}."

    def condition(self, ended: Ended) -> str:
        if ended.ending == "cancelled":
            return self.cancelled_condition
        return _CONDITIONS.get(ended.ending, self.recursion_condition)

    def record(self, ended: Ended) -> dict[str, Any]:
        payload, is_undeliverable = _response(ended)
        return {
            "version": "1.0",
            "timestamp": _timestamp(ended.ended_at_ms),
            "requestContext": {
                "requestId": ended.request_id,
                "functionArn": ended.resource,
                "condition": self.condition(ended),
                "approximateInvokeCount": self._invoke_count(ended),
            },
            "requestPayload": ended.event,
            "responseContext": self._response_context(ended),
            "responsePayload": payload,
            "deliveryError": _DELIVERY_ERROR if is_undeliverable else None,
        }

    def _invoke_count(self, ended: Ended) -> int:
        """Failures that used up retries: executions and lookups of a deleted function, but no throttles [V, N]."""
        if ended.ending != "succeeded":
            return ended.failures
        return ended.executions if self.invoke_count_on_success == "executions" else 1

    def _response_context(self, ended: Ended) -> dict[str, Any] | None:
        """What the last attempt was answered; None when the function was not invoked [V test_reserved_concurrency].

        That is so at reserved concurrency 0, and [G] for an event that aged out before its first attempt.
        """
        if ended.ending == "loop":
            return _context(self.recursion_status_code, None, self.recursion_error)
        outcome = ended.outcome
        if outcome is None or ended.ending == "zero_concurrency":
            return None
        match outcome.kind:
            case "returned":
                return _context(200, ended.executed_version, None)
            case "function_error":
                return _context(200, ended.executed_version, "Unhandled")
            case "throttled" | "target_missing":
                return _context(_ERROR_CODES[outcome.kind][0], None, None)
            case "system_error":
                return _context(self.system_error_status_code, None, None)

    def document(self, record: Mapping[str, Any]) -> bytes:
        context, response = record["requestContext"], record["responseContext"]
        parts = [
            b'{"version":%b,"timestamp":%b' % (_quoted(record["version"]), _quoted(record["timestamp"])),
            b',"requestContext":{"requestId":%b' % _quoted(context["requestId"]),
            b',"functionArn":%b' % _quoted(context["functionArn"]),
            b',"condition":%b' % _quoted(context["condition"]),
            b',"approximateInvokeCount":%d}' % context["approximateInvokeCount"],
            b',"requestPayload":',
            record["requestPayload"],
        ]
        if response is not None:
            parts.append(b',"responseContext":{"statusCode":%d' % response["statusCode"])
            if response["executedVersion"] is not None:
                parts.append(b',"executedVersion":%b' % _quoted(response["executedVersion"]))
            if response["functionError"] is not None:
                parts.append(b',"functionError":%b' % _quoted(response["functionError"]))
            parts.append(b"}")
        if record["responsePayload"] is not None:
            parts += (b',"responsePayload":', record["responsePayload"])
        if record["deliveryError"] is not None:
            parts += (b',"deliveryError":', orjson.dumps(record["deliveryError"]))
        parts.append(b"}")
        return b"".join(parts)

    def dead_letter_reason(self, ended: Ended) -> DeadLetterReason:
        """ErrorCode and ErrorMessage of the dead-letter message; an `error_code` of None is no attribute [N].

        After a function error the message is the error's own, not the whole error document [V test_dead_letter_queue].
        """
        code, error_type, message = self._error(ended)
        return DeadLetterReason(code, error_type, _first_bytes(message, self.error_message_bytes_max))

    def _error(self, ended: Ended) -> tuple[int | None, str, str]:
        outcome = ended.outcome
        if ended.ending == "loop":
            return self.recursion_status_code, self.recursion_error, self.recursion_message
        if ended.ending == "zero_concurrency":
            return None, self.condition(ended), self.zero_concurrency_message
        if ended.ending == "cancelled":
            return None, self.condition(ended), self.cancelled_message
        if outcome is None:
            return None, self.condition(ended), self.expired_message
        match outcome.kind:
            case "throttled":
                return *_ERROR_CODES["throttled"], "Rate Exceeded."
            case "target_missing":
                return *_ERROR_CODES["target_missing"], f"Function not found: {ended.resource}"
            case "system_error":
                return self.system_error_status_code, "ServiceException", outcome.error_message
            case "function_error" | "returned":
                return 200, outcome.error_type, outcome.error_message


def _reference(match: re.Match[str]) -> Reference:
    return Reference(match["name"], match["qualifier"])


@lru_cache(maxsize=16)
def _timestamp(at_ms: int) -> str:
    """``2026-09-14T16:32:54.817Z``: when the invocation ended, not when it was accepted [N outcomes_expiry.json].

    Cached because a busy worker's records share their milliseconds.
    """
    at_s, ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(at_s, UTC).isoformat()[:19]}.{ms:03d}Z"


def _quoted(text: str) -> bytes:
    return orjson.dumps(text)


def _context(status_code: int, executed_version: str | None, function_error: str | None) -> dict[str, Any]:
    return {"statusCode": status_code, "executedVersion": executed_version, "functionError": function_error}


def _response(ended: Ended) -> tuple[bytes | None, bool]:
    """The response as the record nests it, and whether there is one that it cannot nest because it is not JSON.

    An empty response is no response: a capture has neither key for it [N streaming_async.json, throw_before].
    """
    outcome = ended.outcome
    if outcome is None or not outcome.payload or outcome.kind not in ("returned", "function_error"):
        return None, False
    if ended.ending in ("zero_concurrency", "loop"):
        return None, False
    return (outcome.payload, False) if outcome.is_json else (None, True)


def _runtime_error(message: str, error_type: str, request_id: str, trace: tuple[str, ...]) -> bytes:
    """The error document of the Python runtime [C]; in a capture of 2020 it has no request id yet."""
    document = {"errorMessage": message, "errorType": error_type, "requestId": request_id, "stackTrace": trace}
    return write_json(document)[0]


def _first_bytes(text: str, bytes_max: int) -> str:
    return text.encode()[:bytes_max].decode(errors="replace")
