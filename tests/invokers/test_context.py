"""Handlers get the context object that their provider's Python runtime passes."""

import pickle
import time
from typing import Any

import pytest

from streams.invokers.context import context_class
from streams.providers import PROVIDERS

from . import targets
from .conftest import function, python


def context(provider: str, **more: Any) -> Any:
    """The context of a call with 10 seconds left."""
    described = function(python(targets.echo, "thread"), provider=provider, **more)
    return context_class(described, PROVIDERS[provider])("r-1", time.monotonic() + 10)


def test_lambda() -> None:
    it = context("aws")

    assert it.aws_request_id == "r-1"
    assert (it.function_name, it.function_version) == ("resize", "$LATEST")
    assert it.invoked_function_arn == "arn:aws:lambda:us-east-1:123456789012:function:resize"
    assert it.memory_limit_in_mb == "128"
    assert it.log_group_name == "/aws/lambda/resize"
    assert "/[$LATEST]" in it.log_stream_name
    assert (it.client_context, it.tenant_id) == (None, None)
    assert (it.identity.cognito_identity_id, it.identity.cognito_identity_pool_id) == (None, None)
    assert 9_000 < it.get_remaining_time_in_millis() <= 10_000


def test_lambda_names_the_qualifier_that_was_asked_for_and_the_version_that_runs() -> None:
    it = context("aws", qualifier="prod", executed_version="3")

    assert it.invoked_function_arn.endswith(":function:resize:prod")
    assert it.function_version == "3"


def test_function_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "an id")
    it = context("fc", qualifier="prod", executed_version="3")

    assert it.request_id == "r-1"
    assert (it.function.name, it.function.handler) == ("resize", "invokers.targets.echo")
    assert (it.function.memory, it.function.timeout) == (128, 10)
    assert (it.function.qualifier, it.function.version_id) == ("prod", "3")
    assert (it.service.name, it.service.qualifier, it.service.version_id) == ("", "prod", "3")
    assert (it.region, it.account_id) == ("cn-hangzhou", "1234567890123456")
    assert (it.credentials.access_key_id, it.credentials.security_token) == ("an id", "")
    assert it.logger.name == "resize"


def test_function_compute_2_has_services() -> None:
    it = context("fc", name="images/resize")

    assert (it.service.name, it.function.name) == ("images", "resize")


def test_function_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", "a bucket")
    it = context("functiongraph", qualifier="!prod", executed_version="v3")

    assert it.getRequestID() == "r-1"
    assert 9_000 < it.getRemainingTimeInMilliSeconds() <= 10_000
    assert it.getRunningTimeInSeconds() == 10
    assert (it.getFunctionName(), it.getVersion(), it.getAlias()) == ("resize", "v3", "!prod")
    assert (it.getPackage(), it.getProjectID()) == ("default", "0123456789abcdef0123456789abcdef")
    assert (it.getMemorySize(), it.getCPUNumber()) == (128, 100)
    assert (it.getUserData("BUCKET"), it.getUserData("absent")) == ("a bucket", "")
    assert (it.getToken(), it.getSecurityToken()) == ("", "")
    assert it.getLogger().name == "resize"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_time_never_runs_below_nothing_and_attributes_can_be_set(provider: str) -> None:
    described = function(python(targets.echo, "thread"), provider=provider)
    it: Any = context_class(described, PROVIDERS[provider])("r-1", time.monotonic() - 10)
    it.note = "mine"

    assert it._remaining_ms() == 0
    assert it.note == "mine"


@pytest.mark.parametrize("provider", PROVIDERS.values())
def test_providers_can_be_sent_to_child_processes(provider: Any) -> None:
    assert pickle.loads(pickle.dumps(provider)) == provider
