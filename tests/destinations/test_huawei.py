"""What Huawei's services get. Signatures are compared with its SDK's, or checked by what the gateway checks with."""

from __future__ import annotations

import base64
import json
import time
import warnings
from dataclasses import replace
from typing import Any

import pytest
from multidict import CIMultiDict

from streams.core.model import Delivery, Refusal
from streams.destinations import Destinations
from streams.destinations.huawei import bucket_url
from streams.gateway.sdk_hmac import verify
from streams.providers.functiongraph import FunctionGraph

from .stub import Got, Stub

KEYS = {"HUAWEICLOUD_SDK_AK": "key", "HUAWEICLOUD_SDK_SK": "secret"}
TOPIC = 'SMN {"topic_urn": "urn:smn:cn-north-4:p1:topic"}'
STREAM = 'DIS {"stream_name": "stream"}'
BUCKET = 'OBS {"bucket": "bucket", "prefix": "/failed", "expires": 5}'
RECORD = Delivery(
    request_id="7b2c",
    provider="functiongraph",
    resource="urn:fss:cn-north-4:p1:function:default:resize:latest",
    address=TOPIC,
    is_event=False,
    body='{"request_payload":"ü"}'.encode(),
    succeeded=False,
    ended_at_ms=1_609_666_982_233,
    accepted_at_ms=1_609_666_980_000,
    attempts=1,
    executions=1,
)


async def send(stub: Stub, delivery: Delivery, keys: dict[str, str] = KEYS) -> Refusal | None:
    url = stub.url
    provider = FunctionGraph(project_id="p1", smn_endpoint=url, obs_endpoint=url, dis_endpoint=url)
    service = provider.parse_service(delivery.address, delivery.setting)
    assert service is not None
    destinations = Destinations(keys)
    try:
        return await destinations.send(delivery, service)
    finally:
        await destinations.close()


def is_signed(got: Got) -> bool:
    """Whether a gateway of ours, which is tested with Huawei's SDK, would take it."""
    headers = CIMultiDict(got.headers)
    return verify(got.method, got.raw_path, "", headers, got.body, {"key": "secret"}, time.time_ns() // 10**6) == "key"


def signature_of_obs(got: Got) -> str:
    """What the SDK would have signed this request with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from obs.auth import Authentication
        from obs.convertor import Adapter

    authentication = Authentication("key", "secret", True, Adapter("obs"), "127.0.0.1", False)
    _, bucket, key = got.raw_path.split("/", 2)
    signed: str = authentication.doAuth("PUT", bucket, key, None, got.headers)["Authorization"]
    return signed


async def test_smn_gets_the_record_as_a_message(stub: Stub):
    assert await send(stub, RECORD) is None

    [got] = stub.got
    path = "/v2/p1/notifications/topics/urn%3Asmn%3Acn-north-4%3Ap1%3Atopic/publish"
    assert (got.method, got.raw_path) == ("POST", path)
    assert json.loads(got.body) == {"message": RECORD.body.decode()}
    assert is_signed(got)


async def test_dis_gets_the_record_as_data(stub: Stub):
    stub.body = b'{"failed_record_count":0,"records":[{"partition_id":"0","sequence_number":"1"}]}'
    assert await send(stub, replace(RECORD, address=STREAM)) is None

    [got] = stub.got
    assert (got.method, got.raw_path) == ("POST", "/v2/p1/records")
    assert json.loads(got.body) == {
        "stream_name": "stream",
        "records": [{"data": base64.b64encode(RECORD.body).decode(), "partition_key": "7b2c"}],
    }
    assert is_signed(got)


async def test_obs_gets_an_object_that_expires(stub: Stub):
    assert await send(stub, replace(RECORD, address=BUCKET)) is None

    [got] = stub.got
    assert (got.method, got.raw_path) == ("PUT", "/bucket/failed/7b2c.json")
    assert got.body == RECORD.body
    assert got.headers["x-obs-expires"] == "5"
    assert got.headers["authorization"] == signature_of_obs(got)


async def test_an_object_need_not_expire_nor_have_a_prefix(stub: Stub):
    assert await send(stub, replace(RECORD, address='OBS {"bucket": "bucket"}')) is None

    [got] = stub.got
    assert got.raw_path == "/bucket/7b2c.json"
    assert "x-obs-expires" not in got.headers
    assert got.headers["authorization"] == signature_of_obs(got)


@pytest.mark.parametrize("address", [TOPIC, BUCKET])
async def test_temporary_keys_send_their_token(stub: Stub, address: str):
    await send(stub, replace(RECORD, address=address), {**KEYS, "HUAWEICLOUD_SDK_SECURITY_TOKEN": "token"})

    [got] = stub.got
    assert "token" in (got.headers.get("x-security-token"), got.headers.get("x-obs-security-token"))
    if address == BUCKET:
        assert got.headers["authorization"] == signature_of_obs(got)


@pytest.mark.parametrize(
    ("address", "status", "body", "code", "may_pass"),
    [
        (TOPIC, 404, b'{"code":"SMN.0004","message":"no topic"}', "SMN.0004", False),
        (TOPIC, 401, b'{"error_code":"APIGW.0301","error_msg":"no"}', "APIGW.0301", False),
        (TOPIC, 429, b"{}", "", True),
        (TOPIC, 500, b"trouble", "", True),
        (STREAM, 441, b'{"errorCode":"DIS.4302","message":"no partition"}', "DIS.4302", False),
        (STREAM, 200, b'{"records":[{"error_code":"DIS.4303","error_message":"too fast"}]}', "DIS.4303", True),
        (BUCKET, 404, b"<Error><Code>NoSuchBucket</Code><Message>no</Message></Error>", "NoSuchBucket", False),
        (BUCKET, 503, b"", "", True),
    ],
)
async def test_a_refusal_is_understood(stub: Stub, address: str, status: int, body: bytes, code: str, may_pass: bool):
    stub.status, stub.body = status, body
    refusal: Any = await send(stub, replace(RECORD, address=address))

    assert (refusal.code, refusal.may_pass) == (code, may_pass)


async def test_without_keys_it_says_which_to_set(stub: Stub):
    refusal = await send(stub, RECORD, {})

    assert refusal is not None
    assert refusal.may_pass
    assert "HUAWEICLOUD_SDK_AK" in refusal.message


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("https://obs.cn-north-4.myhuaweicloud.com", "https://bucket.obs.cn-north-4.myhuaweicloud.com"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/bucket"),
        ("http://[::1]:9000", "http://[::1]:9000/bucket"),
        ("http://localhost:9000", "http://localhost:9000/bucket"),
    ],
)
def test_a_bucket_has_a_name_of_its_own_where_there_are_names(endpoint: str, url: str):
    assert bucket_url(endpoint, "bucket") == url
