"""Cancelling on a real broker: what waits does not run, what runs is stopped, and each leaves one record and one dead
letter. One minute of a provider is 3 seconds here.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka.support import WITHIN_S, Deployment, Sent, new_id
from streams.laws import judge

pytestmark = pytest.mark.kafka

FUNCTIONS = """
time_scale = 0.05

[[function]]
name = "work"
provider = "aws"
target = "handlers:work"

[[function]]
name = "fail"
provider = "aws"
target = "handlers:fail"

[[function]]
name = "threaded"
provider = "aws"
target = "handlers:work_in_thread"

[[function]]
name = "in-process"
provider = "aws"
target = "handlers:work_in_thread"
isolation = "process"

[[function]]
name = "stopped"
provider = "fc"
target = "handlers:work"
on_failure = "kafka://{to}.failed"
"""

PARTITIONS = 3
DELAY = [("delay-ms", b"20000")]
"""Longer than it takes to kill two workers and start another."""


def deploy(broker: Any, folder: Path) -> Deployment:
    settings = {"hold_s": 0.5}
    return Deployment(
        broker.bootstrap, folder, FUNCTIONS, partitions=PARTITIONS, destinations=("failed",), settings=settings
    )


@pytest.fixture(scope="module")
def shared(broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """With one worker that nothing happens to."""
    with deploy(broker, tmp_path_factory.mktemp("cancel")) as deployment:
        deployment.ready(deployment.start("worker"))
        yield deployment


@pytest.fixture
def own(broker: Any, tmp_path: Path) -> Iterator[Deployment]:
    """For tests that kill workers."""
    with deploy(broker, tmp_path) as deployment:
        yield deployment


class Cancelled:
    """Cancels, and remembers when the record of it was seen, for the law that nothing starts afterwards."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.at_ms: dict[str, float] = {}

    def ended(self, sent: Sent, cloud: str = "aws", condition: str = "Cancelled") -> None:
        """The invocation has ended as cancelled."""
        record = self.deployment.failure(sent, cloud)
        self.at_ms[sent.id] = time.time() * 1000
        assert record.header["condition"] == condition
        assert self.deployment.dead_letter(sent).header["reason"] == "Cancelled"
        assert self.deployment.facts(sent)[-1].ending == "cancelled"

    def judged(self, *sent: Sent, kills: int = 0) -> None:
        """All promises are kept."""
        ids = [invocation.id for invocation in sent]
        history = self.deployment.history(ids, kills=kills, cancelled_ms=self.at_ms)
        assert judge(history) == []


def running(deployment: Deployment, function: str, event: dict[str, object]) -> Sent:
    """An invocation whose function has begun."""
    sent = deployment.send(function, json.dumps(event).encode())
    deployment.until(lambda: deployment.executions([sent.id]), f"{function} runs")
    return sent


def waiting(deployment: Deployment) -> Sent:
    """An invocation that has failed once."""
    sent = deployment.send("fail")
    deployment.until(lambda: deployment.facts(sent) and deployment.facts(sent)[-1].kind == "RetryScheduled", "it waits")
    return sent


def delayed(deployment: Deployment) -> Sent:
    """An invocation that waits for its first attempt, and for long."""
    sent = deployment.send("work", headers=DELAY)
    deployment.until(lambda: deployment.facts(sent), "it waits")
    return sent


def the_tier_has_passed(deployment: Deployment, before: Sent) -> None:
    """The retry record of an invocation has come: that of a later one in the same partition has."""
    later = deployment.send("fail", partition=before.partition)
    deployment.until(lambda: len(deployment.executions([later.id])) == 2, "a later one runs again")


def test_a_cancelled_retry_does_not_start(shared: Deployment) -> None:
    cancelled = Cancelled(shared)
    sent = waiting(shared)

    shared.cancel(sent.id)
    cancelled.ended(sent)
    the_tier_has_passed(shared, sent)

    assert len(shared.executions([sent.id])) == 1
    cancelled.judged(sent)


def test_a_function_on_the_loop_is_stopped(shared: Deployment) -> None:
    cancelled = Cancelled(shared)
    sent = running(shared, "work", {"gate": str(shared.gate())})

    shared.cancel(sent.id)
    cancelled.ended(sent)

    shared.until(lambda: shared.executions([sent.id])[0].ended_ms, "the function ends, with its gate closed")
    cancelled.judged(sent)


def test_a_journaled_function_is_stopped(shared: Deployment) -> None:
    cancelled = Cancelled(shared)
    sent = running(shared, "work", {"gate": str(shared.gate())})
    shared.until(lambda: shared.facts(sent), "it is in the journal")

    shared.cancel(sent.id)
    cancelled.ended(sent)

    shared.until(lambda: shared.executions([sent.id])[0].ended_ms, "the function ends, with its gate closed")
    cancelled.judged(sent)


