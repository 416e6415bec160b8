"""FunctionGraph's stock SDK against a gateway, a worker and a broker that are all real."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from conftest import RunningBroker
from gateway.tls import certificate
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import (
    ClientRequestException,
    ServerResponseException,
    ServiceResponseException,
)
from huaweicloudsdkcore.retry.backoff_strategy import BackoffStrategies
from huaweicloudsdkfunctiongraph.v2 import (
    AsyncInvokeFunctionRequest,
    CancelAsyncInvocationRequest,
    CancelAsyncInvocationRequestBody,
    DeleteFunctionAsyncInvokeConfigRequest,
    EnableAsyncStatusLogRequest,
    FuncAsyncDestinationConfig,
    FuncDestinationConfig,
    FunctionGraphClient,
    InvokeFunctionRequest,
    ListActiveAsyncInvocationsRequest,
    ListAsyncInvocationsRequest,
    ListFunctionAsyncInvokeConfigRequest,
    ListFunctionsRequest,
    ListFunctionVersionsRequest,
    ShowFunctionAsyncInvokeConfigRequest,
    ShowFunctionConfigRequest,
    ShowProjectAsyncStatusLogInfoRequest,
    UpdateFunctionAsyncInvokeConfigRequest,
    UpdateFunctionAsyncInvokeConfigRequestBody,
)

from kafka import documented
from kafka.support import Deployment, Reader, Worker
from streams.cluster import Cluster
from streams.local.broker import Broker

pytestmark = pytest.mark.kafka

PROJECT = "0123456789abcdef0123456789abcdef"
FUNCTIONS = """
time_scale = 0.1

[functiongraph]
failure_delay_ms = 10_000

[[function]]
name = "off"
provider = "functiongraph"
target = "handlers:echo"
reserved_concurrency = 0

[[function]]
name = "versioned"
provider = "functiongraph"
target = "handlers:greet"
[function.qualifiers.v1]
retries = 2
""" + "".join(
    f"""
