"""AWS Lambda's stock clients against a gateway, a worker and a broker that are all real; only the endpoint is ours.

One minute of the provider is 1.8 seconds here.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiobotocore.session
import boto3
import botocore
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from confluent_kafka.admin import AdminClient

from kafka.support import Deployment, Seen, Worker

pytestmark = pytest.mark.kafka

SCALE = 0.03
REGION = "us-east-1"
ACCOUNT = "123456789012"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/streams"
KEYS = {"aws_access_key_id": "any", "aws_secret_access_key": "thing"}

FUNCTIONS = f"""
time_scale = {SCALE}

[[function]]
name = "introduce"
provider = "aws"
target = "handlers:introduce"
on_success = "kafka://{{to}}.done"

[[function]]
name = "work"
provider = "aws"
target = "handlers:work"

[[function]]
name = "fail"
provider = "aws"
target = "handlers:fail"

[[function]]
name = "fail-60"
provider = "aws"
target = "handlers:fail"

[[function]]
name = "fail-90"
provider = "aws"
target = "handlers:fail"

[[function]]
name = "narrow"
provider = "aws"
target = "handlers:introduce"

[[function]]
name = "changing"
provider = "aws"
target = "handlers:fail"
"""


@pytest.fixture(scope="module")
def deployment(broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("gateway-aws")
    words = ["done", "failed", "dead"]
    with Deployment(
        broker.bootstrap, folder, FUNCTIONS, partitions=2, destinations=words, settings={"state": folder}
    ) as deployment:
        deployment.ready(deployment.start("worker"))
        yield deployment


def serve(deployment: Deployment, label: str, *options: str) -> str:
    """Start a gateway; gives its URL."""
    command = [sys.executable, "-m", "streams", "gateway", "--listen", "127.0.0.1:0", "--no-console", *options]
    process: Worker = deployment.start(label, command)
    deployment.until(lambda: "Serving on " in process.log(), f"{label} serves")
    return process.log().split("Serving on ")[1].split(";")[0]


@pytest.fixture(scope="module")
def url(deployment: Deployment) -> str:
    return serve(deployment, "gateway")


def client_of(url: str, **more: Any) -> Any:
    given = {"endpoint_url": url, "region_name": REGION, "config": Config(retries={"max_attempts": 0}), **KEYS, **more}
    return boto3.client("lambda", **given)


@pytest.fixture(scope="module")
def aws(url: str) -> Iterator[Any]:
    """boto3's client, without retries of its own."""
    client = client_of(url)
    yield client
    client.close()


def invoke(aws: Any, function: str, event: bytes = b"{}", **more: Any) -> str:
    """Invoke asynchronously; gives the request id."""
    reply = aws.invoke(FunctionName=function, InvocationType="Event", Payload=event, **more)
    assert reply["StatusCode"] == 202
    assert reply["Payload"].read() == b""
    assert "FunctionError" not in reply
    request_id: str = reply["ResponseMetadata"]["RequestId"]
    return request_id


def record_of(seen: Seen) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(seen.value)
    return document


def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[int, str, str]:
    """Status, code and message of the error that a call gets."""
    with pytest.raises(ClientError) as error:
        call(**arguments)
    response: Any = error.value.response
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    assert response["ResponseMetadata"]["RequestId"]
    return status, response["Error"]["Code"], response["Error"]["Message"]


# -- asynchronous invocation -----------------------------------------------------------------------------------------


def test_the_request_id_of_the_reply_is_that_of_the_record_and_of_the_function(
    deployment: Deployment, aws: Any
) -> None:
    request_id = invoke(aws, "introduce", b'{"a": 1}')

    record = record_of(deployment.delivered("done", request_id))
    assert record["requestContext"]["requestId"] == request_id
    assert record["responsePayload"] == {"request_id": request_id, "arn": f"{ARN}:introduce", "event": {"a": 1}}
    assert record["requestContext"]["functionArn"] == f"{ARN}:introduce:$LATEST"


def test_the_event_is_in_the_record_byte_for_byte(deployment: Deployment, aws: Any) -> None:
    event = b' {"label": "never-touched",  "n": 1.0}\n'

    request_id = invoke(aws, "introduce", event)

    assert b'"requestPayload":' + event + b',"responseContext":' in deployment.delivered("done", request_id).value


