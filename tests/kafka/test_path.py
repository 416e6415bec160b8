"""Every way an invocation can go, once each, through two workers on a real broker.

One minute of a provider is 1.8 seconds here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer

from kafka.support import RECORD_SCHEMAS, Deployment, Seen, Sent, encode, new_id
from streams.codec.envelope import coordinates_id
from streams.core.model import Ended, FunctionFailure, Outcome
from streams.laws import judge
from streams.providers import PROVIDERS
from streams.topics import RECORD_TOPICS

pytestmark = pytest.mark.kafka

SCALE = 0.03
MINUTE_MS = round(60_000 * SCALE)

FUNCTIONS = f"""
time_scale = {SCALE}

[[function]]
name = "echo"
provider = "aws"
target = "handlers:echo"
on_success = "kafka://{{to}}.done"

[[function]]
name = "echo-fc"
provider = "fc"
target = "handlers:echo"
on_success = "kafka://{{to}}.done"

[[function]]
name = "echo-fg"
provider = "functiongraph"
target = "handlers:echo"
on_success = "kafka://{{to}}.done"

[[function]]
name = "work"
provider = "aws"
target = "handlers:work"

[[function]]
name = "work-fc"
provider = "fc"
target = "handlers:work"

[[function]]
name = "work-fg"
provider = "functiongraph"
target = "handlers:work"
retries = 1

[[function]]
name = "fail"
provider = "aws"
target = "handlers:fail"
on_failure = "kafka://{{to}}.failed"
dead_letter = "kafka://{{to}}.dead"

[[function]]
name = "fail-60"
provider = "aws"
target = "handlers:fail"
age_max_s = 60

[[function]]
name = "fail-90"
provider = "aws"
target = "handlers:fail"
age_max_s = 90

[[function]]
name = "narrow"
provider = "aws"
target = "handlers:work"
reserved_concurrency = 1

[[function]]
name = "narrow-60"
provider = "aws"
target = "handlers:work"
reserved_concurrency = 1
age_max_s = 60

[[function]]
name = "closed"
provider = "aws"
target = "handlers:echo"
reserved_concurrency = 0

[[function]]
name = "dawdle"
provider = "aws"
target = "handlers:dawdle"
timeout_s = 0.2
retries = 0

[[function]]
name = "leave"
provider = "aws"
target = "handlers:leave"
retries = 0

[[function]]
name = "crash"
provider = "aws"
target = "handlers:crash"
isolation = "process"
retries = 0

[[function]]
name = "be-huge"
provider = "aws"
target = "handlers:be_huge"
retries = 0

[[function]]
name = "be-no-json"
provider = "aws"
target = "handlers:be_no_json"

[[function]]
name = "first"
provider = "aws"
target = "handlers:greet"
on_success = "arn:aws:lambda:us-east-1:123456789012:function:echo"

[[function]]
name = "circle"
provider = "aws"
target = "handlers:greet"
on_success = "arn:aws:lambda:us-east-1:123456789012:function:circle"
"""

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def path(broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Two workers that share two partitions."""
    folder = tmp_path_factory.mktemp("path")
    destinations = ("done", "failed", "dead")
    with Deployment(broker.bootstrap, folder, FUNCTIONS, partitions=2, destinations=destinations) as deployment:
        deployment.share(deployment.start("A"), deployment.start("B"))
        yield deployment


def resource(cloud: str, name: str) -> str:
    provider = PROVIDERS[cloud]
    return provider.resource(name, provider.latest)


def expected(path: Deployment, sent: Sent, cloud: str, name: str, outcome: Outcome | None, **more: Any) -> Ended:
    """What the provider is to render: what we know of the invocation, and the moments from its facts."""
    facts = path.facts(sent)
    started = [fact.at_ms for fact in facts if fact.kind == "AttemptStarted"]
    last = facts[-1]
    values: dict[str, Any] = {
        "ending": "succeeded" if last.kind == "Succeeded" else last.ending,
        "attempts": len(started),
        "executions": len(started),
        "failures": sum(fact.kind == "AttemptFailed" for fact in facts),
    }
    return Ended(
        request_id=sent.id,
        resource=resource(cloud, name),
        executed_version=PROVIDERS[cloud].latest,
        event=sent.value or b"",
        ended_at_ms=last.at_ms,
        accepted_at_ms=sent.timestamp,
        started_at_ms=started[-1] if started else None,
        outcome=outcome,
        **values | more,
    )


