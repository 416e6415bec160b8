"""The marker of the tests that want a schema registry of somebody else's."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "registry: needs the schema registry whose URL is in STREAMS_TEST_REGISTRY")
