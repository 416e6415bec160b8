"""Fixtures: invokers with small limits, and functions made from the targets of this folder."""

import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from streams.core.model import Function, HttpTarget, PythonTarget
from streams.invokers import Call, Invokers
from streams.providers import PROVIDERS

GRACE_S = 0.05


@pytest.fixture
async def invokers() -> AsyncIterator[Invokers]:
    invokers = Invokers(threads=2, processes=1, connections=4, grace_s=GRACE_S)
    await invokers.start()
    yield invokers
    await invokers.close()


def function(
    target: PythonTarget | HttpTarget, *, timeout_s: float = 10, provider: str = "aws", **more: Any
) -> Function:
    """A function, unqualified unless *more* says otherwise."""
    cloud = PROVIDERS[provider]
    values: dict[str, Any] = {
        "name": "resize",
        "qualifier": cloud.latest,
        "executed_version": cloud.latest,
        "policy": cloud.policy(None, None),
    } | more
    resource = cloud.resource(values["name"], values["qualifier"])
    return Function(provider=provider, resource=resource, target=target, timeout_ms=round(timeout_s * 1000), **values)


def python(attribute: Callable[..., object] | str, isolation: Any) -> PythonTarget:
    """A target in `targets`."""
    name = attribute if isinstance(attribute, str) else attribute.__name__
    return PythonTarget("invokers.targets", name, isolation)


def call(payload: bytes = b"{}", provider: str = "aws", **more: Any) -> Call:
    """A call with a new request id."""
    values: dict[str, Any] = {"request_id": str(uuid.uuid4()), "attempt": 1, "accepted_at_ms": 0} | more
    return Call(payload=payload, event=PROVIDERS[provider].read_event(payload), **values)