[[function]]
name = "{name}"
provider = "functiongraph"
target = "handlers:{handler}"
"""
    for name, handler in {
        "echo": "echo",
        "configured": "echo",
        "documented": "echo",
        "notified": "echo",
        "work": "work",
        "failing": "fail",
        "retried": "fail",
        "aged": "fail",
        "waiting": "fail",
    }.items()
)


def urn(name: str) -> str:
    version = "" if ":" in name else ":latest"
    return f"urn:fss:cn-north-4:{PROJECT}:function:default:{name}{version}"


class Gateway:
    """A gateway process, and the SDK as its client."""

    def __init__(self, deployment: Deployment, label: str, *options: str) -> None:
        command = [sys.executable, "-m", "streams", "gateway", "--listen", "127.0.0.1:0", *options]
        self._deployment = deployment
        self.process: Worker = deployment.start(label, command, state=deployment.folder / "state")
        served = deployment.until(lambda: re.search(r"Serving on (\S+);", self.process.log()), f"{label} serves")
        self.url = served[1]
        self.client = self.with_key("ak", "sk")

    def with_key(self, key: str, secret: str) -> FunctionGraphClient:
        credentials = BasicCredentials(key, secret, PROJECT)
        builder = FunctionGraphClient.new_builder().with_credentials(credentials)
        return builder.with_endpoints([self.url]).build()

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait() == 0

    def send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    # -- what the tests do -------------------------------------------------------------------------------------------

    def invoke(self, name: str, **event: object) -> str:
        request_id = self.client.async_invoke_function(AsyncInvokeFunctionRequest(urn(name), body=event)).request_id
        assert isinstance(request_id, str)
        return request_id

    def configure(self, name: str, **members: Any) -> Any:
        body = UpdateFunctionAsyncInvokeConfigRequestBody(**members)
        return self.client.update_function_async_invoke_config(
            UpdateFunctionAsyncInvokeConfigRequest(function_urn=urn(name), body=body)
        )

    def status(self, name: str, request_id: str) -> Any:
        """How the list shows it."""
        request = ListAsyncInvocationsRequest(function_urn=urn(name), request_id=request_id)
        [found] = self.client.list_async_invocations(request).invocations
        assert found.request_id == request_id
        return found

    def until(self, name: str, request_id: str, state: str) -> Any:
        """Wait until it is in *state*."""

        def reached() -> Any:
            found = self.status(name, request_id)
            return found if found.status == state else None

        return self._deployment.until(reached, f"{request_id} is in state {state}")

    def cancel(self, name: str, request_id: str, kind: str | None = "force") -> None:
        body = CancelAsyncInvocationRequestBody(request_id=request_id, type=kind)
        self.client.cancel_async_invocation(CancelAsyncInvocationRequest(function_urn=urn(name), body=body))


@pytest.fixture(scope="module")
def deployment(broker: RunningBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("functiongraph")
    with Deployment(
        broker.bootstrap, folder, FUNCTIONS, partitions=2, destinations=("done", "failed"), settings={"hold_s": 0.2}
    ) as deployment:
        deployment.ready(deployment.start("worker"))
        yield deployment


@pytest.fixture(scope="module")
def gateway(deployment: Deployment) -> Gateway:
    return Gateway(deployment, "gateway")


def refused(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ServiceResponseException) as refusal:
        call()
    error = refusal.value
    assert error.status_code == 429 or (error.request_id and error.error_msg)
    return error.status_code, error.error_code


def executions(deployment: Deployment, request_id: str) -> int:
    return len(deployment.executions([request_id]))


# -- invoking --------------------------------------------------------------------------------------------------------


def test_the_id_of_the_reply_is_that_of_context_record_and_status(deployment: Deployment, gateway: Gateway) -> None:
    request_id = gateway.invoke("echo", k="v")
    record = deployment.success(request_id, "functiongraph")

    assert record.id == record.datum["request_context"]["request_id"] == request_id
    assert executions(deployment, request_id) == 1  # the handler wrote down what context.getRequestID() gave
    found = gateway.until("echo", request_id, "SUCCESS")
    assert (found.error_code, found.error_message) == (0, "")
    assert found.start_time.tzinfo is not None and found.end_time


def test_an_event_arrives_byte_for_byte(deployment: Deployment, gateway: Gateway) -> None:
    event = ' {"a":  1.0, "ü": "\\ud83d", "n": 12345678901234567890123}\n'.encode()
    path = f"/v2/{PROJECT}/fgs/functions/{quote(urn('echo'), safe='')}/invocations-async"
    status, body = gateway.send("POST", path, event, {"Content-Type": "application/json"})

    assert status == 202
    record = deployment.success(json.loads(body)["request_id"], "functiongraph")
    assert record.datum["request_payload"] == event


def test_whoever_waits_gets_what_the_function_returns(gateway: Gateway) -> None:
    request = InvokeFunctionRequest(urn("echo"), x_cff_request_version="v1", body={"k": "v"})
    answer = gateway.client.invoke_function(request)

    assert (json.loads(answer.result), answer.status) == ({"k": "v"}, 200)
    assert answer.request_id == answer.x_cff_request_id
    failing = InvokeFunctionRequest(urn("failing"), x_cff_request_version="v1", body={})
    failed = gateway.client.invoke_function(failing)
    assert failed.status == 500 and json.loads(failed.result)["errorType"] == "ValueError"


def test_what_cannot_be_invoked_is_refused(gateway: Gateway) -> None:
    def invoke(reference: str, event: object) -> Callable[[], object]:
        return lambda: gateway.client.async_invoke_function(AsyncInvokeFunctionRequest(reference, body=event))

    assert refused(invoke(urn("nobody"), {})) == (404, "FSS.0404")
    assert refused(invoke("nonsense", {})) == (400, "FSS.1309")
    assert refused(invoke(urn("echo"), [1])) == (406, "FSS.0406")
    assert refused(invoke(urn("echo"), {"k": "x" * 262_144})) == (413, "FSS.0413")
    with pytest.raises(ClientRequestException) as refusal:  # this SDK hides the body of a 429
        invoke(urn("off"), {})()
    assert refusal.value.status_code == 429


# -- configuration ---------------------------------------------------------------------------------------------------


def test_a_configuration_from_its_beginning_to_its_end(deployment: Deployment, gateway: Gateway) -> None:
    client, name = gateway.client, "configured"
    show = lambda: client.show_function_async_invoke_config(ShowFunctionAsyncInvokeConfigRequest(urn(name)))  # noqa: E731
    delete = lambda: client.delete_function_async_invoke_config(  # noqa: E731
        DeleteFunctionAsyncInvokeConfigRequest(urn(name))
    )

    assert refused(show) == refused(delete) == (404, "FSS.0404")
    param = json.dumps({"bucket": "b", "prefix": "/failed", "expires": 5})
    destinations = FuncAsyncDestinationConfig(
        on_success=FuncDestinationConfig(destination="FunctionGraph", param=json.dumps({"func_urn": urn("echo")})),
        on_failure=FuncDestinationConfig(destination="OBS", param=param),
    )
    put = gateway.configure(
        name,
        max_async_event_age_in_seconds=60,
        max_async_retry_attempts=3,
        destination_config=destinations,
        enable_async_status_log=True,
    )
    assert (put.func_urn, put.max_async_event_age_in_seconds, put.max_async_retry_attempts) == (urn(name), 60, 3)
    assert put.destination_config.on_failure.param == param
    assert show().to_json_object() == put.to_json_object()
    replaced = gateway.configure(name, max_async_retry_attempts=0)
    assert (replaced.max_async_event_age_in_seconds, replaced.destination_config.on_failure) == (3600, None)
    assert (replaced.created_time, replaced.enable_async_status_log) == (put.created_time, False)
    assert refused(lambda: gateway.configure(name, max_async_retry_attempts=4)) == (400, "FSS.0400")
    assert refused(lambda: gateway.configure("nobody")) == (404, "FSS.1051")
    delete()
    assert refused(show) == (404, "FSS.0404")


def test_configurations_of_all_versions_are_listed(gateway: Gateway) -> None:
    gateway.configure("versioned", max_async_event_age_in_seconds=5)
    answer = gateway.client.list_function_async_invoke_config(
        ListFunctionAsyncInvokeConfigRequest(function_urn=urn("versioned"), limit="1", marker="1")
    )

    assert [one.func_urn for one in answer.async_invoke_configs] == [urn("versioned:v1")]
    assert (answer.count, answer.page_info.next_marker, answer.page_info.previous_marker) == (2, 2, 1)


def test_a_configuration_is_there_after_a_restart(deployment: Deployment, gateway: Gateway) -> None:
    put = gateway.configure("notified", max_async_retry_attempts=2, enable_async_status_log=True)
    other = Gateway(deployment, "another-gateway", "--no-console")
    shown = other.client.show_function_async_invoke_config(ShowFunctionAsyncInvokeConfigRequest(urn("notified")))
    other.stop()

    assert shown.to_json_object() == put.to_json_object()


def test_a_function_without_configuration_is_tried_once(deployment: Deployment, gateway: Gateway) -> None:
    request_id = gateway.invoke("failing")
    record = deployment.failure(request_id, "functiongraph")

    assert executions(deployment, request_id) == 1
    assert record.datum["request_context"]["condition"] == "UnhandledInvocationError"
    found = gateway.until("failing", request_id, "FAIL")
    assert (found.error_code, "no luck" in found.error_message) == (4002, True)


def test_a_configuration_says_how_often_it_is_tried(deployment: Deployment, gateway: Gateway) -> None:
    gateway.configure("retried", max_async_retry_attempts=2)
    request_id = gateway.invoke("retried")
    record = deployment.failure(request_id, "functiongraph")

    assert executions(deployment, request_id) == 3
    assert record.datum["request_context"]["approximate_invoke_count"] == 2


def test_what_could_only_be_tried_too_late_is_discarded(deployment: Deployment, gateway: Gateway) -> None:
    gateway.configure("aged", max_async_retry_attempts=3, max_async_event_age_in_seconds=30)  # waits: 10, 20, 40 s
    request_id = gateway.invoke("aged")
    record = deployment.failure(request_id, "functiongraph")

    assert record.datum["request_context"]["condition"] == "EventAgeExceeded"
    assert executions(deployment, request_id) <= 2
    assert gateway.until("aged", request_id, "DISCARD").end_time


def test_records_go_to_topics_of_ones_own(deployment: Deployment, gateway: Gateway) -> None:
    made = deployment.destinations["done"].replace("done", "made")
    destination = FuncDestinationConfig(destination="KAFKA", param=json.dumps({"topic": made}))
    gateway.configure("notified", destination_config=FuncAsyncDestinationConfig(on_success=destination))
    reader = Reader(deployment.settings.broker, deployment.prefix, [made], deployment.partitions)
    try:
        request_id = gateway.invoke("notified", k="v")

        def arrived() -> list[Any]:
            reader.read()
            return reader.at(made, request_id)

        [record] = deployment.until(arrived, f"a record of {request_id} in {made}")
        assert json.loads(record.value)["request_context"]["request_id"] == request_id
    finally:
        reader.close()
        asyncio.run(_delete(deployment, made))


async def _delete(deployment: Deployment, topic: str) -> None:
    async with Cluster(deployment.settings) as cluster:
        await cluster.delete([topic])


# -- states ----------------------------------------------------------------------------------------------------------


def test_an_invocation_waits_runs_and_succeeds(deployment: Deployment, gateway: Gateway) -> None:
    gate = deployment.gate()
    request_id = gateway.invoke("work", gate=str(gate))

    assert gateway.status("work", request_id).status in ("WAIT", "RUNNING")  # found at once
    gateway.until("work", request_id, "RUNNING")
    active = gateway.client.list_active_async_invocations(
        ListActiveAsyncInvocationsRequest(function_urn=urn("work"), requests=f"{request_id},another")
    )
    assert [(one.request_id, one.status) for one in active.invocations] == [(request_id, "RUNNING")]
    gate.touch()
    gateway.until("work", request_id, "SUCCESS")


def test_lists_are_filtered_by_state_and_time(deployment: Deployment, gateway: Gateway) -> None:
    request_id = gateway.invoke("echo")
    gateway.until("echo", request_id, "SUCCESS")

    def ids(**members: Any) -> list[str]:
        request = ListAsyncInvocationsRequest(function_urn=urn("echo"), **members)
        return [one.request_id for one in gateway.client.list_async_invocations(request).invocations]

    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    assert request_id in ids(status="SUCCESS", query_begin_time=now - timedelta(minutes=5), limit="500")
    assert ids(status="FAIL") == []
    assert ids(query_begin_time=now - timedelta(hours=3), query_end_time=now - timedelta(hours=2)) == []
    assert refused(lambda: ids(status="GONE")) == (400, "FSS.1001")


# -- cancelling ------------------------------------------------------------------------------------------------------


def cancelled(deployment: Deployment, gateway: Gateway, name: str, request_id: str) -> None:
    found = gateway.until(name, request_id, "FAIL")
    assert (found.error_code, found.error_message) == (4208, "function invocation canceled")
    record = deployment.failure(request_id, "functiongraph")
    assert record.datum["request_context"]["condition"] == "4208"


def test_a_running_invocation_is_cancelled(deployment: Deployment, gateway: Gateway) -> None:
    request_id = gateway.invoke("work", gate=str(deployment.gate()))
    gateway.until("work", request_id, "RUNNING")
    gateway.cancel("work", request_id)

    cancelled(deployment, gateway, "work", request_id)


def test_an_invocation_is_cancelled_as_soon_as_it_is_accepted(deployment: Deployment, gateway: Gateway) -> None:
    request_id = gateway.invoke("work", gate=str(deployment.gate()))
    gateway.cancel("work", request_id, None)

    cancelled(deployment, gateway, "work", request_id)


def test_an_invocation_that_waits_for_its_retry_is_cancelled(deployment: Deployment, gateway: Gateway) -> None:
    gateway.configure("waiting", max_async_retry_attempts=3)
    request_id = gateway.invoke("waiting")
    deployment.until(lambda: executions(deployment, request_id), "it was tried")
    gateway.cancel("waiting", request_id)

    cancelled(deployment, gateway, "waiting", request_id)


def test_what_is_not_known_cannot_be_cancelled_and_what_is_over_stays_so(gateway: Gateway) -> None:
    request_id = gateway.invoke("echo")
    gateway.until("echo", request_id, "SUCCESS")
    gateway.cancel("echo", request_id)

    assert gateway.status("echo", request_id).status == "SUCCESS"
    assert refused(lambda: gateway.cancel("echo", "no-such-id")) == (400, "FSS.0400")
    assert refused(lambda: gateway.cancel("work", request_id)) == (400, "FSS.0400")
    assert refused(lambda: gateway.cancel("echo", request_id, "recursive")) == (400, "FSS.0400")


# -- functions, the project, and who asks ----------------------------------------------------------------------------


def test_functions_and_versions_are_told_of(gateway: Gateway) -> None:
    functions = gateway.client.list_functions(ListFunctionsRequest(func_name="version"))
    versions = gateway.client.list_function_versions(ListFunctionVersionsRequest(function_urn=urn("versioned")))
    shown = gateway.client.show_function_config(ShowFunctionConfigRequest(function_urn=urn("versioned")))

    assert [one.func_urn for one in functions.functions] == [urn("versioned")]
    assert [one.version for one in versions.versions] == ["latest", "v1"]
    assert versions.versions[1].function_async_config.max_async_retry_attempts == 2
    assert (shown.func_name, shown.timeout) == ("versioned", 60)


def test_the_switch_for_statuses_is_there(deployment: Deployment, gateway: Gateway) -> None:
    gateway.client.enable_async_status_log(EnableAsyncStatusLogRequest())
    detail = gateway.client.show_project_async_status_log_info(ShowProjectAsyncStatusLogInfoRequest())

    assert detail.stream_name == deployment.topics.facts


def test_only_who_has_a_key_or_a_token_is_let_in(deployment: Deployment, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text('[[key]]\nid = "ak"\nsecret = "sk"\ntoken = "t"\n')
    gateway = Gateway(deployment, "locked-gateway", "--no-console", "--keys", str(keys))
    functions = ListFunctionsRequest(func_name="echo")

    assert gateway.client.list_functions(functions).count == 1
    assert gateway.invoke("echo", k="ü ~")
    assert gateway.configure("configured").func_urn == urn("configured")
    for client in (gateway.with_key("ak", "other"), gateway.with_key("other", "sk")):
        assert refused(lambda client=client: client.list_functions(functions)) == (401, "APIGW.0301")
    path = f"/v2/{PROJECT}/fgs/functions"
    assert gateway.send("GET", path, b"", {"X-Auth-Token": "t"})[0] == 200
    assert gateway.send("GET", path, b"", {"X-Auth-Token": "u"})[0] == 401
    gateway.stop()


# -- Huawei's documentation ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of `endpoint`."""
    chain, _ = certificate(tmp_path_factory.mktemp("tls"))
    return chain


