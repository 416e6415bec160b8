"""Who runs what while workers come, go, die and freeze. One minute of a provider is 0.6 seconds here."""

import itertools
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kafka.support import Deployment, Input, Load, new_id
from streams.laws import judge

pytestmark = pytest.mark.kafka

FUNCTIONS = """
time_scale = 0.01

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
retries = 3

[[function]]
name = "threaded"
provider = "aws"
target = "handlers:work_in_thread"

[[function]]
name = "narrow"
provider = "aws"
target = "handlers:work"
reserved_concurrency = 40

[[function]]
name = "dawdle"
provider = "aws"
target = "handlers:dawdle"
timeout_s = 0.05
retries = 0

[[function]]
name = "delivered"
provider = "aws"
target = "handlers:work"
on_success = "kafka://{to}.done"
"""

PARTITIONS = 4


@pytest.fixture
def deployment(broker: Any, tmp_path: Path) -> Iterator[Deployment]:
    """Topics of its own for every test: who dies here is still a member of its group for some seconds."""
    with Deployment(broker.bootstrap, tmp_path, FUNCTIONS, partitions=PARTITIONS, destinations=("done",)) as deployment:
        yield deployment


def invocation(function: str, number: int, event: dict[str, object]) -> Input:
    request_id = new_id(function)
    headers = [("function", function.encode()), ("request-id", request_id.encode())]
    return Input(request_id, json.dumps(event).encode(), headers, number % PARTITIONS)


def short_work() -> Iterator[Input]:
    """Invocations that take some time each, a few of which fail at first."""
    for number in itertools.count():
        yield invocation("work", number, {"ms": 100 + number % 300, "failures": number % 10 == 0})


def test_nothing_runs_twice_when_workers_join_and_leave(deployment: Deployment):
    """One joins and one leaves by SIGTERM while functions run.

    It breaks when partitions are given up before what runs there has ended and is committed, or when a new owner begins
    before that: the same id then runs twice (L4, L7), or ends twice (L2).
    """
    a = deployment.start("A")
    deployment.ready(a)
    with Load(deployment, short_work(), per_second=250) as load:
        deployment.until(lambda: deployment.ended(load.ids) > 100, "one worker is at it")
        b = deployment.start("B")
        deployment.share(a, b)
        before = len(load.ids)
        deployment.until(lambda: deployment.ended(load.ids[before:]) > 100, "two workers are at it")
        a.terminate()
        assert a.wait() == 0
        deployment.share(b)
        before = len(load.ids)
        deployment.until(lambda: deployment.ended(load.ids[before:]) > 100, "the other one goes on")
    deployment.all_ended(load.ids)
    assert judge(deployment.history(load.ids)) == []
    assert len({execution.process for execution in deployment.executions()}) == 2


def test_a_worker_that_stops_takes_no_part_in_a_rebalance(deployment: Deployment):
    """One joins while the other one waits for what it has under way, before it ends.

    It breaks when the connection is closed under its last commit, as Faust would do: it cannot leave the group any
    more, and says that it has failed. Or when it goes into the next generation, holding partitions that it does not
    run.
    """
    a = deployment.start("A")
    deployment.ready(a)
    gate = deployment.gate()
    ids = produce(deployment, [invocation("work", number, {"gate": str(gate)}) for number in range(40)])
    deployment.until(lambda: len(deployment.executions()) == 40, "all of them run")
    a.terminate()
    deployment.until(lambda: "Wait for streams" in a.log(), "it waits for them")
    b = deployment.start("B")
    deployment.until(lambda: "it is rebalancing" in a.log(), "the other one wants to join")
    gate.touch()
    assert a.wait() == 0
    deployment.share(b)
    deployment.all_ended(ids)
    assert judge(deployment.history(ids)) == []
    assert len(deployment.executions()) == 40, "nothing ran again"


def test_a_killed_worker_is_replaced(deployment: Deployment):
    """SIGKILL and a new start, while functions run. The workers have no names: the group waits for the dead one.

    It breaks when an outcome, its state and its offset are not one transaction (L1, L2), or when the open transaction
    of the dead becomes visible after its partitions have been read again by somebody else (L2).
    """
    a, b = deployment.start("A"), deployment.start("B")
    deployment.share(a, b)
    with Load(deployment, short_work(), per_second=150) as load:
        deployment.until(lambda: deployment.ended(load.ids) > 100, "two workers are at it")
        a.kill()
        again = deployment.start("A again")
        deployment.share(again, b)
        before = len(load.ids)
        deployment.until(lambda: deployment.ended(load.ids[before:]) > 100, "both are at it again")
    deployment.all_ended(load.ids)
    assert judge(deployment.history(load.ids, kills=1)) == []


