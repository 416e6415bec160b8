"""Where an ended invocation is written."""

from dataclasses import replace

import pytest

from streams.core.model import Function, FunctionDestination, KafkaDestination, PythonTarget, RecordsKept
from streams.core.policy import Backoff, Policy
from streams.core.routing import Routes, routes

FUNCTION = Function(
    name="resize",
    qualifier="$LATEST",
    provider="aws",
    resource="arn",
    executed_version="$LATEST",
    target=PythonTarget("handlers", "resize", "inline"),
    timeout_ms=60_000,
    policy=Policy(attempts_max=1, age_max_ms=1, failure_backoff=Backoff(1), throttle_backoff=Backoff(1)),
)
RESIZED, FAILED, DEAD = KafkaDestination("resized"), FunctionDestination("arn:next"), KafkaDestination("dead")


def test_without_destinations_there_are_records_and_after_failure_a_dead_letter() -> None:
    assert routes(FUNCTION) == (
        Routes("aws.success", None, dead_letter=False, dead_letter_queue=None),
        Routes("aws.failure", None, dead_letter=True, dead_letter_queue=None),
    )


@pytest.mark.parametrize(
    ("records", "success", "failure"),
    [
        ("all", "aws.success", "aws.failure"),
        ("failures", None, "aws.failure"),
        ("none", None, None),
    ],
)
def test_a_function_says_which_records_it_keeps(records: RecordsKept, success: str | None, failure: str | None) -> None:
    after_success, after_failure = routes(replace(FUNCTION, records=records))

    assert (after_success.record_topic, after_failure.record_topic) == (success, failure)


def test_a_failure_goes_to_its_destination_and_to_its_dead_letter_queue() -> None:
    after_success, after_failure = routes(
        replace(FUNCTION, on_success=RESIZED, on_failure=FAILED, dead_letter=DEAD, records="none")
    )

    assert after_success == Routes(None, RESIZED, dead_letter=False, dead_letter_queue=None)
    assert after_failure == Routes(None, FAILED, dead_letter=True, dead_letter_queue=DEAD)


def test_topics_are_those_of_the_functions_provider() -> None:
    after_success, after_failure = routes(replace(FUNCTION, provider="fc"))

    assert (after_success.record_topic, after_failure.record_topic) == ("fc.success", "fc.failure")
