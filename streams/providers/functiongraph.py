"""Huawei Cloud FunctionGraph and its twin at Open Telekom Cloud (OTC): asynchronous invocation and notification.

Sources, read by November 2026 (marks in `base.py`, files and dates in `tests/golden/functiongraph/SOURCES.md`):

- [D] The pages on asynchronous execution notification (Huawei, OTC), the OTC API reference, the developer guides, the
  SDK model huaweicloudsdkfunctiongraph 3.1.219.
- [C] A notification captured at OTC on 28 July 2025, kept by OTC's Java SDK as a test resource; openYuanrong, the open
  source kernel of the family, for error codes and texts.

What sets it apart from the other two:

- Retries default to 1 when a function has an asynchronous configuration and to 0 when it has none. No interval is
  documented for anything.
- Keys are snake_case; the timestamp is RFC 3339 text with nanoseconds and an offset; the count starts at 0.
- Event and response are strings in the record; a failed function's response is an indented JSON document.
- A large return value is not an error: the record shows null.
- Configuration is per version; there are no aliases in it.

Capture and page disagree on failures: the page says that a status code other than 200 means a system error and that a
count above 1 means retries; the capture of an ordinary exception has 500 and 0. We follow the capture. The page's own
timestamp, ``2020-08-20T12:00:00.000Z+08:00``, is not valid; we follow the capture there too. The response side of the
API reference still has FC's bounds (0 to 8 retries, age from 60 s); we follow the request side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import Any, ClassVar, Literal

from orjson import OPT_INDENT_2, JSONDecodeError, dumps, loads

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
    read_json,
    seconds,
    write_json,
)

_NAME = r"(?P<name>[A-Za-z][A-Za-z0-9_-]{0,127})(?::(?P<version>!?[A-Za-z0-9][A-Za-z0-9._-]{0,63}))?"
"""The version of an alias begins with an exclamation mark."""
_URN = re.compile(rf"urn:fss:(?P<region>[^:]*):(?P<project>[^:]*):function:(?P<package>[^:]*):{_NAME}")
_SHORT = re.compile(_NAME)


_SERVICE = re.compile(r"(?P<kind>OBS|SMN|DIS) (?P<param>\s*\{.*\}\s*)", re.DOTALL)
_SMN_TOPIC = re.compile(r"urn:smn:(?P<region>[^:]*):(?P<project>[^:]*):(?P<topic>[A-Za-z0-9_-]{1,255})")

_CANCELLED = "function invocation canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionGraph:
    """FunctionGraph in one project."""

    project_id: str = "0123456789abcdef0123456789abcdef"
    """Part of every URN."""
    region: str = "cn-north-4"
    """Part of every URN."""
    package: str = "default"
    """Part of every URN: the function app."""
    variant: Literal["huawei", "otc"] = "huawei"
    """OTC's page lacks the note that a return value above 256 KB becomes null [D]: there it is kept."""
    throttled: Literal["retry", "end"] = "retry"
    """Huawei retries throttled invocations with an interval; OTC says they are discarded, which is ``end`` [D both]."""
    unconfigured_age_s: int = 3_600
    """Age of an event when nothing is configured, seconds. [G] The default of the field [D]; another page says that
    retries last "up to 24 hours"."""
    failure_delay_ms: int = 1_000
    """Wait after the first function error; doubles. [G]"""
    throttle_delay_ms: int = 1_000
    """Wait after the first throttle or system error; doubles. [G]"""
    throttle_delay_max_ms: int = 60_000
    """Longest wait after a throttle or system error. [G]"""
    utc_offset: str = "+00:00"
    """Of a record's timestamp, as in ``+08:00``: the capture has the region's local time."""
    invoke_count_base: Literal[0, 1] = 0
    """`approximate_invoke_count` of the first attempt: 0 in sample and capture, although "greater than 1" is said to
    mean retries [D]. [G] So it counts the retries so far."""
    function_error_status_code: int = 500
    """`status_code` after a function error [C]; by the page's text it would be 200."""
    unattempted_status_code: int = 200
    """`status_code` of an event that aged out before its first attempt. [G] Other values mean a system error [D]."""
    function_error: Literal["empty", "message"] = "empty"
    """`function_error` after a function error: empty [C], although the page calls it "invocation error information"."""
    expired_condition: str = "EventAgeExceeded"
    """Condition of an event that aged out. [G]"""
    throttled_condition: str = "FunctionResourceExhausted"
    """Condition when throttling ended the invocation. [G] FC's word."""
    system_error_condition: str = "InternalServerError"
    """Condition when system errors ended the invocation. [G]"""
    missing_condition: str = "FunctionNotFound"
    """Condition when the function is gone. [G]"""
    cancelled_condition: str = "4208"
    """Condition of an invocation that was cancelled. [G] The code of "function invocation canceled" [D]."""
    cancelled_is_sent: bool = True
    """Whether the failure destination gets the record of an invocation that was cancelled. [G] Codes that begin with 4
    are errors of the user [D], and those are sent."""
    loop_condition: str = "RecursiveInvocation"
    """Condition of a chain of functions that was cut. [G] The cloud only advises against loops [D]."""
    chain_links_max: int = 100
    """Of a chain of functions, a guard of our own. [G]"""
    binary_payload: Literal["base64", "latin-1"] = "base64"
    """How a record shows a response that is not UTF-8. [G]"""
    oversize_response: Literal["null", "empty"] = "null"
    """`response_payload` of a return value above 256 KB: "a null value is returned" [D]; a newer page says "empty"."""
    indented_errors: bool = True
    """Whether a failed function's error document is indented by 2 blanks [C]."""
    delivery_delay_ms: int = 500
    """Wait before a destination is tried again; doubles. [G] Alibaba's, after whose model all this was made."""
    delivery_budget_s: int = 1_800
    """So long after the first try there is no further one, seconds. [G] Likewise."""
    smn_endpoint: str = "https://smn.{region}.{domain}"
    """Where SMN is; *domain* is ``myhuaweicloud.com``, or ``otc.t-systems.com`` for OTC [D]."""
    obs_endpoint: str = "https://obs.{region}.{domain}"
    """Where OBS is [D]."""
    dis_endpoint: str = "https://dis.{region}.{domain}:20004"
    """Where DIS is [D]."""

    name: ClassVar[str] = "functiongraph"
    latest: ClassVar[str] = "latest"
    payload_bytes_max: ClassVar[int] = 262_144
    """256 KB [D], KB taken as 1024."""
    response_bytes_max: ClassVar[int] = 6_291_456
    """Of any response [D, C]."""
    async_response_bytes_max: ClassVar[int] = 262_144
    """Of a return value that a record shows: 256 KB [D]."""
    retries: ClassVar[Bounds] = Bounds(0, 3, 1)
    """max_async_retry_attempts [D]."""
    age_s: ClassVar[Bounds] = Bounds(1, 86_400, 3_600)
    """max_async_event_age_in_seconds [D]."""
    tells_what_runs: ClassVar[bool] = True
    record_schema: ClassVar[str] = "FunctionGraphInvocationRecord"

    def __post_init__(self) -> None:
        """Raises ValueError for a *utc_offset* that is none."""
        try:
            _zone(self.utc_offset)
        except ValueError as error:
            raise ValueError(f"{self.utc_offset!r} is not an offset like +08:00") from error

    def policy(self, retries: int | None, age_max_s: int | None) -> Policy:
        """Without any configuration "FunctionGraph does not retry if a function fails due to a code error" [D]."""
        if retries is None:
            retries = 0 if age_max_s is None else self.retries.default
            age_max_s = self.unconfigured_age_s if age_max_s is None else age_max_s
        return Policy(
            attempts_max=1 + retries,
            age_max_ms=1000 * (self.age_s.default if age_max_s is None else age_max_s),
            failure_backoff=Backoff(self.failure_delay_ms),
            throttle_backoff=Backoff(self.throttle_delay_ms, cap_ms=self.throttle_delay_max_ms),
            throttled=self.throttled,
            depth_max=self.chain_links_max,
        )

    def delivery_policy(self) -> DeliveryPolicy:
        return DeliveryPolicy(Backoff(self.delivery_delay_ms), 1000 * self.delivery_budget_s)

    def resource(self, name: str, qualifier: str) -> str:
        return f"urn:fss:{self.region}:{self.project_id}:function:{self.package}:{name}:{qualifier}"

    def parse_resource(self, resource: str) -> Reference | None:
        return _reference(_URN.fullmatch(resource))

    def parse_reference(self, text: str) -> Reference | None:
        """``name``, ``name:version`` or a URN with or without version; None for another region, project or package."""
        return self.parse_destination(text) or _reference(_SHORT.fullmatch(text))

    def parse_destination(self, address: str) -> Reference | None:
        match = _URN.fullmatch(address)
        ours = (self.region, self.project_id, self.package)
        if match is None or match.group("region", "project", "package") != ours:
            return None
        return _reference(match)

    def parse_service(self, address: str, route: DestinationSetting) -> Service | None:
        """What type and parameter name, with a blank between them: ``SMN {"topic_urn": "urn:smn:..."}``."""
        match = _SERVICE.fullmatch(address)
        if match is None or route == "dead_letter":
            return None
        try:
            param = loads(match["param"])
        except JSONDecodeError:
            return None
        match match["kind"]:
            case "OBS":
                return self._bucket(param)
            case "SMN":
                topic = _SMN_TOPIC.fullmatch(str(param.get("topic_urn")))
                return None if topic is None else self._service("smn", self.smn_endpoint, topic[0], topic["region"])
            case _:
                name = param.get("stream_name")
                known = isinstance(name, str) and name and self.variant == "huawei"
                return self._service("dis", self.dis_endpoint, name) if known else None

    def _bucket(self, param: Mapping[str, Any]) -> Service | None:
        bucket, prefix, expires = param.get("bucket"), param.get("prefix") or "", param.get("expires") or 0
        if not isinstance(bucket, str) or not bucket or not isinstance(prefix, str) or not isinstance(expires, int):
            return None
        return replace(self._service("obs", self.obs_endpoint, bucket), prefix=prefix, expires_days=expires)

    def _service(self, kind: ServiceKind, endpoint: str, name: str, region: str = "") -> Service:
        region = region or self.region
        domain = "myhuaweicloud.com" if self.variant == "huawei" else "otc.t-systems.com"
        where = filled(endpoint, region=region, domain=domain)
        return Service(kind=kind, region=region, account=self.project_id, name=name, endpoint=where)

    def read_event(self, payload: bytes) -> object:
        """The event is a JSON object, its members are the caller's own [D]. [C] No body is an empty object."""
        if len(payload) > self.payload_bytes_max:
            raise InvalidEvent("FSS.0413", 413, "The request body is too large.")
        try:
            event = read_json(payload or b"{}")
        except ValueError as error:
            raise InvalidEvent("FSS.0406", 406, f"Not acceptable. {error}") from error
        if not isinstance(event, dict):
            raise InvalidEvent("FSS.0406", 406, "Not acceptable. The request body is not a JSON object")
        return event

    def event_bytes(self, payload: bytes) -> bytes:
        return payload

    def returned(self, value: object, request_id: str) -> Outcome:
        """str unchanged [D sample], nothing for None [C], anything else as `json` writes it [G]."""
        try:
            payload, strict = (value.encode(), False) if isinstance(value, str) else _written(value)
        except Exception as error:  # the value's own methods may raise anything
            return self.failed(FunctionFailure(cause="not_serializable", message=message_of(error)), request_id)
        return self._sized(payload, strict, request_id)

    def returned_bytes(self, body: bytes, request_id: str) -> Outcome:
        return self._sized(body, False, request_id)

    def _sized(self, payload: bytes, is_json: bool, request_id: str) -> Outcome:
        """Above 256 KB the invocation still succeeds, only its record does not have the value [D]."""
        if len(payload) > self.response_bytes_max:
            return self.failed(FunctionFailure(cause="response_too_large", size_bytes=len(payload)), request_id)
        return Outcome("returned", 200, payload, is_json=is_json)

    def failed(self, failure: FunctionFailure, request_id: str) -> Outcome:
        """``{"errorMessage", "errorType"[, "stackTrace"]}``, as captured."""
        error_type, message = self._described(failure)
        document: dict[str, object] = {"errorMessage": message, "errorType": error_type}
        if failure.cause == "raised":
            document["stackTrace"] = _trace(failure.trace)
        payload = dumps(document, option=OPT_INDENT_2 if self.indented_errors else None)
        handled = failure.cause == "handled"
        return Outcome("function_error", self.function_error_status_code, payload, error_type, message, handled)

    def _described(self, failure: FunctionFailure) -> tuple[str, str]:
        """Type and message. The texts are the kernel's [C]; [G] its code stands for a type where it gives none."""
        match failure.cause:
            case "raised":
                return plain(failure.error_type), f"function invocation exception, error: {plain(failure.message)}"
            case "handled":  # Node.js: callback(error) [D, OTC developer guide]
                return plain(failure.error_type), f"function entry exception, error: {plain(failure.message)}"
            case "timed_out":
                return "4010", f"call invoke timeout {seconds(failure.timeout_ms)}s"
            case "exited":
                return "4204", "runtime process is exited"
            case "response_too_large":
                limit = f"exceeds the limit of {self.response_bytes_max}"
                return "4004", f"response body size {failure.size_bytes} {limit}"
            case "not_serializable":
                return "4007", f"function result is invalid, error: {plain(failure.message)}"

    def condition(self, ended: Ended) -> str:
        """An error type; only "" and UnhandledInvocationError were ever seen [D, C]."""
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
                return self.throttled_condition
            case "retries_exhausted" | "budget_spent" | "target_missing":
                return self._error_condition(ended.outcome)

    def _error_condition(self, outcome: Outcome | None) -> str:
        assert outcome is not None, "retries, budgets and lookups are spent by attempts"
        match outcome.kind:
            case "throttled":
                return self.throttled_condition
            case "system_error":
                return self.system_error_condition
            case "target_missing":
                return self.missing_condition
            case "function_error" | "returned":
                return "HandledInvocationError" if outcome.handled else "UnhandledInvocationError"

    def record(self, ended: Ended) -> dict[str, Any]:
        outcome = self._outcome(ended)
        started_at_ms = ended.accepted_at_ms if ended.started_at_ms is None else ended.started_at_ms
        return {
            "timestamp": _timestamp(started_at_ms, self.utc_offset),
            "request_context": {
                "request_id": ended.request_id,
                "function_urn": ended.resource,
                "condition": self.condition(ended),
                "approximate_invoke_count": max(0, ended.attempts - 1 + self.invoke_count_base),
            },
            "request_payload": ended.event,
            "response_context": {
                "status_code": self._status_code(outcome),
                "function_error": self._function_error(outcome),
            },
            "response_payload": self._response(outcome),
        }

    def _outcome(self, ended: Ended) -> Outcome | None:
        """How the last attempt ended. To whoever asks for a cancelled one, it failed with error 4208 [D]."""
        if ended.ending != "cancelled":
            return ended.outcome
        document = {"errorMessage": _CANCELLED, "errorType": "4208"}
        payload = dumps(document, option=OPT_INDENT_2 if self.indented_errors else None)
        return Outcome("function_error", self.function_error_status_code, payload, "4208", _CANCELLED)

    def _status_code(self, outcome: Outcome | None) -> int:
        if outcome is None:
            return self.unattempted_status_code
        return self.function_error_status_code if outcome.kind == "function_error" else outcome.status_code

    def _function_error(self, outcome: Outcome | None) -> str:
        if outcome is None or outcome.kind != "function_error" or self.function_error == "empty":
            return ""
        return outcome.error_message

    def _response(self, outcome: Outcome | None) -> bytes | None:
        """None only for a return value that was too large."""
        if outcome is None or outcome.payload is None:
            return b""
        bound = self.async_response_bytes_max
        if outcome.kind == "returned" and len(outcome.payload) > bound and self.variant == "huawei":
            return None if self.oversize_response == "null" else b""
        return outcome.payload

    def document(self, record: Mapping[str, Any]) -> bytes:
        context, response, payload = record["request_context"], record["response_context"], record["response_payload"]
        return b"".join(
            (
                b'{"timestamp":%b' % dumps(record["timestamp"]),
                b',"request_context":{"request_id":%b' % dumps(context["request_id"]),
                b',"function_urn":%b' % dumps(context["function_urn"]),
                b',"condition":%b' % dumps(context["condition"]),
                b',"approximate_invoke_count":%d}' % context["approximate_invoke_count"],
                b',"request_payload":',
                quote_payload(record["request_payload"], self.binary_payload),
                b',"response_context":{"status_code":%d' % response["status_code"],
                b',"function_error":%b}' % dumps(response["function_error"]),
                b',"response_payload":',
                b"null" if payload is None else quote_payload(payload, self.binary_payload),
                b"}",
            )
        )

    def dead_letter_reason(self, ended: Ended) -> DeadLetterReason:
        """The last attempt's status and error, else the condition; the cloud has no dead-letter queue."""
        outcome = self._outcome(ended)
        if outcome is None:
            return DeadLetterReason(None, self.condition(ended), "")
        return DeadLetterReason(outcome.status_code, outcome.error_type or self.condition(ended), outcome.error_message)


def _reference(match: re.Match[str] | None) -> Reference | None:
    return None if match is None else Reference(match["name"], match["version"])


def _written(value: object) -> tuple[bytes, bool]:
    return (b"", False) if value is None else write_json(value)


def _trace(frames: tuple[str, ...]) -> list[str]:
    """One line each: ``at com.example.Handler(Handler.java:1)`` [C]. [G] Python's frames likewise."""
    return [plain(line.strip()) for frame in frames for line in frame.splitlines()]


@lru_cache(maxsize=16)
def _timestamp(at_ms: int, utc_offset: str) -> str:
    """``2025-07-28T11:47:56.893000000+02:00`` [C]; we know milliseconds where the cloud knows nanoseconds.

    Cached because a busy worker's records share their milliseconds.
    """
    at_s, ms = divmod(at_ms, 1000)
    at = datetime.fromtimestamp(at_s, _zone(utc_offset)).isoformat()
    return f"{at[:19]}.{ms:03d}000000{at[19:]}"


def _zone(utc_offset: str) -> tzinfo | None:
    return datetime.strptime(utc_offset, "%z").tzinfo
