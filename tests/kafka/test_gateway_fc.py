"""Function Compute's stock SDKs against a gateway, a worker and a broker, all real.

A second of the cloud is 50 ms here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import fc2
import pytest
from alibabacloud_fc20230330 import models as v3
from alibabacloud_fc20230330.client import Client as Client30
from alibabacloud_fc_open20210406 import models as v2
from alibabacloud_fc_open20210406.client import Client as Client20
from alibabacloud_tea_openapi.exceptions import ClientException
from alibabacloud_tea_openapi.utils_models import Config
from alibabacloud_tea_util.models import RuntimeOptions
from confluent_kafka.admin import AdminClient
from gateway.tls import certificate

from kafka import documented
from kafka.support import Deployment, Seen, Worker, new_id

pytestmark = pytest.mark.kafka

T = TypeVar("T")

SCALE = 0.05
STARTS_WITHIN_S = 120
"""A gateway imports a lot, and there are two cores for everything."""
KEY, SECRET = "LTAI5tStreams", "a secret of thirty characters."
FUNCTIONS = f"""
time_scale = {SCALE}

[[function]]
name = "echo"
provider = "fc"
target = "handlers:echo"

[[function]]
name = "work"
provider = "fc"
target = "handlers:work"
retries = 2

[[function]]
name = "fail"
provider = "fc"
target = "handlers:fail"
qualifiers.brief = {{ age_max_s = 2, retries = 8 }}

[[function]]
name = "samples"
provider = "fc"
target = "handlers:echo"

[[function]]
name = "media/echo"
provider = "fc"
target = "handlers:echo"
qualifiers.prod = {{}}

[[function]]
name = "media/idle"
provider = "fc"
target = "handlers:echo"
"""


class Fc:
    """A deployment, its gateway and the SDKs."""

    def __init__(self, deployment: Deployment, gateway: Worker) -> None:
        self.deployment = deployment
        self.gateway = gateway
        self.settings = {"access_key_id": KEY, "access_key_secret": SECRET, "region_id": "cn-hangzhou"}

    @property
    def address(self) -> str:
        """Host and port."""
        return self.gateway.log().partition("Serving on http://")[2].partition(";")[0]

    @cached_property
    def v3(self) -> Client30:
        return Client30(Config(**self.settings, endpoint=self.address, protocol="http"))

    @cached_property
    def v2(self) -> Client20:
        return Client20(Config(**self.settings, endpoint=self.address, protocol="http"))

    @cached_property
    def oldest(self) -> fc2.Client:
        return fc2.Client(endpoint=f"http://{self.address}", accessKeyID=KEY, accessKeySecret=SECRET)

    def invoke(self, function: str, event: bytes = b"{}", *, qualifier: str | None = None, **headers: str) -> Any:
        """Invoke asynchronously through the SDK of 3.0; an underscore in a header's name stands for a hyphen."""
        common = {name.replace("_", "-"): value for name, value in headers.items()}
        given = v3.InvokeFunctionHeaders(common_headers=common, x_fc_invocation_type="Async")
        wanted = v3.InvokeFunctionRequest(body=event, qualifier=qualifier)
        return self.v3.invoke_function_with_options(function, wanted, given, RuntimeOptions())

    def put(self, function: str, qualifier: str | None = None, **members: Any) -> v3.AsyncConfig:
        body = v3.PutAsyncInvokeConfigInput(**members)
        wanted = v3.PutAsyncInvokeConfigRequest(body=body, qualifier=qualifier)
        return self.v3.put_async_invoke_config(function, wanted).body

    def task(self, function: str, task_id: str) -> v3.AsyncTask:
        return self.v3.get_async_task(function, task_id, v3.GetAsyncTaskRequest()).body

    def task_in(self, function: str, task_id: str, *states: str) -> v3.AsyncTask:
        """The task, once it is in one of *states*."""

        def there() -> v3.AsyncTask | None:
            task = self.task(function, task_id)
            return task if task.status in states else None

        return self.until(there, f"{task_id} is {' or '.join(states)}")

    def until(self, condition: Callable[[], T | None], what: str) -> T:
        found = self.deployment.until(condition, what)
        assert found is not None
        return found