def test_the_result_of_a_thread_counts_for_nothing(shared: Deployment) -> None:
    """A thread that sleeps cannot be stopped: it comes to its end."""
    cancelled = Cancelled(shared)
    sent = running(shared, "threaded", {"ms": 2_000})

    shared.cancel(sent.id)
    cancelled.ended(sent)
    shared.until(lambda: shared.executions([sent.id])[0].ended_ms, "the thread ends")
    assert shared.executions([sent.id])[0].ended_ms > cancelled.at_ms[sent.id]

    shared.success(shared.send("threaded", partition=sent.partition))
    cancelled.judged(sent)


def test_a_process_is_killed(shared: Deployment) -> None:
    cancelled = Cancelled(shared)
    sent = running(shared, "in-process", {"ms": 60_000})

    shared.cancel(sent.id)
    cancelled.ended(sent)

    shared.success(shared.send("in-process", partition=sent.partition))
    assert shared.executions([sent.id])[0].ended_ms is None
    cancelled.judged(sent)


def test_a_cloud_has_its_own_word_and_may_tell_no_destination(shared: Deployment) -> None:
    cancelled = Cancelled(shared)
    sent = running(shared, "stopped", {"gate": str(shared.gate())})

    shared.cancel(sent.id)
    cancelled.ended(sent, "fc", "Stopped")

    assert not shared.reader.at(shared.destinations["failed"], sent.id)


@pytest.mark.parametrize("journaled", [False, True])
def test_a_command_waits_for_a_worker(own: Deployment, journaled: bool) -> None:
    """SIGKILL while a function runs, then the cancel, then a new worker."""
    cancelled = Cancelled(own)
    worker = own.start("first")
    own.ready(worker)
    sent = running(own, "work", {"gate": str(own.gate())})
    if journaled:
        own.until(lambda: own.facts(sent), "it is in the journal")
    worker.kill()

    own.cancel(sent.id)
    own.ready(own.start("second"))
    # The command may be read before the invocation is accepted again; whoever sent it hears that, and sends it again.
    own.until(lambda: len(own.executions([sent.id])) == 2 or own.ended([sent.id]), "it runs again, or has ended")
    own.cancel(sent.id)
    cancelled.ended(sent)

    cancelled.judged(sent, kills=1)


@pytest.mark.parametrize("point", ["mid-transaction:2", "before-bookkeeping:2"])
def test_a_worker_dies_while_it_writes_the_end(own: Deployment, point: str) -> None:
    """A retry is cancelled, and the worker is killed within its second transaction, which is the one that says so."""
    cancelled = Cancelled(own)
    first = own.start("first", worker_name="w")
    own.ready(first)
    sent = delayed(own)
    first.kill()

    dying = own.start("dying", worker_name="w", crash_at=point)
    own.ready(dying)
    dying.is_wanted = False
    own.cancel(sent.id)
    own.until(lambda: dying.exit_code is not None, "it is dead")
    own.ready(own.start("last", worker_name="w"))
    later = own.send("work", headers=DELAY, partition=sent.partition)
    cancelled.ended(sent)
    own.success(later)

    assert not own.executions([sent.id])
    cancelled.judged(sent, kills=2)


# -- the command -----------------------------------------------------------------------------------------------------


def streams_cancel(deployment: Deployment, *arguments: str) -> tuple[int, list[Any], str]:
    """Run `streams cancel`; gives its exit code, the documents and what it says besides."""
    settings = deployment.settings
    command = [sys.executable, "-m", "streams", "--broker", settings.broker, "--prefix", settings.prefix]
    done = subprocess.run(
        [*command, "cancel", *arguments],
        capture_output=True,
        text=True,
        timeout=WITHIN_S * 2,
        cwd=deployment.executions_folder,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_the_command_prints_the_records_of_what_it_cancelled(shared: Deployment) -> None:
    cancelled = Cancelled(shared)
    one, other = delayed(shared), running(shared, "work", {"gate": str(shared.gate())})

    code, documents, said = streams_cancel(shared, one.id, other.id)

    assert (code, said) == (0, "")
    assert {document["requestContext"]["requestId"] for document in documents} == {one.id, other.id}
    assert {document["requestContext"]["condition"] for document in documents} == {"Cancelled"}
    cancelled.ended(one)
    cancelled.ended(other)

    code, documents, said = streams_cancel(shared, one.id)
    assert (code, documents) == (0, [])
    assert "was cancelled before" in said
    cancelled.judged(one, other)


def test_the_command_says_what_is_over_and_what_is_not_known(shared: Deployment) -> None:
    over, unknown = shared.send("work"), new_id("unknown")
    shared.success(over)

    code, documents, said = streams_cancel(shared, over.id, unknown)

    assert (code, documents) == (1, [])
    assert f"{over.id} is over: it succeeded" in said
    assert f"{unknown} is not known" in said