@pytest.fixture(scope="module")
def endpoint(deployment: Deployment, gateway: Gateway, trusted: Path) -> str:
    """The URL of a gateway that speaks TLS and wants a key, as the cloud does; *gateway* has the read model."""
    keys = trusted.with_name("keys.toml")
    keys.write_text('[[key]]\nid = "ak"\nsecret = "sk"\n')
    tls = "--tls-cert", str(trusted), "--tls-key", str(trusted.with_name("key.pem"))
    return Gateway(deployment, "tls-gateway", "--no-console", "--keys", str(keys), *tls).url


@pytest.mark.parametrize("program", **documented.named(documented.FUNCTIONGRAPH))
def test_documented_programs_run_as_they_are_with_the_endpoint_in_the_environment(
    deployment: Deployment, endpoint: str, trusted: Path, program: documented.Documented
) -> None:
    endpoints = "HUAWEICLOUD_SDK_REGION_FUNCTIONGRAPH_CN_NORTH_4", "HUAWEICLOUD_SDK_IAM_ENDPOINT"
    environment = dict.fromkeys(endpoints, endpoint) | {"CLOUD_SDK_AK": "ak", "CLOUD_SDK_SK": "sk"}

    for request_id in documented.run(program, trusted, **environment):
        deployment.success(request_id, "functiongraph")


def test_without_its_broker_a_gateway_refuses_and_accepts_again_when_it_is_back(tmp_path: Path) -> None:
    with (
        Broker(ephemeral=True) as broker,
        Deployment(broker.bootstrap, tmp_path, FUNCTIONS, partitions=2) as deployment,
    ):
        gateway = Gateway(deployment, "gateway", "--no-console")
        accepted = [gateway.invoke("echo")]
        broker.kill()
        assert refused(lambda: gateway.invoke("echo")) == (503, "FSS.0503")
        broker.start()

        request = AsyncInvokeFunctionRequest(urn("echo"), body={})
        invoker = gateway.client.async_invoke_function_invoker(request)
        invoker.with_retry(
            lambda _, error: isinstance(error, ServerResponseException), 10, BackoffStrategies.EQUAL_JITTER
        )
        accepted.append(invoker.invoke().request_id)
        deployment.ready(deployment.start("worker"))
        for request_id in accepted:
            assert deployment.success(request_id, "functiongraph").id == request_id
