"""aiokafka's connections on uvloop."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from streams import connections


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is installed is taken back."""
    monkeypatch.setattr(AIOKafkaConnection, "send", AIOKafkaConnection.send)
    connections.install()
    yield


async def write_to_a_closed_one() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    connection: Any = AIOKafkaConnection("127.0.0.1", 9092)
    connection._reader, connection._writer = reader, writer
    connection._read_task = asyncio.ensure_future(reader.read())
    connection._versions = {MetadataRequest.API_KEY: (0, 5)}
    writer.transport.abort()
    await connection._read_task
    with theirs:
        connection.send(MetadataRequest([]))


def test_a_write_to_a_closed_connection_is_an_error_of_the_connection(installed: None) -> None:
    """It ended the worker: whatever wrote did not expect it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(KafkaConnectionError):
        runner.run(write_to_a_closed_one())


def test_uvloop_still_says_so_in_its_own_way() -> None:
    """Else we need nothing of ours any more."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(RuntimeError, match="closed"):
        runner.run(write_to_a_closed_one())
