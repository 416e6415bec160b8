"""Fixtures for all tests."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from streams.local.broker import Broker

# Whoever starts the tests in the background may have SIGINT ignored, which every child would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A slow machine is no failure.
settings.register_profile("streams", deadline=None)
settings.load_profile("streams")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Tests on a broker are not even imported when none of them is wanted: the clouds' clients take seconds."""
    return True if collection_path.name == "kafka" and config.option.markexpr.startswith("not kafka") else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningBroker:
    """A Kafka that is up, and none of the test's business to stop."""

    bootstrap: str


@pytest.fixture(scope="session")
def broker() -> Iterator[RunningBroker]:
    """The Kafka at STREAMS_BROKER, or else one started for this session. Tests share it: name topics uniquely."""
    if address := os.environ.get("STREAMS_BROKER"):
        yield RunningBroker(bootstrap=address)
    else:
        with Broker(ephemeral=True) as own:
            yield RunningBroker(bootstrap=own.bootstrap)
