"""The end of every worker's log beside a test that fails."""

from collections.abc import Generator
from typing import Any

import pytest

from kafka.support import Deployment


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Deployment):
                report.sections += [(f"log of {worker.label}", worker.log_end()) for worker in value.workers]
    return report
