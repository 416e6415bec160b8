"""Python callables in child processes, which can be killed and may crash.

Each function has its own children, started when first needed. A child imports the function, says so, and then serves
one call at a time over a socket. It makes Outcomes itself, so that a result too large for the provider never reaches
this process. It is killed, with everything it started, when a call's time is up. When it dies by itself the socket says
so at once, and its exit status how. Importing does not count as the function's time.

A child ignores SIGINT and SIGTERM, because the process that owns it decides when to stop; it dies with that process (on
Linux the kernel sees to it, elsewhere it notices when it is idle).

A message is two lengths, a head in JSON and a body of bytes. Towards the parent nothing is pickled: it must not trust
what a crashing function wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import pickle
import signal
import socket
import struct
import sys
import time
from typing import Any, BinaryIO, NoReturn

from streams.core.model import Function, Outcome, PythonTarget
from streams.invokers.call import NOT_STARTED, RESPONSE_BYTES_MAX, Call, exited, raised, timed_out
from streams.invokers.context import context_class
from streams.invokers.python import Handler, is_async, load_handler
from streams.providers.base import Provider

IMPORT_MS = 60_000
"""How long a child may take to import its function."""

EOF_DELAY_S = 0.5
"""How long after a child's death its socket may stay open: a process that it left behind could hold it for ever."""

EXIT_DELAY_S = 5.0
"""How long after its socket closed a child may go on: a function may have closed it."""

_LENGTHS = struct.Struct(">IQ")
_HEAD_BYTES_MAX = 1024 * 1024
_READY = b"+"

# The child imports from where we do; `streams` itself may be found nowhere else.
_START = """
import pickle, socket, sys
connection = socket.socket(fileno=int(sys.argv[1]))
requests = connection.makefile("rb")
sys.path[:] = pickle.load(requests)
from streams.invokers.process import serve
serve(connection, requests)
"""


class _Unreadable(Exception):
    """A child sent something that is no message."""


class Processes:
    """Runs one function in at most *size* children."""

    def __init__(self, function: Function, provider: Provider, size: int) -> None:
        self._function = function
        self._provider = provider
        self._slots = asyncio.Semaphore(size)
        self._idle: list[_Child] = []
        self._children: set[_Child] = set()
        self._closed = False
        self._retired = False

    async def run(self, call: Call) -> Outcome:
        """The runner of the function."""
        async with self._slots:
            if self._closed:
                raise asyncio.CancelledError
            try:
                child = self._idle_child() or await self._start()
            except OSError as error:
                name = type(error).__name__
                return Outcome("system_error", 503, error_type=name, error_message="no process could be started")
            try:
                return await self._run_in(child, call)
            finally:
                if child.is_alive and not self._retired:
                    self._idle.append(child)
                else:
                    child.kill()

    def retire(self) -> None:
        """Keep no child any longer than its call takes."""
        self._retired = True
        for child in self._idle:
            child.kill()
        self._idle.clear()

    async def close(self) -> None:
        """Kill all children; runners that wait for one raise CancelledError."""
        self._closed = True
        await asyncio.gather(*(child.close() for child in self._children))

    def _idle_child(self) -> _Child | None:
        while self._idle:
            child = self._idle.pop()
            if child.is_alive:
                return child
            child.kill()  # it died while it had nothing to do
        return None

    async def _start(self) -> _Child:
        child = await _Child.start(self._function, self._provider)
        self._children.add(child)
        child.watch.add_done_callback(lambda _: self._children.discard(child))
        return child

    async def _run_in(self, child: _Child, call: Call) -> Outcome:
        failed, request_id = self._provider.failed, call.request_id
        limit_ms = IMPORT_MS
        try:
            async with asyncio.timeout(limit_ms / 1000):
                await child.ready()
            if not call.may_start():
                return NOT_STARTED
            limit_ms = self._function.timeout_ms
            async with asyncio.timeout(limit_ms / 1000):
                return await child.run(call)
        except TimeoutError:
            child.kill()
            return failed(timed_out(limit_ms), request_id)
        except (EOFError, OSError):
            if self._closed:
                raise asyncio.CancelledError from None
            return failed(exited(await child.ended()), request_id)
        except _Unreadable:
            child.kill()
            return Outcome("system_error", 500, error_type="UnreadableResponse")
        except asyncio.CancelledError:
            child.kill()
            raise