def start_gateway(deployment: Deployment, label: str, *options: str, state: str | None = None) -> Worker:
    """A gateway with a read model of its own, or with that of the gateway *state*; it serves on return."""
    keys = deployment.folder / "keys.toml"
    keys.write_text(f'[[key]]\nid = "{KEY}"\nsecret = "{SECRET}"\n')
    command = [sys.executable, "-m", "streams", "gateway", "--listen", "127.0.0.1:0", "--keys", str(keys), *options]
    gateway = deployment.start(label, command, state=deployment.folder / (state or label))
    deployment.until(lambda: "Serving on" in gateway.log(), f"{label} serves", STARTS_WITHIN_S)
    return gateway


@pytest.fixture(scope="module")
def fc(broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fc]:
    folder = tmp_path_factory.mktemp("fc")
    with Deployment(broker.bootstrap, folder, FUNCTIONS, partitions=4, destinations=["failed"]) as deployment:
        worker = deployment.start("worker")
        gateway = start_gateway(deployment, "gateway")
        deployment.ready(worker)
        yield Fc(deployment, gateway)


def refused(call: Callable[[], object], code: str, status: int) -> ClientException:
    with pytest.raises(ClientException) as refusal:
        call()
    assert (refusal.value.code, refusal.value.status_code) == (code, status)
    return refusal.value


def context(record: Seen) -> Any:
    return record.datum["requestContext"]


# -- invocations -----------------------------------------------------------------------------------------------------


def test_one_request_id_is_in_the_reply_the_record_and_the_function_s_context(fc: Fc) -> None:
    event = b'\x00\xff {"a":  1}\n'

    reply = fc.invoke("echo", event)

    request_id = reply.headers["x-fc-request-id"]
    record = fc.deployment.success(request_id, "fc")
    assert (reply.status_code, reply.body.read()) == (202, b"")
    assert context(record)["requestId"] == request_id
    assert (record.datum["requestPayload"], record.datum["responsePayload"]) == (event, event)
    [execution] = fc.deployment.executions([request_id])  # the function wrote down the id that its context has
    assert execution.attempt == 1


def test_2_0_and_the_oldest_sdk_invoke_a_function_of_a_service(fc: Fc) -> None:
    headers = v2.InvokeFunctionHeaders(x_fc_invocation_type="Async")
    wanted = v2.InvokeFunctionRequest(body=b"two", qualifier="prod")
    of_2_0 = fc.v2.invoke_function_with_options("media", "echo", wanted, headers, RuntimeOptions())
    of_oldest = fc.oldest.invoke_function("media", "echo", b"old", {"x-fc-invocation-type": "Async"}, "prod")

    for reply, event in ((of_2_0, b"two"), (of_oldest, b"old")):
        record = fc.deployment.success({n.lower(): v for n, v in reply.headers.items()}["x-fc-request-id"], "fc")
        assert record.datum["requestPayload"] == event
        assert context(record)["functionArn"] == "acs:fc:::services/media.prod/functions/echo"


def test_synchronous_invocations_answer_at_once(fc: Fc) -> None:
    wanted = v3.InvokeFunctionRequest(body=b"now")
    returned = fc.v3.invoke_function_with_options("echo", wanted, v3.InvokeFunctionHeaders(), RuntimeOptions())
    raised = fc.v3.invoke_function_with_options("fail", wanted, v3.InvokeFunctionHeaders(), RuntimeOptions())
    with pytest.raises(fc2.FcError) as refusal:
        fc.oldest.invoke_function("media", "nothing", b"")

    assert (returned.status_code, returned.body.read()) == (200, b"now")
    assert (raised.status_code, raised.headers["x-fc-error-type"]) == (200, "UnhandledInvocationError")
    assert json.loads(raised.body.read())["errorMessage"] == "no luck"
    assert (refusal.value.status_code, refusal.value.err_code) == (404, "FunctionNotFound")


