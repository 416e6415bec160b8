"""Whatever a service does, there is an answer in time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from streams import destinations
from streams.core.model import Delivery, Refusal, Service
from streams.destinations import Destinations

from .test_huawei import RECORD

SERVICE = Service(kind="smn", region="r", account="p", name="urn", endpoint="http://127.0.0.1:1")


class Cloud:
    async def send(self, delivery: Delivery, service: Service) -> Refusal | None:
        if delivery.body == b"hang":
            await asyncio.Event().wait()
        raise RuntimeError("nobody thought of this")

    async def close(self) -> None:
        """Nothing."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Destinations:
    monkeypatch.setattr(destinations, "SEND_S", 0.01)
    made = Destinations({})
    made._senders["smn"] = Cloud()
    return made


async def test_no_answer_in_time_is_a_refusal_that_may_pass(made: Destinations):
    refusal = await made.send(replace(RECORD, body=b"hang"), SERVICE)

    assert refusal is not None
    assert (refusal.code, refusal.may_pass) == ("Timeout", True)


async def test_what_nobody_thought_of_is_a_refusal_for_good_and_logged(
    made: Destinations, caplog: pytest.LogCaptureFixture
):
    refusal = await made.send(RECORD, SERVICE)

    assert refusal is not None
    assert not refusal.may_pass
    assert "nobody thought of this" in refusal.message
    assert "a delivery to smn failed" in caplog.text