def assert_rendered(record: Seen, cloud: str, ended: Ended) -> None:
    """*record* is what the provider says of *ended*, to the byte, and its headers say the same."""
    provider = PROVIDERS[cloud]
    assert record.datum == provider.record(ended)
    assert record.value == encode(RECORD_SCHEMAS[cloud], provider.record(ended))
    assert record.header["function"] == ended.resource
    assert record.header["condition"] == provider.condition(ended)
    assert record.header["attempts"] == str(ended.executions)


def kinds(path: Deployment, sent: Sent) -> list[str]:
    return [fact.kind for fact in path.facts(sent)]


# -- the three clouds ------------------------------------------------------------------------------------------------

ODD = '{ "a" : 1.50e3,\n "é":"\\u00e9 ü", "a": [1 ,2], "big": 12345678901234567890 }'.encode()
"""JSON that no serializer would write like this."""


class Case(NamedTuple):
    """A function that returns its event."""

    cloud: str
    function: str
    event: bytes
    response: bytes


CASES = (
    Case("aws", "echo", ODD, '{"a": [1, 2], "é": "é ü", "big": 12345678901234567890}'.encode()),
    Case("fc", "echo-fc", b"\x00\xff no text at all", b"\x00\xff no text at all"),
    Case("functiongraph", "echo-fg", ODD, '{"a": [1, 2], "é": "é ü", "big": 12345678901234567890}'.encode()),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.cloud)
def test_a_success_is_recorded_as_its_cloud_renders_it(path: Deployment, case: Case):
    sent = path.send(case.function, case.event, [("traceparent", TRACE.encode())])
    record = path.success(sent, case.cloud)
    assert kinds(path, sent) == ["Accepted", "AttemptStarted", "Succeeded"]
    ended = expected(path, sent, case.cloud, case.function, Outcome("returned", 200, case.response))
    assert_rendered(record, case.cloud, ended)
    assert record.header["traceparent"] == TRACE
    assert record.partition == sent.partition, "every hop of an invocation stays on its partition number"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.cloud)
def test_a_kafka_destination_gets_the_document_of_its_cloud(path: Deployment, case: Case):
    sent = path.send(case.function, case.event)
    record, document = path.success(sent, case.cloud), path.delivered("done", sent)
    assert document.value == PROVIDERS[case.cloud].document(record.datum)
    assert document.headers == record.headers


def test_an_event_is_spliced_into_the_document_unchanged(path: Deployment):
    sent = path.send("echo", ODD)
    document = path.delivered("done", sent)
    ended_at = path.success(sent).datum["timestamp"]
    assert document.value == (
        b'{"version":"1.0","timestamp":"%b","requestContext":{"requestId":"%b",'
        b'"functionArn":"arn:aws:lambda:us-east-1:123456789012:function:echo:$LATEST","condition":"Success",'
        b'"approximateInvokeCount":1},"requestPayload":%b,'
        b'"responseContext":{"statusCode":200,"executedVersion":"$LATEST"},"responsePayload":%b}'
        % (ended_at.encode(), sent.id.encode(), ODD, CASES[0].response)
    )


