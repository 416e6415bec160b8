"""boto3 against a gateway in this process that Kafka does not answer: its own retries must get it through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from streams.gateway.aws import AwsLambda
from streams.gateway.intake import Overloaded, Unavailable
from streams.gateway.native import Native
from streams.gateway.server import Server

from .support import Bench

FUNCTIONS = """
[[function]]
name = "resize"
provider = "aws"
url = "http://127.0.0.1:9/"
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, AwsLambda, FUNCTIONS)


@pytest.fixture
async def url(bench: Bench) -> AsyncIterator[str]:
    assert isinstance(bench.api, AwsLambda)
    server = Server(dict.fromkeys(bench.api.first_segments, bench.api), Native(bench.services))
    port = await server.start("127.0.0.1", 0)
    yield f"http://127.0.0.1:{port}"
    await server.stop()


async def call(url: str, use: Callable[[Any], Any], attempts: int, mode: str = "standard") -> Any:
    """What *use* gets from a client that tries so often."""

    def run() -> Any:
        config = Config(retries={"total_max_attempts": attempts, "mode": mode})
        client = boto3.client(
            "lambda",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="AKID",
            aws_secret_access_key="secret",
            config=config,
        )
        try:
            return use(client)
        finally:
            client.close()

    return await asyncio.to_thread(run)


def invoke(client: Any) -> Any:
    return client.invoke(FunctionName="resize", InvocationType="Event", Payload=b"{}")


class Sometimes:
    """Lets every so many invocations pass only after *failures*."""

    def __init__(self, bench: Bench, error: Exception, failures: int) -> None:
        self._accept, self._error, self._left = bench.intake.accept, error, failures
        bench.intake.accept = self  # type: ignore[method-assign,assignment]

    async def __call__(self, *arguments: Any) -> Any:
        if self._left:
            self._left -= 1
            raise self._error
        return await self._accept(*arguments)


@pytest.mark.parametrize("mode", ["standard", "legacy"])
@pytest.mark.parametrize("error", [Unavailable(), Overloaded()])
async def test_the_clients_own_retry_gets_through(bench: Bench, url: str, error: Exception, mode: str) -> None:
    Sometimes(bench, error, failures=1)

    reply = await call(url, invoke, attempts=3, mode=mode)

    assert (reply["StatusCode"], reply["ResponseMetadata"]["RetryAttempts"]) == (202, 1)
    [(request_id, _, _)] = bench.intake.accepted
    assert request_id == reply["ResponseMetadata"]["RequestId"]


@pytest.mark.parametrize(
    ("error", "status", "exception"),
    [(Unavailable(), 503, "ServiceException"), (Overloaded(), 429, "TooManyRequestsException")],
)
async def test_what_was_not_stored_is_never_accepted(
    bench: Bench, url: str, error: Exception, status: int, exception: str
) -> None:
    bench.intake.error = error

    with pytest.raises(ClientError) as raised:
        await call(url, invoke, attempts=1)

    response: Any = raised.value.response
    assert (response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]) == (status, exception)
    assert type(raised.value).__name__ == exception
    assert bench.intake.accepted == []


async def test_a_reply_to_an_event_has_no_body_and_no_type(url: str) -> None:
    reply = await call(url, invoke, attempts=1)

    headers = reply["ResponseMetadata"]["HTTPHeaders"]
    assert headers["content-length"] == "0"
    assert "content-type" not in headers
    assert headers["x-amzn-remapped-content-length"] == "0"
    assert headers["x-amzn-trace-id"].startswith("root=1-")
    assert "ExecutedVersion" not in reply
