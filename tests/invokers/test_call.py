"""What all invokers share."""

import asyncio
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.invokers.call import FRAMES_MAX, MESSAGE_CHARS_MAX, Deadlines, exited, raised


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=30))
@settings(max_examples=20, deadline=None)
def test_items_that_are_not_discarded_fall_due_in_order_and_in_time(items: list[tuple[int, bool]]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        expected = [number for number, (_, discarded) in enumerate(items) if not discarded]
        due: list[tuple[int, float]] = []
        all_due = asyncio.Event()

        def overdue(item: int) -> None:
            due.append((item, loop.time()))
            if item == expected[-1]:
                all_due.set()

        deadlines: Deadlines[int] = Deadlines(0.01, overdue, loop)
        added = {}
        for number, (pause, discarded) in enumerate(items):
            added[number] = loop.time()
            deadlines.add(number)
            time.sleep(pause / 100_000)  # noqa: ASYNC251  # the loop is busy
            if discarded:
                deadlines.discard(number)
        if expected:
            await all_due.wait()
        assert [item for item, _ in due] == expected
        assert all(at - added[item] >= 0.01 - time.get_clock_info("monotonic").resolution for item, at in due)

    asyncio.run(run())


async def test_closed_deadlines_give_back_what_was_waiting() -> None:
    deadlines: Deadlines[str] = Deadlines(0.001, lambda item: None, asyncio.get_running_loop())
    deadlines.add("a")
    deadlines.add("b")

    assert deadlines.close() == ["a", "b"]


def deep(depth: int) -> None:
    if depth:
        deep(depth - 1)
    raise ValueError("x" * 1_000_000)


def test_errors_are_bounded() -> None:
    try:
        deep(300)
    except ValueError as error:
        failure = raised(error)

    assert len(failure.message) == MESSAGE_CHARS_MAX
    assert 1 < len(failure.trace) <= FRAMES_MAX
    assert "raise ValueError" in failure.trace[-1]


def test_signals_and_statuses_are_named_as_lambda_names_them() -> None:
    assert [exited(status).exit for status in (0, 3, -6, -7, -9, -11, -15)] == [
        "",
        "exit status 3",
        "signal: aborted",
        "signal: bus error",
        "signal: killed",
        "signal: segmentation fault",
        "signal: terminated",
    ]
