"""What AWS's services get, from real servers of their API."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from streams.core.model import Delivery, Refusal, Service
from streams.destinations import Destinations
from streams.destinations.aws import object_key, trace_header
from streams.providers.aws import Aws

from .aws_server import ACCOUNT, REGION, AwsServer, free_port

pytestmark = pytest.mark.servers

FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:resize:$LATEST"
RECORD = Delivery(
    request_id="2e4d2c9e-2b5f-4b70-9c10-6f0c8f6f0a11",
    provider="aws",
    resource=FUNCTION,
    address=f"arn:aws:sqs:{REGION}:{ACCOUNT}:done",
    is_event=False,
    body='{"version":"1.0","requestPayload": {"a":  "ü😀"}\n}'.encode(),
    succeeded=True,
    ended_at_ms=1_790_000_000_123,
    accepted_at_ms=1_790_000_000_000,
    attempts=1,
    executions=1,
)
EVENT = replace(
    RECORD,
    is_event=True,
    succeeded=False,
    body=b' {"raise_error": 1}\n',
    error_code=200,
    error_message="it went wrong",
)


@pytest.fixture(scope="module")
def server() -> Iterator[AwsServer]:
    made = AwsServer(free_port())
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def destinations(server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Destinations]:
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    made = Destinations({})
    yield made
    await made.close()


def service(delivery: Delivery) -> Service:
    found = Aws().parse_service(delivery.address, delivery.setting)
    assert found is not None
    return found


async def send(destinations: Destinations, delivery: Delivery) -> Refusal | None:
    return await destinations.send(delivery, service(delivery))


async def call(what: Any, *args: Any, **kwargs: Any) -> Any:
    return await asyncio.to_thread(what, *args, **kwargs)


async def test_sqs_gets_the_record_byte_for_byte_and_no_attributes(server: AwsServer, destinations: Destinations):
    queue = await call(server.make_queue, "records")

    assert await send(destinations, replace(RECORD, address=queue)) is None
    [message] = await call(server.messages, queue)
    assert message["Body"].encode() == RECORD.body
    assert "MessageAttributes" not in message
    assert message["Attributes"]["AWSTraceHeader"] == trace_header(RECORD)


async def test_a_dead_letter_queue_gets_the_event_and_why(server: AwsServer, destinations: Destinations):
    queue = await call(server.make_queue, "events")

    assert await send(destinations, replace(EVENT, address=queue)) is None
    [message] = await call(server.messages, queue)
    assert message["Body"].encode() == EVENT.body
    assert message["MessageAttributes"] == {
        "RequestID": {"DataType": "String", "StringValue": EVENT.request_id},
        "ErrorCode": {"DataType": "Number", "StringValue": "200"},
        "ErrorMessage": {"DataType": "String", "StringValue": "it went wrong"},
    }


async def test_a_dead_letter_without_code_and_message_has_no_such_attributes(
    server: AwsServer, destinations: Destinations
):
    queue = await call(server.make_queue, "codeless")
    delivery = replace(EVENT, address=queue, error_code=None, error_message="")

    assert await send(destinations, delivery) is None
    [message] = await call(server.messages, queue)
    assert list(message["MessageAttributes"]) == ["RequestID"]


async def test_sns_gets_the_same_as_its_message(server: AwsServer, destinations: Destinations):
    def subscribed() -> tuple[str, str]:
        queue = server.make_queue("subscribed")
        topic: str = server.client("sns").create_topic(Name="topic")["TopicArn"]
        server.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
        return topic, queue

    topic, queue = await call(subscribed)
    assert await send(destinations, replace(RECORD, address=topic)) is None
    assert await send(destinations, replace(EVENT, address=topic)) is None

    got = [json.loads(message["Body"]) for message in await call(server.messages, queue)]
    record, event = sorted(got, key=lambda message: "MessageAttributes" in message)
    assert record["Message"].encode() == RECORD.body
    assert event["Message"].encode() == EVENT.body
    assert "Subject" not in record and "Subject" not in event
    assert event["MessageAttributes"] == {
        "RequestID": {"Type": "String", "Value": EVENT.request_id},
        "ErrorCode": {"Type": "Number", "Value": "200"},
        "ErrorMessage": {"Type": "String", "Value": "it went wrong"},
    }


@pytest.mark.parametrize(("succeeded", "ending"), [(True, "Success"), (False, "Failure")])
async def test_eventbridge_gets_an_event_of_lambda(
    server: AwsServer, destinations: Destinations, succeeded: bool, ending: str
):
    def ruled() -> tuple[str, str]:
        events, queue = server.client("events"), server.make_queue(f"ruled-{ending}")
        bus: str = events.create_event_bus(Name=f"bus-{ending}")["EventBusArn"]
        events.put_rule(Name="all", EventBusName=f"bus-{ending}", EventPattern='{"source": ["lambda"]}')
        events.put_targets(Rule="all", EventBusName=f"bus-{ending}", Targets=[{"Id": "1", "Arn": queue}])
        return bus, queue

    bus, queue = await call(ruled)
    assert await send(destinations, replace(RECORD, address=bus, succeeded=succeeded)) is None
    [message] = await call(server.messages, queue)
    event = json.loads(message["Body"])
    assert event["detail"] == json.loads(RECORD.body)
    assert event["source"] == "lambda"
    assert event["detail-type"] == f"Lambda Function Invocation Result - {ending}"
    assert event["resources"] == [bus, FUNCTION]
    assert event["time"] == "2026-09-21T14:13:20Z"


async def test_s3_gets_one_object_however_often_it_is_delivered(server: AwsServer, destinations: Destinations):
    await call(server.client("s3").create_bucket, Bucket="failures")
    delivery = replace(RECORD, succeeded=False, address="arn:aws:s3:::failures")

    assert await send(destinations, delivery) is None
    assert await send(destinations, delivery) is None
    [found] = (await call(server.client("s3").list_objects_v2, Bucket="failures"))["Contents"]
    assert found["Key"] == object_key(delivery)
    assert found["Key"].startswith("aws/lambda/async/resize/2026/09/21/2026-09-21T14.13.20-")
    got = await call(server.client("s3").get_object, Bucket="failures", Key=found["Key"])
    assert got["Body"].read() == RECORD.body
    assert got["ContentType"] == "application/octet-stream"


async def test_what_does_not_exist_refuses_for_good(destinations: Destinations):
    for address in (
        f"arn:aws:sqs:{REGION}:{ACCOUNT}:nowhere",
        f"arn:aws:sns:{REGION}:{ACCOUNT}:nowhere",
        "arn:aws:s3:::nowhere",
    ):
        refusal = await send(destinations, replace(RECORD, succeeded=False, address=address))

        assert refusal is not None
        assert not refusal.may_pass, refusal
        assert refusal.code and refusal.message
        assert refusal.status_code in (400, 404)


async def test_a_queue_that_is_made_anew_is_found_again(server: AwsServer, destinations: Destinations):
    queue = await call(server.make_queue, "renewed")
    sqs = server.client("sqs")
    assert await send(destinations, replace(RECORD, address=queue)) is None
    await call(sqs.delete_queue, QueueUrl=(await call(sqs.get_queue_url, QueueName="renewed"))["QueueUrl"])
    assert await send(destinations, replace(RECORD, address=queue)) is not None
    await call(server.make_queue, "renewed")

    assert await send(destinations, replace(RECORD, address=queue)) is None


async def test_more_than_a_mebibyte_is_refused_for_good(server: AwsServer, destinations: Destinations):
    queue = await call(server.make_queue, "small")
    refusal = await send(destinations, replace(RECORD, address=queue, body=b"x" * 1_048_577))

    assert refusal is not None
    assert not refusal.may_pass


async def test_a_server_that_is_away_may_come_back(destinations: Destinations, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    refusal = await send(destinations, RECORD)

    assert refusal is not None
    assert refusal.may_pass
    assert "127.0.0.1" in refusal.message


async def test_a_server_in_trouble_may_get_over_it(destinations: Destinations, monkeypatch: pytest.MonkeyPatch):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as troubled:
        port = troubled.sockets[0].getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        refusal = await send(destinations, RECORD)

    assert refusal is not None
    assert (refusal.may_pass, refusal.status_code) == (True, 503)


async def test_without_credentials_it_is_said_and_may_pass(destinations: Destinations, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    refusal = await send(destinations, RECORD)

    assert refusal is not None
    assert refusal.may_pass
    assert "credentials" in refusal.message


async def test_a_profile_that_is_not_there_may_be_made(destinations: Destinations, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    refusal = await send(destinations, RECORD)

    assert refusal is not None
    assert (refusal.code, refusal.may_pass) == ("ProfileNotFound", True)


async def test_without_the_sdk_it_is_said_how_to_get_it(destinations: Destinations, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "botocore", None)
    refusal = await send(destinations, RECORD)

    assert refusal is not None
    assert refusal.may_pass
    assert "pip install 'invocation-streams[aws]'" in refusal.message


def test_a_trace_goes_on():
    traced = replace(RECORD, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

    assert trace_header(traced) == "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1"
    assert trace_header(replace(traced, traceparent=f"{traced.traceparent}-more")) == trace_header(traced)
    assert trace_header(RECORD).startswith(f"Root=1-{RECORD.ended_at_ms // 1000:08x}-")
    assert trace_header(RECORD) == trace_header(replace(RECORD, body=b"{}"))