def test_no_event_is_an_empty_object(deployment: Deployment, aws: Any) -> None:
    reply = aws.invoke(FunctionName="introduce", InvocationType="Event")

    record = record_of(deployment.delivered("done", reply["ResponseMetadata"]["RequestId"]))
    assert record["requestPayload"] == {}


@pytest.mark.parametrize("name", [f"{ARN}:introduce", f"{ACCOUNT}:function:introduce", f"{ARN}:introduce:$LATEST"])
def test_functions_are_found_by_their_arns(deployment: Deployment, aws: Any, name: str) -> None:
    deployment.success(invoke(aws, name))


def test_the_older_api_is_understood(deployment: Deployment, aws: Any) -> None:
    reply = aws.invoke_async(FunctionName="introduce", InvokeArgs=io.BytesIO(b'{"old": true}'))

    assert reply["Status"] == 202
    record = record_of(deployment.delivered("done", reply["ResponseMetadata"]["RequestId"]))
    assert record["requestPayload"] == {"old": True}


def test_a_trace_goes_on_into_the_record(deployment: Deployment, aws: Any) -> None:
    def add(request: Any, **_: Any) -> None:
        request.headers["X-Amzn-Trace-Id"] = (
            "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
        )

    aws.meta.events.register("before-sign.lambda.Invoke", add)
    request_id = invoke(aws, "introduce")
    aws.meta.events.unregister("before-sign.lambda.Invoke", add)

    traceparent = deployment.success(request_id).header["traceparent"]
    assert traceparent.startswith("00-5759e988bd862e3fe1be46a994272793-")


# -- synchronous invocation ------------------------------------------------------------------------------------------


def test_a_synchronous_invocation_answers_with_the_result(aws: Any) -> None:
    reply = aws.invoke(FunctionName="introduce", Payload=b"[1]")

    assert (reply["StatusCode"], reply["ExecutedVersion"]) == (200, "$LATEST")
    assert json.loads(reply["Payload"].read()) == {
        "request_id": reply["ResponseMetadata"]["RequestId"],
        "arn": f"{ARN}:introduce",
        "event": [1],
    }


def test_a_synchronous_invocation_tells_of_a_function_error(aws: Any) -> None:
    reply = aws.invoke(FunctionName="fail")

    assert (reply["StatusCode"], reply["FunctionError"]) == (200, "Unhandled")
    error = json.loads(reply["Payload"].read())
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no luck")


def test_a_dry_run_runs_nothing(deployment: Deployment, aws: Any) -> None:
    reply = aws.invoke(FunctionName="introduce", InvocationType="DryRun")

    assert reply["StatusCode"] == 204
    assert deployment.executions({reply["ResponseMetadata"]["RequestId"]}) == []


# -- asynchronous configuration --------------------------------------------------------------------------------------