# -- attempts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cloud", "function", "failures", "delays_s"),
    [("aws", "work", 1, [60]), ("fc", "work-fc", 3, [0.5, 1, 2]), ("functiongraph", "work-fg", 1, [1])],
)
def test_a_failure_is_tried_again_after_the_delay_of_its_cloud(
    path: Deployment, cloud: str, function: str, failures: int, delays_s: list[float]
):
    event = b'{"failures": %d}' % failures
    sent = path.send(function, event)
    record = path.success(sent, cloud)
    assert kinds(path, sent) == [
        "Accepted",
        *["AttemptStarted", "AttemptFailed", "RetryScheduled"] * failures,
        *["AttemptStarted", "Succeeded"],
    ]
    facts = path.facts(sent)
    waits = [fact.due_at_ms - fact.at_ms for fact in facts if fact.kind == "RetryScheduled"]
    assert waits == [round(1000 * delay_s * SCALE) for delay_s in delays_s]
    due = [fact.due_at_ms for fact in facts if fact.kind == "RetryScheduled"]
    started = [fact.at_ms for fact in facts if fact.kind == "AttemptStarted"]
    assert all(start >= at for start, at in zip(started[1:], due, strict=True))
    assert_rendered(record, cloud, expected(path, sent, cloud, function, Outcome("returned", 200, event)))


def test_an_invocation_out_of_retries_leaves_a_record_a_document_and_both_dead_letters(path: Deployment):
    """Three attempts fail, at minutes 0, 1 and 3."""
    sent = path.send("fail", ODD, [("colour", b"\xff"), ("colour", None)])
    record = path.failure(sent)
    assert record.header["condition"] == "RetriesExhausted"
    assert record.header["attempts"] == "3"
    assert record.datum["requestContext"]["approximateInvokeCount"] == 3
    assert record.datum["requestPayload"] == ODD
    assert record.datum["responseContext"] == {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled",
    }
    error = json.loads(record.datum["responsePayload"])
    assert (error["errorType"], error["errorMessage"], error["requestId"]) == ("ValueError", "no luck", sent.id)
    assert "handlers.py" in error["stackTrace"][-1]
    assert path.delivered("failed", sent).value == PROVIDERS["aws"].document(record.datum)

    queued = path.delivered("dead", sent)
    assert queued.value == ODD
    assert queued.headers == (("RequestID", sent.id.encode()), ("ErrorCode", b"200"), ("ErrorMessage", b"no luck"))

    assert_dead_letter(path.dead_letter(sent), sent, "RetriesExhausted", attempts=3, executions=3)
    waits = [fact.due_at_ms - fact.at_ms for fact in path.facts(sent) if fact.kind == "RetryScheduled"]
    assert waits == [MINUTE_MS, 2 * MINUTE_MS]
    assert len(path.executions([sent.id])) == 3


def assert_dead_letter(letter: Seen, sent: Sent, reason: str, *, attempts: int = 0, executions: int = 0) -> None:
    """*letter* has all of *sent*, as it was, and says why it is one."""
    datum = letter.datum
    assert datum["reason"] == reason == letter.header["reason"]
    assert datum["key"] == sent.key
    assert datum["value"] == sent.value
    assert [(header["name"], header["value"]) for header in datum["headers"]] == list(sent.headers)
    assert (datum["topic"], datum["partition"], datum["offset"]) == (sent.topic, sent.partition, sent.offset)
    assert datum["timestamp_ms"] == sent.timestamp
    assert (datum["attempts"], datum["executions"]) == (attempts, executions)
    headers = dict(letter.headers)
    assert headers["kafka_dlt-original-topic"] == headers["x-original-topic"] == sent.topic.encode()
    assert int.from_bytes(headers["kafka_dlt-original-offset"] or b"", "big") == sent.offset
    assert headers["x-original-offset"] == b"%d" % sent.offset


@pytest.mark.parametrize(("function", "attempts"), [("fail-60", 1), ("fail-90", 2)])
def test_an_event_expires_when_its_next_attempt_would_be_too_late(path: Deployment, function: str, attempts: int):
    """Age 60 s: the second attempt would be due at 60 s. Age 90 s: it runs, and the third would be due at 180 s."""
    sent = path.send(function)
    record = path.failure(sent)
    assert record.header["condition"] == "EventAgeExceeded"
    assert record.header["attempts"] == str(attempts) == str(record.datum["requestContext"]["approximateInvokeCount"])
    assert len(path.executions([sent.id])) == attempts
    failed, ended = path.facts(sent)[-2:]
    assert (failed.kind, ended.kind, ended.at_ms) == ("AttemptFailed", "Failed", failed.at_ms), "it ends at once"
    assert_dead_letter(path.dead_letter(sent), sent, "EventAgeExceeded", attempts=attempts, executions=attempts)


