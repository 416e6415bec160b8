"""Function Compute's API: what it accepts, answers and refuses, in the words and shapes of its three versions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from console.samples import NOW, accepted, at, delivery, exhausted, failed_once, succeeded
from console.test_store import write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.console.projection import Located
from streams.core.facts import AttemptFailed, AttemptStarted, Delivered, DeliveryFact, DeliveryFailed, Fact, Failed
from streams.core.model import Ending, Outcome
from streams.errors import ReadModelError
from streams.functions.stored import Entry, Key
from streams.gateway import statuses
from streams.gateway.edge import Reply
from streams.gateway.fc import function_compute, tasks
from streams.gateway.fc.versions import VERSIONS
from streams.gateway.intake import Overloaded, Unavailable

from .support import EXAMPLES, NOW_MS, Bench

FUNCTIONS = """
[[function]]
name = "crawl"
provider = "fc"
url = "http://127.0.0.1:9/"
qualifiers.prod = { version = "3" }
qualifiers.3 = { retries = 5, on_failure = "kafka://crawl-failed" }

[[function]]
name = "media/resize"
provider = "fc"
url = "http://127.0.0.1:9/"
timeout_s = 2.5
qualifiers.prod = { version = "3" }
qualifiers.3 = {}

[[function]]
name = "media/cut"
provider = "fc"
url = "http://127.0.0.1:9/"

[[function]]
name = "elsewhere"
provider = "aws"
url = "http://127.0.0.1:9/"
"""
V3, V2, OLDEST = VERSIONS
CRAWL = "/2023-03-30/functions/crawl"
RESIZE = "/2021-04-06/services/media/functions/resize"
OLD = "/2016-08-15/services/media/functions/resize"
ARN = "acs:fc:cn-hangzhou:1234567890123456:functions/crawl"
ASYNC = {"X-Fc-Invocation-Type": "Async"}
MNS = "acs:mns:::/queues/failed/messages"


class Fc(Bench):
    """The API in all versions."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, lambda services: function_compute(services)[V3.date], FUNCTIONS)
        self.apis = function_compute(self.services)

    async def send(self, method: str, path: str, *rest: Any, **more: Any) -> Reply:
        self.use(self.apis.get(path.split("/")[1], self.api))
        return await super().send(method, path, *rest, **more)

    async def invoke(self, path: str, body: bytes = b"", **headers: str) -> Reply:
        """Invoke asynchronously; an underscore in a header's name stands for a hyphen."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.send("POST", f"{path}/invocations", body, ASYNC | given)

    def happened(self, *facts: Located) -> None:
        """The read model hears of *facts*."""
        write(self.model, *facts)


@pytest.fixture
def fc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fc]:
    # Nothing is under way here, so there is nothing to wait for.
    monkeypatch.setattr(statuses, "SEEN_WITHIN_S", 0)
    monkeypatch.setattr(tasks, "STOP_WITHIN_S", 0)
    bench = Fc(tmp_path)
    yield bench
    bench.model.close()


def fact(offset: int, request_id: str, *facts: Fact, resource: str = ARN) -> Located:
    return at(offset, request_id, *facts, resource=resource, provider="fc")


def document(reply: Reply) -> Any:
    return json.loads(reply.body)


def code(reply: Reply) -> tuple[int, str]:
    """Status and error code, wherever the version's document has it."""
    read = document(reply)
    return reply.status, read.get("Code") or read.get("ErrorCode")


# -- invocations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        (CRAWL, f"{ARN}"),
        (RESIZE, "acs:fc:::services/media.LATEST/functions/resize"),
        (OLD, "acs:fc:::services/media.LATEST/functions/resize"),
        ("/2016-08-15/services/media.prod/functions/resize", "acs:fc:::services/media.prod/functions/resize"),
    ],
)
async def test_an_asynchronous_invocation_is_accepted_byte_for_byte_with_an_empty_reply(
    fc: Fc, path: str, resource: str
) -> None:
    reply = await fc.invoke(path, b"\x00\xff not JSON")

    assert (reply.status, reply.body, reply.headers["X-Fc-Request-Id"]) == (202, b"", "id-1")
    headers = {"function": resource.encode(), "request-id": b"id-1"}
    assert fc.intake.accepted == [("id-1", b"\x00\xff not JSON", headers)]


async def test_the_qualifier_may_be_in_the_query(fc: Fc) -> None:
    await fc.send("POST", f"{CRAWL}/invocations?qualifier=prod", b"", ASYNC)

    assert fc.intake.accepted[0][2]["function"] == f"{ARN}/prod".encode()


@pytest.mark.parametrize(("seconds", "header"), [("0", None), ("3", b"3000"), ("3600", b"3600000")])
async def test_a_delay_is_in_seconds_up_to_an_hour(fc: Fc, seconds: str, header: bytes | None) -> None:
    await fc.invoke(CRAWL, X_Fc_Async_Delay=seconds)

    assert fc.intake.accepted[0][2].get("delay-ms") == header