def test_a_configuration_lives_and_dies(deployment: Deployment, aws: Any) -> None:
    failed = f"kafka://{deployment.destinations['failed']}"
    name = {"FunctionName": "work"}

    put = aws.put_function_event_invoke_config(
        **name, MaximumRetryAttempts=1, DestinationConfig={"OnFailure": {"Destination": failed}}
    )
    assert put["FunctionArn"] == f"{ARN}:work:$LATEST"
    assert put["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {"Destination": failed}}
    assert "MaximumEventAgeInSeconds" not in put

    updated = aws.update_function_event_invoke_config(**name, MaximumEventAgeInSeconds=90)
    assert (updated["MaximumRetryAttempts"], updated["MaximumEventAgeInSeconds"]) == (1, 90)
    assert updated["DestinationConfig"]["OnFailure"] == {"Destination": failed}

    replaced = aws.put_function_event_invoke_config(**name, MaximumEventAgeInSeconds=120)
    assert "MaximumRetryAttempts" not in replaced
    assert replaced["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}

    got = aws.get_function_event_invoke_config(**name)
    assert got["LastModified"] == replaced["LastModified"]
    listed = aws.get_paginator("list_function_event_invoke_configs").paginate(**name).build_full_result()
    assert [each["FunctionArn"] for each in listed["FunctionEventInvokeConfigs"]] == [f"{ARN}:work:$LATEST"]

    aws.delete_function_event_invoke_config(**name)
    missing = (
        404,
        "ResourceNotFoundException",
        f"The function {ARN}:work:$LATEST doesn't have an EventInvokeConfig",
    )
    assert refusal(aws.get_function_event_invoke_config, **name) == missing
    assert refusal(aws.delete_function_event_invoke_config, **name) == missing


def test_errors_are_the_modelled_exceptions(aws: Any) -> None:
    with pytest.raises(aws.exceptions.ResourceNotFoundException):
        aws.get_function_event_invoke_config(FunctionName="nobody")
    with pytest.raises(aws.exceptions.InvalidParameterValueException):
        aws.put_function_event_invoke_config(FunctionName="work", DestinationConfig={})
    with pytest.raises(aws.exceptions.InvalidRequestContentException):
        aws.invoke(FunctionName="work", Payload=b"{")


def test_a_topic_that_a_configuration_names_is_made(deployment: Deployment, aws: Any) -> None:
    topic = f"{deployment.destinations['done']}.new"
    deployment.destinations["new"] = topic  # it is deleted in the end

    aws.put_function_event_invoke_config(
        FunctionName="fail", DestinationConfig={"OnSuccess": {"Destination": f"kafka://{topic}"}}
    )

    topics = AdminClient({"bootstrap.servers": deployment.settings.broker}).list_topics(timeout=10).topics
    assert topic in topics
    aws.delete_function_event_invoke_config(FunctionName="fail")


def test_a_running_worker_uses_a_changed_configuration(deployment: Deployment, aws: Any) -> None:
    aws.put_function_event_invoke_config(FunctionName="changing", MaximumRetryAttempts=0)

    def ended_after_one_attempt() -> bool:
        record = deployment.failure(invoke(aws, "changing"))
        return record.header["attempts"] == "1"

    deployment.until(ended_after_one_attempt, "no retries any more")


def test_retries_and_age_limits_end_as_on_aws(deployment: Deployment, aws: Any) -> None:
    aws.put_function_event_invoke_config(FunctionName="fail-60", MaximumEventAgeInSeconds=60)
    aws.put_function_event_invoke_config(FunctionName="fail-90", MaximumEventAgeInSeconds=90)

    ids = {name: invoke(aws, name) for name in ("fail", "fail-60", "fail-90")}

    ends = {}
    for name, request_id in ids.items():
        context = deployment.failure(request_id).datum["requestContext"]
        ends[name] = context["condition"], context["approximateInvokeCount"]
        assert len(deployment.executions({request_id})) == context["approximateInvokeCount"]
    assert ends == {
        "fail": ("RetriesExhausted", 3),
        "fail-60": ("EventAgeExceeded", 1),
        "fail-90": ("EventAgeExceeded", 2),
    }


# -- functions, versions, aliases ------------------------------------------------------------------------------------


def create(aws: Any, name: str, handler: str, **more: Any) -> dict[str, Any]:
    """Make a function of a handler that workers have."""
    made: dict[str, Any] = aws.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Role=ROLE,
        Handler=handler,
        Code={"ZipFile": b"not looked into"},
        **more,
    )
    return made


def test_one_failure_reaches_the_destination_and_the_dead_letter_queue(deployment: Deployment, aws: Any) -> None:
    dead, failed = (f"kafka://{deployment.destinations[word]}" for word in ("dead", "failed"))
    made = create(aws, "both", "handlers.fail", DeadLetterConfig={"TargetArn": dead})
    assert (made["State"], made["DeadLetterConfig"], made["CodeSize"]) == ("Active", {"TargetArn": dead}, 0)
    aws.get_waiter("function_active_v2").wait(FunctionName="both")
    aws.put_function_event_invoke_config(
        FunctionName="both", MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": failed}}
    )
    event = b'{"raise_error":  1}'

    def ends_on_the_worker() -> str | None:
        """The worker may hear of the function a moment after the gateway."""
        request_id = invoke(aws, "both", event)
        record = deployment.failure(request_id)
        return request_id if record.datum["responseContext"]["statusCode"] == 200 else None

    request_id = deployment.until(ends_on_the_worker, "the worker knows the function")
    assert request_id is not None

    record = record_of(deployment.delivered("failed", request_id))
    letter = deployment.delivered("dead", request_id)
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["responsePayload"]["errorMessage"] == "no luck"
    assert letter.value == event
    attributes = {name: letter.header[name] for name in ("RequestID", "ErrorCode", "ErrorMessage")}
    assert attributes == {"RequestID": request_id, "ErrorCode": "200", "ErrorMessage": "no luck"}


def test_no_reserved_concurrency_ends_events_and_throttles_callers(deployment: Deployment, aws: Any) -> None:
    aws.put_function_concurrency(FunctionName="narrow", ReservedConcurrentExecutions=0)
    assert aws.get_function_concurrency(FunctionName="narrow")["ReservedConcurrentExecutions"] == 0

    with pytest.raises(aws.exceptions.TooManyRequestsException) as throttled:
        aws.invoke(FunctionName="narrow")
    assert throttled.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"

    def ends_without_an_attempt() -> bool:
        request_id = invoke(aws, "narrow")
        deployment.until(lambda: deployment.ended({request_id}), f"{request_id} ends")
        return bool(deployment.reader.at("aws.failure", request_id))

    deployment.until(ends_without_an_attempt, "nothing runs")
    context = deployment.failure(invoke(aws, "narrow")).datum["requestContext"]
    assert (context["condition"], context["approximateInvokeCount"]) == ("ZeroReservedConcurrency", 0)

    aws.delete_function_concurrency(FunctionName="narrow")
    assert "ReservedConcurrentExecutions" not in aws.get_function_concurrency(FunctionName="narrow")


def test_an_alias_has_a_configuration_and_a_target_of_its_own(deployment: Deployment, aws: Any) -> None:
    create(aws, "staged", "handlers.fail")
    assert aws.publish_version(FunctionName="staged")["Version"] == "1"
    aws.create_alias(FunctionName="staged", Name="live", FunctionVersion="1")
    aws.put_function_event_invoke_config(FunctionName="staged", Qualifier="live", MaximumRetryAttempts=0)
    aws.update_function_configuration(FunctionName="staged", Handler="handlers.introduce")
    missing = f"The function {ARN}:staged:$LATEST doesn't have an EventInvokeConfig"
    assert refusal(aws.get_function_event_invoke_config, FunctionName="staged")[2] == missing

    def newest_succeeds() -> bool:
        request_id = invoke(aws, "staged")
        deployment.until(lambda: deployment.ended({request_id}), f"{request_id} ends", 60)
        return bool(deployment.reader.at("aws.success", request_id))

    deployment.until(newest_succeeds, "the worker knows the newest target", 120)
    record = deployment.failure(invoke(aws, "staged", Qualifier="live"))
    assert record.datum["requestContext"]["functionArn"] == f"{ARN}:staged:live"
    assert record.datum["requestContext"]["approximateInvokeCount"] == 1
    assert record.datum["responseContext"]["executedVersion"] == "1"
    assert aws.invoke(FunctionName="staged:live")["ExecutedVersion"] == "1"


def test_a_deleted_function_is_gone_and_its_name_free(aws: Any) -> None:
    create(aws, "brief", "handlers.introduce")
    aws.put_function_event_invoke_config(FunctionName="brief", MaximumRetryAttempts=0)

    aws.delete_function(FunctionName="brief")

    assert refusal(aws.get_function, FunctionName="brief") == (
        404,
        "ResourceNotFoundException",
        f"Function not found: {ARN}:brief",
    )
    create(aws, "brief", "handlers.introduce")
    assert refusal(aws.get_function_event_invoke_config, FunctionName="brief")[0] == 404


# -- AWS's documentation ---------------------------------------------------------------------------------------------

EXAMPLES = Path(botocore.__file__).parent / "data/lambda/2015-03-31/examples-1.json"
DOCUMENTED = [
    "CreateFunction",
    "GetFunction",
    "CreateAlias",
    "ListAliases",
    "Invoke",
    "InvokeAsync",
    "PutFunctionEventInvokeConfig",
    "UpdateFunctionEventInvokeConfig",
    "ListFunctionEventInvokeConfigs",
    "PutFunctionConcurrency",
    "UpdateFunctionConfiguration",
    "UpdateFunctionCode",
    "GetAccountSettings",
]


def test_the_examples_of_the_sdk_run_as_they_are(deployment: Deployment, aws: Any) -> None:
    """They are of several guides: what they name is made by the first of them."""
    examples = json.loads(EXAMPLES.read_text())["examples"]
    for operation in DOCUMENTED:
        for example in examples[operation]:
            method = getattr(aws, botocore.xform_name(operation))

            reply = method(**example["input"])

            shown = {name for name, value in example["output"].items() if isinstance(value, str | int | dict)}
            assert shown - {"Payload"} <= reply.keys(), operation


SNIPPETS = [
    """
import json
import boto3
client = boto3.client('lambda')
response = client.invoke(
    FunctionName='introduce',
    InvocationType='Event',
    Payload=json.dumps({"key": "value"}),
)
assert response['StatusCode'] == 202
""",
    """
import boto3
lambda_client = boto3.client("lambda")
response = lambda_client.put_function_event_invoke_config(
    FunctionName="introduce",
    MaximumRetryAttempts=1,
    MaximumEventAgeInSeconds=3600,
    DestinationConfig={
        "OnFailure": {"Destination": "arn:aws:sqs:us-east-1:123456789012:destination"},
    },
)
assert response["MaximumEventAgeInSeconds"] == 3600
lambda_client.delete_function_event_invoke_config(FunctionName="introduce")
""",
]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_programs_run_as_they_are_with_the_endpoint_in_the_environment(url: str, snippet: str) -> None:
    finished = subprocess.run([sys.executable, "-c", snippet], env=environment(url), capture_output=True, text=True)

    assert finished.returncode == 0, finished.stderr


def environment(url: str) -> Mapping[str, str]:
    """What AWS's tools read, and nothing of this machine's own configuration."""
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_PAGER": ""}
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "thing", "AWS_DEFAULT_REGION": REGION}
    return {"PATH": os.environ["PATH"], "HOME": os.devnull, "AWS_ENDPOINT_URL": url, **nowhere, **keys}


