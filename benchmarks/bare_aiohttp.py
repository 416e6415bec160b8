"""What aiohttp can do at most here: an application that reads the body and accepts it, and nothing else."""

from __future__ import annotations

import sys

import uvloop
from aiohttp import web


async def accept(request: web.Request) -> web.Response:
    """As the gateway answers, without an intake behind it."""
    await request.read()
    return web.Response(status=202)


def main() -> None:
    """Serve on the port that is the only argument."""
    uvloop.install()
    app = web.Application()
    app.router.add_post("/{path:.*}", accept)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
