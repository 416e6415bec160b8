"""The read model: what is known of all invocations, in SQL, for those who ask for one by its id or list many.

It holds nothing that the log does not: `rebuild` empties it, and projectors fill it again from Kafka. How far it has
read is in the database too and moves in the same transaction as the rows, so facts count once however often a
projector is killed. Any number of projectors may work on one database: a transaction moves a position only from where
its projector believes it to be, so whoever is second is `Overtaken` and goes on from where the database is.

All methods block: call them in a thread from a program with an event loop.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from streams.codec.avro import Codec, load_schemas
from streams.codec.facts import facts_encoder, read_facts
from streams.console.projection import InvocationStatus, Key, Located, Status, earlier, project
from streams.core.facts import Happened
from streams.core.model import Ending
from streams.errors import ConfigurationError, ReadModelError

__all__ = [
    "Counts",
    "InvocationStatus",
    "Overtaken",
    "Page",
    "Query",
    "ReadModel",
    "RecordPlace",
    "Status",
]

LAYOUT = 2
"""Version of the tables below. Raise it with any change to them: an older read model is then to be rebuilt."""
LIMIT_MAX = 1000
"""Longest page of `ReadModel.list`."""

_BUSY_TIMEOUT_S = 10.0
"""How long a transaction on SQLite waits for that of another process."""
_KEYS_MAX = 500
"""Values in one IN (…)."""
_NUMBER_MAX = 2**63 - 1
_PRUNED_AT_ONCE = 1000
"""Rows deleted in one transaction, so that projectors do not wait long."""

_METADATA = MetaData()
# Compared byte by byte whatever the database's language is, so that an index finds a prefix.
_WORD = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")

_LAYOUT = Table(
    "streams_layout",
    _METADATA,
    Column("version", Integer, nullable=False),
    Column("source", Text, nullable=False),  # the log that it was made from; empty: none yet
)
_POSITIONS = Table(
    "positions",
    _METADATA,
    Column("topic", _WORD, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
)
_INVOCATIONS = Table(
    "invocations",
    _METADATA,
    # As in InvocationStatus, in its order.
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("first_offset", BigInteger, primary_key=True, autoincrement=False),
    Column("last_offset", BigInteger, nullable=False),
    Column("offset", BigInteger),
    Column("request_id", _WORD, nullable=False),
    Column("provider", _WORD, nullable=False),
    Column("resource", _WORD, nullable=False),
    Column("function", _WORD, nullable=False),
    Column("qualifier", _WORD, nullable=False),
    Column("traceparent", Text),
    Column("depth", Integer, nullable=False),
    Column("status", _WORD, nullable=False),
    Column("ending", _WORD),
    Column("attempts", Integer, nullable=False),
    Column("accepted_at_ms", BigInteger, nullable=False),
    Column("due_at_ms", BigInteger),
    Column("started_at_ms", BigInteger),
    Column("ended_at_ms", BigInteger),
    Column("changed_at_ms", BigInteger, nullable=False),
    Column("outcome_kind", _WORD),
    Column("status_code", Integer),
    Column("error_type", Text, nullable=False),
    Column("error_message", Text, nullable=False),
    Column("destination", _WORD),
    # Only for the database.
    Column("order_ms", BigInteger, nullable=False),
    Index("invocations_by_request", "request_id"),
    Index("invocations_by_time", "order_ms"),
    Index("invocations_by_function", "provider", "function", "order_ms"),
    Index("invocations_by_status", "provider", "function", "status", "order_ms"),
)
_EVENTS = Table(
    "events",
    _METADATA,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("first_offset", BigInteger, primary_key=True, autoincrement=False),
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("facts", postgresql.BYTEA().with_variant(sqlite.BLOB(), "sqlite"), nullable=False),
    sqlite_with_rowid=False,
)
_RECORDS = Table(
    "records",
    _METADATA,
    Column("request_id", _WORD, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("topic", _WORD, primary_key=True),
    Column("offset", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
_STATUS_COLUMNS = tuple(_INVOCATIONS.c[field.name] for field in fields(InvocationStatus))
_PLACE = (_INVOCATIONS.c.order_ms, _INVOCATIONS.c.partition, _INVOCATIONS.c.first_offset)
"""What lists are ordered by, to the last."""


# -- what is asked and answered --------------------------------------------------------------------------------------

Order: TypeAlias = Literal["desc", "asc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which invocations, in which order. None and an empty set: whatever it is. Times are epoch ms, *to* exclusive."""

    provider: str | None = None
    function: str | None = None
    """The function's name; a Function Compute 2.0 function is ``service/function``."""
    qualifier: str | None = None
    statuses: frozenset[Status] = frozenset()
    endings: frozenset[Ending] = frozenset()
    """Of those that are over, only those that ended so; those that are not over are not concerned."""
    accepted_from_ms: int | None = None
    accepted_to_ms: int | None = None
    started_from_ms: int | None = None
    """By the first attempt's start. With a bound, invocations that never started are left out."""
    started_to_ms: int | None = None
    id_prefix: str | tuple[str, ...] = ""
    """How the request id begins; of several, with one of them."""
    order: Order = "desc"
    """By start, or acceptance while there was no start: the newest first (*desc*) or last (*asc*)."""
    limit: int = 50
    """At most so many a page, from 1 to `LIMIT_MAX`."""
    offset: int = 0
    """Leave out so many first: for APIs whose pages begin at a number."""
    token: str | None = None
    """`Page.token` of the page before, with all else unchanged; None: the first page."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list. Later pages neither repeat nor leave out what was there when the first one was read, whatever
    arrives meanwhile; only an invocation that starts meanwhile takes another place."""

    items: tuple[InvocationStatus, ...]
    token: str | None
    """For the next page; None: this is the last one."""