def test_a_wrong_secret_is_refused_in_the_words_of_each_version(fc: Fc) -> None:
    wrong = fc.settings | {"access_key_secret": "wrong", "endpoint": fc.address, "protocol": "http"}
    with pytest.raises(fc2.FcError) as refusal:
        client = fc2.Client(endpoint=f"http://{fc.address}", accessKeyID="nobody", accessKeySecret=SECRET)
        client.get_function_async_invoke_config("media", "LATEST", "echo")

    get_3_0 = v3.GetAsyncInvokeConfigRequest()
    get_2_0 = v2.GetFunctionAsyncInvokeConfigRequest()
    refused(lambda: Client30(Config(**wrong)).get_async_invoke_config("echo", get_3_0), "SignatureNotMatch", 403)
    refused(
        lambda: Client20(Config(**wrong)).get_function_async_invoke_config("media", "echo", get_2_0),
        "SignatureNotMatch",
        403,
    )
    assert (refusal.value.status_code, refusal.value.err_code) == (403, "InvalidAccessKeyID")


def test_an_event_that_is_too_large_is_refused(fc: Fc) -> None:
    refusal = refused(lambda: fc.invoke("echo", b"x" * 131_073), "EntityTooLarge", 400)

    assert "payload size exceeds maximum allowed size (131072 bytes)" in refusal.message
    assert fc.invoke("echo", b"x" * 131_072).status_code == 202


# -- configurations --------------------------------------------------------------------------------------------------


def test_the_life_of_a_configuration(fc: Fc) -> None:
    to = v3.DestinationConfig(on_failure=v3.Destination(destination="acs:mns:::/queues/failed/messages"))
    refused(
        lambda: fc.v3.get_async_invoke_config("echo", v3.GetAsyncInvokeConfigRequest()), "AsyncConfigNotExists", 404
    )

    first = fc.put("echo", max_async_event_age_in_seconds=100, max_async_retry_attempts=1, destination_config=to)
    second = fc.put("echo", max_async_retry_attempts=0)
    got = fc.v3.get_async_invoke_config("echo", v3.GetAsyncInvokeConfigRequest()).body
    listed = fc.v3.list_async_invoke_configs(v3.ListAsyncInvokeConfigsRequest(function_name="echo")).body
    deleted = fc.v3.delete_async_invoke_config("echo", v3.DeleteAsyncInvokeConfigRequest())

    assert first.max_async_retry_attempts == 1
    assert (second.max_async_retry_attempts, second.max_async_event_age_in_seconds) == (0, 100)  # merged
    assert second.destination_config.on_failure.destination == "acs:mns:::/queues/failed/messages"
    assert second.created_time == first.created_time
    assert got.to_map() == second.to_map() == listed.configs[0].to_map()
    assert deleted.status_code == 204
    refused(
        lambda: fc.v3.delete_async_invoke_config("echo", v3.DeleteAsyncInvokeConfigRequest()),
        "AsyncConfigNotExists",
        404,
    )
    refused(lambda: fc.put("echo", max_async_retry_attempts=9), "InvalidArgument", 400)


def test_the_older_sdks_see_one_configuration(fc: Fc) -> None:
    body = {"maxAsyncRetryAttempts": 7, "destinationConfig": {}}
    fc.oldest.put_function_async_invoke_config("media", "prod", "echo", body)

    wanted = v2.GetFunctionAsyncInvokeConfigRequest(qualifier="prod")
    of_2_0 = fc.v2.get_function_async_invoke_config("media", "echo", wanted).body
    listed = fc.v2.list_function_async_invoke_configs("media", "echo", v2.ListFunctionAsyncInvokeConfigsRequest()).body
    of_oldest = fc.oldest.list_function_async_invoke_configs("media", "echo").data

    assert (of_2_0.service, of_2_0.function, of_2_0.qualifier) == ("media", "echo", "prod")
    assert of_2_0.max_async_retry_attempts == 7
    assert [config.qualifier for config in listed.configs] == ["prod"]
    assert [config["maxAsyncRetryAttempts"] for config in of_oldest["configs"]] == [7]
    fc.oldest.delete_function_async_invoke_config("media", "prod", "echo")
    with pytest.raises(fc2.FcError) as missing:
        fc.oldest.get_function_async_invoke_config("media", "prod", "echo")
    assert (missing.value.status_code, missing.value.err_code) == (404, "AsyncConfigNotExists")


