"""Services outside Kafka get what ended invocations leave for them, whatever happens to them and to workers."""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from destinations.aws_server import ACCOUNT, REGION, AwsServer, free_port

from kafka.support import Deployment

pytestmark = pytest.mark.kafka

DONE, UNDONE, DEAD, NOWHERE = (
    f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}" for name in ("done", "undone", "dead", "nowhere")
)
FUNCTIONS = f"""
time_scale = 0.05

[[function]]
name = "served"
provider = "aws"
target = "handlers:work"
retries = 0
on_success = "{DONE}"
on_failure = "{UNDONE}"
dead_letter = "{DEAD}"

[[function]]
name = "astray"
provider = "aws"
target = "handlers:work"
on_success = "{NOWHERE}"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[AwsServer]:
    made = AwsServer(free_port())
    made.start()
    make_queues(made)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def deployment(broker: Any, server: AwsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder: Path = tmp_path_factory.mktemp("deliveries")
    with (
        pytest.MonkeyPatch.context() as environment,
        Deployment(broker.bootstrap, folder, FUNCTIONS, partitions=2) as deployment,
    ):
        for name, value in server.environ.items():
            environment.setenv(name, value)
        deployment.ready(deployment.start("A"))
        yield deployment


def make_queues(server: AwsServer) -> None:
    for queue in (DONE, UNDONE, DEAD):
        server.make_queue(queue.rpartition(":")[2])


def arrivals(deployment: Deployment, server: AwsServer, queue: str, *ids: str) -> list[dict[str, Any]]:
    """What comes to *queue* until all *ids* are there, or have a dead letter that says why not."""
    found: list[dict[str, Any]] = []

    def arrived() -> bool:
        found.extend(server.messages(queue))
        return set(ids) <= {_id(message) for message in found} | refused(deployment, ids)

    deployment.until(arrived, f"{len(ids)} messages in {queue}")
    return found


def refused(deployment: Deployment, ids: Collection[str]) -> set[str]:
    letters = (letter for request_id in ids for letter in deployment.reader.at("dlq", request_id))
    return {letter.id for letter in letters if letter.header["reason"] == "DestinationDeliveryFailed"}


def _deliveries(deployment: Deployment, request_id: str) -> list[dict[str, Any]]:
    return [fact for seen in deployment.reader.at("facts", request_id) for fact in seen.datum["deliveries"]]


def _id(message: dict[str, Any]) -> str:
    attributes = message.get("MessageAttributes")
    if attributes is not None:
        return str(attributes["RequestID"]["StringValue"])
    return str(json.loads(message["Body"])["requestContext"]["requestId"])


def test_a_success_and_a_failure_are_delivered(deployment: Deployment, server: AwsServer):
    sent = deployment.send("served", b'{"a":  1}')
    [message] = arrivals(deployment, server, DONE, sent.id)
    assert _id(message) == sent.id
    assert b'"requestPayload":{"a":  1},' in message["Body"].encode()
    assert json.loads(message["Body"])["requestContext"]["condition"] == "Success"

    facts = deployment.until(lambda: _deliveries(deployment, sent.id), "its delivery is a fact")
    assert [(fact["outcome"], fact["address"], fact["content"]) for fact in facts] == [("delivered", DONE, "record")]

    failed = deployment.send("served", b' {"failures": 9}\n')
    [message] = arrivals(deployment, server, UNDONE, failed.id)
    assert _id(message) == failed.id
    assert json.loads(message["Body"])["requestContext"]["condition"] == "RetriesExhausted"
    [event] = arrivals(deployment, server, DEAD, failed.id)
    assert event["Body"] == ' {"failures": 9}\n'
    assert event["MessageAttributes"]["ErrorMessage"]["StringValue"] == "no luck"
    assert deployment.dead_letter(failed).datum["reason"] == "RetriesExhausted"


def test_what_a_service_does_not_take_is_a_dead_letter_with_the_record_in_it(deployment: Deployment):
    sent = deployment.send("astray")
    letter = deployment.dead_letter(sent).datum

    assert letter["reason"] == "DestinationDeliveryFailed"
    assert letter["error_code"] == 400
    assert "NonExistentQueue" in letter["error_type"]
    assert NOWHERE in letter["error_message"]
    assert json.loads(letter["value"])["requestContext"]["requestId"] == sent.id
    assert letter["topic"] == deployment.topics.deliveries
    deployment.success(sent)


def test_a_service_that_is_away_gets_everything_when_it_is_back(deployment: Deployment, server: AwsServer):
    server.stop()
    ids = [deployment.send("served").id for _ in range(40)]
    deployment.until(lambda: all(deployment.reader.at("aws.success", i) for i in ids), "all of them have succeeded")
    server.start()
    make_queues(server)

    got = arrivals(deployment, server, DONE, *ids)
    # A try between the start of the server and that of its queues finds none, and that is refused for good.
    assert Counter(map(_id, got)) == Counter(set(ids) - refused(deployment, ids))
    assert got


def test_a_worker_that_dies_while_it_delivers_loses_nothing(deployment: Deployment, server: AwsServer):
    """It breaks when the offset of a delivery is committed before the service has it (tried)."""
    server.freeze()
    ids = [deployment.send("served").id for _ in range(40)]
    deployment.until(lambda: all(deployment.reader.at("aws.success", i) for i in ids), "all of them have succeeded")
    [worker] = [worker for worker in deployment.workers if worker.exit_code is None]
    worker.kill()
    server.go_on()
    deployment.ready(deployment.start("B"))

    got = arrivals(deployment, server, DONE, *ids)
    assert {_id(message) for message in got} == set(ids)
