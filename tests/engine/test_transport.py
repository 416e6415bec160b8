"""What our consumer does besides aiokafka's. (Its reading is tested on a real broker, and simulated.)"""

from __future__ import annotations

import asyncio

import pytest

from streams.engine.transport import watch


@pytest.mark.parametrize(("is_stopped", "reasons"), [(False, ["fetching ended: KeyError('a')"]), (True, [])])
async def test_a_task_that_must_not_end_takes_the_worker_along(is_stopped: bool, reasons: list[str]) -> None:
    async def fail() -> None:
        raise KeyError("a")

    task, died = asyncio.create_task(fail()), list[str]()
    watch(task, "fetching", lambda: is_stopped, died.append)

    await asyncio.wait([task])
    await asyncio.sleep(0)

    assert died == reasons
