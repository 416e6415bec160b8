"""Our own API: what it accepts, what it refuses and how, and that its document says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.gateway.intake import Overloaded, TooLarge, Unavailable
from streams.gateway.native import BATCH_MAX, Native

from .support import EXAMPLES, Bench

FUNCTIONS = """
[[function]]
name = "resize"
provider = "aws"
url = "http://127.0.0.1:9/"
"""
ARN = "arn:aws:lambda:us-east-1:123456789012:function:resize:$LATEST"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("streams.gateway.statuses.SEEN_WITHIN_S", 0.0)  # nothing is under way here
    return Bench(tmp_path, Native, FUNCTIONS)


async def test_an_invocation_is_accepted_with_the_event_as_it_is(bench: Bench) -> None:
    reply = await bench.send("POST", "/invocations/resize", b' {"a":  1}\n', {"traceparent": "00-x"})

    assert (reply.status, json.loads(reply.body)) == (202, {"id": "id-1"})
    headers = {"function": ARN.encode(), "request-id": b"id-1", "traceparent": b"00-x"}
    assert bench.intake.accepted == [("id-1", b' {"a":  1}\n', headers)]


async def test_callers_may_choose_the_id_and_a_delay(bench: Bench) -> None:
    reply = await bench.send("POST", "/invocations/resize?id=mine&delay_ms=1500", b"{}")

    assert json.loads(reply.body) == {"id": "mine"}
    [(request_id, _, headers)] = bench.intake.accepted
    assert (request_id, headers["delay-ms"]) == ("mine", b"1500")


@pytest.mark.parametrize(
    ("path", "body", "status", "title"),
    [
        ("/invocations/nobody", b"{}", 404, "UnknownFunction"),
        ("/invocations/resize?qualifier=old", b"{}", 404, "UnknownFunction"),
        ("/invocations/resize", b"{", 400, "InvalidRequestContentException"),
        ("/invocations/resize?delay_ms=-1", b"{}", 400, "BadRequest"),
        ("/invocations/resize?delay_ms=99999999999", b"{}", 400, "BadRequest"),
        (f"/invocations/resize?id={'x' * 300}", b"{}", 400, "BadRequest"),
        ("/invocations/resize", b"x" * (1 << 21), 413, "TooLarge"),
        ("/elsewhere", b"", 404, "NotFound"),
    ],
)
async def test_what_is_wrong_is_a_problem_document(
    bench: Bench, path: str, body: bytes, status: int, title: str
) -> None:
    reply = await bench.send("POST", path, body)

    problem = json.loads(reply.body)
    assert (reply.status, problem["status"], problem["title"]) == (status, status, title)
    assert reply.content_type == "application/problem+json"
    assert bench.intake.accepted == []


@pytest.mark.parametrize(("error", "status"), [(Unavailable(), 503), (Overloaded(), 429), (TooLarge(), 413)])
async def test_a_line_of_a_batch_that_kafka_does_not_take_says_so(bench: Bench, error: Exception, status: int) -> None:
    bench.intake.error = error

    reply = await bench.send("POST", "/invocations", b'{"function": "resize", "payload": 1}')

    assert [result["status"] for result in json.loads(reply.body)["results"]] == [status]


async def test_a_batch_accepts_what_it_can(bench: Bench) -> None:
    lines = b"""{"function": "resize", "payload": {"n":  1}}
{"function": "nobody", "payload": 2}

not json
{"function": "resize", "payload": 3, "id": "three"}"""

    reply = await bench.send("POST", "/invocations", lines)

    results = json.loads(reply.body)["results"]
    assert [result["status"] for result in results] == [202, 404, 400, 202]
    assert [(request_id, event) for request_id, event, _ in bench.intake.accepted] == [
        ("id-1-0", b'{"n":  1}'),
        ("three", b"3"),
    ]


@pytest.mark.parametrize("lines", [b"", b"\n\n", b"{}\n" * (BATCH_MAX + 1)])
async def test_a_batch_has_some_lines_but_not_too_many(bench: Bench, lines: bytes) -> None:
    assert (await bench.send("POST", "/invocations", lines)).status == 400


async def test_an_accepted_invocation_is_known_before_any_worker_has_read_it(bench: Bench) -> None:
    await bench.send("POST", "/invocations/resize", b"{}")

    reply = await bench.send("GET", "/invocations/id-1")

    shown = json.loads(reply.body)
    assert (shown["status"], shown["attempts"], shown["function"], shown["events"]) == ("waiting", 0, ARN, [])


async def test_an_unknown_invocation_is_not_found(bench: Bench) -> None:
    assert (await bench.send("GET", "/invocations/other")).status == 404


async def test_the_document_describes_every_route(bench: Bench) -> None:
    reply = await bench.send("GET", "/openapi.json")

    document = json.loads(reply.body)
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert document["openapi"] == "3.1.0"
    assert described == {(route.method, route.path) for route in bench.api.routes}


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.sampled_from(["/invocations", "/invocations/resize", "/invocations/%00", "/openapi.json"]),
    st.text(alphabet=st.characters(blacklist_characters="&#", max_codepoint=255), max_size=20),
    st.binary(max_size=200),
)
async def test_whatever_comes_the_answer_is_in_order(
    bench: Bench, method: str, path: str, value: str, body: bytes
) -> None:
    reply = await bench.send(method, f"{path}?id={value}&delay_ms={value}&qualifier={value}", body)

    assert reply.status < 500
    json.loads(reply.body)