def test_a_worker_uses_what_was_put_and_its_destination_is_made(fc: Fc) -> None:
    topic = f"to.{fc.deployment.prefix}made-by-a-put"
    to = v3.DestinationConfig(on_failure=v3.Destination(destination=f"kafka://{topic}"))
    fc.put("fail", max_async_retry_attempts=0, destination_config=to)

    def attempts() -> int | None:
        """Of an invocation made now; None until the worker has heard of the change."""
        request_id = fc.invoke("fail").headers["x-fc-request-id"]
        record = fc.deployment.failure(request_id, "fc")
        return True if context(record)["approximateInvokeCount"] == 1 else None

    fc.until(attempts, "the worker makes one attempt")
    admin = AdminClient({"bootstrap.servers": fc.deployment.settings.broker})
    assert topic in admin.list_topics(timeout=10).topics
    for made in admin.delete_topics([topic]).values():
        made.result()
    fc.v3.delete_async_invoke_config("fail", v3.DeleteAsyncInvokeConfigRequest())


# -- tasks -----------------------------------------------------------------------------------------------------------


def test_a_task_from_its_beginning_to_its_end(fc: Fc) -> None:
    task_id, gate = new_id("task"), fc.deployment.gate()
    event = json.dumps({"gate": str(gate)}).encode()
    fc.put("work", async_task=True)

    reply = fc.invoke("work", event, x_fc_async_task_id=task_id)
    at_once = fc.task("work", task_id)
    running = fc.task_in("work", task_id, "Running")
    gate.touch()
    done = fc.task_in("work", task_id, "Succeeded")

    request_id = reply.headers["x-fc-request-id"]
    assert reply.headers["x-fc-async-task-id"] == task_id
    assert at_once.status in ("Enqueued", "Running")
    assert (running.task_id, running.request_id, done.request_id) == (task_id, request_id, request_id)
    assert running.task_payload == event.decode()
    assert (done.already_retried_times, done.function_arn) == (0, context_arn("work"))
    assert [each.status for each in done.events] == ["Enqueued", "Running", "Succeeded"]
    assert done.started_time <= done.end_time
    returned = fc.until(lambda: fc.task("work", task_id).return_payload, "the record is found")
    assert json.loads(returned) == json.loads(event)
    assert context(fc.deployment.success(request_id, "fc"))["requestId"] == request_id


def context_arn(name: str) -> str:
    return f"acs:fc:cn-hangzhou:1234567890123456:functions/{name}"


def test_a_task_id_is_taken_once(fc: Fc) -> None:
    task_id = new_id("task")
    request_id = fc.invoke("echo", x_fc_async_task_id=task_id).headers["x-fc-request-id"]

    refused(lambda: fc.invoke("echo", x_fc_async_task_id=task_id), "StatefulAsyncInvocationAlreadyExists", 409)
    fc.task_in("echo", task_id, "Succeeded")
    refused(lambda: fc.invoke("echo", x_fc_async_task_id=task_id), "StatefulAsyncInvocationAlreadyExists", 409)
    fc.deployment.success(request_id, "fc")
    assert len(fc.deployment.executions([request_id])) == 1


def test_two_gateways_that_are_asked_at_once_make_one_task(fc: Fc) -> None:
    gateway = start_gateway(fc.deployment, "other-gateway")
    gateways = fc, Fc(fc.deployment, gateway)
    tasks = [new_id("task") for _ in range(10)]

    def request_id(gateway: Fc, task_id: str) -> str | None:
        try:
            return str(gateway.invoke("echo", x_fc_async_task_id=task_id).headers["x-fc-request-id"])
        except ClientException as refusal:
            assert refusal.code == "StatefulAsyncInvocationAlreadyExists"
            return None

    with ThreadPoolExecutor(len(gateways)) as pool:
        pairs = [list(pool.map(request_id, gateways, [task_id] * 2)) for task_id in tasks]
    ids = {each for pair in pairs for each in pair if each is not None}
    fc.deployment.all_ended(ids)
    for task_id in tasks:  # also at the gateway that did not accept it
        assert gateways[1].task_in("echo", task_id, "Succeeded").task_id == task_id
    gateway.close()

    assert len(ids) == len(tasks)
    assert len(fc.deployment.executions(ids)) == len(tasks)
    assert [len(fc.deployment.reader.at("fc.success", each)) for each in ids] == [1] * len(tasks)