# -- concurrency -----------------------------------------------------------------------------------------------------


def occupy(path: Deployment, function: str) -> tuple[Sent, Path]:
    """An invocation that runs until the file is made."""
    gate = path.gate()
    sent = path.send(function, json.dumps({"gate": str(gate)}).encode(), partition=0)
    path.until(lambda: path.executions([sent.id]), "it runs")
    return sent, gate


def throttles(path: Deployment, sent: Sent) -> int:
    return sum(fact.kind == "AttemptFailed" and fact.fields["kind"] == "throttled" for fact in path.facts(sent))


def test_a_throttled_invocation_waits_its_tiers_and_runs(path: Deployment):
    first, gate = occupy(path, "narrow")
    second = path.send("narrow", partition=0)
    path.until(lambda: throttles(path, second) >= 4, "it is throttled four times")
    gate.touch()
    path.success(first)
    record = path.success(second)
    assert record.header["attempts"] == "1" == str(record.datum["requestContext"]["approximateInvokeCount"])
    waits = [fact.due_at_ms - fact.at_ms for fact in path.facts(second) if fact.kind == "RetryScheduled"]
    assert waits[:4] == [round(1000 * s * SCALE) for s in (1, 2, 4, 8)]
    assert len(path.executions([second.id])) == 1


def test_an_invocation_that_expires_throttled_never_ran(path: Deployment):
    first, gate = occupy(path, "narrow-60")
    second = path.send("narrow-60", partition=0)
    record = path.failure(second)
    gate.touch()
    path.success(first)
    assert record.datum["requestContext"]["condition"] == "EventAgeExceeded"
    assert record.datum["requestContext"]["approximateInvokeCount"] == 0
    context = {"statusCode": 429, "executedVersion": None, "functionError": None}
    assert (record.datum["responseContext"], record.datum["responsePayload"]) == (context, None)
    assert path.executions([second.id]) == []
    tried = throttles(path, second)
    assert tried == 6, "at 0, 1, 3, 7, 15 and 31 seconds"
    assert_dead_letter(path.dead_letter(second), second, "EventAgeExceeded", attempts=tried)


def test_zero_concurrency_ends_an_invocation_at_once(path: Deployment):
    sent = path.send("closed")
    record = path.failure(sent)
    assert kinds(path, sent) == ["Accepted", "Failed"]
    assert record.header["condition"] == record.datum["requestContext"]["condition"]
    assert_rendered(record, "aws", expected(path, sent, "aws", "closed", None))
    assert path.executions([sent.id]) == []
    assert_dead_letter(path.dead_letter(sent), sent, record.header["condition"])


# -- how functions fail ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "failure"),
    [
        ("dawdle", FunctionFailure(cause="timed_out", timeout_ms=200)),
        ("leave", FunctionFailure(cause="exited", exit="exit status 3")),
        ("crash", FunctionFailure(cause="exited", exit="signal: segmentation fault")),
        ("be-huge", FunctionFailure(cause="response_too_large", size_bytes=7_000_002)),
    ],
)
def test_a_function_may_fail_as_it_likes(path: Deployment, function: str, failure: FunctionFailure):
    sent = path.send(function)
    record = path.failure(sent)
    outcome = PROVIDERS["aws"].failed(failure, sent.id)
    assert_rendered(record, "aws", expected(path, sent, "aws", function, outcome))
    assert_dead_letter(path.dead_letter(sent), sent, "RetriesExhausted", attempts=1, executions=1)
    [execution] = path.executions([sent.id])
    assert (execution.ended_ms is None) == (function == "crash")


def test_a_response_that_is_not_json_is_a_success_without_it(path: Deployment):
    sent = path.send("be-no-json")
    record = path.success(sent)
    assert_rendered(
        record, "aws", expected(path, sent, "aws", "be-no-json", Outcome("returned", 200, b"NaN", is_json=False))
    )
    assert record.datum["responsePayload"] is None
    assert record.datum["deliveryError"]["statusCode"] == 400


