"""AWS Lambda's API: what is accepted, what is refused and in which words, and what is shown.

Texts and shapes marked [V] in `providers/aws.py`'s sense are those recorded from AWS by LocalStack's snapshots.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.core.model import HttpTarget, KafkaDestination, Outcome, PythonTarget, ServiceDestination
from streams.gateway.aws import AwsLambda
from streams.gateway.edge import Reply
from streams.gateway.intake import TooLarge

from .support import EXAMPLES, NOW_MS, Bench

ACCOUNT, REGION = "123456789012", "us-east-1"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/any"
FUNCTIONS = """
[[function]]
name = "resize"
provider = "aws"
url = "http://127.0.0.1:9/"
timeout_s = 1.5

[[function]]
name = "other"
provider = "aws"
url = "http://127.0.0.1:9/"
retries = 1
on_failure = "kafka://failed"
dead_letter = "kafka://dead"
reserved_concurrency = 5
qualifiers.prod = { retries = 0, version = "7" }
qualifiers.7 = {}

[[function]]
name = "resize"
provider = "fc"
url = "http://127.0.0.1:9/"
"""
EVENT = {"X-Amz-Invocation-Type": "Event"}
INVOKE = "/2015-03-31/functions/{}/invocations"
CONFIG = "/2019-09-25/functions/{}/event-invoke-config"
SQS = f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"


class Lambda(Bench):
    """Calls with JSON, answers with it."""

    async def call(self, method: str, path: str, document: Any = None, **headers: str) -> tuple[int, Any]:
        body = b"" if document is None else json.dumps(document).encode()
        reply = await self.send(method, path, body, headers)
        assert reply.headers["x-amzn-RequestId"] == "id-1"
        return reply.status, json.loads(reply.body) if reply.body else None

    async def refusal(self, method: str, path: str, document: Any = None) -> tuple[int, str, str]:
        """Status, code and text of what must be refused."""
        body = document if isinstance(document, bytes) else b"" if document is None else json.dumps(document).encode()
        return refusal(await self.send(method, path, body))

    async def create(self, name: str = "new", **members: Any) -> dict[str, Any]:
        document = {"FunctionName": name, "Role": ROLE, "Runtime": "python3.12", "Handler": "json.dumps", "Code": {}}
        status, made = await self.call("POST", "/2015-03-31/functions", {**document, **members})
        assert status == 201, made
        shown: dict[str, Any] = made
        return shown

    def function(self, name: str, qualifier: str = "$LATEST") -> Any:
        """What workers have."""
        return self.services.functions.qualifiers("aws", name)[qualifier]


def refusal(reply: Reply) -> tuple[int, str, str]:
    document = json.loads(reply.body)
    text = document.get("message", document.get("Message"))
    assert reply.content_type == "application/json"
    return reply.status, reply.headers["x-amzn-ErrorType"], text


@pytest.fixture
def aws(tmp_path: Path) -> Lambda:
    return Lambda(tmp_path, AwsLambda, FUNCTIONS)


# -- asynchronous invocation -----------------------------------------------------------------------------------------


async def test_an_event_is_accepted_as_it_is(aws: Lambda) -> None:
    reply = await aws.send("POST", INVOKE.format("resize"), b' {"a":  1}\n', EVENT)

    assert (reply.status, reply.body, reply.content_type) == (202, b"", None)
    assert reply.headers.keys() == {"x-amzn-RequestId", "x-amzn-Remapped-Content-Length", "X-Amzn-Trace-Id"}
    headers = {"function": f"{ARN}:resize:$LATEST".encode(), "request-id": b"id-1"}
    assert aws.intake.accepted == [("id-1", b' {"a":  1}\n', headers)]


async def test_no_event_is_an_empty_object(aws: Lambda) -> None:
    await aws.send("POST", INVOKE.format("resize"), b"", EVENT)

    assert aws.intake.accepted[0][1] == b"{}"


@pytest.mark.parametrize(
    ("reference", "query", "resource"),
    [
        ("other", "", "other:$LATEST"),
        ("other", "?Qualifier=prod", "other:prod"),
        ("other:prod", "", "other:prod"),
        ("other:prod", "?Qualifier=prod", "other:prod"),
        (f"{ACCOUNT}:function:other", "", "other:$LATEST"),
        ("function:other:prod", "", "other:prod"),
        (f"{ARN}:other", "?Qualifier=%24LATEST", "other:$LATEST"),
        (f"{ARN}:other:7", "", "other:7"),
    ],
)
async def test_functions_are_named_in_many_ways(aws: Lambda, reference: str, query: str, resource: str) -> None:
    reply = await aws.send("POST", INVOKE.format(quote(reference, safe="")) + query, b"1", EVENT)

    assert reply.status == 202
    assert aws.intake.accepted[0][2]["function"] == f"{ARN}:{resource}".encode()


NAME_PATTERN = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?"
    r"([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)


@pytest.mark.parametrize(
    ("reference", "query", "status", "code", "message"),
    [
        ("nobody", "", 404, "ResourceNotFoundException", f"Function not found: {ARN}:nobody:$LATEST"),
        ("a" * 65, "", 404, "ResourceNotFoundException", f"Function not found: {ARN}:{'a' * 65}:$LATEST"),
        ("resize:old", "", 404, "ResourceNotFoundException", f"Function not found: {ARN}:resize:old"),
        (
            f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:resize",
            "",
            404,
            "ResourceNotFoundException",
            "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')",
        ),
        (
            "other:prod",
            "?Qualifier=7",
            400,
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier.",
        ),
        (
            "re size",
            "",
            400,
            "ValidationException",
            "1 validation error detected: Value 're size' at 'functionName' failed to satisfy constraint: Member must "
            f"satisfy regular expression pattern: {NAME_PATTERN}",
        ),
        (
            "re size",
            "?Qualifier=a%20b",
            400,
            "ValidationException",
            "2 validation errors detected: Value 're size' at 'functionName' failed to satisfy constraint: Member must "
            f"satisfy regular expression pattern: {NAME_PATTERN}; Value 'a b' at 'qualifier' failed to satisfy "
            "constraint: Member must satisfy regular expression pattern: (|[a-zA-Z0-9$_-]+)",
        ),
    ],
)
async def test_wrong_names_are_refused_in_awss_words(
    aws: Lambda, reference: str, query: str, status: int, code: str, message: str
) -> None:
    reply = await aws.send("POST", INVOKE.format(quote(reference, safe="")) + query, b"1", EVENT)

    assert refusal(reply) == (status, code, message)
    assert aws.intake.accepted == []


async def test_a_foreign_account_is_not_told_anything(aws: Lambda) -> None:
    name = quote(f"arn:aws:lambda:{REGION}:210987654321:function:resize", safe="")

    assert (await aws.refusal("POST", INVOKE.format(name), b"1"))[:2] == (403, "AccessDeniedException")


async def test_only_awss_invocation_types_are_known(aws: Lambda) -> None:
    reply = await aws.send("POST", INVOKE.format("resize"), b"1", {"X-Amz-Invocation-Type": "Later"})

    assert refusal(reply) == (
        400,
        "ValidationException",
        "1 validation error detected: Value 'Later' at 'invocationType' failed to satisfy constraint: Member must "
        "satisfy enum value set: [Event, RequestResponse, DryRun]",
    )


@pytest.mark.parametrize("body", [b"{", b"nothing", b'{"a": 1} 2', b"\xff", b"NaN", b" "])
@pytest.mark.parametrize("kind", ["Event", "RequestResponse"])
async def test_what_is_not_json_is_never_queued(aws: Lambda, body: bytes, kind: str) -> None:
    reply = await aws.send("POST", INVOKE.format("resize"), body, {"X-Amz-Invocation-Type": kind})

    status, code, message = refusal(reply)
    assert (status, code) == (400, "InvalidRequestContentException")
    assert message.startswith("Could not parse request body into json: Could not parse payload into json: ")
    assert aws.intake.accepted == []


async def test_an_event_has_a_mebibyte_at_most(aws: Lambda) -> None:
    fits = b'"' + b"x" * (1_048_576 - 2) + b'"'

    assert (await aws.send("POST", INVOKE.format("resize"), fits, EVENT)).status == 202
    assert refusal(await aws.send("POST", INVOKE.format("resize"), fits + b" ", EVENT)) == (
        413,
        "RequestEntityTooLargeException",
        "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)",
    )


async def test_a_synchronous_event_has_six_mebibytes_at_most(aws: Lambda) -> None:
    fits = b'"' + b"x" * (6_291_456 - 2) + b'"'

    assert (await aws.send("POST", INVOKE.format("resize"), fits)).status == 200
    assert refusal(await aws.send("POST", INVOKE.format("resize"), fits + b" ")) == (
        413,
        "RequestEntityTooLargeException",
        "Request must be smaller than 6291456 bytes for the InvokeFunction operation",
    )


async def test_what_kafka_finds_too_large_is_too_large(aws: Lambda) -> None:
    aws.intake.error = TooLarge()

    assert refusal(await aws.send("POST", INVOKE.format("resize"), b"1", EVENT))[0] == 413


async def test_the_older_api_did_not_grow(aws: Lambda) -> None:
    path = "/2014-11-13/functions/resize/invoke-async"

    reply = await aws.send("POST", path, b"1")

    assert (reply.status, reply.body, reply.content_type) == (202, b"", "application/json")
    assert "X-Amzn-Trace-Id" not in reply.headers
    assert (await aws.refusal("POST", path, b'"' + b"x" * 262_143 + b'"'))[2] == (
        "262145 byte payload is too large for the Event invocation type (limit 262144 bytes)"
    )


async def test_a_client_context_is_ignored(aws: Lambda) -> None:
    headers = {**EVENT, "X-Amz-Client-Context": "no base64!"}

    assert (await aws.send("POST", INVOKE.format("resize"), b"1", headers)).status == 202


TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
W3C = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"


@pytest.mark.parametrize(
    ("headers", "traceparent"),
    [
        ({}, None),
        ({"X-Amzn-Trace-Id": TRACE}, W3C),
        ({"X-Amzn-Trace-Id": TRACE.replace("Sampled=1", "Sampled=0")}, W3C[:-1] + "0"),
        ({"X-Amzn-Trace-Id": "Root=1-5759e988"}, None),
        ({"traceparent": W3C[:-1] + "3", "X-Amzn-Trace-Id": TRACE}, W3C[:-1] + "3"),
        ({"traceparent": "nonsense"}, None),
    ],
)
async def test_traces_go_on(aws: Lambda, headers: dict[str, str], traceparent: str | None) -> None:
    reply = await aws.send("POST", INVOKE.format("resize"), b"1", {**EVENT, **headers})

    given = aws.intake.accepted[0][2].get("traceparent")
    assert given == (traceparent.encode() if traceparent is not None else None)
    if headers.get("X-Amzn-Trace-Id") == TRACE:
        assert reply.headers["X-Amzn-Trace-Id"].startswith("root=1-5759e988-bd862e3fe1be46a994272793;parent=")


# -- synchronous invocation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "status", "error", "body"),
    [
        (Outcome("returned", payload=b'{"a":1}'), 200, None, b'{"a":1}'),
        (Outcome("function_error", payload=b'{"errorType":"E"}'), 200, "Unhandled", b'{"errorType":"E"}'),
    ],
)
async def test_a_result_is_answered(aws: Lambda, outcome: Outcome, status: int, error: str | None, body: bytes) -> None:
    aws.invokers.handler = lambda call: outcome

    reply = await aws.send("POST", INVOKE.format("other") + "?Qualifier=prod", b"[1]")

    assert (reply.status, reply.body, reply.headers.get("X-Amz-Function-Error")) == (status, body, error)
    assert reply.headers["X-Amz-Executed-Version"] == "7"
    assert "X-Amz-Log-Result" not in reply.headers


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("throttled", 429, "TooManyRequestsException"),
        ("system_error", 500, "ServiceException"),
        ("target_missing", 404, "ResourceNotFoundException"),
    ],
)
async def test_a_function_that_did_not_run_is_an_error(aws: Lambda, kind: Any, status: int, code: str) -> None:
    aws.invokers.handler = lambda call: Outcome(kind, status_code=status)

    assert (await aws.refusal("POST", INVOKE.format("resize"), b"1"))[:2] == (status, code)


async def test_without_concurrency_callers_are_throttled_and_events_accepted(aws: Lambda) -> None:
    await aws.call("PUT", "/2017-10-31/functions/resize/concurrency", {"ReservedConcurrentExecutions": 0})

    status, document = await aws.call("POST", INVOKE.format("resize"), 1)

    assert (status, document) == (
        429,
        {
            "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
            "Type": "User",
            "message": "Rate Exceeded.",
        },
    )
    assert (await aws.send("POST", INVOKE.format("resize"), b"1", EVENT)).status == 202


async def test_a_dry_run_looks_only(aws: Lambda) -> None:
    headers = {"X-Amz-Invocation-Type": "DryRun"}

    assert (await aws.send("POST", INVOKE.format("resize"), b"1", headers)).status == 204
    assert (await aws.send("POST", INVOKE.format("nobody"), b"1", headers)).status == 404
    assert aws.intake.accepted == []


# -- asynchronous configuration --------------------------------------------------------------------------------------


async def test_put_replaces(aws: Lambda) -> None:
    path = CONFIG.format("resize")
    await aws.call("PUT", path, {"MaximumRetryAttempts": 1, "MaximumEventAgeInSeconds": 100})

    status, document = await aws.call("PUT", path, {"DestinationConfig": {"OnFailure": {"Destination": SQS}}})

    assert (status, document) == (
        200,
        {
            "LastModified": NOW_MS / 1000,
            "FunctionArn": f"{ARN}:resize:$LATEST",
            "DestinationConfig": {"OnSuccess": {}, "OnFailure": {"Destination": SQS}},
        },
    )
    assert await aws.call("GET", path) == (200, document)
    assert aws.function("resize").on_failure == ServiceDestination(SQS)
    assert aws.function("resize").policy.attempts_max == 3


async def test_update_merges_route_by_route(aws: Lambda) -> None:
    path = CONFIG.format("resize")
    routes = {"OnSuccess": {"Destination": "kafka://done"}, "OnFailure": {"Destination": "kafka://failed"}}
    await aws.call("PUT", path, {"MaximumRetryAttempts": 1, "DestinationConfig": routes})

    _, first = await aws.call("POST", path, {"MaximumEventAgeInSeconds": 60})
    _, second = await aws.call("POST", path, {"DestinationConfig": {"OnSuccess": {}, "OnFailure": {"Destination": ""}}})

    assert (first["MaximumRetryAttempts"], first["MaximumEventAgeInSeconds"]) == (1, 60)
    assert first["DestinationConfig"] == routes
    assert second["DestinationConfig"] == {"OnSuccess": routes["OnSuccess"], "OnFailure": {}}
    assert (second["MaximumRetryAttempts"], second["MaximumEventAgeInSeconds"]) == (1, 60)


async def test_topics_that_are_named_are_made(aws: Lambda) -> None:
    await aws.call("PUT", CONFIG.format("resize"), {"DestinationConfig": {"OnSuccess": {"Destination": "kafka://new"}}})

    assert aws.live.topics == ["new"]
    assert aws.function("resize").on_success == KafkaDestination("new")


@pytest.mark.parametrize("qualifier", ["$LATEST", "prod", "7"])
async def test_each_qualifier_has_a_configuration_of_its_own(aws: Lambda, qualifier: str) -> None:
    path = CONFIG.format("other")

    _, document = await aws.call("PUT", f"{path}?Qualifier={qualifier}", {"MaximumRetryAttempts": 2})

    assert document["FunctionArn"] == f"{ARN}:other:{qualifier}"
    attempts = {q: aws.function("other", q).policy.attempts_max for q in ("$LATEST", "prod", "7")}
    assert attempts == {"$LATEST": 2, "prod": 1, "7": 3, qualifier: 3}


async def test_what_the_file_says_is_a_configuration(aws: Lambda) -> None:
    path = CONFIG.format("other")

    _, document = await aws.call("GET", path)
    status, _ = await aws.call("DELETE", path)

    assert (document["MaximumRetryAttempts"], document["DestinationConfig"]["OnFailure"]) == (
        1,
        {"Destination": "kafka://failed"},
    )
    assert document["LastModified"] == aws.live.description.file_modified_at_ms / 1000
    assert status == 204
    assert (await aws.refusal("GET", path))[0] == 404
    assert aws.function("other").policy.attempts_max == 3


async def test_lists_come_in_pages(aws: Lambda) -> None:
    path = f"{CONFIG.format('other')}/list"

    _, first = await aws.call("GET", f"{path}?MaxItems=1")
    _, second = await aws.call("GET", f"{path}?MaxItems=1&Marker={first['NextMarker']}")

    shown = [each["FunctionArn"] for each in first["FunctionEventInvokeConfigs"] + second["FunctionEventInvokeConfigs"]]
    assert shown == [f"{ARN}:other:$LATEST", f"{ARN}:other:prod"]
    assert "NextMarker" not in second


def missing(qualifier: str) -> str:
    return f"The function {ARN}:{qualifier} doesn't have an EventInvokeConfig"


NOTHING = "You must specify at least one of error handling or destination setting."
GONE = "The function doesn't exist."
SOME = {"MaximumRetryAttempts": 1}


@pytest.mark.parametrize(
    ("method", "function", "body", "status", "message"),
    [
        ("PUT", "nobody", {}, 400, NOTHING),  # before anybody looks for the function
        ("PUT", "resize", {"DestinationConfig": {}}, 400, NOTHING),
        ("POST", "resize", {}, 400, NOTHING),
        ("PUT", "nobody", SOME, 404, GONE),
        ("POST", "nobody", SOME, 404, GONE),
        ("PUT", "resize:old", SOME, 404, GONE),
        ("POST", "resize", SOME, 404, missing("resize:$LATEST")),
        ("GET", "nobody", None, 404, missing("nobody:$LATEST")),
        ("GET", "resize", None, 404, missing("resize:$LATEST")),
        ("GET", "resize:old", None, 404, missing("resize:old")),
        ("DELETE", "resize", None, 404, missing("resize:$LATEST")),
    ],
)
async def test_what_is_not_there_is_refused_in_awss_order(
    aws: Lambda, method: str, function: str, body: Any, status: int, message: str
) -> None:
    code = "InvalidParameterValueException" if status == 400 else "ResourceNotFoundException"

    assert await aws.refusal(method, CONFIG.format(function), body) == (status, code, message)


async def test_the_list_of_a_missing_function_is_refused(aws: Lambda) -> None:
    assert (await aws.refusal("GET", f"{CONFIG.format('nobody')}/list"))[2] == GONE


DESTINATION_PATTERN = (
    r"$|kafka://([^.]([a-zA-Z0-9\-_.]{0,248}))|arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:"
    r"((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1})?:(\d{12})?:(.*)"
)


@pytest.mark.parametrize(
    ("route", "address", "message"),
    [
        (
            "OnFailure",
            "queue",
            "1 validation error detected: Value 'queue' at 'destinationConfig.onFailure.destination' failed to satisfy "
            f"constraint: Member must satisfy regular expression pattern: {DESTINATION_PATTERN}",
        ),
        ("OnFailure", f"{ARN}:resize", "You can't specify the function as a destination for itself."),
        ("OnSuccess", f"{ARN}:nobody", f"The destination ARN {ARN}:nobody is invalid."),
        (
            "OnSuccess",
            "arn:aws:iam::123456789012:role/x",
            "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination="
            "arn:aws:iam::123456789012:role/x), onFailure=null) is invalid.",
        ),
        (
            "OnSuccess",
            "arn:aws:s3:::bucket",
            "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination=arn:aws:s3:::bucket), "
            "onFailure=null) is invalid.",
        ),
        (
            "OnFailure",
            f"{SQS}.fifo",
            "The provided destination config DestinationConfig(onSuccess=null, "
            f"onFailure=OnFailure(destination={SQS}.fifo)) is invalid.",
        ),
        ("OnFailure", "kafka://a b", None),
        ("OnFailure", "kafka://é", "The destination ARN kafka://é is invalid."),
        ("OnFailure", "kafka://invocations", "kafka://invocations is a topic of Streams itself"),
    ],
)
async def test_impossible_destinations_are_refused(aws: Lambda, route: str, address: str, message: str | None) -> None:
    config = {"DestinationConfig": {route: {"Destination": address}}}

    status, _, text = await aws.refusal("PUT", CONFIG.format("resize"), config)

    assert status == 400
    assert message is None or text == message
    assert aws.live.topics == []


@pytest.mark.parametrize(
    "address",
    [
        SQS,
        f"arn:aws:sns:{REGION}:{ACCOUNT}:topic",
        f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/bus",
        "arn:aws:s3:::bucket",
        f"{ARN}:other:prod",
        "kafka://failed",
        "",
    ],
)
async def test_possible_destinations_are_accepted(aws: Lambda, address: str) -> None:
    config = {"DestinationConfig": {"OnFailure": {"Destination": address}}}

    assert (await aws.call("PUT", CONFIG.format("resize"), config))[0] == 200


@pytest.mark.parametrize(
    ("member", "value", "constraint"),
    [
        ("MaximumRetryAttempts", 3, "less than or equal to 2"),
        ("MaximumRetryAttempts", -1, "greater than or equal to 0"),
        ("MaximumEventAgeInSeconds", 59, "greater than or equal to 60"),
        ("MaximumEventAgeInSeconds", 21_601, "less than or equal to 21600"),
    ],
)
async def test_bounds_are_awss(aws: Lambda, member: str, value: int, constraint: str) -> None:
    at = member[0].lower() + member[1:]

    assert await aws.refusal("PUT", CONFIG.format("resize"), {member: value}) == (
        400,
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{at}' failed to satisfy constraint: Member must have value "
        f"{constraint}",
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "InvalidRequestContentException"),
        (b"[]", "SerializationException"),
        (b'{"MaximumRetryAttempts": "1"}', "SerializationException"),
        (b'{"MaximumRetryAttempts": 1.5}', "SerializationException"),
        (b'{"DestinationConfig": 1}', "SerializationException"),
        (b'{"DestinationConfig": {"OnFailure": {"Destination": 1}}}', "SerializationException"),
    ],
)
async def test_bodies_of_another_kind_are_refused(aws: Lambda, body: bytes, code: str) -> None:
    assert (await aws.refusal("PUT", CONFIG.format("resize"), body))[:2] == (400, code)


# -- concurrency, recursion, account ---------------------------------------------------------------------------------


async def test_reserved_concurrency_lives_and_dies(aws: Lambda) -> None:
    put, get = "/2017-10-31/functions/other/concurrency", "/2019-09-30/functions/other/concurrency"

    assert await aws.call("GET", get) == (200, {"ReservedConcurrentExecutions": 5})
    assert (await aws.call("PUT", put, {"ReservedConcurrentExecutions": 9}))[0] == 200
    assert aws.function("other", "prod").reserved_concurrency == 9
    assert await aws.call("DELETE", put) == (204, None)
    assert await aws.call("GET", get) == (200, {})


async def test_reserved_concurrency_is_refused_as_on_aws(aws: Lambda) -> None:
    path = "/2017-10-31/functions/{}/concurrency"
    some = {"ReservedConcurrentExecutions": 1}

    assert (await aws.refusal("PUT", path.format("other:prod"), some))[2].startswith(
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation."
    )
    assert (await aws.refusal("PUT", path.format("nobody"), some))[2] == f"Function not found: {ARN}:nobody:$LATEST"
    assert (await aws.refusal("PUT", path.format("resize"), {"ReservedConcurrentExecutions": 896}))[2] == (
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below "
        "its minimum value of [100]."
    )
    assert (await aws.refusal("PUT", path.format("resize"), {}))[2] == (
        "1 validation error detected: Value null at 'reservedConcurrentExecutions' failed to satisfy constraint: "
        "Member must not be null"
    )


async def test_recursion_terminates_unless_allowed(aws: Lambda) -> None:
    path = "/2024-08-31/functions/resize/recursion-config"

    assert await aws.call("GET", path) == (200, {"RecursiveLoop": "Terminate"})
    await aws.call("PUT", path, {"RecursiveLoop": "Allow"})
    assert await aws.call("GET", path) == (200, {"RecursiveLoop": "Allow"})
    assert aws.function("resize").policy.depth_max == 1_000_000
    assert (
        "Member must satisfy enum value set: [Terminate, Allow]"
        in (await aws.refusal("PUT", path, {"RecursiveLoop": "Perhaps"}))[2]
    )


async def test_the_account_counts_functions_and_what_is_reserved(aws: Lambda) -> None:
    _, document = await aws.call("GET", "/2016-08-19/account-settings")

    assert document["AccountLimit"]["UnreservedConcurrentExecutions"] == 995
    assert document["AccountUsage"]["FunctionCount"] == 2


# -- functions -------------------------------------------------------------------------------------------------------


async def test_a_function_names_a_target_of_ours(aws: Lambda) -> None:
    made = await aws.create(
        Handler="folder/module.function", DeadLetterConfig={"TargetArn": "kafka://dead"}, Description="a function"
    )

    function = aws.function("new")
    assert function.target == PythonTarget("folder.module", "function", "thread")
    assert (function.timeout_ms, function.dead_letter) == (3000, KafkaDestination("dead"))
    shown = {"FunctionName": "new", "FunctionArn": f"{ARN}:new", "Handler": "folder/module.function", "Timeout": 3}
    shown |= {"State": "Active", "Version": "$LATEST", "MemorySize": 128, "Role": ROLE, "Description": "a function"}
    shown |= {"DeadLetterConfig": {"TargetArn": "kafka://dead"}, "CodeSize": 0}
    assert shown.items() <= made.items()


async def test_a_function_behind_a_url_is_an_image(aws: Lambda) -> None:
    url = "http://127.0.0.1:9000/2015-03-31/functions/function/invocations"

    made = await aws.create(Code={"ImageUri": url}, PackageType="Image", Handler=None, Runtime=None)

    assert made["PackageType"] == "Image"
    assert aws.function("new").target == HttpTarget(url, True)
    _, shown = await aws.call("GET", "/2015-03-31/functions/new")
    assert shown["Code"]["ImageUri"] == url


async def test_the_files_functions_show(aws: Lambda) -> None:
    _, shown = await aws.call("GET", "/2015-03-31/functions/other?Qualifier=prod")

    configuration = shown["Configuration"]
    assert (configuration["FunctionArn"], configuration["Version"]) == (f"{ARN}:other:prod", "7")
    assert configuration["DeadLetterConfig"] == {"TargetArn": "kafka://dead"}
    assert shown["Concurrency"] == {"ReservedConcurrentExecutions": 5}
    _, resize = await aws.call("GET", "/2015-03-31/functions/resize/configuration")
    assert (resize["FunctionArn"], resize["Timeout"]) == (f"{ARN}:resize", 2)


async def test_functions_are_listed_in_pages(aws: Lambda) -> None:
    _, first = await aws.call("GET", "/2015-03-31/functions?MaxItems=1")
    _, second = await aws.call("GET", f"/2015-03-31/functions?MaxItems=1&Marker={first['NextMarker']}")
    _, versions = await aws.call("GET", "/2015-03-31/functions?FunctionVersion=ALL")

    assert [first["Functions"][0]["FunctionName"], second["Functions"][0]["FunctionName"]] == ["other", "resize"]
    assert "NextMarker" not in second
    assert {each["FunctionArn"] for each in versions["Functions"]} == {
        f"{ARN}:other:$LATEST",
        f"{ARN}:other:7",
        f"{ARN}:resize:$LATEST",
    }


async def test_an_update_changes_what_it_names(aws: Lambda) -> None:
    made = await aws.create(Timeout=5, DeadLetterConfig={"TargetArn": SQS})
    path = "/2015-03-31/functions/new/configuration"

    _, first = await aws.call("PUT", path, {"MemorySize": 256, "DeadLetterConfig": {}})
    _, second = await aws.call("PUT", path, {"Handler": "json.loads", "DeadLetterConfig": {"TargetArn": ""}})

    assert (first["Timeout"], first["MemorySize"], first["DeadLetterConfig"]) == (5, 256, {"TargetArn": SQS})
    assert "DeadLetterConfig" not in second
    assert (second["MemorySize"], second["Handler"]) == (256, "json.loads")
    assert len({made["RevisionId"], first["RevisionId"], second["RevisionId"]}) == 3
    assert aws.function("new").target == PythonTarget("json", "loads", "thread")
    stale = {"RevisionId": made["RevisionId"], "Timeout": 9}
    assert (await aws.refusal("PUT", path, stale))[:2] == (412, "PreconditionFailedException")


async def test_new_code_is_seen_by_its_hash_alone(aws: Lambda) -> None:
    made = await aws.create(Code={"ZipFile": "b25l"}, Publish=True)

    _, updated = await aws.call("PUT", "/2015-03-31/functions/new/code", {"ZipFile": "dHdv", "Publish": True})

    assert (made["Version"], updated["Version"], updated["CodeSize"]) == ("1", "2", 0)
    assert updated["CodeSha256"] != made["CodeSha256"]


@pytest.mark.parametrize(
    ("members", "status", "message"),
    [
        ({"FunctionName": "resize"}, 409, "Function already exist: resize"),
        ({"Role": "nobody"}, 400, "Value 'nobody' at 'role' failed to satisfy constraint"),
        ({"Handler": None}, 400, "Runtime and Handler are mandatory parameters"),
        ({"Handler": "main"}, 400, "Handler 'main' names nothing that can be run here: write module.function."),
        ({"Timeout": 0}, 400, "Value '0' at 'timeout' failed"),
        ({"MemorySize": 1}, 400, "Value '1' at 'memorySize' failed"),
        ({"FunctionName": "a" * 65}, 400, "Member must have length less than or equal to 64"),
        ({"FunctionName": "new:1"}, 400, "Unsupported function name: new:1"),
        ({"Code": None}, 400, "Value null at 'code' failed"),
        ({"Code": {"ImageUri": "1.dkr.ecr.us-east-1.amazonaws.com/x:1"}}, 400, "is not a function that can be reached"),
        ({"Environment": {"Variables": {"A": "x" * 5000}}}, 400, "exceeded the 4KB limit"),
        (
            {"DeadLetterConfig": {"TargetArn": f"{SQS}.fifo"}},
            400,
            "Invalid dead letter queue ARN: FIFO SQS queue is not supported for dead letter configuration",
        ),
        (
            {"DeadLetterConfig": {"TargetArn": f"arn:aws:sqs:eu-west-1:{ACCOUNT}:q"}},
            400,
            "Invalid dead letter queue ARN: The resource specified by the TargetArn must be in the same region as the "
            "Lambda function it's associated with.",
        ),
        (
            {"DeadLetterConfig": {"TargetArn": f"arn:aws:kinesis:{REGION}:{ACCOUNT}:q"}},
            400,
            "Invalid dead letter queue ARN: The service specified by the TargetArn is not supported",
        ),
        ({"DeadLetterConfig": {"TargetArn": "kafka://functions"}}, 400, "is a topic of Streams itself"),
        ({"Layers": ["x" * 1_100_000]}, 413, "Request must be smaller"),
    ],
)
async def test_functions_that_cannot_be_are_refused(
    aws: Lambda, members: dict[str, Any], status: int, message: str
) -> None:
    document = {"FunctionName": "new", "Role": ROLE, "Runtime": "python3.12", "Handler": "a.b", "Code": {}, **members}

    refused = await aws.refusal("POST", "/2015-03-31/functions", document)

    assert refused[0] == status
    assert message in refused[2]
    assert "new" not in aws.services.functions.of("aws")


async def test_a_deleted_function_of_the_file_can_be_made_anew(aws: Lambda) -> None:
    await aws.call("PUT", CONFIG.format("other:prod"), SOME)

    assert (await aws.call("DELETE", "/2015-03-31/functions/other"))[0] == 204
    assert (await aws.refusal("GET", "/2015-03-31/functions/other"))[2] == f"Function not found: {ARN}:other"
    await aws.create("other")

    function = aws.function("other")
    assert (function.on_failure, function.dead_letter, function.reserved_concurrency) == (None, None, None)
    assert aws.services.functions.qualifiers("aws", "other").keys() == {"$LATEST"}
    assert (await aws.refusal("GET", CONFIG.format("other")))[0] == 404


# -- versions and aliases --------------------------------------------------------------------------------------------

VERSIONS, ALIASES = "/2015-03-31/functions/new/versions", "/2015-03-31/functions/new/aliases"


async def test_a_version_keeps_its_target(aws: Lambda) -> None:
    await aws.create(Description="first")

    status, version = await aws.call("POST", VERSIONS, {"Description": "one"})
    await aws.call("PUT", "/2015-03-31/functions/new/configuration", {"Handler": "json.loads"})

    assert (status, version["Version"], version["FunctionArn"]) == (201, "1", f"{ARN}:new:1")
    assert version["Description"] == "one"
    assert aws.function("new", "1").target == PythonTarget("json", "dumps", "thread")
    assert aws.function("new").target == PythonTarget("json", "loads", "thread")
    assert aws.function("new", "1").executed_version == "1"


async def test_nothing_new_is_no_new_version(aws: Lambda) -> None:
    await aws.create()

    numbers = [(await aws.call("POST", VERSIONS, {}))[1]["Version"] for _ in range(2)]
    await aws.call("PUT", "/2015-03-31/functions/new/configuration", {"Description": "changed"})
    numbers.append((await aws.call("POST", VERSIONS, {}))[1]["Version"])
    _, listed = await aws.call("GET", VERSIONS)

    assert numbers == ["1", "1", "2"]
    assert [each["Version"] for each in listed["Versions"]] == ["$LATEST", "1", "2"]


async def test_versions_are_numbered_after_those_of_the_file(aws: Lambda) -> None:
    _, version = await aws.call("POST", "/2015-03-31/functions/other/versions", {})

    assert version["Version"] == "8"


async def test_an_alias_points_to_a_version(aws: Lambda) -> None:
    await aws.create(Publish=True)
    await aws.call("PUT", "/2015-03-31/functions/new/configuration", {"Handler": "json.loads"})
    await aws.call("POST", VERSIONS, {})

    status, made = await aws.call("POST", ALIASES, {"Name": "live", "FunctionVersion": "1", "Description": "d"})
    before = aws.function("new", "live")
    _, moved = await aws.call("PUT", f"{ALIASES}/live", {"FunctionVersion": "2"})

    assert (status, made["AliasArn"], made["FunctionVersion"]) == (201, f"{ARN}:new:live", "1")
    assert (moved["FunctionVersion"], moved["Description"]) == ("2", "d")
    assert moved["RevisionId"] != made["RevisionId"]
    assert (before.executed_version, before.target.attribute) == ("1", "dumps")
    assert (aws.function("new", "live").executed_version, aws.function("new", "live").target.attribute) == (
        "2",
        "loads",
    )
    assert await aws.call("GET", f"{ALIASES}/live") == (200, moved)
    assert (await aws.call("GET", f"{ALIASES}?FunctionVersion=2"))[1]["Aliases"] == [moved]
    assert (await aws.call("GET", f"{ALIASES}?FunctionVersion=1"))[1]["Aliases"] == []


async def test_moving_an_alias_keeps_its_configuration(aws: Lambda) -> None:
    await aws.call("PUT", "/2015-03-31/functions/other/aliases/prod", {"FunctionVersion": "$LATEST"})

    function = aws.function("other", "prod")
    assert (function.executed_version, function.policy.attempts_max) == ("$LATEST", 1)


async def test_a_deleted_alias_takes_its_configuration_with_it(aws: Lambda) -> None:
    await aws.create(Publish=True)
    await aws.call("POST", ALIASES, {"Name": "live", "FunctionVersion": "1"})
    await aws.call("PUT", f"{CONFIG.format('new')}?Qualifier=live", SOME)

    assert (await aws.call("DELETE", f"{ALIASES}/live"))[0] == 204
    assert (await aws.call("DELETE", f"{ALIASES}/live"))[0] == 204
    assert (await aws.refusal("GET", f"{ALIASES}/live"))[2] == f"Cannot find alias arn: {ARN}:new:live"
    await aws.call("POST", ALIASES, {"Name": "live", "FunctionVersion": "1"})

    assert (await aws.refusal("GET", f"{CONFIG.format('new')}?Qualifier=live"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", ALIASES, {"Name": "live", "FunctionVersion": "1"}, 409, f"Alias already exists: {ARN}:new:live"),
        ("POST", ALIASES, {"Name": "a", "FunctionVersion": "9"}, 404, f"Function not found: {ARN}:new:9"),
        (
            "POST",
            ALIASES,
            {"Name": "2024", "FunctionVersion": "1"},
            400,
            "1 validation error detected: Value '2024' at 'name' failed to satisfy constraint: Member must satisfy "
            "regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)",
        ),
        (
            "POST",
            ALIASES,
            {"Name": "a", "FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}}},
            400,
            "Aliases with AdditionalVersionWeights are not supported here: an alias runs one version.",
        ),
        ("PUT", f"{ALIASES}/none", {"Description": "x"}, 404, f"Cannot find alias arn: {ARN}:new:none"),
        (
            "DELETE",
            "/2015-03-31/functions/new?Qualifier=1",
            None,
            409,
            "Unable to delete version because the following aliases reference it: [live]",
        ),
        (
            "DELETE",
            "/2015-03-31/functions/new?Qualifier=%24LATEST",
            None,
            400,
            "$LATEST version cannot be deleted without deleting the function.",
        ),
        ("DELETE", "/2015-03-31/functions/new:live", None, 400, "Deletion of aliases is not currently supported."),
    ],
)
async def test_versions_and_aliases_are_refused_in_awss_words(
    aws: Lambda, method: str, path: str, body: Any, status: int, message: str
) -> None:
    await aws.create(Publish=True)
    await aws.call("POST", ALIASES, {"Name": "live", "FunctionVersion": "1"})

    refused = await aws.refusal(method, path, body)

    assert (refused[0], refused[2]) == (status, message)


async def test_a_version_is_deleted_and_its_number_not_given_again(aws: Lambda) -> None:
    await aws.create(Publish=True)

    assert (await aws.call("DELETE", "/2015-03-31/functions/new?Qualifier=1"))[0] == 204
    assert (await aws.call("DELETE", "/2015-03-31/functions/new?Qualifier=1"))[0] == 204  # [V]
    _, version = await aws.call("POST", VERSIONS, {})

    assert version["Version"] == "2"


# -- whatever comes --------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = [
    *("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig", "OnFailure", "Destination"),
    *("FunctionName", "Role", "Code", "ZipFile", "ImageUri", "Handler", "Runtime", "Timeout", "MemorySize", "Publish"),
    *("Environment", "Variables", "DeadLetterConfig", "TargetArn", "Layers", "VpcConfig", "SnapStart", "Tags"),
    *("Name", "FunctionVersion", "Description", "RoutingConfig", "RevisionId", "CodeSha256", "RecursiveLoop"),
    *("ReservedConcurrentExecutions", "ImageConfig", "PackageType", "DryRun", "Architectures"),
]
PLAUSIBLE = st.sampled_from(
    ["resize", "other", "new", ROLE, "json.dumps", "1", "$LATEST", SQS, "kafka://t", "aGk=", ""]
)
BODIES = st.binary(max_size=60) | st.dictionaries(
    st.sampled_from(MEMBERS),
    VALUES | PLAUSIBLE | st.dictionaries(st.sampled_from(MEMBERS), VALUES | PLAUSIBLE, max_size=3),
    max_size=8,
).map(lambda document: json.dumps(document).encode())
REFERENCES = st.sampled_from(["resize", "other", "new", "other:prod", f"{ARN}:other:7"]) | st.text(max_size=12)
QUERIES = st.dictionaries(
    st.sampled_from(["Qualifier", "Marker", "MaxItems", "FunctionVersion"]),
    st.sampled_from(["prod", "7", "1", "0", "$LATEST", "ALL", "99999999999"]) | st.text(max_size=8),
    max_size=2,
)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
async def test_whatever_comes_the_answer_is_awss(aws: Lambda, data: st.DataObject) -> None:
    route = data.draw(st.sampled_from(aws.api.routes))
    path = route.path.replace("{FunctionName}", quote(data.draw(REFERENCES), safe=""))
    path = path.replace("{Name}", quote(data.draw(REFERENCES), safe=""))
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in data.draw(QUERIES).items())
    kinds = st.sampled_from([{}, EVENT, {"X-Amz-Invocation-Type": "DryRun"}]) | st.dictionaries(
        st.sampled_from(["X-Amz-Invocation-Type", "X-Amzn-Trace-Id", "traceparent", "Authorization"]),
        st.text(max_size=20),
    )

    reply = await aws.send(route.method, f"{path}?{query}", data.draw(BODIES), data.draw(kinds))

    assert reply.status < 500
    assert reply.headers["x-amzn-RequestId"] == "id-1"
    if reply.status >= 400:
        _, code, text = refusal(reply)
        assert code
        assert text or code == "AccessDeniedException"
    elif reply.content_type is not None and reply.body:
        json.loads(reply.body)


@pytest.mark.parametrize("method", ["PATCH", "GET", "DELETE"])
@pytest.mark.parametrize("path", ["/2015-03-31/", "/2015-03-31/functions/a/b/c/d", "/2018-10-31/layers", "/2015-03-31"])
async def test_what_is_no_operation_is_refused_in_its_manner(aws: Lambda, method: str, path: str) -> None:
    assert (await aws.refusal(method, path))[:2] == (404, "UnknownOperationException")