def test_a_running_task_is_stopped(fc: Fc) -> None:
    task_id, gate = new_id("task"), fc.deployment.gate()
    fc.invoke("work", json.dumps({"gate": str(gate)}).encode(), x_fc_async_task_id=task_id)
    fc.task_in("work", task_id, "Running")

    reply = fc.v3.stop_async_task("work", task_id, v3.StopAsyncTaskRequest())
    stopped = fc.task_in("work", task_id, "Stopped")

    assert reply.status_code == 204
    assert context(fc.deployment.failure(stopped.request_id, "fc"))["condition"] == "Stopped"
    refused(lambda: fc.v3.stop_async_task("work", task_id, v3.StopAsyncTaskRequest()), "AsyncInvocationStopped", 412)


def test_a_task_that_was_just_accepted_and_waits_is_stopped(fc: Fc) -> None:
    task_id = new_id("task")
    fc.invoke("echo", x_fc_async_task_id=task_id, x_fc_async_delay="3600")

    fc.v3.stop_async_task("echo", task_id, v3.StopAsyncTaskRequest())
    stopped = fc.task_in("echo", task_id, "Stopped")

    assert fc.deployment.executions([stopped.request_id]) == []


def test_a_delayed_task_starts_no_earlier(fc: Fc) -> None:
    request_id = fc.invoke("echo", x_fc_async_delay="20").headers["x-fc-request-id"]

    fc.deployment.success(request_id, "fc")

    [accepted, started, *_] = fc.deployment.facts(request_id)
    if started.kind != "AttemptStarted":  # it went through a retry tier
        started = next(fact for fact in fc.deployment.facts(request_id) if fact.kind == "AttemptStarted")
    assert started.at_ms - accepted.accepted_at_ms >= 20_000 * SCALE


def test_a_task_that_fails_is_retried_and_then_failed(fc: Fc) -> None:
    task_id = new_id("task")
    fc.invoke("work", b'{"failures": 9}', x_fc_async_task_id=task_id)

    task = fc.task_in("work", task_id, "Failed")

    assert (task.already_retried_times, task.task_error_message) == (2, "UnhandledInvocationError")
    states = [each.status for each in task.events]
    assert states == ["Enqueued", "Running", "Retrying", "Running", "Retrying", "Running", "Failed"]
    assert json.loads(task.events[-1].event_detail) == {"Error": "UnhandledInvocationError"}


def test_a_task_that_gets_too_old_expires_before_its_next_attempt(fc: Fc) -> None:
    reply = fc.invoke("fail", qualifier="brief")  # tried at 0, 0.5 and 1.5 s; the next try would be at 3.5 s

    task = fc.task_in("fail", reply.headers["x-fc-request-id"], "Expired")

    accepted, *rest = task.events
    tries = sum(event.status == "Running" for event in rest)
    too_old_at, wait = accepted.timestamp + 2000 * SCALE, 500 * SCALE
    retried = [event.timestamp for event in rest if event.status == "Retrying"]
    # A machine that is slow has time for fewer tries; the first that would come too late is never made.
    assert all(at + wait * 2**number < too_old_at for number, at in enumerate(retried))
    assert rest[-1].timestamp + wait * 2 ** (tries - 1) >= too_old_at
    assert (task.qualifier, task.already_retried_times) == ("brief", tries - 1)
    assert 1 <= tries <= 3
    record = fc.deployment.failure(task.request_id, "fc")
    assert (context(record)["condition"], context(record)["approximateInvokeCount"]) == ("EventAgeExceeded", tries)


def test_tasks_are_listed_by_state_and_id(fc: Fc) -> None:
    word = new_id("list")
    for number in range(3):
        fc.invoke("echo", b"payload", x_fc_async_task_id=f"{word}-{number}")
        fc.task_in("echo", f"{word}-{number}", "Succeeded")

    def listed(**wanted: Any) -> v3.ListAsyncTaskOutput:
        return fc.v3.list_async_tasks("echo", v3.ListAsyncTasksRequest(prefix=word, **wanted)).body

    first = listed(limit=2, sort_order_by_time="asc", include_payload=True, status="Succeeded")
    rest = listed(limit=2, sort_order_by_time="asc", next_token=first.next_token)

    assert [task.task_id for task in (*first.tasks, *rest.tasks)] == [f"{word}-{number}" for number in range(3)]
    assert [task.task_payload for task in first.tasks] == ["payload", "payload"]
    assert (rest.tasks[0].task_payload, rest.next_token) == (None, None)
    assert listed(status="Failed").tasks == []
    fc.invoke("echo", x_fc_async_task_id=f"{word}-newest")
    assert listed(limit=1).tasks[0].task_id == f"{word}-newest"  # at once