async def test_a_trace_goes_along(fc: Fc) -> None:
    await fc.invoke(CRAWL, traceparent="00-x")

    assert fc.intake.accepted[0][2]["traceparent"] == b"00-x"


@pytest.mark.parametrize(
    ("path", "headers", "body", "refusal"),
    [
        (CRAWL, {"X-Fc-Async-Delay": "3601"}, b"", (400, "InvalidArgument")),
        (CRAWL, {"X-Fc-Async-Delay": "-1"}, b"", (400, "InvalidArgument")),
        (CRAWL, {"X-Fc-Async-Delay": "1.5"}, b"", (400, "InvalidArgument")),
        (CRAWL, {"X-Fc-Async-Delay": ""}, b"", (400, "InvalidArgument")),
        (CRAWL, {"X-Fc-Invocation-Type": "Later"}, b"", (400, "InvalidArgument")),
        (CRAWL, {"X-Fc-Async-Task-Id": "1-digit-first"}, b"", (400, "InvalidArgument")),
        (CRAWL, {"X-Fc-Async-Task-Id": "x" * 129}, b"", (400, "InvalidArgument")),
        (CRAWL, {"X-Fc-Async-Task-Id": "a.b"}, b"", (400, "InvalidArgument")),
        (CRAWL, {}, b"x" * 131_073, (400, "EntityTooLarge")),
        (f"{CRAWL}er", {}, b"", (404, "FunctionNotFound")),
        ("/2023-03-30/functions/elsewhere", {}, b"", (404, "FunctionNotFound")),
        ("/2021-04-06/services/media/functions/nothing", {}, b"", (404, "FunctionNotFound")),
        ("/2021-04-06/services/nothing/functions/resize", {}, b"", (404, "ServiceNotFound")),
        ("/2016-08-15/services/media.old/functions/resize", {}, b"", (404, "AliasNotFound")),
        ("/2016-08-15/services/media.7/functions/resize", {}, b"", (404, "VersionNotFound")),
    ],
)
async def test_what_the_cloud_would_refuse_is_refused_and_not_accepted(
    fc: Fc, path: str, headers: dict[str, str], body: bytes, refusal: tuple[int, str]
) -> None:
    reply = await fc.send("POST", f"{path}/invocations", body, ASYNC | headers)

    assert code(reply) == refusal
    assert fc.intake.accepted == []


async def test_the_largest_event_has_128_kilobytes(fc: Fc) -> None:
    assert (await fc.invoke(CRAWL, b"x" * 131_072)).status == 202


async def test_a_qualifier_in_the_path_contradicts_another_in_the_query(fc: Fc) -> None:
    path = "/2021-04-06/services/media.prod/functions/resize/invocations?qualifier=3"

    assert code(await fc.send("POST", path, b"", ASYNC)) == (400, "InvalidArgument")


@pytest.mark.parametrize("error", [Unavailable(), Overloaded()])
async def test_what_kafka_does_not_take_is_not_accepted(fc: Fc, error: Exception) -> None:
    fc.intake.error = error

    with pytest.raises(type(error)):  # the server makes the API's refusal of it
        await fc.invoke(CRAWL)


@pytest.mark.parametrize("path", [CRAWL, RESIZE, OLD])
async def test_what_cannot_be_taken_now_is_an_error_that_clients_retry(fc: Fc, path: str) -> None:
    await fc.send("GET", path)  # from now on the API of this version

    assert code(fc.api.refused(fc.api.unavailable("Try again."), "id-1")) == (500, "InternalServerError")
    assert code(fc.api.refused(fc.api.overloaded(), "id-1")) == (429, "ResourceThrottled")
    assert code(fc.api.refused(fc.api.bad_request("What?"), "id-1")) == (400, "InvalidArgument")


# -- synchronous invocations -----------------------------------------------------------------------------------------


async def test_a_synchronous_invocation_replies_with_what_the_function_returned(fc: Fc) -> None:
    fc.invokers.handler = lambda call: Outcome("returned", payload=call.payload[::-1], is_json=False)

    reply = await fc.send("POST", f"{CRAWL}/invocations", b"abc")

    assert (reply.status, reply.body, reply.headers) == (200, b"cba", {"X-Fc-Request-Id": "id-1"})


@pytest.mark.parametrize(("handled", "kind"), [(False, "UnhandledInvocationError"), (True, "HandledInvocationError")])
async def test_an_error_of_the_function_is_named_in_a_header(fc: Fc, handled: bool, kind: str) -> None:
    fc.invokers.handler = lambda call: Outcome("function_error", 200, b'{"errorMessage":"no"}', handled=handled)

    reply = await fc.send("POST", f"{RESIZE}/invocations", b"", {"X-Fc-Invocation-Type": "Sync"})

    assert (reply.status, reply.headers["X-Fc-Error-Type"], document(reply)) == (200, kind, {"errorMessage": "no"})


