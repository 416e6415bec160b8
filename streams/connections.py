"""aiokafka's connections on uvloop.

Of a connection that is closed uvloop says RuntimeError at the next write. aiokafka knows OSError only, and whichever of
its tasks was writing would end.
"""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_send: Any = AIOKafkaConnection.send


def install() -> None:
    """From now on a write to a closed connection is an error of the connection."""
    AIOKafkaConnection.send = send  # type: ignore[method-assign]


def send(connection: Any, request: Any, expect_response: bool = True) -> Any:
    """`AIOKafkaConnection.send`. Raises KafkaConnectionError."""
    try:
        return _send(connection, request, expect_response)
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"the connection is closed: {error}") from error