def test_a_delayed_invocation_waits(path: Deployment):
    sent = path.send("echo", headers=[("delay-ms", b"700")])
    record = path.success(sent)
    assert kinds(path, sent)[:2] == ["Accepted", "RetryScheduled"]
    [execution] = path.executions([sent.id])
    assert execution.started_ms >= sent.timestamp + 700
    assert record.header["attempts"] == "1"


# -- what arrives ----------------------------------------------------------------------------------------------------


def test_the_event_alone_is_an_invocation(path: Deployment):
    """Raw, and without a request id: it is made of the coordinates."""
    sent = path.send("echo", ODD, named=False)
    request_id = coordinates_id(sent.topic, sent.partition, sent.offset)
    assert path.success(request_id).datum["requestPayload"] == ODD


def test_a_cloudevent_is_an_invocation(path: Deployment):
    request_id = new_id("event")
    headers = {"ce_specversion": "1.0", "ce_id": request_id, "ce_subject": "echo", "ce_type": "t", "ce_source": "/s"}
    path.send(
        None, ODD, [(name, value.encode()) for name, value in headers.items()], request_id=request_id, named=False
    )
    assert path.success(request_id).datum["requestPayload"] == ODD


def invocation(request_id: str, function: str = "echo") -> bytes:
    """An Avro `Invocation` of another producer."""
    fields: dict[str, Any] = dict.fromkeys(("qualifier", "accepted_at_ms", "delay_ms", "traceparent"))
    return encode("Invocation", fields | {"function": function, "event": ODD, "id": request_id})


def test_an_avro_invocation_is_one(path: Deployment):
    request_id = new_id("avro")
    path.send(None, invocation(request_id), request_id=request_id, named=False)
    assert path.success(request_id).datum["requestPayload"] == ODD


def test_a_json_envelope_is_an_invocation(path: Deployment):
    request_id = new_id("json")
    value = b'{"function": "echo", "id": "%b", "payload": %b}' % (request_id.encode(), ODD)
    path.send(None, value, request_id=request_id, named=False)
    assert path.success(request_id).datum["requestPayload"] == ODD


class Poison(NamedTuple):
    """An input that cannot become an invocation."""

    reason: str
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    says: str


ECHO = ("function", b"echo")
POISON = {
    "null": Poison("NullInput", None, [ECHO], "null"),
    "truncated Avro": Poison("UndecodableInput", invocation("cut")[:-3], [], "truncated"),
    "no Avro of ours": Poison("UndecodableInput", b"\xc3\x01\x00\x00\x00\x00\x00\x00\x00\x00", [], "fingerprint"),
    "neither header nor envelope": Poison("UndecodableInput", b"\x80 what is this", [], "function"),
    "an unknown function": Poison("UnknownFunction", b"{}", [("function", b"nobody")], "No function has this name"),
    "an oversized event": Poison("OversizedInput", b'"%b"' % (b"x" * 1_048_575), [ECHO], "1048577 byte payload"),
    "an event that is not JSON": Poison("InvalidEvent", b'{"a": }', [ECHO], "Could not parse request body into json"),
    "a delay that is no number": Poison("UndecodableInput", b"{}", [ECHO, ("delay-ms", b"soon")], "delay-ms"),
    "a function in Latin-1": Poison("UndecodableInput", b"{}", [("function", b"\xe9cho")], "UTF-8"),
    "an empty request id": Poison("UndecodableInput", b"{}", [ECHO, ("request-id", b"")], "request id"),
}