class InvalidToken(ValueError):
    """A page token that `ReadModel.list` did not give out."""


Counts: TypeAlias = Mapping[Status, int]


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """Where the record of an invocation that is over is on Kafka."""

    topic: str
    """Full name: ``<prefix><provider>.success`` or ``.failure``."""
    partition: int
    offset: int


# -- what projectors write -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Move:
    """A partition of a topic was read from where the database is, *start*, up to *end* (exclusive)."""

    topic: str
    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A record on one of the topics for records."""

    request_id: str
    place: RecordPlace
    at_ms: int
    """The record's timestamp."""


class Overtaken(Exception):
    """Another projector has moved a position meanwhile, or the read model was rebuilt: nothing was written."""


# -- the store -------------------------------------------------------------------------------------------------------


class ReadModel:
    """The read model at *url*, a SQLAlchemy URL or the path of a SQLite file. Nothing is opened before it is used.

    Every method raises ReadModelError when the database cannot be used, or holds no read model of this version.
    """

    def __init__(self, url: str) -> None:
        """Raises ConfigurationError for an URL that cannot be one."""
        self._url = _url(url)
        try:
            self._engine = _engine(self._url)
        except (ArgumentError, NoSuchModuleError) as error:
            raise ConfigurationError(f"the read model {self.where} cannot be used: {error}. {_EXPECTED}") from error
        except ImportError as error:
            raise ConfigurationError(
                f"the read model {self.where} needs a driver that is not installed ({error.name}); for PostgreSQL: "
                "pip install 'invocation-streams[postgresql]'"
            ) from error
        self._writer = self._engine.execution_options(writes=True)
        self._codec = Codec(load_schemas())
        self._encode = facts_encoder(self._codec.prefix("Facts"))

    @cached_property
    def _statements(self) -> _Statements:
        """Made when something is written: most only ask."""
        return _Statements(self._engine.dialect)

    @property
    def where(self) -> str:
        """The database, to be shown: without its password."""
        file = self._file
        return str(file) if file is not None else self._url.render_as_string(hide_password=True)

    @property
    def _file(self) -> Path | None:
        if self._url.get_backend_name() == "sqlite" and self._url.database:
            return Path(self._url.database)
        return None

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    # -- asking --------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether there is a read model of this version: one that `prepare` made."""
        if self._file is not None and not self._file.exists():
            return False  # to look would make it
        with self._errors(), self._engine.begin() as connection:
            return _layout(connection) == LAYOUT

    def get(self, provider: str, request_id: str) -> InvocationStatus | None:
        """The invocation, the one that was accepted last if there were several; None: not known (yet)."""
        found = self.find(request_id, provider)
        return found[0] if found else None

    def find(self, request_id: str, provider: str | None = None) -> list[InvocationStatus]:
        """All invocations with this id, the one that was accepted last first."""
        row = _INVOCATIONS.c
        wanted = select(*_STATUS_COLUMNS).where(row.request_id == _storable(request_id))
        if provider is not None:
            wanted = wanted.where(row.provider == _storable(provider))
        wanted = wanted.order_by(row.accepted_at_ms.desc(), row.partition, row.first_offset.desc())
        with self._reading() as connection:
            return [InvocationStatus(*found) for found in connection.execute(wanted)]

    def known(self, provider: str, request_ids: Collection[str]) -> dict[str, InvocationStatus]:
        """Those of *request_ids* that are known, each as `get` has it."""
        row = _INVOCATIONS.c
        known: dict[str, InvocationStatus] = {}
        with self._reading() as connection:
            for ids in _parts([_storable(request_id) for request_id in request_ids]):
                wanted = select(*_STATUS_COLUMNS).where(row.request_id.in_(ids), row.provider == _storable(provider))
                for found in connection.execute(
                    wanted.order_by(row.accepted_at_ms, row.partition.desc(), row.first_offset)
                ):
                    status = InvocationStatus(*found)
                    known[status.request_id] = status
        return known

    def events(self, status: InvocationStatus) -> list[Happened]:
        """All that happened to the invocation, in order. Outcomes are without payload."""
        row = _EVENTS.c
        wanted = select(row.facts).where(row.partition == status.partition, row.first_offset == status.first_offset)
        with self._reading() as connection:
            found = connection.execute(wanted.order_by(row.offset)).scalars().all()
        return [fact for facts in found for fact in read_facts(self._codec.decode(facts)[1]).happened]

    def records(self, statuses: Sequence[InvocationStatus]) -> list[RecordPlace | None]:
        """Where the record of each is; None when it has none (see `records` in streams.toml) or it was not read yet."""
        row = _RECORDS.c
        found: dict[tuple[int, str], list[tuple[str, int, int]]] = {}
        with self._reading() as connection:
            for ids in _parts({status.request_id for status in statuses if status.ending is not None}):
                wanted = select(row.request_id, row.partition, row.topic, row.offset, row.at_ms)
                for request_id, partition, *rest in connection.execute(wanted.where(row.request_id.in_(ids))):
                    found.setdefault((partition, request_id), []).append((rest[0], rest[1], rest[2]))
        return [_record_of(status, found.get((status.partition, status.request_id), ())) for status in statuses]

    def list(self, query: Query) -> Page:
        """One page of the invocations that *query* wants. Raises InvalidToken, and ValueError for an odd limit."""
        if not 1 <= query.limit <= LIMIT_MAX:
            raise ValueError(f"the limit {query.limit} is not from 1 to {LIMIT_MAX}")
        wanted = select(*_STATUS_COLUMNS).where(*_conditions(query))
        if query.token is not None:
            last = _read_token(query.token)
            wanted = wanted.where(tuple_(*_PLACE) < last if query.order == "desc" else tuple_(*_PLACE) > last)
        wanted = wanted.order_by(*(column.desc() if query.order == "desc" else column for column in _PLACE))
        with self._reading() as connection:
            rows = connection.execute(wanted.limit(query.limit + 1).offset(query.offset))
            found = [InvocationStatus(*row) for row in rows]
        items = tuple(found[: query.limit])
        return Page(items, _token(items[-1]) if len(found) > query.limit else None)

    def counts(self, query: Query) -> Counts:
        """How many there are of each status; *order*, *limit* and *token* do not matter. A status may be missing."""
        status = _INVOCATIONS.c.status
        wanted = select(status, func.count()).where(*_conditions(query)).group_by(status)
        with self._reading() as connection:
            return {found: count for found, count in connection.execute(wanted)}

    def positions(self) -> dict[tuple[str, int], int]:
        """(topic, partition) -> the next offset to read; what is missing was never read."""
        with self._reading() as connection:
            found = connection.execute(select(_POSITIONS.c.topic, _POSITIONS.c.partition, _POSITIONS.c.next_offset))
            return {(topic, partition): offset for topic, partition, offset in found}

    # -- writing -------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the tables if they are not there. ConfigurationError when those of another version are."""
        if self._file is not None:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._writing() as connection:
            _lock(connection)
            if (found := _layout(connection)) is None:
                _make(connection)
            elif found != LAYOUT:
                raise ConfigurationError(
                    f"the read model {self.where} was made by another version of Streams: `streams console --rebuild` "
                    "makes it anew from the log"
                )

    def rebuild(self) -> None:
        """Forget everything; projectors, those that run too, begin again at the beginning of the log."""
        if self._file is not None:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._writing() as connection:
            _lock(connection)
            _METADATA.drop_all(connection)
            _make(connection)

    def claim(self, source: str) -> str:
        """Note that the read model is made from *source*, a log, if it is not made from another one yet.

        Returns what it is made from.
        """
        with self._writing() as connection:
            connection.execute(update(_LAYOUT).where(_LAYOUT.c.source == "").values(source=source))
            found: str = connection.execute(select(_LAYOUT.c.source)).scalar_one()
        return found

    def write(self, moves: Collection[Move], facts: Sequence[Located], records: Sequence[FoundRecord]) -> None:
        """Take in what was read, and move on, in one transaction. Raises Overtaken; then nothing is written."""
        with self._writing() as connection:
            for move in sorted(moves, key=lambda move: (move.topic, move.partition)):
                _move(connection, move, self._statements.insert_position)
            if facts:
                self._write_facts(connection, facts)
            if records:
                rows = [
                    (record.request_id, record.place.partition, record.place.topic, record.place.offset, record.at_ms)
                    for record in records
                ]
                connection.exec_driver_sql(self._statements.insert_record, rows)

    def prune(self, before_ms: int) -> int:
        """Delete invocations of which nothing has happened since *before_ms* (their facts are leaving the log too).

        Returns how many there were.
        """
        count = 0
        while pruned := self._prune_some(before_ms):
            count += pruned
        return count

    def _write_facts(self, connection: Connection, facts: Sequence[Located]) -> None:
        statuses, events = project(_known(connection, earlier(facts)), facts)
        if statuses:
            connection.exec_driver_sql(self._statements.upsert_status, [_status_row(status) for status in statuses])
        if events:
            rows = [
                (
                    event.located.partition,
                    event.first_offset,
                    event.located.offset,
                    self._encode("", "", "", None, None, event.located.record.facts, event.located.record.deliveries),
                )
                for event in events
            ]
            connection.exec_driver_sql(self._statements.insert_event, rows)

    def _prune_some(self, before_ms: int) -> int:
        row = _INVOCATIONS.c
        # The index on order_ms finds them; the few that started long ago and still go on are passed over.
        old = select(row.partition, row.first_offset, row.request_id).where(
            row.order_ms < before_ms, row.changed_at_ms < before_ms
        )
        with self._writing() as connection:
            found = connection.execute(old.limit(_PRUNED_AT_ONCE)).all()
            if found:
                keys = [(partition, first_offset) for partition, first_offset, _ in found]
                connection.exec_driver_sql(self._statements.delete_status, keys)
                connection.exec_driver_sql(self._statements.delete_events, keys)
                records = [(request_id, partition, before_ms) for partition, _, request_id in found]
                connection.exec_driver_sql(self._statements.delete_records, records)
        return len(found)

    # -- connections ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        if self._file is not None and not self._file.exists():
            raise ReadModelError(f"there is no read model at {self.where} yet: run `streams console`")
        with self._errors():
            try:
                with self._engine.begin() as connection:
                    yield connection
            except (ProgrammingError, OperationalError) as error:
                if self.exists():
                    raise
                raise ReadModelError(
                    f"there is no read model of this version at {self.where} yet: run `streams console`, or `streams "
                    "console --rebuild` if another version made one"
                ) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._errors(), self._writer.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """The database's errors as ours. Parameters, which may hold what users sent, stay out of the message."""
        try:
            yield
        except DBAPIError as error:
            raise ReadModelError(f"the read model {self.where} cannot be used: {error.orig}") from error
        except SQLAlchemyError as error:
            raise ReadModelError(f"the read model {self.where} cannot be used: {error}") from error