async def test_a_synchronous_event_has_at_most_32_megabytes(fc: Fc) -> None:
    reply = await fc.send("POST", f"{CRAWL}/invocations", b"x" * ((32 << 20) + 1))

    assert code(reply) == (400, "EntityTooLarge")
    assert document(reply)["Message"] == "payload size exceeds maximum allowed size (33554432 bytes)"


async def test_a_log_that_is_asked_for_is_there_and_empty(fc: Fc) -> None:
    reply = await fc.send("POST", f"{CRAWL}/invocations", b"", {"X-Fc-Log-Type": "Tail"})

    assert reply.headers["X-Fc-Log-Result"] == ""


async def test_nothing_runs_beyond_the_concurrency_of_the_function(fc: Fc) -> None:
    await fc.services.live.put(Key("fc", "crawl"), Entry(settings={"reserved_concurrency": 0}))

    assert code(await fc.send("POST", f"{CRAWL}/invocations")) == (429, "ResourceExhausted")


@pytest.mark.parametrize(
    ("outcome", "refusal"),
    [
        (Outcome("throttled", 429), (429, "ResourceExhausted")),
        (Outcome("system_error", 500), (500, "InternalServerError")),
        (Outcome("system_error", 503), (503, "InternalServerError")),
        (Outcome("target_missing", 404), (404, "FunctionNotFound")),
    ],
)
async def test_a_function_that_did_not_run_is_an_error_of_the_api(
    fc: Fc, outcome: Outcome, refusal: tuple[int, str]
) -> None:
    fc.invokers.handler = lambda call: outcome

    assert code(await fc.send("POST", f"{CRAWL}/invocations")) == refusal


# -- tasks by an id of the client's ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "header"), [(CRAWL, V3.task_header), (RESIZE, V2.task_header), (OLD, OLDEST.task_header)]
)
async def test_a_task_has_the_id_that_the_client_chose(fc: Fc, path: str, header: str) -> None:
    reply = await fc.send("POST", f"{path}/invocations", b"", ASYNC | {header.lower(): "order-17"})

    assert reply.headers[header] == "order-17"
    [(request_id, _, headers)] = fc.intake.accepted
    assert request_id == reply.headers["X-Fc-Request-Id"] == headers["request-id"].decode()
    assert request_id.endswith(".order-17")


async def test_a_task_id_is_taken_once_by_each_function(fc: Fc) -> None:
    task = {"X_Fc_Async_Task_Id": "order-17"}
    await fc.invoke(CRAWL, **task)

    again = await fc.invoke(CRAWL, **task)
    with_qualifier = await fc.send(
        "POST", f"{CRAWL}/invocations?qualifier=prod", b"", ASYNC | {"X-Fc-Async-Task-Id": "order-17"}
    )
    of_another = await fc.invoke(RESIZE, X_Fc_Stateful_Async_Invocation_Id="order-17")

    assert code(again) == code(with_qualifier) == (409, "StatefulAsyncInvocationAlreadyExists")
    assert of_another.status == 202
    assert len(fc.intake.accepted) == 2


async def test_a_task_that_another_gateway_accepted_is_in_the_read_model(fc: Fc) -> None:
    await fc.invoke(CRAWL, X_Fc_Async_Task_Id="order-17")
    other = Fc(fc.folder / "other")
    other.happened(fact(0, fc.intake.accepted[0][0], *succeeded()))

    reply = await other.invoke(CRAWL, X_Fc_Async_Task_Id="order-17")

    assert code(reply) == (409, "StatefulAsyncInvocationAlreadyExists")
    other.model.close()


async def test_two_gateways_give_a_task_one_request_id(fc: Fc) -> None:
    other = Fc(fc.folder / "other")
    replies = [await gateway.invoke(CRAWL, X_Fc_Async_Task_Id="order-17") for gateway in (fc, other)]

    assert [reply.status for reply in replies] == [202, 202]
    assert fc.intake.accepted == other.intake.accepted  # so a worker runs it once
    other.model.close()


async def test_an_id_that_was_not_accepted_is_free(fc: Fc) -> None:
    fc.intake.error = Unavailable()
    with pytest.raises(Unavailable):
        await fc.invoke(CRAWL, X_Fc_Async_Task_Id="order-17")
    fc.intake.error = None

    assert (await fc.invoke(CRAWL, X_Fc_Async_Task_Id="order-17")).status == 202


