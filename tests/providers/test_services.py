"""Which addresses name services that each cloud sends records or dead letters to."""

from __future__ import annotations

from typing import Any

import pytest

from streams.core.model import Service
from streams.providers.aws import Aws
from streams.providers.fc import FunctionCompute
from streams.providers.functiongraph import FunctionGraph

ALL = ("on_success", "on_failure", "dead_letter")
BOTH = ("on_success", "on_failure")


def routes(provider: Any, address: str) -> tuple[str, ...]:
    return tuple(route for route in ALL if provider.parse_service(address, route) is not None)


@pytest.mark.parametrize(
    ("address", "kind", "name", "settings"),
    [
        ("arn:aws:sqs:eu-west-1:123456789012:my-queue_1", "sqs", "my-queue_1", ALL),
        ("arn:aws-cn:sns:eu-west-1:123456789012:topic", "sns", "topic", ALL),
        ("arn:aws:events:eu-west-1:123456789012:event-bus/default", "eventbridge", "default", BOTH),
        ("arn:aws:s3:::a-bucket.of.mine", "s3", "a-bucket.of.mine", ("on_failure",)),
    ],
)
def test_lambda_sends_to_sqs_sns_eventbridge_and_failures_to_s3(
    address: str, kind: str, name: str, settings: tuple[str, ...]
) -> None:
    provider = Aws(region="us-east-1")
    service = provider.parse_service(address, "on_failure")

    assert service is not None
    assert (service.kind, service.name) == (kind, name)
    assert service.region == ("us-east-1" if kind == "s3" else "eu-west-1")
    assert service.account == "123456789012"
    assert routes(provider, address) == settings


@pytest.mark.parametrize(
    "address",
    [
        "arn:aws:sqs:us-east-1:123456789012:q.fifo",
        "arn:aws:sns:us-east-1:123456789012:t.fifo",
        "arn:aws:sqs:us-east-1:123456789012:",
        "arn:aws:sqs:us-east-1:123456789012:a b",
        "arn:aws:events:us-east-1:123456789012:rule/r",
        "arn:aws:dynamodb:us-east-1:123456789012:table/t",
        "arn:aws:lambda:us-east-1:123456789012:function:f",
        "arn:aws:sqs:us-east-1",
        "kafka://topic",
        "",
    ],
)
def test_lambda_sends_nowhere_else(address: str) -> None:
    assert routes(Aws(), address) == ()


@pytest.mark.parametrize(
    ("address", "service"),
    [
        (
            "acs:mns:cn-shanghai:77:/queues/q-1/messages",
            Service(
                kind="mns-queue",
                region="cn-shanghai",
                account="77",
                name="q-1",
                endpoint="https://77.mns.cn-shanghai.aliyuncs.com",
            ),
        ),
        (
            "acs:mns:::/topics/t/messages",
            Service(
                kind="mns-topic",
                region="cn-hangzhou",
                account="1234567890123456",
                name="t",
                endpoint="https://1234567890123456.mns.cn-hangzhou.aliyuncs.com",
            ),
        ),
        (
            "acs:eventbridge:cn-hangzhou:77:eventbus/bus",
            Service(
                kind="fc-eventbridge",
                region="cn-hangzhou",
                account="77",
                name="bus",
                endpoint="https://77.eventbridge.cn-hangzhou.aliyuncs.com",
            ),
        ),
    ],
)
def test_function_compute_sends_to_mns_and_eventbridge(address: str, service: Service) -> None:
    assert FunctionCompute().parse_service(address, "on_failure") == service
    assert routes(FunctionCompute(), address) == BOTH


@pytest.mark.parametrize(
    "address",
    [
        "acs:mns:::/queues/q",
        "acs:mns:::/eventbus/q/messages",
        "acs:eventbridge:::eventbus/b/messages",
        "acs:eventbridge:::queues/b",
        "acs:mq:cn-hangzhou:77:/instances/i/topic/t",
        "acs:fc:::functions/f",
    ],
)
def test_function_compute_sends_nowhere_else(address: str) -> None:
    assert routes(FunctionCompute(), address) == ()


def test_a_given_endpoint_holds_for_all_accounts() -> None:
    provider = FunctionCompute(mns_endpoint="http://127.0.0.1:8000")
    service = provider.parse_service("acs:mns:cn-shanghai:77:/queues/q/messages", "on_success")

    assert service is not None
    assert service.endpoint == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("address", "service"),
    [
        (
            'SMN {"topic_urn": "urn:smn:cn-east-3:p:topic"}',
            Service(
                kind="smn",
                region="cn-east-3",
                account="project",
                name="urn:smn:cn-east-3:p:topic",
                endpoint="https://smn.cn-east-3.myhuaweicloud.com",
            ),
        ),
        (
            'OBS {"bucket": "b", "prefix": "/failed", "expires": 5}',
            Service(
                kind="obs",
                region="cn-north-4",
                account="project",
                name="b",
                endpoint="https://obs.cn-north-4.myhuaweicloud.com",
                prefix="/failed",
                expires_days=5,
            ),
        ),
        (
            'OBS {"bucket": "b"}',
            Service(
                kind="obs",
                region="cn-north-4",
                account="project",
                name="b",
                endpoint="https://obs.cn-north-4.myhuaweicloud.com",
            ),
        ),
        (
            'DIS {"stream_name": "s"}',
            Service(
                kind="dis",
                region="cn-north-4",
                account="project",
                name="s",
                endpoint="https://dis.cn-north-4.myhuaweicloud.com:20004",
            ),
        ),
    ],
)
def test_functiongraph_sends_to_smn_obs_and_dis(address: str, service: Service) -> None:
    provider = FunctionGraph(project_id="project")

    assert provider.parse_service(address, "on_success") == service
    assert routes(provider, address) == BOTH


def test_a_parameter_may_be_written_over_several_lines() -> None:
    service = FunctionGraph().parse_service('OBS {\n  "bucket": "b"\n}\n', "on_success")

    assert service is not None
    assert service.name == "b"


def test_otc_has_no_dis_and_a_domain_of_its_own() -> None:
    provider = FunctionGraph(variant="otc", region="eu-de")
    service = provider.parse_service('SMN {"topic_urn": "urn:smn:eu-de:p:topic"}', "on_success")

    assert service is not None
    assert service.endpoint == "https://smn.eu-de.otc.t-systems.com"
    assert provider.parse_service('DIS {"stream_name": "s"}', "on_success") is None


@pytest.mark.parametrize(
    "address",
    [
        'SMN {"topic_urn": "urn:fss:cn-north-4:p:topic"}',
        "SMN {}",
        'OBS {"bucket": ""}',
        'OBS {"bucket": "b", "prefix": 1}',
        'OBS {"bucket": "b", "expires": "never"}',
        'DIS {"stream_name": 7}',
        "DIS {not json}",
        'FunctionGraph {"func_urn": "urn:fss:x"}',
        "kafka://topic",
    ],
)
def test_functiongraph_sends_nowhere_else(address: str) -> None:
    assert routes(FunctionGraph(), address) == ()
