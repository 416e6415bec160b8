"""Alibaba Cloud Function Compute, 2.0 and 3.0: asynchronous invocation and the record it sends to a destination.

Sources, read by November 2026 (marks in `base.py`, files and dates in `tests/golden/fc/SOURCES.md`):

- [D] Help pages: result callback (destinations), retry policy and error handling, error codes, Python event handlers;
  the SDK models fc20230330 4.8.3 and fc-open20210406 2.0.12.
- [C] The Node.js SDK's tests and the local runtime of Serverless Devs, for the texts of function errors.

What sets it apart from the other two:

- An event is bytes, not JSON, and a Python handler receives bytes. Event and response are strings in the record.
- Function errors are limited by count, throttles and system errors by time: doubling from 0.5 s for 5 hours.
- `condition` is an error code, empty on success; the record has no version and every key, always.
- `timestamp` is a number of milliseconds.
- 2.0 has services. A 2.0 function is named ``service/function`` here and its version belongs to the service; a 3.0
  function has a plain name.

Not followed: one English 3.0 page says that system errors are not retried. Its table is a mistranslation (the "No"
belongs to the column "billed"); the 2.0 page and the Chinese one say 5 hours. Older pages allow 30 days of age; the
SDK models and today's pages say 7. Older pages show the record's timestamp as a date; today's shows a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from orjson import dumps

from streams.core.model import DestinationSetting, Ended, FunctionFailure, Outcome, Service, ServiceKind
from streams.core.policy import Backoff, Bounds, DeliveryPolicy, Policy
from streams.providers.base import (
    DeadLetterReason,
    InvalidEvent,
    Reference,
    filled,
    message_of,
    plain,
    quote_payload,
    seconds,
    write_json,
)

_WORD = "[A-Za-z_][A-Za-z0-9_-]{0,127}"
_QUALIFIER = "[A-Za-z0-9_-]{1,128}"
_ARN = re.compile(
    r"acs:fc:(?P<region>[^:]*):(?P<account>[^:]*):"
    rf"(?:services/(?P<service>{_WORD})(?:\.(?P<version>{_QUALIFIER}))?/)?"
    rf"functions/(?P<name>{_WORD})(?:[/.](?P<qualifier>{_QUALIFIER}))?"
)
_SHORT = re.compile(
    rf"(?:(?P<service>{_WORD})(?:\.(?P<version>{_QUALIFIER}))?/)?(?P<name>{_WORD})(?::(?P<qualifier>{_QUALIFIER}))?"
)

_FRAME = re.compile(r'\s*(File ".*"), (line \d+), (in .+)(?:\n\s*(.*))?')
"""A stack frame as `traceback.format_list` writes it."""


_SERVICE_ARN = re.compile(
    r"acs:(?P<service>mns|eventbridge):(?P<region>[^:]*):(?P<account>[^:]*):"
    r"/?(?P<place>queues|topics|eventbus)/(?P<name>[A-Za-z0-9][A-Za-z0-9_-]{0,254})(?P<messages>/messages)?"
)
_SERVICES: dict[tuple[str, str], ServiceKind] = {
    ("mns", "queues"): "mns-queue",
    ("mns", "topics"): "mns-topic",
    ("eventbridge", "eventbus"): "fc-eventbridge",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCompute:
    """Function Compute in one account and region."""

    account: str = "1234567890123456"
    """Part of the ARN of a 3.0 function."""
    region: str = "cn-hangzhou"
    """Part of the ARN of a 3.0 function."""
    qualifier_separator: Literal["/", "."] = "/"
    """Between name and qualifier in the ARN of a 3.0 function; ``LATEST`` is left out. [G] No page shows one."""
    failure_delay_ms: int = 500
    """Wait after the first function error; doubles. [G] Documented only for throttles, whose value this is."""
    timestamp: Literal["started", "accepted", "ended"] = "started"
    """Which moment a record's timestamp is: "the timestamp of the invocation" [D]. [G] FunctionGraph's page, made after
    the same model, says "time when the invocation starts". Without an attempt it is the acceptance."""
    unattempted_invoke_count: int = 0
    """`approximateInvokeCount` of an event that aged out before its first attempt. [G] Others count from 1 [D]."""
    throttled_status_code: int = 200
    """`statusCode` when the last attempt was throttled. The page's only such sample (FunctionResourceExhausted) has
    200, although its text and the error table suggest 429."""
    unattempted_status_code: int = 200
    """`statusCode` of an event that aged out before its first attempt. [G] Other values mean a system error [D]."""
    function_error: Literal["message", "empty"] = "message"
    """`functionError` after a function error: "invocation error information" [D]. [G] The samples have none."""
    expired_condition: str = "EventAgeExceeded"
    """Condition of an event that aged out. [G]"""
    system_error_condition: str = "InternalServerError"
    """Condition when 5 hours of system errors ended the invocation. [G] It is the API's error code [D]."""
    missing_condition: str = "FunctionNotFound"
    """Condition when the function is gone. [G] It is the API's error code [D]."""
    cancelled_condition: str = "Stopped"
    """Condition of an invocation that was stopped. [G] It is the state of such a task [D]."""
    cancelled_is_sent: bool = False
    """Whether the failure destination is called for an invocation that was stopped. [G] No page says so."""
    loop_condition: str = "RecursiveInvocation"
    """Condition of a chain of functions that was cut. [G] The cloud does not look for loops [D]."""
    chain_links_max: int = 100
    """Of a chain of functions, a guard of our own. [G]"""
    binary_payload: Literal["base64", "latin-1"] = "base64"
    """How a record shows an event or a response that is not UTF-8. [G]"""
    none_response: Literal["null", ""] = "null"
    """What a handler returns that returns None. [G] JSON's word for it, as for every value but str and bytes."""
    response_bytes_max: int = 33_554_432
    """Of a response. [G] The limit of synchronous invocation [D]."""
    timeout_message: str = "Function time out after {seconds} seconds"
    """Error message of a timeout. [G] after "Function time out after", which is documented."""
    legacy_age_limit: bool = False
    """Whether events may become 30 days old, as older pages, Terraform and Serverless Devs have it [D, C]."""
    delivery_delay_ms: int = 500
    """Wait before a destination is tried again; doubles [D]."""
    delivery_budget_s: int = 1_800
    """So long after the first try there is no further one, seconds [D]."""
    mns_endpoint: str = "https://{account}.mns.{region}.aliyuncs.com"
    """Where queues and topics are [D]."""
    eventbridge_endpoint: str = "https://{account}.eventbridge.{region}.aliyuncs.com"
    """Where event buses are [D]."""

    name: ClassVar[str] = "fc"
    latest: ClassVar[str] = "LATEST"
    payload_bytes_max: ClassVar[int] = 131_072
    """128 KB [D], KB taken as 1024."""
    retries: ClassVar[Bounds] = Bounds(0, 8, 3)
    """maxAsyncRetryAttempts [D]."""
    tells_what_runs: ClassVar[bool] = True
    record_schema: ClassVar[str] = "FcInvocationRecord"
    throttle_backoff: ClassVar[Backoff] = Backoff(500)
    """0.5 s, then 1, 2, 4, 8 and so on; no cap is stated [D]."""
    throttle_budget_ms: ClassVar[int] = 18_000_000
    """Throttles and system errors are retried for up to 5 hours [D]."""

    @property
    def age_s(self) -> Bounds:
        """maxAsyncEventAgeInSeconds [D]."""
        return Bounds(1, 2_592_000 if self.legacy_age_limit else 604_800, 86_400)

    def policy(self, retries: int | None, age_max_s: int | None) -> Policy:
        return Policy(
            attempts_max=1 + (self.retries.default if retries is None else retries),
            age_max_ms=1000 * (self.age_s.default if age_max_s is None else age_max_s),
            failure_backoff=Backoff(self.failure_delay_ms),
            throttle_backoff=self.throttle_backoff,
            throttle_budget_ms=self.throttle_budget_ms,
            depth_max=self.chain_links_max,
        )

    def delivery_policy(self) -> DeliveryPolicy:
        return DeliveryPolicy(Backoff(self.delivery_delay_ms), 1000 * self.delivery_budget_s)

    def resource(self, name: str, qualifier: str) -> str:
        """``acs:fc:::services/s.LATEST/functions/f`` (2.0), ``acs:fc:cn-hangzhou:123:functions/f`` (3.0) [D]."""
        service, slash, function = name.rpartition("/")
        if slash:
            return f"acs:fc:::services/{service}.{qualifier}/functions/{function}"
        suffix = "" if qualifier == self.latest else f"{self.qualifier_separator}{qualifier}"
        return f"acs:fc:{self.region}:{self.account}:functions/{name}{suffix}"

    def parse_resource(self, resource: str) -> Reference | None:
        return _reference(_ARN.fullmatch(resource))

    def parse_reference(self, text: str) -> Reference | None:
        """An ARN, ``name`` or ``name:qualifier``, where a 2.0 name is ``service/function`` or ``service.q/function``.

        An empty region or account is ours [D]; None for another one.
        """
        return self.parse_destination(text) or _reference(_SHORT.fullmatch(text))

    def parse_destination(self, address: str) -> Reference | None:
        match = _ARN.fullmatch(address)
        if match is None or match["region"] not in ("", self.region) or match["account"] not in ("", self.account):
            return None
        return _reference(match)

    def parse_service(self, address: str, route: DestinationSetting) -> Service | None:
        """A queue or topic of MNS, or a bus of EventBridge; nothing delivers to RocketMQ.

        An empty region or account is ours. [G]
        """
        match = _SERVICE_ARN.fullmatch(address)
        if match is None or (match["service"] == "mns") != (match["messages"] is not None) or route == "dead_letter":
            return None
        kind = _SERVICES.get((match["service"], match["place"]))
        if kind is None:
            return None
        region, account = match["region"] or self.region, match["account"] or self.account
        endpoint = self.eventbridge_endpoint if kind == "fc-eventbridge" else self.mns_endpoint
        return Service(
            kind=kind,
            region=region,
            account=account,
            name=match["name"],
            endpoint=filled(endpoint, account=account, region=region),
        )

    def read_event(self, payload: bytes) -> object:
        """The bytes themselves: what a Python 3 handler receives [D]."""
        if len(payload) > self.payload_bytes_max:
            message = f"payload size exceeds maximum allowed size ({self.payload_bytes_max} bytes)"
            raise InvalidEvent("EntityTooLarge", 400, message)
        return payload

    def event_bytes(self, payload: bytes) -> bytes:
        return payload

    def returned(self, value: object, request_id: str) -> Outcome:
        """str and bytes unchanged; [G] anything else as `json` writes it."""
        if isinstance(value, bytes):
            return self.returned_bytes(value, request_id)
        try:
            payload, strict = self._written(value)
        except Exception as error:  # the value's own methods may raise anything
            failure = FunctionFailure(
                cause="not_serializable", error_type=type(error).__name__, message=message_of(error)
            )
            return self.failed(failure, request_id)
        return self._sized(payload, strict, request_id)

    def _written(self, value: object) -> tuple[bytes, bool]:
        if isinstance(value, str):
            return value.encode(), False
        if value is None:
            return self.none_response.encode(), self.none_response == "null"
        return write_json(value)

    def returned_bytes(self, body: bytes, request_id: str) -> Outcome:
        return self._sized(body, False, request_id)

    def _sized(self, payload: bytes, is_json: bool, request_id: str) -> Outcome:
        if len(payload) > self.response_bytes_max:
            return self.failed(FunctionFailure(cause="response_too_large", size_bytes=len(payload)), request_id)
        return Outcome("returned", 200, payload, is_json=is_json)

    def failed(self, failure: FunctionFailure, request_id: str) -> Outcome:
        """Exceptions have message, type and stack trace; every other error has only a message [D error handling, C]."""
        error_type, message = self._described(failure)
        document: dict[str, object] = {"errorMessage": message}
        if failure.cause in ("raised", "not_serializable"):
            document |= {"errorType": error_type, "stackTrace": [_frame(frame) for frame in failure.trace]}
        handled = failure.cause == "handled"
        return Outcome("function_error", 200, write_json(document)[0], error_type, message, handled)

    def _described(self, failure: FunctionFailure) -> tuple[str, str]:
        match failure.cause:
            case "raised" | "not_serializable":
                return plain(failure.error_type), plain(failure.message)
            case "handled":
                return plain(failure.error_type) or "HandledInvocationError", plain(failure.message)
            case "timed_out":
                message = self.timeout_message.replace("{seconds}", seconds(failure.timeout_ms))
                return "UnhandledInvocationError", message
            case "exited":
                # The cloud adds duration and memory in brackets, the local runtime does not [C]; we know neither.
                return "UnhandledInvocationError", "Process exited unexpectedly before completing request"
            case "response_too_large":
                # [G] The wording of EntityTooLarge.
                message = f"response size exceeds maximum allowed size ({self.response_bytes_max} bytes)"
                return "UnhandledInvocationError", message

    def condition(self, ended: Ended) -> str:
        """An error code: the two kinds of function error [D], FunctionResourceExhausted [D], or a guess."""
        match ended.ending:
            case "succeeded":
                return ""
            case "loop":
                return self.loop_condition
            case "expired":
                return self.expired_condition
            case "cancelled":
                return self.cancelled_condition
            case "zero_concurrency":
                return "FunctionResourceExhausted"
            case "retries_exhausted" | "budget_spent" | "target_missing":
                return self.error_condition(ended.outcome)

    def error_condition(self, outcome: Outcome | None) -> str:
        """The error code of an attempt that ended as *outcome*."""
        assert outcome is not None, "retries, budgets and lookups are spent by attempts"
        if outcome.kind == "function_error":
            return "HandledInvocationError" if outcome.handled else "UnhandledInvocationError"
        if outcome.kind == "target_missing":
            return self.missing_condition
        # 429 and 503 say that resources ran out, 500 that the system failed [D retry policy].
        exhausted = outcome.kind == "throttled" or outcome.status_code == 503
        return "FunctionResourceExhausted" if exhausted else self.system_error_condition

    def record(self, ended: Ended) -> dict[str, Any]:
        outcome = ended.outcome
        return {
            "timestamp": self._timestamp_ms(ended),
            "requestContext": {
                "requestId": ended.request_id,
                "functionArn": ended.resource,
                "condition": self.condition(ended),
                "approximateInvokeCount": ended.attempts or self.unattempted_invoke_count,
            },
            "requestPayload": ended.event,
            "responseContext": {
                "statusCode": self._status_code(outcome),
                "functionError": self._function_error(outcome),
            },
            "responsePayload": (outcome.payload or b"") if outcome is not None else b"",
        }

    def _timestamp_ms(self, ended: Ended) -> int:
        if self.timestamp == "ended":
            return ended.ended_at_ms
        if self.timestamp == "accepted" or ended.started_at_ms is None:
            return ended.accepted_at_ms
        return ended.started_at_ms

    def _status_code(self, outcome: Outcome | None) -> int:
        """200 unless a system error occurred [D]."""
        if outcome is None:
            return self.unattempted_status_code
        match outcome.kind:
            case "returned" | "function_error":
                return 200
            case "throttled":
                return self.throttled_status_code
            case "target_missing":
                return 404
            case "system_error":
                return outcome.status_code

    def _function_error(self, outcome: Outcome | None) -> str:
        if outcome is None or outcome.kind != "function_error" or self.function_error == "empty":
            return ""
        return outcome.error_message

    def document(self, record: Mapping[str, Any]) -> bytes:
        context, response = record["requestContext"], record["responseContext"]
        return b"".join(
            (
                b'{"timestamp":%d' % record["timestamp"],
                b',"requestContext":{"requestId":%b' % dumps(context["requestId"]),
                b',"functionArn":%b' % dumps(context["functionArn"]),
                b',"condition":%b' % dumps(context["condition"]),
                b',"approximateInvokeCount":%d}' % context["approximateInvokeCount"],
                b',"requestPayload":',
                quote_payload(record["requestPayload"], self.binary_payload),
                b',"responseContext":{"statusCode":%d' % response["statusCode"],
                b',"functionError":%b}' % dumps(response["functionError"]),
                b',"responsePayload":',
                quote_payload(record["responsePayload"], self.binary_payload),
                b"}",
            )
        )

    def dead_letter_reason(self, ended: Ended) -> DeadLetterReason:
        """The last attempt's status and error, else the condition; the cloud has no dead-letter queue."""
        outcome = ended.outcome
        if outcome is None or ended.ending == "cancelled":
            return DeadLetterReason(None, self.condition(ended), "")
        return DeadLetterReason(outcome.status_code, outcome.error_type or self.condition(ended), outcome.error_message)


def _reference(match: re.Match[str] | None) -> Reference | None:
    """A 2.0 version belongs to the service, a 3.0 one to the function."""
    if match is None:
        return None
    name = match["name"] if match["service"] is None else f"{match['service']}/{match['name']}"
    return Reference(name, match["version"] or match["qualifier"])


def _frame(frame: str) -> list[str]:
    """``['File "/code/index.py"', 'line 2', 'in my_handler', "raise Exception('something is wrong')"]`` [D]."""
    match = _FRAME.match(frame)
    return [plain(part) for part in match.groups() if part] if match is not None else [plain(frame.strip())]