def test_a_frozen_worker_wakes_up_replaced_and_leaves_no_trace(deployment: Deployment):
    """SIGSTOP for longer than the session, with functions under way that end as soon as the worker goes on.

    It breaks when a worker that was thrown out of the group can still commit: everything it had under way would then
    end twice (L2).
    """
    a, b = deployment.start("A"), deployment.start("B")
    deployment.share(a, b)
    gate = deployment.gate()
    ids = produce(deployment, [invocation("work", number, {"gate": str(gate)}) for number in range(40)])
    deployment.until(lambda: len(deployment.executions()) == len(ids), "all of them run")
    before = len(a.acquisitions())
    a.stop()
    ids += produce(deployment, itertools.islice(short_work(), 200))
    gate.touch()
    deployment.share(b)
    deployment.all_ended(ids)
    a.is_wanted = False  # it may find out in a way that makes it exit
    a.go_on()
    deployment.until(lambda: ended_again(deployment), "what was frozen ends")
    deployment.until(lambda: a.exit_code is not None or len(a.acquisitions()) > before, "it finds out")
    ids += produce(deployment, itertools.islice(short_work(), 100))
    deployment.all_ended(ids)
    assert judge(deployment.history(ids, kills=1)) == []


def ended_again(deployment: Deployment) -> bool:
    """Whether functions that were under way in a frozen worker, and ran again in another one, have ended in both."""
    ended = [execution.request_id for execution in deployment.executions() if execution.ended_ms is not None]
    return len(ended) > len(set(ended))


def produce(deployment: Deployment, inputs: Iterable[Input]) -> list[str]:
    """Produce all of *inputs*; gives their ids."""
    ids = []
    for item in inputs:
        deployment.sender.produce(*item)
        ids.append(item.id)
    deployment.sender.flush()
    return ids


KINDS = {
    "work": 54,
    "work-fc": 10,
    "work-fg": 10,
    "threaded": 6,
    "narrow": 2,
    "delivered": 6,
    "failing once": 6,
    "failing": 3,
    "dawdle": 2,
    "poison": 1,
}
"""How many of a hundred."""


def mixture(count: int) -> Iterator[Input]:
    """Invocations that end in many ways. The first word of an id says how: see `KINDS`."""
    chance = random.Random(7)
    for number in range(count):
        [kind] = chance.choices(list(KINDS), list(KINDS.values()))
        function = {"poison": "nobody", "failing": "work", "failing once": "work"}.get(kind, kind)
        event = {"ms": chance.randrange(20), "failures": {"failing": 99, "failing once": 1}.get(kind, 0)}
        item = invocation(function, number, event)
        request_id = new_id(kind.replace(" ", "-"))
        headers = [("function", function.encode()), ("request-id", request_id.encode())]
        yield item._replace(id=request_id, headers=headers)


def test_ten_thousand_invocations_end_once_although_a_worker_dies(deployment: Deployment):
    """Ten thousand of all kinds through two workers; one is killed in the middle, and started again under its name.

    It breaks when anything is lost, ends twice or ends otherwise than its function decides, with whatever was under
    way, waiting or half committed at the moment of the kill: L1 to L4 and L8 for every single id.
    """
    a, b = deployment.start("A", worker_name="a"), deployment.start("B", worker_name="b")
    deployment.share(a, b)
    ids = produce(deployment, mixture(10_000))
    deployment.until(lambda: deployment.ended(ids) > 3_000, "it is in the middle")
    a.kill()
    assert deployment.ended(ids) < 9_000
    deployment.ready(deployment.start("A again", worker_name="a"))
    deployment.all_ended(ids, within_s=90)
    delivered = deployment.reader.ids(deployment.destinations["done"])
    destined = {request_id for request_id in ids if request_id.startswith("delivered")}
    assert judge(deployment.history(ids, kills=1, destined=destined, delivered=set(delivered))) == []
    assert set(delivered.values()) == {1}

    failed = {request_id for request_id in ids if request_id.startswith(("failing-", "dawdle", "poison"))}
    failed -= {request_id for request_id in failed if request_id.startswith("failing-once")}
    clouds = ("aws", "fc", "functiongraph")
    assert deployment.reader.ids(*(f"{cloud}.success" for cloud in clouds)).keys() == set(ids) - failed
    assert deployment.reader.ids("dlq") == dict.fromkeys(failed, 1)
