"""Simulated time and processes that stop and die."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from .loop import Deadlock, Process, VirtualLoop


def run(main: Coroutine[Any, Any, None], loop: VirtualLoop) -> None:
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()


def test_ten_hours_pass_at_once() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        await asyncio.sleep(36_000)

    run(main(), loop)

    assert loop.time() == 36_000
    assert loop.turns < 10


def test_waiting_for_nothing_is_a_deadlock() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run(main(), loop)


def test_time_is_up_in_the_end() -> None:
    loop = VirtualLoop()
    loop.end_s = 10

    async def main() -> None:
        for _ in range(100):
            await asyncio.sleep(3)

    with pytest.raises(Deadlock):
        run(main(), loop)
    assert loop.time() == 12


def test_a_stopped_process_catches_up_when_it_goes_on() -> None:
    loop = VirtualLoop()
    process, ticks = Process(loop, "p"), []

    async def tick() -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            ticks.append(loop.time())

    async def main() -> None:
        process.spawn(tick())
        await asyncio.sleep(1.5)
        process.stop()
        await asyncio.sleep(10)
        process.go_on()
        await asyncio.sleep(10)

    run(main(), loop)

    assert ticks == [1, 11.5, 12.5]


@pytest.mark.parametrize("by_itself", [True, False])
def test_nothing_of_a_dead_process_runs(by_itself: bool) -> None:
    loop = VirtualLoop()
    process, done = Process(loop, "p"), []

    async def first() -> None:
        await asyncio.sleep(1)
        if by_itself:
            process.die()
        done.append("first")

    async def second() -> None:
        try:
            await asyncio.sleep(2)
        finally:
            done.append("second")

    async def main() -> None:
        process.spawn(first())
        process.spawn(second())
        await asyncio.sleep(0.5)
        if not by_itself:
            process.kill()
        await asyncio.sleep(5)
        assert done == []

    run(main(), loop)

    assert loop.errors == []


def test_an_exception_that_nobody_sees_is_kept() -> None:
    loop = VirtualLoop()

    async def main() -> None:
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)

    run(main(), loop)

    assert "ZeroDivisionError" in loop.errors[0]