# -- other clients ---------------------------------------------------------------------------------------------------


def test_the_command_line_invokes_and_configures(deployment: Deployment, url: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> Any:
        command = [sys.executable, "-m", "awscli", "lambda", *arguments]
        finished = subprocess.run(command, env=environment(url), capture_output=True, text=True)
        assert finished.returncode == 0, finished.stderr
        return json.loads(finished.stdout) if finished.stdout.strip() else None

    named = ("--function-name", "introduce")
    out = str(tmp_path / "out")
    assert run("invoke", *named, "--invocation-type", "Event", "--payload", '{"cli": 1}', out) == {"StatusCode": 202}
    put = run("put-function-event-invoke-config", *named, "--maximum-retry-attempts", "0")
    assert put["MaximumRetryAttempts"] == 0
    assert isinstance(put["LastModified"], float)
    run("delete-function-event-invoke-config", *named)
    assert run("invoke", *named, out)["ExecutedVersion"] == "$LATEST"
    assert {"introduce", "fail"} <= {each["FunctionName"] for each in run("list-functions")["Functions"]}


async def test_the_asynchronous_sdk_invokes(deployment: Deployment, url: str) -> None:
    session = aiobotocore.session.get_session()
    async with session.create_client("lambda", endpoint_url=url, region_name=REGION, **KEYS) as client:
        replies = await asyncio.gather(
            *(
                client.invoke(FunctionName="introduce", InvocationType="Event", Payload=b'{"n": %d}' % n)
                for n in range(20)
            )
        )

    ids = [reply["ResponseMetadata"]["RequestId"] for reply in replies]
    assert len(set(ids)) == 20
    for request_id in ids:
        deployment.success(request_id)


def test_signatures_are_checked_once_there_are_keys(deployment: Deployment, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text('[[key]]\nid = "AKIDEXAMPLE"\nsecret = "right"\n')
    url = serve(deployment, "gateway-with-keys", "--keys", str(keys))

    def client(key: str, secret: str, region: str = REGION) -> Any:
        return client_of(url, aws_access_key_id=key, aws_secret_access_key=secret, region_name=region)

    right = client("AKIDEXAMPLE", "right")
    for name in ("introduce", f"{ARN}:introduce:$LATEST"):
        assert right.invoke(FunctionName=name, InvocationType="Event")["StatusCode"] == 202
    right.list_functions(MaxItems=5, Marker="a b/c~d")
    right.put_function_event_invoke_config(FunctionName="work", Qualifier="$LATEST", MaximumRetryAttempts=0)
    right.delete_function_event_invoke_config(FunctionName="work")
    refused = {
        "wrong": refusal(client("AKIDEXAMPLE", "wrong").invoke, FunctionName="introduce")[:2],
        "unknown": refusal(client("AKIDNOBODY", "right").invoke, FunctionName="introduce")[:2],
        "elsewhere": refusal(client("AKIDEXAMPLE", "right", "eu-west-1").invoke, FunctionName="introduce")[:2],
    }
    assert refused == {
        "wrong": (403, "InvalidSignatureException"),
        "unknown": (403, "UnrecognizedClientException"),
        "elsewhere": (403, "InvalidSignatureException"),
    }
