"""Records and error documents against what the clouds themselves sent or printed (`tests/golden`, with sources).

A capture is compared byte for byte. A sample that a page or a snapshot prints with blanks is first written without
them, as the clouds write their records. What a sample cannot tell us is named at its test.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streams.core.model import Ended, FunctionFailure, Outcome
from streams.providers.aws import Aws
from streams.providers.base import Provider
from streams.providers.fc import FunctionCompute
from streams.providers.functiongraph import FunctionGraph

GOLDEN = Path(__file__).parents[1] / "golden"

ENDED = Ended(
    request_id="",
    resource="",
    executed_version="$LATEST",
    event=b"{}",
    ending="succeeded",
    ended_at_ms=0,
    accepted_at_ms=0,
    attempts=1,
    executions=1,
    failures=0,
    started_at_ms=0,
    outcome=None,
)


def read(path: str) -> bytes:
    """A golden file, without the line end that every text file has."""
    return (GOLDEN / path).read_bytes().removesuffix(b"\n")


def without_blanks(document: bytes) -> bytes:
    """A JSON document that was printed for people, as a machine writes it; the order of its keys stays."""
    return json.dumps(json.loads(document), separators=(",", ":"), ensure_ascii=False).encode()


def render(provider: Provider, ended: Ended) -> bytes:
    return provider.document(provider.record(ended))


def failure(payload: bytes) -> Outcome:
    return Outcome("function_error", 200, payload)


STREAMING = "arn:aws:lambda:us-east-1:000000000000:function:stackd-stream-async-2eac2a1c0259:$LATEST"

AWS_CAPTURES = {
    "aws/captured_retries_exhausted.json": replace(
        ENDED,
        request_id="cabbfbd0-e266-42a9-a52e-6e96eb16c695",
        resource="arn:aws:lambda:us-east-1:757370802528:function:arn-based-destinations-dev-helloStarting:$LATEST",
        event=b'{ "Success": true }',
        ending="retries_exhausted",
        ended_at_ms=1583791313075,
        attempts=3,
        executions=3,
        failures=3,
        outcome=failure(
            b'{"errorMessage": "name \'body\' is not defined", "errorType": "NameError", "stackTrace": '
            rb'["  File \"/var/task/handler.py\", line 8, in starting\n    \"body\": json.dumps(body)\n"]}'
        ),
    ),
    "aws/captured_event_age_exceeded_throttled.json": replace(
        ENDED,
        request_id="a1c1934c-3754-4422-932e-b52ecf93534b",
        resource="arn:aws:lambda:us-east-1:000000000000:function:stackd-lne-a718af7c05-unexecuted:$LATEST",
        event=(
            b' {"label": "never-executed", "probe": "stackd-lne-a718af7c05", '
            b'"nested": {"unicode": "\xce\xbb", "nil": null, "items": [1,true,"x"]}}\n'
        ),
        ending="expired",
        ended_at_ms=1789403574817,
        attempts=6,
        executions=0,
        outcome=Outcome("throttled", 429),
    ),
    "aws/captured_success_response_not_json.json": replace(
        ENDED,
        request_id="c109a9c6-44f8-4e11-8b81-c39c6e430ea0",
        resource=STREAMING,
        event=b'{"mode": "success", "token": "stackd-stream-async-2eac2a1c0259-success", "bytes": 0}',
        ended_at_ms=1789470569293,
        outcome=Aws().returned_bytes(b"A\x00\xff\n{}", "c109a9c6-44f8-4e11-8b81-c39c6e430ea0"),
    ),
    "aws/captured_success_empty_response.json": replace(
        ENDED,
        request_id="a5b5ec95-e265-4368-a190-3fc177463270",
        resource=STREAMING,
        event=b'{"mode": "throw_before", "token": "stackd-stream-async-2eac2a1c0259-throw_before", "bytes": 0}',
        ended_at_ms=1789470569372,
        outcome=Aws().returned_bytes(b"", "a5b5ec95-e265-4368-a190-3fc177463270"),
    ),
}


@pytest.mark.parametrize("path", AWS_CAPTURES)
def test_an_aws_record_is_what_sqs_received_to_the_byte(path: str) -> None:
    assert render(Aws(), AWS_CAPTURES[path]) == read(path)


def test_an_aws_record_has_the_checksum_that_sqs_computed() -> None:
    document = render(Aws(), AWS_CAPTURES["aws/captured_retries_exhausted.json"])

    assert hashlib.md5(document).hexdigest() == "332ed48526ab22a68a161b100f83a4bc"


def test_an_aws_record_is_the_example_of_the_developer_guide() -> None:
    golden = without_blanks(read("aws/documentation_retries_exhausted.json"))
    ended = replace(
        ENDED,
        request_id="e4b46cbf-b738-xmpl-8880-a18cdf61200e",
        resource="arn:aws:lambda:us-east-2:123456789012:function:my-function:$LATEST",
        event=nested(golden, "requestPayload"),
        ending="retries_exhausted",
        ended_at_ms=1573755365568,
        attempts=3,
        executions=3,
        failures=3,
        outcome=failure(nested(golden, "responsePayload")),
    )

    assert render(Aws(), ended) == golden


@pytest.mark.parametrize(
    ("path", "ending", "failures"),
    [
        ("aws/snapshot_success.json", "succeeded", 0),
        ("aws/snapshot_retries_exhausted.json", "retries_exhausted", 1),
        ("aws/snapshot_event_age_exceeded.json", "expired", 2),
    ],
)
def test_an_aws_record_is_the_snapshot_recorded_at_aws(path: str, ending: Any, failures: int) -> None:
    """The snapshots have no blanks left and ``date`` for the timestamp."""
    golden = without_blanks(read(path))
    context = json.loads(golden)["requestContext"]
    response = nested(golden, "responsePayload")
    ended = replace(
        ENDED,
        request_id=context["requestId"],
        resource=context["functionArn"],
        event=nested(golden, "requestPayload"),
        ending=ending,
        attempts=max(1, failures),
        executions=max(1, failures),
        failures=failures,
        outcome=Outcome("returned", 200, response) if failures == 0 else failure(response),
    )
    record = Aws().record(ended) | {"timestamp": "date"}

    assert Aws().document(record) == golden


@pytest.mark.parametrize("path", ["aws/snapshot_retries_exhausted.json", "aws/snapshot_event_age_exceeded.json"])
def test_an_aws_error_document_is_the_one_recorded_at_aws(path: str) -> None:
    """The snapshots have lost the blanks that the Python runtime writes; the capture of 2020 shows them."""
    golden = nested(without_blanks(read(path)), "responsePayload")
    error = json.loads(golden)
    outcome = Aws().failed(
        FunctionFailure(
            cause="raised",
            error_type=error["errorType"],
            message=error["errorMessage"],
            trace=tuple(error["stackTrace"]),
        ),
        error["requestId"],
    )

    assert outcome.payload == json.dumps(error).encode()
    assert without_blanks(outcome.payload) == golden


def test_an_fc_record_is_the_sample_of_the_help_page() -> None:
    ended = replace(
        ENDED,
        request_id="xxx",
        resource="acs:fc:::services/{serviceName}/functions/{functionName}",
        event=b"",
        ending="budget_spent",
        started_at_ms=1660120276975,
        attempts=3,
        outcome=Outcome("throttled", 429, error_message="Rate Exceeded."),
    )

    assert render(FunctionCompute(), ended) == without_blanks(read("fc/documentation_failure.json"))


def test_an_fc_record_is_the_data_of_the_eventbridge_sample() -> None:
    """That sample has another order of keys than the page's other one, so values are compared and not bytes."""
    data = json.loads(read("fc/documentation_eventbridge_success.json"))["data"]
    ended = replace(
        ENDED,
        request_id="0fcb7f0c-xxxx",
        resource=FunctionCompute().resource("xxxx/xxxx", "LATEST"),
        event=b"",
        started_at_ms=1660120276975,
        outcome=Outcome("returned", 200, b""),
    )

    assert json.loads(render(FunctionCompute(), ended)) == data


