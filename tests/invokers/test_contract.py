"""What every invoker promises: whatever a function does, its runner gives an Outcome."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from streams.core.model import HttpTarget, Outcome
from streams.invokers import Invokers, Runner
from streams.invokers.call import NOT_STARTED, raised
from streams.providers import PROVIDERS

from . import targets
from .conftest import call, function, python

Run = Callable[..., Awaitable[Outcome]]

KINDS = ("inline", "thread", "process", "process async", "http")
AT_ONCE = 2
PYTHON_KINDS = ("inline", "thread", "process")

# One loop, server and set of invokers for the whole file: child processes take long to start.
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def emulate(request: web.Request) -> web.Response:
    """A Lambda Runtime Interface Emulator as far as the contract goes: runs a target, answers what it would."""
    event = await request.json()
    if event[0] == "hang":
        await asyncio.Event().wait()
    try:
        return web.Response(text=json.dumps(targets.do(event, None), ensure_ascii=False))
    except Exception as error:
        return web.Response(body=PROVIDERS["aws"].failed(raised(error), "emulated").payload)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runner() -> AsyncIterator[Callable[[str, float], Runner]]:
    """Gives the runner of `targets.do` for a kind of invoker and a time limit."""
    app = web.Application()
    app.router.add_post("/2015-03-31/functions/function/invocations", emulate)
    emulator = TestServer(app)
    await emulator.start_server(shutdown_timeout=0)
    invokers = Invokers(threads=AT_ONCE, processes=AT_ONCE, connections=AT_ONCE, grace_s=0.05)
    await invokers.start()

    @cache
    def runner(kind: str, timeout_s: float) -> Runner:
        isolation, _, asynchronous = kind.partition(" ")
        target: Any = python("ado" if asynchronous or kind == "inline" else "do", isolation)
        if kind == "http":
            target = HttpTarget(str(emulator.make_url("/2015-03-31/functions/function/invocations")), runtime_api=True)
        return invokers.prepare(function(target, timeout_s=timeout_s), PROVIDERS["aws"])

    yield runner
    await invokers.close()
    await emulator.close()


@pytest.fixture
def run(request: pytest.FixtureRequest, runner: Callable[[str, float], Runner]) -> Run:
    """Runs a target in the way the test's parameter says."""

    async def run(name: str, event: Any = None, timeout_s: float = 10) -> Outcome:
        return await runner(request.param, timeout_s)(call(json.dumps([name, event]).encode()))

    return run


def error(outcome: Outcome) -> Any:
    """The provider's error document."""
    assert outcome.kind == "function_error" and outcome.payload is not None
    return json.loads(outcome.payload)


@pytest.mark.parametrize("run", KINDS, indirect=True)
async def test_a_result_is_returned(run: Run) -> None:
    event = {"text": "ünïcödé 💥 \u2028", "number": 2**60, "list": [None, True, 0.1]}

    outcome = await run("echo", event)

    assert outcome.kind == "returned"
    assert json.loads(outcome.payload or b"") == event


@pytest.mark.parametrize("run", KINDS, indirect=True)
async def test_nothing_is_a_result_too(run: Run) -> None:
    assert await run("nothing") == Outcome("returned", 200, b"null")


@pytest.mark.parametrize("run", KINDS, indirect=True)
async def test_an_exception_is_a_function_error(run: Run) -> None:
    outcome = await run("fail")

    document = error(outcome)
    assert (document["errorType"], document["errorMessage"]) == ("ValueError", "no such ünit: 💥")
    assert (outcome.error_type, outcome.error_message) == ("ValueError", "no such ünit: 💥")


@pytest.mark.parametrize("run", (*PYTHON_KINDS, "process async"), indirect=True)
async def test_a_trace_shows_the_function_and_nothing_of_ours(run: Run) -> None:
    trace = error(await run("fail"))["stackTrace"]

    assert all("targets.py" in frame for frame in trace)
    assert 'raise ValueError("no such ünit: 💥")' in trace[-1]


@pytest.mark.parametrize("run", KINDS, indirect=True)
async def test_a_function_has_only_so_much_time(run: Run) -> None:
    outcome = await run("hang", timeout_s=0.1)

    assert outcome.error_type == "Sandbox.Timedout"
    assert outcome.error_message.endswith("Task timed out after 0.10 seconds")


@pytest.mark.parametrize("run", PYTHON_KINDS, indirect=True)
async def test_a_result_that_is_huge_or_not_json_is_an_error(run: Run) -> None:
    assert (await run("be_huge", 10_000_000)).error_type == "Function.ResponseSizeTooLarge"
    assert (await run("be_unserializable")).error_type == "Runtime.MarshalError"


@pytest.mark.parametrize("run", PYTHON_KINDS, indirect=True)
async def test_leaving_the_interpreter_is_an_error(run: Run) -> None:
    endings = {
        7: "exited with error: exit status 7",
        "message": "exited with error: exit status 1",
        None: "exited without providing a reason",
        0: "exited without providing a reason",
        -1: "exited with error: exit status 255",
    }

    for code, ending in endings.items():
        assert error(await run("leave", code))["errorMessage"].endswith(ending)


@pytest.mark.parametrize("run", PYTHON_KINDS, indirect=True)
async def test_odd_exceptions_are_function_errors(run: Run) -> None:
    errors = {
        "fail_unspeakably": ("Unspeakable", "<unprintable Unspeakable object>"),
        "fail_in_groups": ("BaseExceptionGroup", "many (2 sub-exceptions)"),
        "recurse": ("RecursionError", "maximum recursion depth exceeded"),
        "interrupt": ("Runtime.ExitError", "exited with error: signal: interrupt"),
    }

    for name, (error_type, message) in errors.items():
        document = error(await run(name))
        assert document["errorType"] == error_type
        assert message in document["errorMessage"]


@pytest.mark.parametrize("run", PYTHON_KINDS, indirect=True)
async def test_a_context_knows_the_request_and_its_time(run: Run) -> None:
    outcome = await run("describe")

    context = json.loads(outcome.payload or b"")
    assert context["arn"] == "arn:aws:lambda:us-east-1:123456789012:function:resize"
    assert len(context["request"]) == 36
    assert 9_000 < context["left"] <= 10_000


# -- turns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["thread", "process", "http"])
async def test_a_call_that_waited_for_its_turn_may_be_too_late(
    runner: Callable[[str, float], Runner], kind: str
) -> None:
    """A process, a thread or a connection is free again after minutes, perhaps: the invocation may be too old then."""
    run = runner(kind, 10)
    payload = json.dumps(["echo", 1]).encode()
    asked: list[str] = []

    def no() -> bool:
        asked.append(kind)
        return False

    ahead = [asyncio.ensure_future(run(call(json.dumps(["doze", None]).encode()))) for _ in range(AT_ONCE)]
    await asyncio.sleep(0)
    assert await run(call(payload, may_start=no)) == NOT_STARTED
    assert asked == [kind]
    assert [(await outcome).kind for outcome in ahead] == ["returned"] * AT_ONCE
    assert (await run(call(payload))).payload == b"1", "its place is free"
