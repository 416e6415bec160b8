"""FunctionGraph's API without Kafka: shapes, defaults, bounds and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.codec.facts import FactsRecord
from streams.console.projection import Located
from streams.console.store import Move
from streams.core.facts import Accepted, AttemptFailed, AttemptStarted, Fact, Failed, RetryScheduled, Succeeded
from streams.core.model import Ending, Outcome
from streams.functions.stored import Key
from streams.gateway.edge import Reply
from streams.gateway.functiongraph import FunctionGraphApi
from streams.gateway.intake import TooLarge
from streams.gateway.keys import Keys
from streams.invokers import Call

from .support import EXAMPLES, NOW_MS, Bench

PROJECT = "0123456789abcdef0123456789abcdef"
FUNCTIONS = """
[functiongraph]
utc_offset = "+08:00"
[[function]]
name = "resize"
provider = "functiongraph"
url = "http://127.0.0.1:9/"
timeout_s = 2.5
[function.qualifiers.v1]
retries = 3
on_failure = "kafka://failed"
[function.qualifiers."!live"]
version = "v1"
[[function]]
name = "off"
provider = "functiongraph"
url = "http://127.0.0.1:9/"
reserved_concurrency = 0
[[function]]
name = "cloud"
provider = "aws"
url = "http://127.0.0.1:9/"
"""
PREFIX = f"urn:fss:cn-north-4:{PROJECT}:function:default:"
URN = f"{PREFIX}resize"
LATEST = f"{URN}:latest"
BASE = f"/v2/{PROJECT}/fgs/functions"


def at(urn: str, operation: str) -> str:
    return f"{BASE}/{quote(urn, safe='')}/{operation}"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, FunctionGraphApi, FUNCTIONS)


@pytest.fixture
def otc(tmp_path: Path) -> Bench:
    variant = '[functiongraph]\nvariant = "otc"'
    return Bench(tmp_path, FunctionGraphApi, FUNCTIONS.replace("[functiongraph]", variant, 1))


def refusal(reply: Reply) -> tuple[int, str]:
    document = json.loads(reply.body)
    assert document.keys() - {"request_id"} == {"error_code", "error_msg"} and document["error_msg"]
    assert reply.headers["X-Request-Id"] == "id-1" and reply.content_type == "application/json"
    return reply.status, document["error_code"]


def told(reply: Reply, status: int = 200) -> Any:
    assert reply.status == status, reply.body
    assert reply.headers["X-Request-Id"]
    return json.loads(reply.body)


# -- invoking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("urn", [URN, LATEST, f"{URN}:v1", f"{URN}:!live"])
async def test_an_invocation_is_accepted_with_the_event_as_it_is(bench: Bench, urn: str) -> None:
    reply = await bench.send("POST", at(urn, "invocations-async"), b' {"a":  1}\n', {"traceparent": "00-x"})

    assert told(reply, 202) == {"request_id": "id-1"}
    [(request_id, event, headers)] = bench.intake.accepted
    assert (request_id, event) == ("id-1", b' {"a":  1}\n')
    assert headers["function"].decode() == (urn if urn.count(":") > 6 else LATEST)
    assert headers["traceparent"] == b"00-x"


async def test_a_urn_need_not_be_encoded_and_a_body_may_be_missing(bench: Bench) -> None:
    assert told(await bench.send("POST", f"{BASE}/{LATEST}/invocations-async"), 202)
    assert bench.intake.accepted[0][1] == b""


@pytest.mark.parametrize(
    ("urn", "body", "status", "code"),
    [
        ("resize", b"{}", 400, "FSS.1309"),
        ("urn:fss:x", b"{}", 400, "FSS.1309"),
        (URN + "x" * 300, b"{}", 400, "FSS.1309"),
        (f"{PREFIX}nobody:latest", b"{}", 404, "FSS.0404"),
        (f"{URN}:v9", b"{}", 404, "FSS.0404"),
        (LATEST.replace("cn-north-4", "eu-de"), b"{}", 404, "FSS.0404"),
        (LATEST.replace("default", "app"), b"{}", 404, "FSS.0404"),
        (LATEST.replace(PROJECT, "another"), b"{}", 404, "FSS.0404"),
        (f"{PREFIX}cloud", b"{}", 404, "FSS.0404"),
        (f"{PREFIX}off", b"{}", 429, "FSS.0429"),
        (LATEST, b"{", 406, "FSS.0406"),
        (LATEST, b"[1]", 406, "FSS.0406"),
        (LATEST, b"\xff", 406, "FSS.0406"),
        (LATEST, b"{" + b" " * 262_144, 413, "FSS.0413"),
    ],
)
async def test_what_cannot_be_invoked_is_refused(bench: Bench, urn: str, body: bytes, status: int, code: str) -> None:
    assert refusal(await bench.send("POST", at(urn, "invocations-async"), body)) == (status, code)
    assert bench.intake.accepted == []


async def test_texts_of_refusals_are_the_providers(bench: Bench) -> None:
    unknown = await bench.send("POST", at(f"{PREFIX}x", "invocations-async"))
    disabled = await bench.send("POST", at(f"{PREFIX}off", "invocations-async"))

    assert json.loads(unknown.body) == {"error_code": "FSS.0404", "error_msg": "function 'x' not exist"}
    assert json.loads(disabled.body)["error_msg"] == "Function Disabled"


async def test_another_project_is_forbidden(bench: Bench) -> None:
    for operation in ("invocations-async", "cancel"):
        path = at(LATEST, operation).replace(PROJECT, "other", 1)
        assert refusal(await bench.send("POST", path, b"{}")) == (403, "FSS.0403")


async def test_an_event_that_no_topic_takes_is_too_large(bench: Bench) -> None:
    bench.intake.error = TooLarge()

    assert refusal(await bench.send("POST", at(LATEST, "invocations-async"), b"{}")) == (413, "FSS.0413")


async def test_no_operation_is_an_api_that_does_not_exist(bench: Bench) -> None:
    for method, path in (
        ("GET", "/v2"),
        ("POST", f"{BASE}"),
        ("PATCH", at(LATEST, "cancel")),
        ("GET", f"{BASE}/a/b/c"),
    ):
        reply = await bench.send(method, path)
        assert refusal(reply) == (404, "APIGW.0101")
        assert json.loads(reply.body)["request_id"] == "id-1"


async def test_kafka_away_or_overloaded_is_said_in_the_providers_words(bench: Bench) -> None:
    api = bench.api

    assert refusal(api.refused(api.unavailable("Try again."), "id-1")) == (503, "FSS.0503")
    assert refusal(api.refused(api.overloaded(), "id-1")) == (429, "FSS.0429")
    assert refusal(api.refused(api.bad_request("It ended early."), "id-1")) == (400, "FSS.0400")


# -- waiting for it --------------------------------------------------------------------------------------------------


async def test_a_synchronous_call_gives_what_the_function_returns(bench: Bench) -> None:
    calls: list[Call] = []

    def handler(call: Call) -> Outcome:
        calls.append(call)
        return Outcome("returned", 200, b"hello", is_json=False)

    bench.invokers.handler = handler
    reply = await bench.send("POST", at(LATEST, "invocations"), b'{"k": 1}')

    assert (reply.status, reply.body) == (200, b"hello")
    assert (calls[0].event, calls[0].payload, calls[0].request_id) == ({"k": 1}, b'{"k": 1}', "id-1")
    assert reply.headers["X-Cff-Request-Id"] == reply.headers["X-Request-Id"] == "id-1"
    assert reply.headers["X-Func-Err-Code"] == "0" and reply.headers["X-Is-Func-Err"] == "false"
    assert json.loads(reply.headers["X-Cff-Invoke-Summary"])["duration"] >= 0


async def test_version_v1_of_the_reply_is_json(bench: Bench) -> None:
    bench.invokers.handler = lambda call: Outcome("returned", 200, b'{"a": "\xc3\xbc"}')
    reply = await bench.send("POST", at(LATEST, "invocations"), b"{}", {"X-CFF-Request-Version": "v1"})

    assert told(reply) == {"request_id": "id-1", "result": '{"a": "ü"}', "log": "", "status": 200}


@pytest.mark.parametrize(("error_type", "code"), [("ValueError", "4002"), ("4010", "4010")])
async def test_an_error_of_the_function_is_in_the_headers(bench: Bench, error_type: str, code: str) -> None:
    bench.invokers.handler = lambda call: Outcome("function_error", 500, b"{}", error_type, "no luck")
    reply = await bench.send("POST", at(LATEST, "invocations"))

    assert (reply.status, reply.headers["X-Func-Err-Code"], reply.headers["X-Is-Func-Err"]) == (200, code, "true")


@pytest.mark.parametrize(
    ("kind", "status", "code"), [("throttled", 429, "FSS.0429"), ("system_error", 500, "FSS.0500")]
)
async def test_what_is_not_the_functions_fault_is_a_refusal(bench: Bench, kind: Any, status: int, code: str) -> None:
    bench.invokers.handler = lambda call: Outcome(kind, status)

    assert refusal(await bench.send("POST", at(LATEST, "invocations"))) == (status, code)


async def test_six_megabytes_may_be_sent_to_a_function_that_is_waited_for(bench: Bench) -> None:
    body = b'{"k":"' + b"x" * 1_000_000 + b'"}'

    assert (await bench.send("POST", at(LATEST, "invocations"), body)).status == 200
    assert refusal(await bench.send("POST", at(LATEST, "invocations"), b" " * 6_291_457)) == (413, "FSS.0413")


# -- asynchronous configuration --------------------------------------------------------------------------------------

CONFIG = at(LATEST, "async-invoke-config")


def body(**members: object) -> bytes:
    return json.dumps(members).encode()


def to(kind: str, **param: object) -> dict[str, object]:
    return {"destination": kind, "param": json.dumps(param)}


async def test_a_configuration_has_defaults_and_two_formats_of_time(bench: Bench) -> None:
    reply = await bench.send("PUT", CONFIG, b"{}")

    assert told(reply) == {
        "func_urn": LATEST,
        "max_async_event_age_in_seconds": 3600,
        "max_async_retry_attempts": 1,
        "destination_config": {},
        "created_time": "2023-11-15T06:13:20+08:00",
        "last_modified": "2023-11-15 06:13:20",
        "enable_async_status_log": False,
    }
    assert told(await bench.send("GET", CONFIG)) == told(reply)
    assert bench.services.functions.resolve(LATEST, None).policy.attempts_max == 2  # type: ignore[union-attr]


async def test_a_put_replaces_all_that_was_there_but_the_time_of_creation(bench: Bench) -> None:
    destinations = {"on_success": to("KAFKA", topic="done")}
    await bench.send("PUT", CONFIG, body(max_async_retry_attempts=3, destination_config=destinations))
    bench.services.now_ms = lambda: NOW_MS + 60_000
    changed = told(
        await bench.send("PUT", CONFIG, body(max_async_event_age_in_seconds=60, enable_async_status_log=True))
    )

    assert (changed["max_async_retry_attempts"], changed["max_async_event_age_in_seconds"]) == (1, 60)
    assert (changed["destination_config"], changed["enable_async_status_log"]) == ({}, True)
    assert changed["created_time"] == "2023-11-15T06:13:20+08:00"
    assert changed["last_modified"] == "2023-11-15 06:14:20"


@pytest.mark.parametrize(
    ("given", "address"),
    [
        (to("OBS", bucket="b", prefix="/f", expires=5), 'OBS {"bucket": "b", "prefix": "/f", "expires": 5}'),
        (to("SMN", topic_urn="urn:smn:r:p:t"), 'SMN {"topic_urn": "urn:smn:r:p:t"}'),
        (to("DIS", stream_name="s"), 'DIS {"stream_name": "s"}'),
        (to("FunctionGraph", func_urn=LATEST), LATEST),
        (to("KAFKA", topic="done"), "kafka://done"),
    ],
)
async def test_destinations_are_shown_as_they_were_given(bench: Bench, given: dict[str, object], address: str) -> None:
    destinations = {"on_success": given, "on_failure": given}
    reply = await bench.send("PUT", CONFIG, body(destination_config=destinations))

    assert told(reply)["destination_config"] == destinations
    entry = bench.services.entry(Key("functiongraph", "resize", "latest"))
    assert entry is not None and entry.settings is not None
    assert entry.settings["on_success"] == entry.settings["on_failure"] == address


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"max_async_retry_attempts": 4}, "FSS.0400"),
        ({"max_async_retry_attempts": -1}, "FSS.0400"),
        ({"max_async_retry_attempts": True}, "FSS.0400"),
        ({"max_async_retry_attempts": "1"}, "FSS.0400"),
        ({"max_async_event_age_in_seconds": 0}, "FSS.0400"),
        ({"max_async_event_age_in_seconds": 86_401}, "FSS.0400"),
        ({"max_async_event_age_in_seconds": 1.5}, "FSS.0400"),
        ({"enable_async_status_log": "yes"}, "FSS.0400"),
        ({"destination_config": []}, "FSS.0400"),
        ({"destination_config": {"on_success": 1}}, "FSS.0400"),
        ({"destination_config": {"on_success": {"destination": "OBS"}}}, "FSS.0400"),
        ({"destination_config": {"on_success": {"destination": "OBS", "param": {"bucket": "b"}}}}, "FSS.0400"),
        ({"destination_config": {"on_success": {"destination": "OBS", "param": "{"}}}, "FSS.0400"),
        ({"destination_config": {"on_success": to("OBS", prefix="p")}}, "FSS.0400"),
        ({"destination_config": {"on_success": to("OBS", bucket="b", expires=366)}}, "FSS.0400"),
        ({"destination_config": {"on_success": to("SMN", topic_urn="t")}}, "FSS.0400"),
        ({"destination_config": {"on_success": to("SQS", queue="q")}}, "FSS.0400"),
        ({"destination_config": {"on_success": to("KAFKA", topic="a b")}}, "FSS.0400"),
        ({"destination_config": {"on_success": to("KAFKA", topic="invocations")}}, "FSS.0400"),
        ({"destination_config": {"on_success": to("FunctionGraph", func_urn="resize")}}, "FSS.1309"),
        ({"log_group_id": 1}, "FSS.0400"),
    ],
)
async def test_what_is_out_of_bounds_is_refused_and_changes_nothing(
    bench: Bench, change: dict[str, Any], code: str
) -> None:
    assert refusal(await bench.send("PUT", CONFIG, body(**change))) == (400, code)
    assert refusal(await bench.send("GET", CONFIG)) == (404, "FSS.0404")


async def test_a_topic_that_a_configuration_names_is_made(bench: Bench) -> None:
    destinations = {"on_success": to("KAFKA", topic="done"), "on_failure": to("KAFKA", topic="failed")}
    await bench.send("PUT", CONFIG, body(destination_config=destinations))

    assert bench.live.topics == ["done"]  # the other one is in the file, and was there at start


async def test_bounds_are_within(bench: Bench) -> None:
    for retries, age_s in ((0, 1), (3, 86_400)):
        change = body(max_async_retry_attempts=retries, max_async_event_age_in_seconds=age_s)
        shown = told(await bench.send("PUT", CONFIG, change))
        assert (shown["max_async_retry_attempts"], shown["max_async_event_age_in_seconds"]) == (retries, age_s)


@pytest.mark.parametrize("param", ["", "{}"])
async def test_destinations_that_name_nothing_are_none(bench: Bench, param: str) -> None:
    empty = {"on_success": {}, "on_failure": {"destination": "", "param": param}}

    assert told(await bench.send("PUT", CONFIG, body(destination_config=empty)))["destination_config"] == {}


async def test_what_the_file_says_is_a_configuration_too(bench: Bench) -> None:
    shown = told(await bench.send("GET", at(f"{URN}:v1", "async-invoke-config")))

    assert shown["func_urn"] == f"{URN}:v1"
    assert (shown["max_async_retry_attempts"], shown["max_async_event_age_in_seconds"]) == (3, 3600)
    assert shown["destination_config"] == {"on_failure": {"destination": "KAFKA", "param": '{"topic":"failed"}'}}


async def test_a_deleted_configuration_is_gone_even_if_it_came_from_the_file(bench: Bench) -> None:
    path = at(f"{URN}:v1", "async-invoke-config")

    deleted = await bench.send("DELETE", path)
    assert (deleted.status, deleted.body) == (204, b"")
    assert deleted.headers["X-Request-Id"] == "id-1"
    assert refusal(await bench.send("GET", path)) == (404, "FSS.0404")
    assert refusal(await bench.send("DELETE", path)) == (404, "FSS.0404")
    function = bench.services.functions.resolve(f"{URN}:v1", None)
    assert function.policy.attempts_max == 1 and function.on_failure is None  # type: ignore[union-attr]


async def test_aliases_have_no_configuration(bench: Bench) -> None:
    path = at(f"{URN}:!live", "async-invoke-config")

    for method in ("GET", "PUT", "DELETE"):
        assert refusal(await bench.send(method, path, b"{}")) == (400, "FSS.1014")


@pytest.mark.parametrize(
    ("urn", "status", "code"),
    [
        (f"{PREFIX}nobody", 404, "FSS.1051"),
        (f"{URN}:v9", 404, "FSS.1052"),
        (f"{URN}:!old", 404, "FSS.1053"),
        ("nonsense", 400, "FSS.1309"),
    ],
)
async def test_a_configuration_of_what_is_not_there_is_refused(bench: Bench, urn: str, status: int, code: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert refusal(await bench.send(method, at(urn, "async-invoke-config"), b"{}")) == (status, code)


async def test_configurations_of_all_versions_are_listed_in_pages(bench: Bench) -> None:
    await bench.send("PUT", CONFIG, b"{}")
    path = at(f"{URN}:v1", "async-invoke-configs")

    shown = told(await bench.send("GET", path))
    assert [one["func_urn"] for one in shown["async_invoke_configs"]] == [LATEST, f"{URN}:v1"]
    assert (shown["count"], shown["page_info"]) == (2, {"next_marker": 2, "previous_marker": 0, "current_count": 2})
    second = told(await bench.send("GET", f"{path}?marker=1&limit=1"))
    assert [one["func_urn"] for one in second["async_invoke_configs"]] == [f"{URN}:v1"]
    assert second["page_info"] == {"next_marker": 2, "previous_marker": 1, "current_count": 1}
    assert told(await bench.send("GET", f"{path}?limit=0"))["page_info"]["current_count"] == 2
    for query in ("limit=-1", "limit=x", "marker=-1", "marker=99999999999999"):
        assert refusal(await bench.send("GET", f"{path}?{query}")) == (400, "FSS.1001")


# -- invocations -----------------------------------------------------------------------------------------------------

INVOCATIONS = at(LATEST, "async-invocations")
ACTIVE = at(LATEST, "active-async-invocations")
BROKEN = Outcome("function_error", 500, None, "ValueError", "no luck")
ACCEPTED = Accepted(NOW_MS - 9_000, NOW_MS - 9_000, NOW_MS - 9_000, 1)
STARTED = AttemptStarted(1, NOW_MS - 8_000)


def failed(ending: Ending, *before: Fact) -> list[Fact]:
    return [ACCEPTED, *before, Failed(1 if before else 0, NOW_MS - 7_000, ending)]


HISTORIES: dict[str, list[Fact]] = {
    "waiting": [ACCEPTED, RetryScheduled(1, NOW_MS - 9_000, NOW_MS + 9_000)],
    "retrying": [
        ACCEPTED,
        STARTED,
        AttemptFailed(1, NOW_MS - 7_500, BROKEN),
        RetryScheduled(2, NOW_MS - 7_500, NOW_MS),
    ],
    "running": [ACCEPTED, STARTED],
    "done": [ACCEPTED, STARTED, Succeeded(1, NOW_MS - 7_000, Outcome("returned", 200, None))],
    "broken": failed("retries_exhausted", STARTED, AttemptFailed(1, NOW_MS - 7_000, BROKEN)),
    "cancelled": failed("cancelled", STARTED),
    "expired": failed("expired"),
}


def history(bench: Bench, histories: dict[str, list[Fact]] = HISTORIES, urn: str = LATEST, start: int = 0) -> None:
    """Facts, as if they had happened."""
    facts = [
        Located(0, start + number, FactsRecord(request_id, urn, "functiongraph", None, number, tuple(given)))
        for number, (request_id, given) in enumerate(histories.items())
    ]
    bench.model.write([Move("facts", 0, start, start + len(facts))], facts, [])


def ids(reply: Reply) -> list[str]:
    return [one["request_id"] for one in told(reply)["invocations"]]


async def test_every_invocation_has_one_of_five_states(bench: Bench) -> None:
    history(bench)
    shown = {one["request_id"]: one for one in told(await bench.send("GET", INVOCATIONS))["invocations"]}

    assert {request_id: one["status"] for request_id, one in shown.items()} == {
        "waiting": "WAIT",
        "retrying": "WAIT",
        "running": "RUNNING",
        "done": "SUCCESS",
        "broken": "FAIL",
        "cancelled": "FAIL",
        "expired": "DISCARD",
    }
    assert shown["done"] == {
        "request_id": "done",
        "status": "SUCCESS",
        "error_message": "",
        "error_code": 0,
        "start_time": "2023-11-14T22:13:12",
        "end_time": "2023-11-14T22:13:13",
    }
    assert (shown["broken"]["error_code"], shown["broken"]["error_message"]) == (4002, "no luck")
    assert (shown["cancelled"]["error_code"], shown["cancelled"]["error_message"]) == (
        4208,
        "function invocation canceled",
    )
    assert (shown["running"]["error_code"], shown["running"]["end_time"]) == (0, "")


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("status=WAIT", {"waiting", "retrying"}),
        ("status=RUNNING", {"running"}),
        ("status=SUCCESS", {"done"}),
        ("status=FAIL", {"broken", "cancelled"}),
        ("status=DISCARD", {"expired"}),
        ("request_id=done", {"done"}),
        ("request_id=done&status=FAIL", set()),
        ("request_id=expired&status=DISCARD", {"expired"}),
        ("request_id=nobody", set()),
        ("query_begin_time=2023-11-14T22:13:12", set()),
        ("query_begin_time=2023-11-14T22:13:11", set(HISTORIES)),
        ("query_begin_time=2023-11-14T22:13:11Z&query_end_time=2023-11-14T22:13:11.000", set(HISTORIES)),
        ("query_end_time=2023-11-14T22:13:10", set()),
        ("request_id=done&query_end_time=2023-11-14T22:13:10", set()),
    ],
)
async def test_lists_are_filtered(bench: Bench, query: str, wanted: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.gateway.statuses.SEEN_WITHIN_S", 0)
    history(bench)
    reply = await bench.send("GET", f"{INVOCATIONS}?{query}")

    assert set(ids(reply)) == wanted
    assert told(reply)["count"] == len(wanted)


async def test_lists_are_of_the_last_hour_unless_an_id_is_asked_for(bench: Bench) -> None:
    history(bench, {"done": HISTORIES["done"]})
    bench.services.now_ms = lambda: NOW_MS + 3_600_000

    assert ids(await bench.send("GET", INVOCATIONS)) == []
    assert ids(await bench.send("GET", f"{INVOCATIONS}?request_id=done")) == ["done"]


async def test_lists_have_pages_and_neither_repeat_nor_leave_out(bench: Bench) -> None:
    history(bench)
    seen, begin = [], 0
    while True:
        reply = told(await bench.send("GET", f"{INVOCATIONS}?limit=3&marker={begin}"))
        if not reply["invocations"]:
            break
        seen += [one["request_id"] for one in reply["invocations"]]
        begin = reply["next_marker"]

    assert (sorted(seen), begin) == (sorted(HISTORIES), len(HISTORIES))


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=x",
        "marker=-1",
        "status=GONE",
        "query_begin_time=yesterday",
        "query_begin_time=2023-11-14T22:13:12&query_end_time=2023-11-14T22:13:10",
        f"request_id={'x' * 65}",
    ],
)
async def test_bad_parameters_of_a_list_are_refused(bench: Bench, query: str) -> None:
    assert refusal(await bench.send("GET", f"{INVOCATIONS}?{query}")) == (400, "FSS.1001")


async def test_active_invocations_are_those_that_are_not_over(bench: Bench) -> None:
    history(bench)

    assert set(ids(await bench.send("GET", ACTIVE))) == {"waiting", "retrying", "running"}
    assert ids(await bench.send("GET", f"{ACTIVE}?status=RUNNING")) == ["running"]
    assert ids(await bench.send("GET", f"{ACTIVE}?requests=running,done,waiting")) == ["running", "waiting"]
    assert refusal(await bench.send("GET", f"{ACTIVE}?status=FAIL")) == (400, "FSS.1001")
    eleven = ",".join(str(number) for number in range(11))
    assert refusal(await bench.send("GET", f"{ACTIVE}?requests={eleven}")) == (400, "FSS.1001")


async def test_an_accepted_invocation_waits_until_a_worker_says_otherwise(bench: Bench) -> None:
    await bench.send("POST", at(LATEST, "invocations-async"), b"{}", request_id="new")
    history(bench, {"old": HISTORIES["done"]})

    [found] = told(await bench.send("GET", f"{INVOCATIONS}?request_id=new"))["invocations"]
    assert (found["status"], found["start_time"]) == ("WAIT", "2023-11-14T22:13:20")
    assert ids(await bench.send("GET", INVOCATIONS)) == ["new", "old"]
    assert ids(await bench.send("GET", f"{INVOCATIONS}?limit=1&marker=1")) == ["old"]
    assert ids(await bench.send("GET", f"{INVOCATIONS}?status=SUCCESS")) == ["old"]
    history(bench, {"new": HISTORIES["done"]}, start=1)
    assert ids(await bench.send("GET", f"{INVOCATIONS}?status=SUCCESS")) in (["new", "old"], ["old", "new"])
    assert ids(await bench.send("GET", f"{INVOCATIONS}?status=WAIT")) == []


async def test_lists_are_of_the_version_in_the_urn(bench: Bench) -> None:
    history(bench, urn=f"{URN}:v1")

    assert ids(await bench.send("GET", INVOCATIONS)) == []
    assert ids(await bench.send("GET", f"{INVOCATIONS}?request_id=done")) == []
    assert len(ids(await bench.send("GET", at(f"{URN}:v1", "async-invocations")))) == len(HISTORIES)


# -- cancelling ------------------------------------------------------------------------------------------------------

CANCEL = at(LATEST, "cancel")


@pytest.mark.parametrize("kind", [{}, {"type": "force"}, {"type": None}, {"recursive": False, "force": True}])
async def test_what_is_not_over_is_cancelled(bench: Bench, kind: dict[str, Any]) -> None:
    history(bench)

    assert told(await bench.send("POST", CANCEL, body(request_id="running", **kind))) is None
    assert bench.intake.cancelled == [("running", 0)]


async def test_what_is_over_stays_as_it_is(bench: Bench) -> None:
    history(bench)

    assert told(await bench.send("POST", CANCEL, body(request_id="done"))) is None
    assert bench.intake.cancelled == []


async def test_what_no_worker_has_read_yet_can_be_cancelled(bench: Bench) -> None:
    await bench.send("POST", at(LATEST, "invocations-async"), b"{}", request_id="new")

    assert told(await bench.send("POST", CANCEL, body(request_id="new"))) is None
    assert bench.intake.cancelled == [("new", 0)]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({}, 400, "FSS.0400"),
        ({"request_id": 1}, 400, "FSS.0400"),
        ({"request_id": "nobody"}, 400, "FSS.0400"),
        ({"request_id": "x" * 65}, 400, "FSS.0400"),
        ({"request_id": "running", "type": "recursive"}, 400, "FSS.0400"),
        ({"request_id": "running", "recursive": True}, 400, "FSS.0400"),
    ],
)
async def test_a_cancel_that_makes_no_sense_is_refused(
    bench: Bench, change: dict[str, Any], status: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.gateway.statuses.SEEN_WITHIN_S", 0)
    history(bench)

    assert refusal(await bench.send("POST", CANCEL, body(**change))) == (status, code)
    assert refusal(await bench.send("POST", at(f"{URN}:v1", "cancel"), body(request_id="running"))) == (400, "FSS.0400")
    nowhere = await bench.send("POST", at(f"{PREFIX}nobody", "cancel"), body(request_id="running"))
    assert json.loads(nowhere.body) == {"error_code": "FSS.0404", "error_msg": "can not find function"}
    assert bench.intake.cancelled == []


# -- functions and the project ---------------------------------------------------------------------------------------


async def test_functions_are_listed_and_shown(bench: Bench) -> None:
    shown = told(await bench.send("GET", BASE))

    assert [one["func_name"] for one in shown["functions"]] == ["off", "resize"]
    assert (shown["count"], shown["next_marker"]) == (2, 2)
    assert [one["func_name"] for one in told(await bench.send("GET", f"{BASE}?func_name=si"))["functions"]] == [
        "resize"
    ]
    assert told(await bench.send("GET", f"{BASE}?package_name=other"))["functions"] == []
    assert told(await bench.send("GET", f"{BASE}?maxitems=1&marker=1"))["next_marker"] == 2
    one = told(await bench.send("GET", at(URN, "config")))
    assert one == shown["functions"][1]
    assert (one["func_urn"], one["timeout"], one["version"]) == (LATEST, 3, "latest")


async def test_versions_are_listed_with_their_configuration(bench: Bench) -> None:
    shown = told(await bench.send("GET", at(LATEST, "versions")))

    assert [one["version"] for one in shown["versions"]] == ["latest", "v1"]
    assert "function_async_config" not in shown["versions"][0]
    assert shown["versions"][1]["function_async_config"]["max_async_retry_attempts"] == 3
    off = told(await bench.send("GET", at(f"{PREFIX}off", "versions")))
    assert [one["concurrency"] for one in (*shown["versions"], *off["versions"])] == [-1, -1, 0]


async def test_statuses_are_kept_in_the_topic_facts(bench: Bench) -> None:
    assert told(await bench.send("POST", f"{BASE}/enable-async-status-logs", b"{}")) == {}
    shown = told(await bench.send("GET", f"{BASE}/async-status-log-detail"))
    assert (shown["group_name"], shown["stream_name"]) == ("streams", "facts")
    assert shown["group_id"] != shown["stream_id"]


async def test_the_project_is_found_by_its_region(bench: Bench) -> None:
    for query, ids in (("?name=cn-north-4", [PROJECT]), ("", [PROJECT]), ("?name=eu-de", [])):
        shown = told(await bench.send("GET", f"/v3/projects{query}"))
        assert [project["id"] for project in shown["projects"]] == ids


async def test_otc_has_no_dis_no_active_list_and_no_switch_of_the_project(otc: Bench) -> None:
    dis = body(destination_config={"on_success": to("DIS", stream_name="s")})

    assert refusal(await otc.send("PUT", CONFIG, dis)) == (400, "FSS.0400")
    assert refusal(await otc.send("GET", ACTIVE)) == (404, "APIGW.0101")
    assert refusal(await otc.send("POST", f"{BASE}/enable-async-status-logs")) == (404, "APIGW.0101")
    assert told(await otc.send("PUT", CONFIG, body(log_group_id=1)))
    assert told(await otc.send("GET", INVOCATIONS))["count"] == 0


# -- who asks --------------------------------------------------------------------------------------------------------


async def test_a_token_or_a_signature_is_needed_when_there_are_keys(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FunctionGraphApi, FUNCTIONS, Keys({"ak": "sk"}, {"token": "ak"}))

    assert bench.principal("GET", BASE, {"X-Auth-Token": "token"}) == "ak"
    for headers in ({}, {"X-Auth-Token": "other"}, {"Authorization": "Bearer token"}):
        refused = bench.principal("GET", BASE, headers)
        assert isinstance(refused, Reply)
        assert refusal(refused) == (401, "APIGW.0301")
        assert json.loads(refused.body)["error_msg"].startswith("Incorrect IAM authentication information: ")


# -- whatever comes --------------------------------------------------------------------------------------------------

OPERATIONS = [
    "invocations-async",
    "invocations",
    "async-invoke-config",
    "async-invoke-configs",
    "async-invocations",
    "active-async-invocations",
    "cancel",
    "config",
    "versions",
    "",
    "elsewhere",
]
NAMES = ["marker", "limit", "maxitems", "status", "request_id", "requests", "query_begin_time", "query_end_time"]
WORDS = st.one_of(
    st.sampled_from(["", "0", "1", "-1", "WAIT", "a,b", "2023-11-14T22:13:12", "force"]), st.text(max_size=9)
)
JSONS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(
                WORDS,
                st.sampled_from(
                    [
                        "destination_config",
                        "on_success",
                        "destination",
                        "param",
                        "max_async_retry_attempts",
                        "request_id",
                        "type",
                    ]
                ),
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=9,
)
BODIES = st.one_of(st.binary(max_size=40), JSONS.map(lambda value: json.dumps(value).encode()))
URNS = st.one_of(st.sampled_from([URN, LATEST, f"{URN}:v1", f"{URN}:!live", f"{PREFIX}off"]), st.text(max_size=20))


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "X"]),
    project=st.sampled_from([PROJECT, PROJECT, "other"]),
    urn=URNS,
    operation=st.sampled_from(OPERATIONS),
    query=st.dictionaries(st.one_of(st.sampled_from(NAMES), WORDS), WORDS, max_size=3),
    sent=BODIES,
    headers=st.dictionaries(
        st.sampled_from(["X-CFF-Request-Version", "traceparent", "X-Cff-Log-Type"]), WORDS, max_size=2
    ),
)
async def test_whatever_comes_the_answer_is_in_order(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    project: str,
    urn: str,
    operation: str,
    query: dict[str, str],
    sent: bytes,
    headers: dict[str, str],
) -> None:
    monkeypatch.setattr("streams.gateway.statuses.SEEN_WITHIN_S", 0)
    pairs = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    path = f"/v2/{project}/fgs/functions/{quote(urn, safe='')}/{operation}?{pairs}"
    reply = await bench.send(method, path, sent, headers)

    assert reply.headers["X-Request-Id"] == "id-1"
    if reply.status >= 400:
        assert reply.status < 500
        refusal(reply)
    else:
        assert reply.status in (200, 202, 204)
        assert reply.status == 204 or operation == "invocations" or reply.content_type == "application/json"