@pytest.mark.parametrize("name", POISON)
def test_a_poisonous_input_becomes_a_dead_letter_and_stops_nobody(path: Deployment, name: str):
    poison = POISON[name]
    sent = path.send(None, poison.value, poison.headers, named=False)
    behind = path.send("echo", partition=sent.partition)
    path.success(behind)
    letter = path.dead_letter(coordinates_id(sent.topic, sent.partition, sent.offset))
    assert_dead_letter(letter, sent, poison.reason)
    assert poison.says in letter.datum["error_message"]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_producers_compress_as_they_like(path: Deployment, codec: str):
    request_ids = [new_id(codec) for _ in range(20)]
    producer = Producer({"bootstrap.servers": path.settings.broker, "compression.type": codec, "linger.ms": 100})
    for request_id in request_ids:  # in one batch, large enough to be worth it
        headers = [("function", b"echo"), ("request-id", request_id.encode())]
        producer.produce(path.topics.invocations, b'{"text": "%b"}' % (b"x" * 500), None, partition=0, headers=headers)
    assert producer.flush(30) == 0

    for request_id in request_ids:
        path.success(request_id)


def test_a_request_id_that_arrives_twice_runs_once(path: Deployment):
    """While it runs, while it waits for a retry, and after it ended."""
    first, gate = occupy(path, "work")
    twice = path.send("work", first.value, request_id=first.id, partition=0)
    again = path.send("work", b'{"failures": 1}', partition=0)
    path.until(lambda: "RetryScheduled" in kinds(path, again), "it waits")
    path.send("work", again.value, request_id=again.id, partition=0)
    gate.touch()
    path.success(first)
    path.success(again)
    path.send("work", twice.value, request_id=first.id, partition=0)
    path.success(path.send("echo", partition=0))
    assert path.reader.ids("aws.success", "aws.failure", "dlq")[first.id] == 1
    assert [fact.kind for fact in path.facts(first)] == ["Accepted", "AttemptStarted", "Succeeded"]
    assert len(path.executions([first.id])) == 1
    assert len(path.executions([again.id])) == 2


# -- chains ----------------------------------------------------------------------------------------------------------


def next_link(path: Deployment, sent: Sent | str) -> str:
    """The id of the invocation whose event is the document of *sent*."""
    request_id = sent if isinstance(sent, str) else sent.id

    def found() -> list[str]:
        records = [*path.reader.all("aws.success"), *path.reader.all("aws.failure")]
        return [record.id for record in records if b'"requestId":"%b"' % request_id.encode() in parent(record)]

    def parent(record: Seen) -> bytes:
        return bytes(record.datum["requestPayload"][:200])

    [following] = path.until(found, f"an invocation made of {request_id}")
    return following


def test_a_function_destination_is_a_new_invocation(path: Deployment):
    sent = path.send("first")
    following = next_link(path, sent)
    document = PROVIDERS["aws"].document(path.success(sent).datum)
    record = path.success(following)
    assert record.datum["requestPayload"] == document
    assert record.header["function"] == resource("aws", "echo")
    assert path.facts(following)[0].depth == 2
    assert record.partition == sent.partition


def test_a_circular_chain_is_cut_after_sixteen_links(path: Deployment):
    links = [path.send("circle").id]
    while len(links) < 17:
        links.append(next_link(path, links[-1]))
    assert [path.facts(link)[0].depth for link in links] == list(range(1, 18))
    for link in links[:16]:
        path.success(link)
    assert path.failure(links[16]).header["condition"] == "RecursiveInvocation"
    assert path.executions([links[16]]) == []
    assert path.dead_letter(links[16]).datum["reason"] == "RecursiveInvocation"


# -- all together ----------------------------------------------------------------------------------------------------


def test_all_of_this_obeyed_the_laws(path: Deployment):
    """Two records for one id, one without an end, or an attempt nobody counted, anywhere in this file, break it."""
    own = [sent for sent in path.sender.acknowledged.values() if ("request-id", sent.id.encode()) in sent.headers]
    assert len(own) > 25
    ages_s = {"fail-60": 60 * SCALE, "fail-90": 90 * SCALE, "narrow-60": 60 * SCALE}
    assert judge(path.history([sent.id for sent in own], ages_s=ages_s)) == []
    assert set(path.reader.ids(*RECORD_TOPICS).values()) == {1}
    assert set(path.reader.ids("dlq").values()) == {1}
