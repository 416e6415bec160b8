"""What a worker process of doctor runs: `streams worker`, maybe with all its connections through a `Proxy`.

    python -m streams.doctor.worker '{"STREAMS_BROKER": …}' --name worker-0

The first argument adds to the environment; secrets are in the environment already. The proxy stands between the worker
and Kafka whatever addresses the brokers advertise: connections are made to it instead, and told where to go on.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from typing import Any

import uvloop

PROXY = "STREAMS_DOCTOR_PROXY"
"""Environment variable: the port of the proxy."""


def main(environment: str, *arguments: str) -> None:
    os.environ.update(json.loads(environment))
    if PROXY in os.environ:
        connect_through(int(os.environ[PROXY]))
    from streams.cli import main as streams  # here: the engine reads where to crash when it is imported

    streams(["worker", *arguments])


def connect_through(proxy_port: int) -> None:
    """From now on event loops connect through the proxy on *proxy_port*. TLS stays between worker and broker."""
    for kind in (uvloop.Loop, asyncio.BaseEventLoop):  # workers have the first; it is not derived from the second
        _connect_through(kind, proxy_port)


def _connect_through(kind: Any, proxy_port: int) -> None:
    direct = kind.create_connection

    async def create_connection(
        loop: asyncio.AbstractEventLoop, protocol: Any, host: str, port: int, *, ssl: Any = None, **options: Any
    ) -> Any:
        tunnel = socket.socket()
        try:
            tunnel.setblocking(False)
            await loop.sock_connect(tunnel, ("127.0.0.1", proxy_port))
            await loop.sock_sendall(tunnel, f"{host} {port}\n".encode())
            named = {"ssl": ssl, "server_hostname": host} if ssl else {}
            return await direct(loop, protocol, sock=tunnel, **named, **options)
        except BaseException:
            tunnel.close()
            raise

    kind.create_connection = create_connection


if __name__ == "__main__":
    main(*sys.argv[1:])