async def test_without_a_read_model_tasks_are_accepted(fc: Fc, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise ReadModelError("gone")

    monkeypatch.setattr(fc.model, "find", gone)

    assert (await fc.invoke(CRAWL, X_Fc_Async_Task_Id="order-17")).status == 202


async def test_an_invocation_is_no_task_unless_somebody_says_so(fc: Fc) -> None:
    plain = await fc.invoke(CRAWL)
    enabled = await fc.invoke(RESIZE, X_Fc_Stateful_Async_Invocation_Enable="True")
    await fc.send("PUT", f"{CRAWL}/async-invoke-config", b'{"asyncTask": true}')
    switched_on = await fc.invoke(CRAWL)

    assert V3.task_header not in plain.headers
    assert enabled.headers[V2.task_header] == "id-1"  # the request id, when the client chose none
    assert switched_on.headers[V3.task_header] == "id-1"


# -- configurations --------------------------------------------------------------------------------------------------


async def test_a_put_leaves_alone_what_it_does_not_name(fc: Fc) -> None:
    path = f"{CRAWL}/async-invoke-config"
    full = {
        "maxAsyncRetryAttempts": 1,
        "maxAsyncEventAgeInSeconds": 100,
        "destinationConfig": {"onFailure": {"destination": MNS}},
        "asyncTask": True,
    }
    await fc.send("PUT", path, json.dumps(full).encode())

    reply = await fc.send("PUT", path, b'{"maxAsyncRetryAttempts": 0}')

    assert (
        document(reply)
        == document(await fc.send("GET", path))
        == full
        | {
            "maxAsyncRetryAttempts": 0,
            "destinationConfig": {"onSuccess": None, "onFailure": {"destination": MNS}},
            "functionArn": ARN,
            "createdTime": "2023-11-14T22:13:20Z",
            "lastModifiedTime": "2023-11-14T22:13:20Z",
        }
    )


async def test_destinations_are_put_together(fc: Fc) -> None:
    path = f"{CRAWL}/async-invoke-config"
    await fc.send("PUT", path, json.dumps({"destinationConfig": {"onFailure": {"destination": MNS}}}).encode())
    other = {"destinationConfig": {"onSuccess": {"destination": "acs:fc:::services/media/functions/cut"}}}

    await fc.send("PUT", path, json.dumps(other).encode())
    one = document(await fc.send("GET", path))
    await fc.send("PUT", path, b'{"destinationConfig": {"onSuccess": {"destination": null}, "onFailure": null}}')
    none = document(await fc.send("GET", path))

    assert one["destinationConfig"] == other["destinationConfig"] | {"onFailure": None}
    assert none["destinationConfig"] == {"onSuccess": None, "onFailure": None}


async def test_what_is_put_is_what_workers_use(fc: Fc) -> None:
    body = {"maxAsyncRetryAttempts": 1, "maxAsyncEventAgeInSeconds": 60}
    await fc.send("PUT", f"{RESIZE}/async-invoke-config?qualifier=prod", json.dumps(body).encode())

    resize = fc.services.functions.qualifiers("fc", "media/resize")
    assert (resize["prod"].policy.attempts_max, resize["prod"].policy.age_max_ms) == (2, 60_000)
    assert (resize["LATEST"].policy.attempts_max, resize["LATEST"].policy.age_max_ms) == (4, 86_400_000)


async def test_two_versions_of_the_api_show_one_configuration(fc: Fc) -> None:
    await fc.send("PUT", f"{RESIZE}/async-invoke-config?qualifier=prod", b'{"statefulInvocation": true}')

    reply = await fc.send("GET", "/2016-08-15/services/media.prod/functions/resize/async-invoke-config")

    shown = document(reply)
    assert (shown["service"], shown["function"], shown["qualifier"]) == ("media", "resize", "prod")
    assert (shown["statefulInvocation"], shown["maxAsyncRetryAttempts"]) == (True, 3)
    assert "functionArn" not in shown


async def test_the_configuration_in_the_file_is_shown_and_changed_from_there(fc: Fc) -> None:
    path = f"{CRAWL}/async-invoke-config?qualifier=3"

    before = document(await fc.send("GET", path))
    after = document(await fc.send("PUT", path, b'{"maxAsyncEventAgeInSeconds": 7}'))

    assert (before["maxAsyncRetryAttempts"], before["maxAsyncEventAgeInSeconds"]) == (5, 86400)
    assert (after["maxAsyncRetryAttempts"], after["maxAsyncEventAgeInSeconds"]) == (5, 7)
    assert after["destinationConfig"]["onFailure"] == {"destination": "kafka://crawl-failed"}


@pytest.mark.parametrize("qualifier", ["LATEST", "3"])
async def test_what_was_deleted_is_gone_until_it_is_put_again(fc: Fc, qualifier: str) -> None:
    path = f"{CRAWL}/async-invoke-config?qualifier={qualifier}"
    await fc.send("PUT", path, b'{"maxAsyncRetryAttempts": 1, "asyncTask": true}')

    deleted = await fc.send("DELETE", path)

    assert (deleted.status, deleted.body) == (204, b"")
    for method in ("GET", "DELETE"):
        missing = await fc.send(method, path)
        assert code(missing) == (404, "AsyncConfigNotExists")
        assert document(missing)["Message"] == f"AsyncConfig for crawl:{qualifier} does not exist."
    again = document(await fc.send("PUT", path, b"{}"))
    assert (again["maxAsyncRetryAttempts"], again["asyncTask"]) == (3, False)


async def test_a_function_has_no_configuration_before_one_is_put(fc: Fc) -> None:
    assert code(await fc.send("GET", f"{RESIZE}/async-invoke-config")) == (404, "AsyncConfigNotExists")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b'{"maxAsyncRetryAttempts": 9}',
        b'{"maxAsyncRetryAttempts": -1}',
        b'{"maxAsyncRetryAttempts": true}',
        b'{"maxAsyncRetryAttempts": "1"}',
        b'{"maxAsyncEventAgeInSeconds": 0}',
        b'{"maxAsyncEventAgeInSeconds": 604801}',
        b'{"asyncTask": "yes"}',
        b'{"destinationConfig": []}',
        b'{"destinationConfig": {"onFailure": "acs:mns:::/queues/q/messages"}}',
        b'{"destinationConfig": {"onFailure": {"destination": "arn:aws:sqs:::q"}}}',
        b'{"destinationConfig": {"onFailure": {"destination": 5}}}',
        b'{"destinationConfig": {"onFailure": {"destination": "kafka://no/topic"}}}',
    ],
)
async def test_a_configuration_out_of_bounds_changes_nothing(fc: Fc, body: bytes) -> None:
    assert code(await fc.send("PUT", f"{CRAWL}/async-invoke-config", body)) == (400, "InvalidArgument")
    assert fc.services.entry(Key("fc", "crawl", "LATEST")) is None
    assert fc.live.topics == []