def test_2_0_has_its_own_words_for_tasks(fc: Fc) -> None:
    word, prefix = new_id("task"), "demo"
    headers = v2.InvokeFunctionHeaders(
        x_fc_invocation_type="Async",
        x_fc_stateful_async_invocation_enable="true",
        x_fc_stateful_async_invocation_id=f"{prefix}-{word}",
    )
    wanted = v2.InvokeFunctionRequest(body=b"{}")
    reply = fc.v2.invoke_function_with_options("media", "echo", wanted, headers, RuntimeOptions())

    def task() -> v2.StatefulAsyncInvocation | None:
        request = v2.GetStatefulAsyncInvocationRequest()
        found = fc.v2.get_stateful_async_invocation("media", "echo", f"{prefix}-{word}", request).body
        return found if found.status == "Succeeded" else None

    found = fc.until(task, "the task succeeds")
    request = v2.ListStatefulAsyncInvocationsRequest(invocation_id_prefix=prefix)
    listed = fc.v2.list_stateful_async_invocations("media", "echo", request).body
    stop = v2.StopStatefulAsyncInvocationRequest()
    again = fc.v2.stop_stateful_async_invocation("media", "echo", f"{prefix}-{word}", stop)

    assert reply.headers["x-fc-stateful-async-invocation-id"] == f"{prefix}-{word}"
    assert (found.service_name, found.function_name, found.invocation_id) == ("media", "echo", f"{prefix}-{word}")
    assert [each.invocation_id for each in listed.invocations] == [f"{prefix}-{word}"]
    assert again.status_code == 204  # it is over, and stays as it is
    refused(
        lambda: fc.v2.get_stateful_async_invocation("media", "echo", "nothing", v2.GetStatefulAsyncInvocationRequest()),
        "StatefulAsyncInvocationNotFound",
        404,
    )


# -- Alibaba's documentation -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trusted(fc: Fc) -> Path:
    """The certificate of `endpoint`."""
    chain, _ = certificate(fc.deployment.folder)
    return chain


@pytest.fixture(scope="module")
def endpoint(fc: Fc, trusted: Path) -> str:
    """Host and port of a gateway that speaks TLS, as the cloud does; that of *fc* keeps its read model up to date."""
    tls = "--tls-cert", str(trusted), "--tls-key", str(trusted.with_name("key.pem"))
    gateway = start_gateway(fc.deployment, "tls-gateway", "--no-console", *tls, state="gateway")
    fc.task_in("echo", fc.invoke("echo").headers["x-fc-request-id"], "Succeeded")  # it does so by now
    return gateway.log().partition("Serving on https://")[2].partition(";")[0]


@pytest.mark.parametrize("program", **documented.named(documented.FC))
def test_documented_programs_run_as_they_are_with_another_endpoint(
    fc: Fc, endpoint: str, trusted: Path, program: documented.Documented
) -> None:
    keys = {"ALIBABA_CLOUD_ACCESS_KEY_ID": KEY, "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET}

    for request_id in documented.run(documented.with_endpoint(program, endpoint), trusted, **keys):
        fc.deployment.success(request_id, "fc")


# -- functions -------------------------------------------------------------------------------------------------------


def test_functions_and_services_are_there_to_look_at(fc: Fc) -> None:
    function = fc.v3.get_function("fail", v3.GetFunctionRequest(qualifier="brief")).body
    functions = fc.v3.list_functions(v3.ListFunctionsRequest(limit=2)).body
    aliases = fc.v3.list_aliases("fail", v3.ListAliasesRequest()).body
    services = fc.v2.list_services(v2.ListServicesRequest()).body
    of_service = fc.oldest.list_functions("media").data

    assert (function.function_name, function.handler) == ("fail", "handlers.fail")
    assert ([each.function_name for each in functions.functions], functions.next_token) == (["echo", "fail"], "samples")
    assert [alias.alias_name for alias in aliases.aliases] == ["brief"]
    assert [service.service_name for service in services.services] == ["media"]
    assert [each["functionName"] for each in of_service["functions"]] == ["echo", "idle"]
