"""What Alibaba's services get. The signatures are compared with those of Alibaba's own SDKs."""

from __future__ import annotations

import base64
import json
import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from streams.core.model import Delivery, Refusal
from streams.destinations import Destinations
from streams.providers.fc import FunctionCompute

from .stub import Got, Stub

KEYS = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "key", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "secret"}
QUEUE, TOPIC = "acs:mns:cn-hangzhou:77:/queues/q/messages", "acs:mns:cn-hangzhou:77:/topics/t/messages"
BUS = "acs:eventbridge:cn-hangzhou:77:eventbus/bus"
RECORD = Delivery(
    request_id="1-6332",
    provider="fc",
    resource="acs:fc:cn-hangzhou:77:functions/resize",
    address=QUEUE,
    is_event=False,
    body='{"requestPayload": "a<b&c>ü"}'.encode(),
    succeeded=True,
    ended_at_ms=1_609_666_982_233,
    accepted_at_ms=1_609_666_980_000,
    attempts=1,
    executions=1,
)
NO_QUEUE = (
    b'<?xml version="1.0"?><Error xmlns="http://mns.aliyuncs.com/doc/v1"><Code>QueueNotExist</Code>'
    b"<Message>The queue name you provided is not exist.</Message></Error>"
)


async def send(stub: Stub, delivery: Delivery, keys: dict[str, str] = KEYS) -> Refusal | None:
    provider = FunctionCompute(mns_endpoint=stub.url, eventbridge_endpoint=stub.url)
    service = provider.parse_service(delivery.address, delivery.setting)
    assert service is not None
    destinations = Destinations(keys)
    try:
        return await destinations.send(delivery, service)
    finally:
        await destinations.close()


def signature_of_mns(got: Got) -> str:
    """What the SDK would have signed this request with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mns.mns_client import MNSClient
    credential = SimpleNamespace(get_access_key_id=lambda: "key", get_access_key_secret=lambda: "secret")
    signed: str = MNSClient.get_signature(
        SimpleNamespace(get_element=lambda name, headers: headers.get(name, "")),
        got.method,
        got.headers,
        got.raw_path,
        credential,
    )
    return signed


def signature_of_eventbridge(got: Got) -> str:
    from alibabacloud_eventbridge_util.client import Client

    request = SimpleNamespace(method=got.method, pathname=got.raw_path, headers=got.headers, query={})
    return f"acs:key:{Client.get_signature(Client.get_string_to_sign(request), 'secret')}"


def message(got: Got) -> str:
    body = ElementTree.fromstring(got.body).find("{http://mns.aliyuncs.com/doc/v1/}MessageBody")
    assert body is not None and body.text is not None
    return body.text


async def test_a_queue_gets_the_record_in_base64(stub: Stub):
    stub.status = 201
    assert await send(stub, RECORD) is None

    [got] = stub.got
    assert (got.method, got.raw_path) == ("POST", "/queues/q/messages")
    assert base64.b64decode(message(got)) == RECORD.body
    assert got.headers["authorization"] == signature_of_mns(got)


async def test_a_topic_gets_the_record_as_it_is(stub: Stub):
    stub.status = 201
    assert await send(stub, replace(RECORD, address=TOPIC)) is None

    [got] = stub.got
    assert (got.method, got.raw_path) == ("POST", "/topics/t/messages")
    assert message(got).encode() == RECORD.body
    assert got.headers["authorization"] == signature_of_mns(got)


@pytest.mark.parametrize(("succeeded", "ending"), [(True, "succeeded"), (False, "failed")])
async def test_eventbridge_gets_a_cloud_event(stub: Stub, succeeded: bool, ending: str):
    stub.body = b'{"failedEntryCount":0,"entryList":[{"eventId":"1-6332","errorCode":null,"errorMessage":null}]}'
    assert await send(stub, replace(RECORD, address=BUS, succeeded=succeeded)) is None

    [got] = stub.got
    assert (got.method, got.raw_path) == ("POST", "/openapi/putEvents")
    assert got.headers["content-type"].startswith("application/cloudevents-batch+json")
    assert got.headers["authorization"] == signature_of_eventbridge(got)
    [event] = json.loads(got.body)
    assert event == {
        "specversion": "1.0",
        "id": "1-6332",
        "source": "acs:fc",
        "type": f"fc:AsyncInvoke:{ending}",
        "subject": RECORD.resource,
        "time": "2021-01-03T09:43:02Z",
        "datacontenttype": "application/json",
        "data": json.loads(RECORD.body),
        "aliyuneventbusname": "bus",
        "aliyunaccountid": "77",
        "aliyunregionid": "cn-hangzhou",
    }
    assert RECORD.body in got.body


@pytest.mark.parametrize("address", [QUEUE, BUS])
async def test_temporary_keys_send_their_token(stub: Stub, address: str):
    await send(stub, replace(RECORD, address=address), {**KEYS, "ALIBABA_CLOUD_SECURITY_TOKEN": "token"})

    [got] = stub.got
    assert "token" in (got.headers.get("security-token"), got.headers.get("x-acs-security-token"))
    signed = signature_of_mns(got) if address == QUEUE else signature_of_eventbridge(got)
    assert got.headers["authorization"] == signed


@pytest.mark.parametrize(
    ("address", "status", "body", "code", "may_pass"),
    [
        (QUEUE, 404, NO_QUEUE, "QueueNotExist", False),
        (QUEUE, 403, b"<Error><Code>AccessDenied</Code></Error>", "AccessDenied", False),
        (QUEUE, 500, b"<Error><Code>InternalError</Code></Error>", "InternalError", True),
        (QUEUE, 503, b"not XML", "", True),
        (QUEUE, 302, b"", "", False),
        (BUS, 409, b'{"code":"EventBusNotExist","message":"no"}', "EventBusNotExist", False),
        (BUS, 500, b"\xff", "", True),
        (BUS, 200, b'{"entryList":[{"errorCode":"InvalidEvent","errorMessage":"no"}]}', "InvalidEvent", False),
        (BUS, 200, b"[]", "BadAnswer", True),
    ],
)
async def test_a_refusal_is_understood(stub: Stub, address: str, status: int, body: bytes, code: str, may_pass: bool):
    stub.status, stub.body = status, body
    refusal: Any = await send(stub, replace(RECORD, address=address))

    assert (refusal.code, refusal.may_pass) == (code, may_pass)
    assert refusal.status_code == (status if status != 200 else None)


async def test_without_keys_it_says_which_to_set(stub: Stub):
    refusal = await send(stub, RECORD, {})

    assert refusal is not None
    assert refusal.may_pass
    assert "ALIBABA_CLOUD_ACCESS_KEY_ID" in refusal.message
    assert stub.got == []


async def test_a_server_that_is_away_may_come_back(stub: Stub):
    refusal = await send(Stub("http://127.0.0.1:1"), RECORD)

    assert refusal is not None
    assert refusal.may_pass


async def test_an_endpoint_that_is_none_is_refused_for_good():
    refusal = await send(Stub("no endpoint"), RECORD)

    assert refusal is not None
    assert not refusal.may_pass
    assert "is no URL" in refusal.message