async def test_the_topic_of_a_destination_is_made(fc: Fc) -> None:
    body = b'{"destinationConfig": {"onFailure": {"destination": "kafka://crawled"}}}'

    assert (await fc.send("PUT", f"{CRAWL}/async-invoke-config", body)).status == 200
    assert fc.live.topics == ["crawled"]


async def test_3_0_lists_the_configurations_of_the_account_and_2_0_of_a_function(fc: Fc) -> None:
    for path in (CRAWL, RESIZE):
        for qualifier in ("LATEST", "prod"):
            await fc.send("PUT", f"{path}/async-invoke-config?qualifier={qualifier}", b"{}")

    first = document(await fc.send("GET", "/2023-03-30/async-invoke-configs?limit=2"))
    rest = document(await fc.send("GET", f"/2023-03-30/async-invoke-configs?nextToken={first['nextToken']}"))
    of_one = document(await fc.send("GET", "/2023-03-30/async-invoke-configs?functionName=crawl"))
    of_resize = document(await fc.send("GET", f"{RESIZE}/async-invoke-configs"))

    arns = [config["functionArn"] for config in first["configs"] + rest["configs"]]
    assert arns == [f"{ARN}/3", ARN, f"{ARN}/prod"]
    assert "nextToken" not in rest
    assert len(of_one["configs"]) == 3
    assert [config["qualifier"] for config in of_resize["configs"]] == ["LATEST", "prod"]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "functionName=nobody"])
async def test_a_list_that_nobody_can_give_is_refused(fc: Fc, query: str) -> None:
    assert (await fc.send("GET", f"/2023-03-30/async-invoke-configs?{query}")).status in (400, 404)


# -- tasks -----------------------------------------------------------------------------------------------------------


async def test_a_task_that_was_just_accepted_is_found(fc: Fc) -> None:
    await fc.invoke(CRAWL, X_Fc_Async_Task_Id="order-17")

    task = document(await fc.send("GET", f"{CRAWL}/async-tasks/order-17"))

    assert (task["taskId"], task["status"], task["startedTime"]) == ("order-17", "Enqueued", NOW_MS)
    assert (task["functionArn"], task["qualifier"]) == (ARN, "LATEST")


async def test_a_task_shows_what_happened_to_it(fc: Fc) -> None:
    fc.happened(fact(0, "r", *failed_once()), fact(1, "r", *exhausted()))

    task = document(await fc.send("GET", f"{CRAWL}/async-tasks/r"))

    assert task == {
        "taskId": "r",
        "requestId": "r",
        "functionArn": ARN,
        "qualifier": "LATEST",
        "status": "Failed",
        "startedTime": NOW + 3,
        "endTime": NOW + 60_010,
        "durationMs": 60_007,
        "alreadyRetriedTimes": 1,
        "taskErrorMessage": "UnhandledInvocationError",
        "events": [
            {"eventId": 1, "status": "Enqueued", "timestamp": NOW, "eventDetail": ""},
            {"eventId": 2, "status": "Running", "timestamp": NOW + 3, "eventDetail": ""},
            {
                "eventId": 3,
                "status": "Retrying",
                "timestamp": NOW + 5,
                "eventDetail": '{"Error":"UnhandledInvocationError"}',
            },
            {"eventId": 4, "status": "Running", "timestamp": NOW + 60_006, "eventDetail": ""},
            {
                "eventId": 5,
                "status": "Failed",
                "timestamp": NOW + 60_010,
                "eventDetail": '{"Error":"UnhandledInvocationError"}',
            },
        ],
    }