class _Child:
    """A child process, seen from the parent."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._is_ready = False
        self._killed = False
        self.watch = asyncio.create_task(self._watch())
        """Ends some time after the process."""

    @classmethod
    async def start(cls, function: Function, provider: Provider) -> _Child:
        """Start a process and tell it what it is for. Raises OSError when the system has no room for it."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-u", "-c", _START, str(theirs.fileno())),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # a process group, to kill with all it starts
                )
            undo.callback(process.kill)
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=2**20)
            writer.write(pickle.dumps(sys.path) + pickle.dumps((function, provider, os.getpid())))
            undo.pop_all()
        return cls(process, reader, writer)

    @property
    def is_alive(self) -> bool:
        return not self._killed and self._process.returncode is None and not self._reader.at_eof()

    async def ready(self) -> None:
        """Wait until the child has tried to import its function. Raises EOFError if it dies of it."""
        if not self._is_ready:
            if await self._reader.readexactly(1) != _READY:
                raise _Unreadable
            self._is_ready = True

    async def run(self, call: Call) -> Outcome:
        """Run one call. Raises EOFError or OSError if the child dies of it, _Unreadable if it answers nonsense."""
        head = json.dumps(call.request_id).encode()
        self._writer.writelines((_LENGTHS.pack(len(head), len(call.payload)), head, call.payload))
        await self._writer.drain()
        head_bytes, body_bytes = _LENGTHS.unpack(await self._reader.readexactly(_LENGTHS.size))
        if head_bytes > _HEAD_BYTES_MAX or body_bytes > RESPONSE_BYTES_MAX:
            raise _Unreadable
        head = await self._reader.readexactly(head_bytes)
        return _read_outcome(head, await self._reader.readexactly(body_bytes))

    def kill(self) -> None:
        """End the process and all it started, now."""
        self._killed = True
        self._writer.close()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def ended(self) -> int:
        """Wait for the end of the process. Returns its exit status, or minus the signal it died of."""
        try:
            async with asyncio.timeout(EXIT_DELAY_S):
                return await self._process.wait()
        except TimeoutError:
            self.kill()
            return await self._process.wait()

    async def close(self) -> None:
        """Kill the process and wait for its end."""
        self.kill()
        await self._process.wait()
        self.watch.cancel()

    async def _watch(self) -> None:
        await self._process.wait()
        await asyncio.sleep(EOF_DELAY_S)
        self._reader.feed_eof()


def _read_outcome(head: bytes, body: bytes) -> Outcome:
    try:
        kind, status_code, error_type, error_message, handled, is_json, has_payload = json.loads(head)
    except (ValueError, TypeError, RecursionError):
        raise _Unreadable from None
    texts, flags = (error_type, error_message), (handled, is_json, has_payload)
    if kind not in ("returned", "function_error") or type(status_code) is not int:
        raise _Unreadable
    if not all(type(text) is str for text in texts) or not all(type(flag) is bool for flag in flags):
        raise _Unreadable
    return Outcome(kind, status_code, body if has_payload else None, error_type, error_message, handled, is_json)


# -- in the child ----------------------------------------------------------------------------------------------------


def serve(connection: socket.socket, requests: BinaryIO) -> NoReturn:
    """Be a child: import the function, then run it for every request that comes."""
    connection.set_inheritable(False)
    function, provider, parent = pickle.load(requests)
    _die_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ignore)  # unlike SIG_IGN, this is not inherited by what the function starts
    worker, me = _Worker(function, provider), os.getpid()
    connection.sendall(_READY)
    while lengths := requests.read(_LENGTHS.size):
        head_bytes, body_bytes = _LENGTHS.unpack(lengths)
        request_id = json.loads(requests.read(head_bytes))
        outcome = worker.run(request_id, requests.read(body_bytes))
        if os.getpid() != me:
            os._exit(0)  # the function has forked, and returned twice; the answer is for the first of us to give
        _send(connection, outcome)
    os._exit(0)  # the parent is gone or wants nothing more; the function's exit handlers are not to hold that up


class _Worker:
    def __init__(self, function: Function, provider: Provider) -> None:
        assert isinstance(function.target, PythonTarget)
        self._target = function.target
        self._provider = provider
        self._timeout_s = function.timeout_ms / 1000
        self._new_context = context_class(function, provider)
        self._loop = asyncio.Runner()
        self._handler: Handler | None = None
        with contextlib.suppress(BaseException):  # the first call will try again, and report
            self._handler = load_handler(self._target)

    def run(self, request_id: str, payload: bytes) -> Outcome:
        try:
            if self._handler is None:
                self._handler = load_handler(self._target)
            context = self._new_context(request_id, time.monotonic() + self._timeout_s)
            event = self._provider.read_event(payload)
            if is_async(self._handler):
                return self._loop.run(self._run_async(self._handler, event, context, request_id))
            return self._provider.returned(self._handler(event, context), request_id)
        except BaseException as error:
            return self._provider.failed(raised(error), request_id)

    async def _run_async(self, handler: Any, event: object, context: object, request_id: str) -> Outcome:
        try:
            return self._provider.returned(await handler(event, context), request_id)
        except BaseException as error:  # here, where its trace has no frames of the event loop
            return self._provider.failed(raised(error), request_id)


def _send(connection: socket.socket, outcome: Outcome) -> None:
    head = json.dumps(
        (
            outcome.kind,
            outcome.status_code,
            outcome.error_type,
            outcome.error_message,
            outcome.handled,
            outcome.is_json,
            outcome.payload is not None,
        )
    ).encode()
    body = outcome.payload or b""
    connection.sendall(_LENGTHS.pack(len(head), len(body)) + head)
    connection.sendall(body)


def _die_with(parent: int) -> None:
    """End when process *parent* does."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we could ask
        os._exit(0)


def _ignore(number: int, frame: object) -> None:
    """A signal handler."""