def test_an_fc_error_document_is_the_sample_of_the_help_page() -> None:
    outcome = FunctionCompute().failed(
        FunctionFailure(
            cause="raised",
            error_type="Exception",
            message="something is wrong",
            trace=("  File \"/code/index.py\", line 2, in my_handler\n    raise Exception('something is wrong')\n",),
        ),
        "id",
    )

    assert outcome.payload is not None
    assert without_blanks(outcome.payload) == without_blanks(read("fc/documentation_python_error.json"))


def test_a_functiongraph_record_is_the_sample_of_the_user_guide() -> None:
    """Except its timestamp, which is not valid."""
    golden = without_blanks(read("functiongraph/documentation_success.json"))
    provider = FunctionGraph(region="xx-xxxx-x", project_id="xxxxxxx", package="xxxx", utc_offset="+08:00")
    ended = replace(
        ENDED,
        request_id="1167bf8c-87b0-43ab-8f5f-26b16c64f252",
        resource=provider.resource("xxxx", "latest"),
        event=b"",
        started_at_ms=1597896000000,
        outcome=provider.returned("hello world!", "id"),
    )

    assert render(provider, ended) == golden.replace(b".000Z+08:00", b".000000000+08:00")


def test_a_functiongraph_record_is_the_captured_notification() -> None:
    """Except the last six digits of its timestamp: we know milliseconds."""
    golden = without_blanks(read("functiongraph/captured_failure.json"))
    notification = json.loads(golden)
    error = json.loads(notification["response_payload"])
    provider = FunctionGraph(
        variant="otc", region="eu-de", project_id="ae050143781c4ab6a130522e5f2d30c1", utc_offset="+02:00"
    )
    ended = replace(
        ENDED,
        request_id=notification["request_context"]["request_id"],
        resource=provider.resource("api-trace-cloud-joiner", "latest"),
        event=notification["request_payload"].encode(),
        ending="retries_exhausted",
        started_at_ms=1753696076893,
        failures=1,
        outcome=provider.failed(
            FunctionFailure(
                cause="raised",
                error_type=error["errorType"],
                message=error["errorMessage"].removeprefix("function invocation exception, error: "),
                trace=tuple(error["stackTrace"]),
            ),
            "id",
        ),
    )

    assert render(provider, ended) == golden.replace(b".893440057", b".893000000")


def nested(document: bytes, key: str) -> bytes:
    """The value of *key* as the compact *document* nests it."""
    return without_blanks(json.dumps(json.loads(document)[key]).encode())