@pytest.mark.parametrize(
    ("what", "shown"),
    [
        (Delivered(NOW + 9, MNS, is_event=False), "Succeeded"),
        (DeliveryFailed(NOW + 9, MNS, False, "QueueNotExist", "no"), "Failed"),
    ],
)
async def test_a_task_says_whether_its_destination_has_its_result(fc: Fc, what: DeliveryFact, shown: str) -> None:
    fc.happened(fact(0, "r", *succeeded()))
    assert "destinationStatus" not in document(await fc.send("GET", f"{CRAWL}/async-tasks/r"))

    fc.happened(delivery(1, "r", what))
    task = document(await fc.send("GET", f"{CRAWL}/async-tasks/r"))
    assert (task["status"], task["destinationStatus"], len(task["events"])) == ("Succeeded", shown, 3)


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        ("cancelled", ""),
        ("expired", "EventAgeExceeded"),
        ("zero_concurrency", "FunctionResourceExhausted"),
        ("loop", "RecursiveInvocation"),
        ("budget_spent", "FunctionResourceExhausted"),
    ],
)
async def test_a_task_that_failed_says_why(fc: Fc, ending: Ending, error: str) -> None:
    throttled = AttemptFailed(1, NOW, Outcome("throttled", 429))
    fc.happened(fact(0, "r", accepted(), AttemptStarted(1, NOW), throttled, Failed(1, NOW, ending)))

    task = document(await fc.send("GET", f"{CRAWL}/async-tasks/r"))

    assert task["taskErrorMessage"] == error
    assert task["events"][-1]["eventDetail"] == (json.dumps({"Error": error}, separators=(",", ":")) if error else "")


async def test_2_0_has_other_names_for_the_same(fc: Fc) -> None:
    resource = "acs:fc:::services/media.prod/functions/resize"
    fc.happened(fact(0, "r", *failed_once(), resource=resource))

    task = document(await fc.send("GET", f"{RESIZE}/stateful-async-invocations/r"))

    names = ("invocationId", "serviceName", "functionName", "qualifier", "status", "invocationErrorMessage")
    assert [task[name] for name in names] == ["r", "media", "resize", "prod", "Retrying", "UnhandledInvocationError"]
    assert not {"taskId", "functionArn", "taskErrorMessage"} & task.keys()


STATES: list[tuple[tuple[Fact, ...], str]] = [
    ((accepted(),), "Enqueued"),
    ((accepted(), AttemptStarted(1, NOW)), "Running"),
    (failed_once(), "Retrying"),
    (succeeded(), "Succeeded"),
    *(
        ((accepted(), Failed(0, NOW, ending)), state)
        for ending, state in (
            ("retries_exhausted", "Failed"),
            ("budget_spent", "Failed"),
            ("zero_concurrency", "Failed"),
            ("expired", "Expired"),
            ("target_missing", "Invalid"),
            ("loop", "Invalid"),
            ("cancelled", "Stopped"),
        )
    ),
]


@pytest.mark.parametrize(("facts", "state"), STATES)
async def test_every_standing_is_one_of_the_ten_states_and_can_be_listed_by_it(
    fc: Fc, facts: tuple[Fact, ...], state: str
) -> None:
    fc.happened(*(fact(number, f"r{number}", *each) for number, (each, _) in enumerate(STATES)))
    wanted = {f"r{number}" for number, (_, other) in enumerate(STATES) if other == state}

    listed = document(await fc.send("GET", f"{CRAWL}/async-tasks?status={state}"))

    assert {task["taskId"] for task in listed["tasks"]} == wanted
    assert {task["status"] for task in listed["tasks"]} == {state}


@pytest.mark.parametrize("state", ["Dequeued", "Stopping"])
async def test_states_that_pass_at_once_list_nothing(fc: Fc, state: str) -> None:
    fc.happened(fact(0, "r", *succeeded()))

    assert document(await fc.send("GET", f"{CRAWL}/async-tasks?status={state}")) == {"tasks": []}


async def test_tasks_are_listed_page_by_page_the_newest_first(fc: Fc) -> None:
    fc.happened(*(fact(number, f"r{number}", *succeeded(NOW + number)) for number in range(5)))

    pages, token = [], ""
    while not pages or token:
        page = document(await fc.send("GET", f"{CRAWL}/async-tasks?limit=2&nextToken={token}"))
        pages.append([task["taskId"] for task in page["tasks"]])
        token = page.get("nextToken", "")
    ascending = document(await fc.send("GET", f"{CRAWL}/async-tasks?sortOrderByTime=asc&limit=1"))

    assert pages == [["r4", "r3"], ["r2", "r1"], ["r0"]]
    assert ascending["tasks"][0]["taskId"] == "r0"


