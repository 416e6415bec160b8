"""What the APIs store of functions: its bytes, and what it makes of the file's functions."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.model import Function, HttpTarget, KafkaDestination, PythonTarget, ServiceDestination
from streams.functions.live import Description
from streams.functions.stored import Entry, Key, UnreadableEntry, read_entry, read_key, write_entry, write_key

RESIZE = Key("aws", "resize")
LATEST = RESIZE._replace(qualifier="$LATEST")
PROD = RESIZE._replace(qualifier="prod")
FILE = """
[[function]]
name = "resize"
provider = "aws"
url = "http://127.0.0.1:9000/"
timeout_s = 5
reserved_concurrency = 3
retries = 1
age_max_s = 100
on_failure = "kafka://failed"
dead_letter = "kafka://dead"
qualifiers.prod = { retries = 0, version = "7" }
"""
SQS = "arn:aws:sqs:us-east-1:123456789012:failed"


@pytest.fixture
def description(tmp_path: Path) -> Iterator[Description]:
    before = list(sys.path)
    path = tmp_path / "streams.toml"
    path.write_text(FILE)
    yield Description(path)
    sys.path[:] = before


@pytest.fixture
def resolved(description: Description) -> Callable[..., Function | str]:
    """What a function is after some entries were stored."""

    def resolved(entries: dict[Key, Entry], reference: str = "resize", qualifier: str | None = None) -> Function | str:
        for key, entry in entries.items():
            description.apply(write_key(key), write_entry(entry))
        return description.functions().resolve(reference, qualifier)

    return resolved


Resolved = Callable[..., Function]


# -- bytes -----------------------------------------------------------------------------------------------------------


@given(st.text(), st.text(), st.none() | st.text())
def test_a_key_is_read_back(provider: str, name: str, qualifier: str | None) -> None:
    key = Key(provider, name, qualifier)

    assert read_key(write_key(key)) == key


def test_an_entry_is_read_back() -> None:
    entry = Entry(
        settings={"retries": 1}, qualifiers={"1": {"version": "1"}, "2": None}, api={"a": 1}, modified_at_ms=5
    )

    assert read_entry(write_entry(entry)) == entry


@pytest.mark.parametrize(
    "data", [None, b"", b"resize", b'"a"', b'["aws"]', b'["aws", 1]', b'["a","b","c","d"]', b"\xff"]
)
def test_other_keys_are_refused(data: bytes | None) -> None:
    with pytest.raises(UnreadableEntry):
        read_key(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"settings": 1}', b'{"settings": {}, "x": 1}', b'{"settings": {}, "qualifiers": {"a": 1}}'],
)
def test_other_entries_are_refused(data: bytes) -> None:
    with pytest.raises(UnreadableEntry):
        read_entry(data)


# -- meaning ---------------------------------------------------------------------------------------------------------


def test_without_entries_the_file_holds(resolved: Resolved) -> None:
    function = resolved({})

    assert function.timeout_ms == 5_000
    assert function.policy.attempts_max == 2
    assert function.on_failure == KafkaDestination("failed")


def test_a_configuration_takes_the_place_of_the_files(resolved: Resolved) -> None:
    function = resolved({LATEST: Entry(settings={"on_success": "kafka://done"})})

    assert function.policy.attempts_max == 3, "the provider's default: the configuration says nothing of retries"
    assert (function.on_success, function.on_failure) == (KafkaDestination("done"), None)
    assert function.timeout_ms == 5_000
    assert function.dead_letter == KafkaDestination("dead")


def test_a_deleted_configuration_leaves_the_providers_defaults(resolved: Resolved) -> None:
    function = resolved({LATEST: Entry(settings=None)})

    assert (function.policy.attempts_max, function.on_failure) == (3, None)


def test_the_configuration_of_one_qualifier_leaves_the_others_alone(resolved: Resolved) -> None:
    entries = {PROD: Entry(settings={"retries": 2})}

    assert resolved(entries).policy.attempts_max == 2
    prod = resolved({}, qualifier="prod")
    assert (prod.policy.attempts_max, prod.executed_version) == (3, "7")


def test_settings_of_a_function_change_one_by_one(resolved: Resolved) -> None:
    function = resolved({RESIZE: Entry(settings={"reserved_concurrency": 0, "dead_letter": None})})

    assert (function.reserved_concurrency, function.dead_letter) == (0, None)
    assert (function.timeout_ms, function.policy.attempts_max) == (5_000, 2)


def test_another_target_takes_the_place_of_the_files(resolved: Resolved) -> None:
    function = resolved({RESIZE: Entry(settings={"target": "no_such_module:handler"})})

    assert function.target == PythonTarget("no_such_module", "handler", "thread"), "an error of each attempt"


def test_a_function_that_the_file_does_not_have(resolved: Resolved) -> None:
    entry = Entry(settings={"url": "http://127.0.0.1:1/"}, qualifiers={"1": {"version": "1"}})
    function = resolved({Key("aws", "new"): entry}, "new", "1")

    assert function.target == HttpTarget("http://127.0.0.1:1/", False)
    assert function.resource == "arn:aws:lambda:us-east-1:123456789012:function:new:1"


def test_a_deleted_function_is_gone_until_its_entry_is(description: Description, resolved: Resolved) -> None:
    assert resolved({RESIZE: Entry(settings=None)}) == "No function has this name."

    description.apply(write_key(RESIZE), None)

    assert isinstance(description.functions().resolve("resize", None), Function)


def test_a_deleted_qualifier_is_gone(resolved: Resolved) -> None:
    function = resolved({RESIZE: Entry(settings={}, qualifiers={"prod": None})}, qualifier="prod")

    assert function == "The function has no such version or alias."


def test_destinations_outside_kafka_are_kept(resolved: Resolved) -> None:
    entries = {LATEST: Entry(settings={"on_failure": SQS}), RESIZE: Entry(settings={"dead_letter": SQS})}

    function = resolved(entries)

    assert (function.on_failure, function.dead_letter) == (ServiceDestination(SQS), ServiceDestination(SQS))


def test_what_cannot_be_used_leaves_the_file_as_it_was(resolved: Resolved, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        function = resolved({LATEST: Entry(settings={"retries": 99})})

    assert function.policy.attempts_max == 2
    assert "retries: 99 is not a whole number from 0 to 2" in caplog.text


@pytest.mark.parametrize(
    ("key", "value"), [(b"x", b"{}"), (b'["aws","resize"]', b"x"), (b'["other","f"]', b'{"settings":{}}')]
)
def test_what_cannot_be_read_is_left_out(
    description: Description, caplog: pytest.LogCaptureFixture, key: bytes, value: bytes
) -> None:
    description.apply(key, value)

    assert description.entries == {}
    assert "is left out" in caplog.text