_EXPECTED = (
    "It should be the path of a SQLite file or a URL like postgresql://user:password@host/database "
    "(--read-model or STREAMS_READ_MODEL)"
)


def _url(text: str) -> URL:
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise ConfigurationError(f"the read model's URL cannot be read. {_EXPECTED}") from error
    # The driver that our extra installs, not the older one that SQLAlchemy takes by itself.
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, hide_parameters=True, paramstyle="format")
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": _BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin transactions when it likes; we do, below
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = OFF"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # Who first reads and then writes may find that another has written meanwhile: writers queue up at once.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _lock(connection: Connection) -> None:
    """Hold off others that make tables, until the transaction ends. (On SQLite every writing transaction does.)"""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(7163498510)"))


def _layout(connection: Connection) -> int | None:
    """The version of the tables; None when there are none."""
    if not inspect(connection).has_table(_LAYOUT.name):
        return None
    version: int | None = connection.execute(select(_LAYOUT.c.version)).scalar()
    return version


def _make(connection: Connection) -> None:
    _METADATA.create_all(connection)
    connection.execute(insert(_LAYOUT).values(version=LAYOUT, source=""))


# -- statements ------------------------------------------------------------------------------------------------------


class _Statements:
    """What is executed for many rows at once, compiled once: SQLAlchemy takes longer over a row than SQLite does.

    Parameters are positional, in the order of the columns in the text.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._insert = _INSERTS[dialect.name]
        status, events, records = _INVOCATIONS.c, _EVENTS.c, _RECORDS.c
        new = self._insert(_INVOCATIONS)
        self.upsert_status = self._compiled(
            new.on_conflict_do_update(
                index_elements=[status.partition, status.first_offset],
                set_={column.name: new.excluded[column.name] for column in status if not column.primary_key},
                where=new.excluded.last_offset > status.last_offset,  # unless what is there knows more
            )
        )
        self.insert_event = self._compiled(self._insert(_EVENTS).on_conflict_do_nothing())
        self.insert_record = self._compiled(self._insert(_RECORDS).on_conflict_do_nothing())
        partition: BindParameter[int] = bindparam("partition")
        first_offset: BindParameter[int] = bindparam("first_offset")
        self.delete_status = self._compiled(
            delete(_INVOCATIONS).where(status.partition == partition, status.first_offset == first_offset)
        )
        self.delete_events = self._compiled(
            delete(_EVENTS).where(events.partition == partition, events.first_offset == first_offset)
        )
        self.delete_records = self._compiled(
            delete(_RECORDS).where(
                records.request_id == bindparam("request_id"),
                records.partition == partition,
                records.at_ms < bindparam("before_ms"),
            )
        )
        self.insert_position = self._compiled(self._insert(_POSITIONS).on_conflict_do_nothing())

    def _compiled(self, statement: Any) -> str:
        return str(statement.compile(dialect=self._dialect))


_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def _move(connection: Connection, move: Move, insert_position: str) -> None:
    row = _POSITIONS.c
    here = (row.topic == move.topic, row.partition == move.partition)
    there = update(_POSITIONS).where(*here, row.next_offset == move.start).values(next_offset=move.end)
    if connection.execute(there).rowcount:
        return
    first = move.topic, move.partition, move.end
    # By the driver itself: SQLAlchemy does not say how many rows an INSERT made.
    if move.start != 0 or connection.exec_driver_sql(insert_position, first).rowcount != 1:
        raise Overtaken


def _known(connection: Connection, keys: set[Key]) -> dict[Key, InvocationStatus]:
    """The latest row of each of *keys*."""
    row = _INVOCATIONS.c
    known: dict[Key, InvocationStatus] = {}
    for ids in _parts({request_id for _, request_id in keys}):
        wanted = select(*_STATUS_COLUMNS).where(row.request_id.in_(ids)).order_by(row.first_offset)
        for found in connection.execute(wanted):
            status = InvocationStatus(*found)
            known[status.partition, status.request_id] = status
    return known


_status_row = attrgetter(*(column.name for column in _INVOCATIONS.c))  # order_ms, the last, is its property


def _record_of(status: InvocationStatus, found: Iterable[tuple[str, int, int]]) -> RecordPlace | None:
    """The one of *found*, (topic, offset, timestamp), that is about *status*.

    An id that was sent again after it was forgotten has several: a record is written in the transaction of the last
    facts, so it is the one whose time is nearest.
    """
    end = f"{status.provider}.{'success' if status.ending == 'succeeded' else 'failure'}"
    fitting = [(abs(at_ms - (status.ended_at_ms or 0)), topic, offset) for topic, offset, at_ms in found]
    fitting = [(distance, topic, offset) for distance, topic, offset in fitting if topic.endswith(end)]
    if not fitting:
        return None
    _, topic, offset = min(fitting)
    return RecordPlace(topic, status.partition, offset)


def _conditions(query: Query) -> list[ColumnElement[bool]]:
    row = _INVOCATIONS.c
    conditions: list[ColumnElement[bool]] = []
    for column, word in (
        (row.provider, query.provider),
        (row.function, query.function),
        (row.qualifier, query.qualifier),
    ):
        if word is not None:
            conditions.append(column == _storable(word))
    for column, first_ms, to_ms in (
        (row.accepted_at_ms, query.accepted_from_ms, query.accepted_to_ms),
        (row.started_at_ms, query.started_from_ms, query.started_to_ms),
    ):
        if first_ms is not None:
            conditions.append(column >= _bounded(first_ms))
        if to_ms is not None:
            conditions.append(column < _bounded(to_ms))
    if query.statuses:
        conditions.append(row.status.in_(sorted(query.statuses)))
    if query.endings:
        conditions.append(row.ending.is_(None) | row.ending.in_(sorted(query.endings)))
    if query.id_prefix:
        given = (query.id_prefix,) if isinstance(query.id_prefix, str) else query.id_prefix
        # Unlike LIKE, this needs no escapes, and finds an index on every database.
        prefixes = [_storable(prefix) for prefix in given]
        conditions.append(or_(*(and_(row.request_id >= p, row.request_id < p + "\U0010ffff") for p in prefixes)))
    return conditions


def _storable(word: str) -> str:
    """*word*, or what equals nothing that is stored if it has characters that databases refuse."""
    return word.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _bounded(number: int) -> int:
    """*number* as far as 64 bits reach."""
    return max(-_NUMBER_MAX, min(number, _NUMBER_MAX))


def _parts(values: Collection[Any]) -> Iterator[list[Any]]:
    """*values* in parts that fit one statement."""
    ordered = list(values)
    for start in range(0, len(ordered), _KEYS_MAX):
        yield ordered[start : start + _KEYS_MAX]


def _token(last: InvocationStatus) -> str:
    place = json.dumps([last.order_ms, last.partition, last.first_offset], separators=(",", ":"))
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, int, int]:
    try:
        place = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError) as error:
        raise InvalidToken("this is not a token of a list") from error
    match place:
        case [int(order_ms), int(partition), int(offset)] if all(abs(number) <= _NUMBER_MAX for number in place):
            return order_ms, partition, offset
    raise InvalidToken("this is not a token of a list")