async def test_tasks_are_listed_by_id_time_and_qualifier(fc: Fc) -> None:
    await fc.invoke(CRAWL, X_Fc_Async_Task_Id="order-17")
    fc.happened(
        fact(0, fc.intake.accepted[0][0], *succeeded(NOW)),
        fact(1, "order-by-kafka", *succeeded(NOW + 100)),
        fact(2, "other", *succeeded(NOW + 200), resource=f"{ARN}/prod"),
        fact(3, "order-of-another", *succeeded(NOW), resource="acs:fc:::services/media.LATEST/functions/resize"),
    )

    async def listed(query: str) -> list[str]:
        reply = await fc.send("GET", f"{CRAWL}/async-tasks?{query}")
        return [task["taskId"] for task in document(reply)["tasks"]]

    assert await listed("prefix=order") == ["order-by-kafka", "order-17"]
    assert await listed("prefix=order-1") == ["order-17"]
    assert await listed(f"startedTimeBegin={NOW + 103}&startedTimeEnd={NOW + 103}") == ["order-by-kafka"]
    assert await listed("qualifier=prod") == ["other"]


async def test_a_list_waits_for_what_was_just_accepted(fc: Fc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statuses, "SEEN_WITHIN_S", 30)
    await fc.invoke(CRAWL)
    looked = asyncio.Event()
    known, loop = fc.model.known, asyncio.get_running_loop()

    def look_and_tell(*given: Any) -> Any:
        loop.call_soon_threadsafe(looked.set)
        return known(*given)

    monkeypatch.setattr(fc.model, "known", look_and_tell)
    listing = asyncio.create_task(fc.send("GET", f"{CRAWL}/async-tasks"))
    await looked.wait()
    fc.happened(fact(0, "id-1", accepted()))

    assert [task["taskId"] for task in document(await listing)["tasks"]] == ["id-1"]


@pytest.mark.parametrize(
    "query", ["limit=0", "status=Lost", "sortOrderByTime=up", "startedTimeBegin=x", "nextToken=%00"]
)
async def test_a_filter_that_makes_no_sense_is_refused(fc: Fc, query: str) -> None:
    assert code(await fc.send("GET", f"{CRAWL}/async-tasks?{query}")) == (400, "InvalidArgument")


async def test_a_task_is_sought_under_its_function(fc: Fc) -> None:
    fc.happened(fact(0, "r", *succeeded()))

    elsewhere = await fc.send("GET", f"{RESIZE}/stateful-async-invocations/r")
    other_version = await fc.send("GET", f"{CRAWL}/async-tasks/r?qualifier=prod")
    nowhere = await fc.send("GET", "/2023-03-30/functions/nobody/async-tasks/r")

    assert code(elsewhere) == code(other_version) == (404, "StatefulAsyncInvocationNotFound")
    assert code(nowhere) == (404, "FunctionNotFound")


async def test_a_stop_goes_to_the_partition_of_the_task(fc: Fc) -> None:
    fc.happened(fact(0, "r", *failed_once()))

    stop = await fc.send("PUT", f"{CRAWL}/async-tasks/r/stop")
    task = document(await fc.send("GET", f"{CRAWL}/async-tasks/r"))

    assert (stop.status, stop.body) == (204, b"")
    assert fc.intake.cancelled == [("r", 0)]
    assert task["status"] == "Stopping"


async def test_what_no_worker_has_read_yet_can_be_stopped(fc: Fc) -> None:
    await fc.invoke(CRAWL, X_Fc_Async_Task_Id="order-17")

    stop = await fc.send("PUT", f"{CRAWL}/async-tasks/order-17/stop")
    task = document(await fc.send("GET", f"{CRAWL}/async-tasks/order-17"))

    assert (stop.status, task["status"]) == (204, "Stopping")


async def test_a_stop_of_what_is_over_changes_nothing(fc: Fc) -> None:
    resource = "acs:fc:::services/media.LATEST/functions/resize"
    fc.happened(
        fact(0, "done", *succeeded(), resource=resource),
        fact(1, "stopped", accepted(), Failed(0, NOW, "cancelled"), resource=resource),
    )

    done = await fc.send("PUT", f"{RESIZE}/stateful-async-invocations/done")
    stopped = await fc.send("PUT", f"{RESIZE}/stateful-async-invocations/stopped")

    assert done.status == 204
    assert code(stopped) == (412, "AsyncInvocationStopped")
    assert document(stopped)["errorMessage"] == (
        "The async invocation for media:resize:LATEST:stopped has been stopped"
    )
    assert fc.intake.cancelled == []


