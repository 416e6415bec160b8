"""Services of a gateway without Kafka: what is accepted is written down, functions are given."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl

from multidict import CIMultiDict, CIMultiDictProxy, MultiDict

from streams.console.store import InvocationStatus, ReadModel
from streams.core.model import Outcome
from streams.functions import Functions
from streams.functions.live import Description
from streams.functions.stored import Entry, Key
from streams.gateway.edge import Api, Refused, Reply, Request, Table
from streams.gateway.keys import Keys
from streams.gateway.services import Services
from streams.gateway.statuses import Statuses
from streams.invokers import Call
from streams.settings import Settings

EXAMPLES = int(os.environ.get("STREAMS_FUZZ_EXAMPLES", "100"))
"""So many arbitrary requests an API is sent; `make fuzz` sends more."""
NOW_MS = 1_700_000_000_000


class FakeIntake:
    """Writes down what it accepts, or raises what it is told to."""

    def __init__(self) -> None:
        self.accepted: list[tuple[str, bytes, dict[str, bytes]]] = []
        self.cancelled: list[tuple[str, int]] = []
        self.error: Exception | None = None

    async def cancel(self, status: InvocationStatus, event: bytes | None) -> None:
        self.cancelled.append((status.request_id, status.partition))

    async def accept(self, request_id: str, event: bytes, headers: list[tuple[str, bytes]]) -> tuple[int, int]:
        if self.error is not None:
            raise self.error
        self.accepted.append((request_id, event, dict(headers)))
        return 0, len(self.accepted) - 1


class FakeLive:
    """Functions of a file and of what was put, without Kafka."""

    def __init__(self, file: Path) -> None:
        self.description = Description(file)
        self.topics: list[str] = []

    @property
    def functions(self) -> Functions:
        return self.description.functions()

    async def make_topics(self, destinations: Collection[str]) -> None:
        self.topics += destinations

    async def put(self, key: Key, entry: Entry | None) -> None:
        if entry is None:
            self.description.entries.pop(key, None)
        else:
            self.description.entries[key] = entry


class FakeInvokers:
    """Runs what the test says."""

    def __init__(self) -> None:
        self.handler: Callable[[Call], Outcome] = lambda call: Outcome("returned", payload=b'{"ok":true}')

    def prepare(self, function: Any, provider: Any) -> Any:
        async def run(call: Call) -> Outcome:
            return self.handler(call)

        return run

    def release(self, run: Any) -> None:
        """Nothing is held."""


@cache
def _empty_model() -> bytes:
    """A read model as `prepare` makes it: making one takes longer than most tests."""
    with TemporaryDirectory() as folder:
        database = Path(folder) / "model.db"
        with closing(ReadModel(str(database))) as model:
            model.prepare()
        return database.read_bytes()


class Bench:
    """An API with services around it."""

    def __init__(self, folder: Path, make: Callable[[Services], Api], functions: str, keys: Keys | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        file = folder / "streams.toml"
        file.write_text(functions)
        self.intake = FakeIntake()
        self.invokers = FakeInvokers()
        database = folder / "model.db"
        database.write_bytes(_empty_model())
        self.model = ReadModel(str(database))
        self.live = FakeLive(file)
        self.services = Services(
            settings=Settings(),
            live=self.live,  # type: ignore[arg-type]
            intake=self.intake,  # type: ignore[arg-type]
            invokers=self.invokers,  # type: ignore[arg-type]
            statuses=Statuses(self.model),
            keys=keys or Keys(),
            now_ms=lambda: NOW_MS,
        )
        self.use(make(self.services))

    def use(self, api: Api) -> None:
        """Everything goes to *api*."""
        self.api = api
        self._table = Table({}, api)

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        request_id: str = "id-1",
        query: dict[str, str] | None = None,
    ) -> Reply:
        """What the server would answer. *query* adds parameters that are decoded already."""
        raw_path, _, raw_query = path.partition("?")
        found = self._table.find(method, raw_path)
        try:
            if found.route is None:
                raise self.api.unknown(method, raw_path, found.other_methods)
            if len(body) > found.route.body_bytes_max:
                raise self.api.too_large(found.route, len(body))
            pairs = [*parse_qsl(raw_query, keep_blank_values=True), *(query or {}).items()]
            given = CIMultiDictProxy(CIMultiDict(headers or {}))
            return await found.route.handler(
                Request(method, raw_path, raw_query, MultiDict(pairs), given, body, request_id, found.parameters)
            )
        except Refused as refused:
            return self.api.refused(refused, request_id)

    def principal(self, method: str, path: str, headers: dict[str, str]) -> str | Reply:
        """Who is let in with *headers*, or what the server would answer."""
        given = CIMultiDictProxy(CIMultiDict(headers))
        try:
            return self.api.authenticate(Request(method, path, "", MultiDict(), given, b"", "id-1"))
        except Refused as refused:
            return self.api.refused(refused, "id-1")
