"""The same seed gives the same decisions."""

from itertools import islice

import pytest

from streams.doctor.functions import DEATHS
from streams.doctor.scenarios import SCENARIOS
from streams.doctor.scenarios.broker import KINDS
from streams.doctor.scenarios.workers import AT_REST
from streams.doctor.trial import Scenario, Size
from streams.engine.crashpoints import POINTS

every = pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)


def size_of(scenario: Scenario) -> Size:
    return scenario.short or scenario.full


@every
def test_a_seed_decides_everything(scenario: Scenario) -> None:
    size = size_of(scenario)

    assert scenario.plan(7, size) == scenario.plan(7, size)
    assert list(islice(scenario.inputs("x", 7), 40)) == list(islice(scenario.inputs("x", 7), 40))


@every
def test_another_seed_decides_otherwise(scenario: Scenario) -> None:
    size = size_of(scenario)

    assert scenario.plan(7, size) != scenario.plan(8, size) or not size.faults
    assert list(islice(scenario.inputs("x", 7), 40)) != list(islice(scenario.inputs("x", 8), 40))


@every
@pytest.mark.parametrize("seed", range(3))
def test_faults_come_in_order_within_the_load_and_strike_somebody(scenario: Scenario, seed: int) -> None:
    size = size_of(scenario)
    plan = scenario.plan(seed, size)

    assert [strike.after for strike in plan] == sorted(strike.after for strike in plan)
    assert all(strike.after < size.invocations and strike.slot < size.workers for strike in plan)


@pytest.mark.parametrize("name", ["kill", "broker", "outage", "pause", "network", "mayhem"])
def test_there_are_as_many_faults_as_asked_for(name: str) -> None:
    scenario = SCENARIOS[name]

    assert len(scenario.plan(1, size_of(scenario))) == size_of(scenario).faults
    assert len(scenario.plan(1, scenario.full)) == scenario.full.faults


def test_every_crash_point_is_struck_as_often_as_asked_for() -> None:
    plan = SCENARIOS["crash"].plan(1, Size(invocations=100, faults=3, workers=2))

    assert sorted(strike.kind.split(":")[0] for strike in plan) == sorted(POINTS * 3)


def test_the_broker_dies_at_each_of_the_worst_moments() -> None:
    plan = SCENARIOS["outage"].plan(1, size_of(SCENARIOS["outage"]))

    assert sorted(strike.kind for strike in plan) == sorted(KINDS)


def test_a_culprit_kills_in_every_way() -> None:
    size = size_of(SCENARIOS["culprit"])
    events = [item.value or b"" for item in islice(SCENARIOS["culprit"].inputs("culprit", 3), size.invocations)]

    assert {way for way in DEATHS if any(f'"{way}"'.encode() in event for event in events)} == DEATHS.keys()


@pytest.mark.parametrize("seed", range(5))
def test_in_a_storm_only_those_who_are_there_leave_and_some_stay(seed: int) -> None:
    size = SCENARIOS["storm"].full
    present = set(range(AT_REST))
    for strike in SCENARIOS["storm"].plan(seed, size):
        assert (strike.slot in present) == (strike.kind == "leave")
        present ^= {strike.slot}
        assert len(present) >= AT_REST


def test_a_size_is_scaled_in_invocations_and_faults_but_never_to_nothing() -> None:
    size = Size(invocations=10_000, faults=8, workers=3)

    assert (size.scaled(0.5).invocations, size.scaled(0.5).faults) == (5_000, 4)
    assert (size.scaled(0.0001).invocations, size.scaled(0.0001).faults) == (100, 1)
    assert Size(invocations=1_000).scaled(10).faults == 0


def test_the_mix_is_as_promised() -> None:
    inputs = list(islice(SCENARIOS["kill"].inputs("kill", 3), 10_000))
    expected = [item.expected for item in inputs]

    assert 0.005 < expected.count("dead letter") / len(inputs) < 0.015
    assert 0.09 < expected.count("failure") / len(inputs) < 0.11
    assert len({item.id for item in inputs if item.id}) == sum(item.id is not None for item in inputs)