async def test_2_0_lists_the_functions_that_make_tasks(fc: Fc) -> None:
    await fc.send("PUT", f"{RESIZE}/async-invoke-config?qualifier=prod", b'{"statefulInvocation": true}')

    reply = await fc.send("GET", "/2021-04-06/stateful-async-invocation-functions")

    assert document(reply) == {"data": [{"serviceName": "media", "functionName": "resize", "qualifier": "prod"}]}


# -- functions and services ------------------------------------------------------------------------------------------


async def test_3_0_shows_functions_without_services(fc: Fc) -> None:
    shown = document(await fc.send("GET", f"{CRAWL}?qualifier=prod"))
    listed = document(await fc.send("GET", "/2023-03-30/functions"))

    assert (shown["functionName"], shown["functionArn"], shown["timeout"]) == ("crawl", f"{ARN}/prod", 60)
    assert [function["functionName"] for function in listed["functions"]] == ["crawl"]


async def test_2_0_shows_services_and_their_functions(fc: Fc) -> None:
    services = document(await fc.send("GET", "/2021-04-06/services"))
    service = document(await fc.send("GET", "/2016-08-15/services/media"))
    functions = document(await fc.send("GET", "/2016-08-15/services/media/functions?limit=1"))
    function = document(await fc.send("GET", RESIZE))

    assert [each["serviceName"] for each in services["services"]] == ["media"]
    assert service["serviceName"] == "media"
    assert [each["functionName"] for each in functions["functions"]] == ["cut"]
    assert functions["nextToken"] == "resize"
    assert (function["functionName"], function["timeout"]) == ("resize", 3)


@pytest.mark.parametrize("owner", [CRAWL, "/2021-04-06/services/media"])
async def test_qualifiers_are_versions_and_aliases(fc: Fc, owner: str) -> None:
    versions = document(await fc.send("GET", f"{owner}/versions"))
    aliases = document(await fc.send("GET", f"{owner}/aliases"))
    alias = document(await fc.send("GET", f"{owner}/aliases/prod"))

    assert [version["versionId"] for version in versions["versions"]] == ["3"]
    assert aliases["aliases"] == [alias]
    assert (alias["aliasName"], alias["versionId"]) == ("prod", "3")
    assert code(await fc.send("GET", f"{owner}/aliases/old")) == (404, "AliasNotFound")


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "members"),
    [
        ("/2023-03-30/nothing", {"Code", "Message", "RequestId"}),
        ("/2021-04-06/nothing", {"errorCode", "errorMessage", "Code", "Message", "RequestId"}),
        ("/2016-08-15/nothing", {"ErrorCode", "ErrorMessage"}),
    ],
)
async def test_each_version_refuses_in_a_document_of_its_own(fc: Fc, path: str, members: set[str]) -> None:
    reply = await fc.send("PATCH", path)

    assert code(reply) == (400, "PathNotSupported")
    assert document(reply).keys() == members
    assert reply.headers == {"X-Fc-Request-Id": "id-1", "x-acs-request-id": "id-1"}


PATHS = st.sampled_from(
    [
        *(route.path for api in VERSIONS for route in function_compute(None)[api.date].routes),  # type: ignore[arg-type]
        "/2023-03-30",
        "/2021-04-06/{x}/{y}",
    ]
)
WORDS = st.sampled_from(["crawl", "media", "media.prod", "resize", "prod", "r", "", "%00", "%ff", "..", "a%2Fb"])
TEXT = st.text(max_size=8) | st.sampled_from(["1", "LATEST", "true", "Async", "Sync", "-1", "\udc80", "9" * 30])
NAMES = (
    "X-Fc-Invocation-Type",
    "X-Fc-Async-Delay",
    V3.task_header,
    V2.task_header,
    str(V2.enable_header),
    "traceparent",
)
QUERIES = (
    "qualifier",
    "limit",
    "nextToken",
    "prefix",
    "status",
    "sortOrderByTime",
    "startedTimeBegin",
    "includePayload",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["destinationConfig", "onFailure", "destination", "maxAsyncRetryAttempts", "asyncTask", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH"]),
    path=PATHS,
    words=st.lists(WORDS, min_size=3, max_size=3),
    query=st.dictionaries(st.sampled_from(QUERIES), TEXT, max_size=3),
    headers=st.dictionaries(st.sampled_from(NAMES), TEXT, max_size=4),
    body=st.binary(max_size=30) | JSON.map(lambda value: json.dumps(value).encode()),
)
async def test_whatever_arrives_is_answered_in_the_words_of_the_version(
    fc: Fc,
    method: str,
    path: str,
    words: list[str],
    query: dict[str, str],
    headers: dict[str, str],
    body: bytes,
) -> None:
    filled, rest = "", list(words)
    for part in path.split("/")[1:]:
        filled += "/" + (rest.pop() if part.startswith("{") and rest else part)

    reply = await fc.send(method, filled, body, headers, query=query)

    assert 200 <= reply.status < 500
    if reply.status >= 400:
        assert code(reply)[1]
