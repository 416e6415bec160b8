"""The relay between workers and Kafka, and the weather in it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from streams.doctor.proxy import CLEAR, WEATHERS, Proxy, Weather

A_MOMENT_S = 0.05


class Echo:
    """A server that answers what it is sent, and remembers it."""

    def __init__(self) -> None:
        self.received = b""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            self.received += data
            writer.write(data)
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    yield echo
    server.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with Proxy() as proxy:
        yield proxy


@asynccontextmanager
async def connected(proxy: Proxy, echo: Echo) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection through *proxy*, of which both ends are known to be there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"127.0.0.1 %d\n0" % echo.port)
    assert await reader.readexactly(1) == b"0"
    yield reader, writer
    writer.close()


async def gets_nothing(reader: asyncio.StreamReader) -> bool:
    try:
        await asyncio.wait_for(reader.readexactly(1), A_MOMENT_S)
    except TimeoutError:
        return True
    return False


async def test_bytes_pass_in_both_directions(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy, echo) as (reader, writer):
        writer.write(b"x" * 300_000)

        assert await reader.readexactly(300_000) == b"x" * 300_000


async def test_a_delay_is_on_the_way_there_and_on_the_way_back(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy, echo) as (reader, writer):
        await proxy.change(Weather(delay_s=0.03))
        began = asyncio.get_running_loop().time()
        writer.write(b"1")
        await reader.readexactly(1)

    assert asyncio.get_running_loop().time() - began >= 0.06


async def test_lost_requests_arrive_when_the_weather_clears(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy, echo) as (reader, writer):
        await proxy.change(WEATHERS["requests lost"])
        writer.write(b"1")
        assert await gets_nothing(reader)
        assert echo.received == b"0"
        await proxy.change(CLEAR)

        assert await reader.readexactly(1) == b"1"


async def test_lost_answers_are_answers_to_requests_that_arrived(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy, echo) as (reader, writer):
        await proxy.change(WEATHERS["answers lost"])
        writer.write(b"1")
        assert await gets_nothing(reader)
        assert echo.received == b"01"
        await proxy.change(CLEAR)

        assert await reader.readexactly(1) == b"1"


async def test_a_black_hole_takes_new_connections_and_says_nothing(proxy: Proxy, echo: Echo) -> None:
    await proxy.change(WEATHERS["black hole"])
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"127.0.0.1 %d\n0" % echo.port)

    assert await gets_nothing(reader)
    assert echo.received == b""
    writer.close()


async def test_a_reset_ends_connections_and_refuses_others(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy, echo) as (reader, _):
        await proxy.change(WEATHERS["reset"])

        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert await reader.read() == b""
    writer.close()


async def test_a_close_at_one_end_is_a_close_at_the_other(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy, echo) as (reader, writer):
        writer.write_eof()

        assert await reader.read() == b""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_worker_connects_through_its_proxy(proxy: Proxy, echo: Echo, loop: str) -> None:
    await proxy.change(WEATHERS["answers lost"])
    code = f"""
import asyncio
import {loop}
from streams.doctor.worker import connect_through

async def main():
    reader, writer = await asyncio.open_connection("127.0.0.1", {echo.port})
    writer.write(b"1")
    print("sent", flush=True)
    print(await reader.readexactly(1), flush=True)
    writer.close()

connect_through({proxy.port})
{loop}.run(main())
"""
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    assert client.stdout is not None
    assert await client.stdout.readline() == b"sent\n"
    assert await gets_nothing(client.stdout)
    await proxy.change(CLEAR)

    assert await client.stdout.readline() == b"b'1'\n"
    assert await client.wait() == 0
    assert (echo.received, proxy.carried) == (b"1", 1)
