"""What there is to measure, and whom."""

import json

import pytest

from benchmarks import contenders, functions, workloads
from benchmarks.contenders import CONTENDERS, STREAMS, Contender
from benchmarks.measure import backlog_of
from benchmarks.workloads import WORKLOADS


def test_an_event_has_the_size_that_was_asked_for_and_is_json():
    for size_bytes in (60, 200, 64 * 1024):
        event = functions.event(7, size_bytes, seed=1)

        assert len(event) == size_bytes
        assert json.loads(event)["id"] == 7


def test_the_same_seed_gives_the_same_events_and_another_one_others():
    assert functions.event(7, 200, seed=1) == functions.event(7, 200, seed=1)
    assert functions.event(7, 200, seed=1) != functions.event(7, 200, seed=2)


async def test_one_event_in_a_hundred_fails_once():
    event = {"id": 4200}

    with pytest.raises(ValueError):
        await functions.flaky(event)

    assert await functions.flaky(event) == {"ok": True, "id": 4200}
    assert await functions.flaky({"id": 4201}) == {"ok": True, "id": 4201}


def test_an_outcome_of_other_contenders_is_json_with_the_event_and_the_result():
    outcome = json.loads(functions.outcome("r000000007", b'{"id": 7}', {"ok": True}))

    assert outcome["requestContext"] == {"requestId": "r000000007", "condition": "Success"}
    assert outcome["requestPayload"] == {"id": 7}
    assert outcome["responsePayload"] == {"ok": True}


def test_a_workload_can_be_named_with_all_its_variants():
    assert [workload.name for workload in workloads.chosen("w9,W1")] == ["W1", "W9-2", "W9-4"]
    assert workloads.chosen(None) == list(WORKLOADS.values())


def test_an_unknown_workload_or_contender_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"no workload 'W77'; there are W0, W1"):
        workloads.chosen("W1,W77")
    with pytest.raises(ValueError, match=r"no contender 'rabbit'; there are streams, aiokafka"):
        contenders.chosen("rabbit")


def test_ours_does_every_workload_and_everybody_does_w1():
    assert set(CONTENDERS[STREAMS].workloads) == WORKLOADS.keys()
    for contender in CONTENDERS.values():
        assert "W1" in contender.workloads
        assert set(contender.workloads) <= WORKLOADS.keys()


def test_every_contender_says_its_settings():
    for contender in CONTENDERS.values():
        assert "Settings" in contender.settings(), contender.name


def test_a_contender_that_is_not_installed_says_what_it_misses():
    there = Contender(name="x", module="x", promise="none", imports=("json",))
    absent = Contender(name="x", module="x", promise="none", imports=("json", "no_such_module"))

    assert there.missing() is None
    assert absent.missing() == "no_such_module"


def test_a_slow_contender_gets_a_smaller_backlog():
    slow = Contender(name="x", module="x", promise="none", pace=0.1, requests={"W3": 600})

    assert backlog_of(slow, WORKLOADS["W1"], quick=False) == WORKLOADS["W1"].requests // 10
    assert backlog_of(slow, WORKLOADS["W3"], quick=False) == 600
