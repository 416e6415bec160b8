"""What every read model does, on SQLite and on PostgreSQL."""

import base64
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from streams.console.projection import Located
from streams.console.store import FoundRecord, InvalidToken, Move, Overtaken, Query, ReadModel, RecordPlace
from streams.core.facts import AttemptStarted, Delivered, DeliveryFailed, RetryScheduled
from streams.errors import ConfigurationError, ReadModelError

from .samples import NOW, RAISED, accepted, at, delivery, exhausted, failed_once, succeeded

FC = {"provider": "fc", "resource": "acs:fc:cn-hangzhou:123:functions/crawl"}


def write(store: ReadModel, *facts: Located, records: tuple[FoundRecord, ...] = ()) -> None:
    """Take in *facts*, wherever the database is."""
    known = store.positions()
    ends: dict[int, int] = {}
    for located in facts:
        ends[located.partition] = max(ends.get(located.partition, 0), located.offset + 1)
    moves = []
    for partition, end in ends.items():
        start = known.get(("facts", partition), 0)
        moves.append(Move("facts", partition, start, max(start, end)))
    store.write(moves, facts, records)


def ids(store: ReadModel, query: Query) -> list[str]:
    return [status.request_id for status in store.list(query).items]


def record(request_id: str, topic: str = "p.aws.success", offset: int = 5, at_ms: int = NOW + 9) -> FoundRecord:
    return FoundRecord(request_id, RecordPlace(topic, 0, offset), at_ms)


# one invocation


def test_what_was_written_is_found_by_its_id(store: ReadModel):
    write(store, at(0, "a", *failed_once()), at(1, "b", *succeeded()))

    status = store.get("aws", "a")

    assert status is not None
    assert (status.request_id, status.status, status.attempts, status.offset) == ("a", "retrying", 1, 1000)
    assert (status.due_at_ms, status.error_type, status.error_message) == (NOW + 60_005, "ValueError", "no such key")
    assert store.find("b") == [store.get("aws", "b")]


@pytest.mark.parametrize("request_id", ["b", "", "a\0", "\ud800", "%", "a" * 10_000])
def test_what_was_not_is_not(store: ReadModel, request_id: str):
    write(store, at(0, "a", accepted()))

    assert store.get("aws", request_id) is None
    assert store.find(request_id) == []
    assert store.get("fc", "a") is None


def test_later_facts_change_the_row(store: ReadModel):
    write(store, at(0, "a", *failed_once()))
    write(store, at(1, "b", accepted()), at(2, "a", *exhausted()))

    [status] = store.find("a")
    assert (status.status, status.ending, status.attempts) == ("failed", "retries_exhausted", 2)
    assert (status.first_offset, status.last_offset, status.offset) == (0, 2, 1000)


def test_all_that_happened_is_kept_in_order(store: ReadModel):
    write(store, at(0, "a", *failed_once()), at(1, "b", *succeeded()))
    write(store, at(2, "a", *exhausted()))

    [status] = store.find("a")
    assert store.events(status) == [*failed_once(), *exhausted()]


def test_what_became_of_its_record_is_kept_as_well(store: ReadModel):
    failed = DeliveryFailed(NOW + 10, "arn:q", False, "NonExistentQueue", "no")
    delivered = Delivered(NOW + 20, "arn:dead", is_event=True)
    write(store, at(0, "a", *succeeded()))
    write(store, delivery(1, "a", failed, delivered))

    [status] = store.find("a")
    assert status.destination == "failed"
    assert store.events(status) == [*succeeded(), failed, delivered]


def test_text_of_any_kind_comes_back(store: ReadModel):
    outcome = replace(RAISED, error_message="世界 \U0001f600 \"quoted\" 'it' \\ %s :x \n")
    retry = replace(failed_once()[2], outcome=outcome)

    write(store, at(0, "ä%_:x", accepted(), AttemptStarted(1, NOW), retry))

    status = store.get("aws", "ä%_:x")
    assert status is not None
    assert status.error_message == outcome.error_message
    assert store.events(status)[2] == retry


def test_an_id_on_two_partitions_is_two_invocations_and_the_one_accepted_last_is_the_one(store: ReadModel):
    write(store, at(0, "a", *succeeded(NOW + 5), partition=1), at(7, "a", *failed_once(NOW), partition=0))

    assert [(status.partition, status.status) for status in store.find("a")] == [(1, "succeeded"), (0, "retrying")]
    assert store.get("aws", "a") == store.find("a")[0]


def test_an_id_that_is_accepted_again_later_is_another_invocation(store: ReadModel):
    write(store, at(0, "a", *succeeded(NOW)))
    write(store, at(5, "a", *failed_once(NOW + 9)))
    write(store, at(6, "a", *exhausted()))

    again, first = store.find("a")
    assert (again.status, again.first_offset, again.last_offset) == ("failed", 5, 6)
    assert (first.status, first.first_offset) == ("succeeded", 0)
    assert len(store.events(again)) == 7


def test_many_are_found_by_their_ids_at_once(store: ReadModel):
    write(store, at(0, "a", *succeeded(NOW + 5), partition=1), at(7, "a", *failed_once(NOW), partition=0))
    write(store, at(8, "b", *failed_once()), at(9, "c", *succeeded(), **FC))
    write(store, at(20, "same", *succeeded(), partition=1), at(20, "same", *succeeded(), partition=0))

    wanted = ["a", "b", "c", "d", "same", "x\0", *(f"nobody-{number}" for number in range(1000))]
    assert store.known("aws", wanted) == {name: store.get("aws", name) for name in ("a", "b", "same")}
    assert store.known("aws", []) == {}


# records


def test_the_record_of_an_invocation_is_found_whichever_was_read_first(store: ReadModel):
    write(store, records=(record("a"), record("c", "p.aws.failure", 6)))
    write(store, at(0, "a", *succeeded()), at(1, "b", *succeeded()), at(2, "c", *failed_once()))

    found = store.records([*store.find("a"), *store.find("b"), *store.find("c")])

    assert found == [RecordPlace("p.aws.success", 0, 5), None, None]


def test_an_id_that_was_used_again_has_a_record_for_each_time(store: ReadModel):
    write(store, at(0, "a", *succeeded(NOW)), at(1, "a", *succeeded(NOW + 5_000_000)))
    write(store, records=(record("a", offset=5, at_ms=NOW + 20), record("a", offset=8, at_ms=NOW + 5_000_020)))

    again, first = store.find("a")

    assert [place.offset for place in store.records([first, again]) if place] == [5, 8]


# lists


def populate(store: ReadModel) -> None:
    """a and d succeeded, b waits for a retry, c has failed, e waits; f is of another provider, and expired."""
    expired = replace(exhausted()[2], ending="expired")
    write(
        store,
        at(0, "a-1", *succeeded(NOW)),
        at(1, "b-1", *failed_once(NOW + 10)),
        at(2, "c-1", *failed_once(NOW + 20), *exhausted(NOW + 20)),
        at(0, "a-2", *succeeded(NOW + 30), partition=1),
        at(3, "e", accepted(NOW + 40, NOW + 90), RetryScheduled(1, NOW + 42, NOW + 90)),
        at(4, "f", *failed_once(NOW + 50), expired, **FC),
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(), ["f", "e", "a-2", "c-1", "b-1", "a-1"]),
        (Query(order="asc"), ["a-1", "b-1", "c-1", "a-2", "e", "f"]),
        (Query(provider="fc"), ["f"]),
        (Query(function="resize"), ["e", "a-2", "c-1", "b-1", "a-1"]),
        (Query(provider="fc", function="resize"), []),
        (Query(provider="aws", function="resize", qualifier="prod", limit=2), ["e", "a-2"]),
        (Query(qualifier="LATEST"), ["f"]),
        (Query(statuses=frozenset({"succeeded"})), ["a-2", "a-1"]),
        (Query(statuses=frozenset({"waiting", "retrying"})), ["e", "b-1"]),
        (Query(statuses=frozenset({"failed"}), endings=frozenset({"expired"})), ["f"]),
        (
            Query(statuses=frozenset({"failed", "waiting"}), endings=frozenset({"retries_exhausted"})),
            ["e", "c-1"],
        ),
        (Query(accepted_from_ms=NOW + 10, accepted_to_ms=NOW + 30), ["c-1", "b-1"]),
        (Query(started_from_ms=NOW + 33), ["f", "a-2"]),
        (Query(started_to_ms=NOW + 13), ["a-1"]),
        (Query(accepted_from_ms=-(2**80), accepted_to_ms=2**80, limit=1), ["f"]),
        (Query(offset=4), ["b-1", "a-1"]),
        (Query(provider="aws", offset=1, limit=2), ["a-2", "c-1"]),
        (Query(offset=99), []),
        (Query(id_prefix="a-"), ["a-2", "a-1"]),
        (Query(id_prefix=("a-1", "b", "x")), ["b-1", "a-1"]),
        (Query(id_prefix="%"), []),
        (Query(id_prefix="a\0"), []),
        (Query(function="\ud800"), []),
    ],
)
def test_a_list_has_what_is_asked_for_in_order(store: ReadModel, query: Query, expected: list[str]):
    populate(store)

    assert ids(store, query) == expected
    assert sum(store.counts(query).values()) >= len(expected)


def test_counts_are_by_status(store: ReadModel):
    populate(store)

    assert store.counts(Query()) == {"succeeded": 2, "retrying": 1, "failed": 2, "waiting": 1}
    assert store.counts(Query(provider="aws", limit=1)) == {"succeeded": 2, "retrying": 1, "failed": 1, "waiting": 1}
    assert store.counts(Query(function="none")) == {}


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_neither_repeat_nor_leave_out_anything_while_invocations_arrive(store: ReadModel, order):
    expected = [f"r{number}" for number in range(10)]
    for number, request_id in enumerate(expected):
        # Several began in the same millisecond.
        write(store, at(number, request_id, *succeeded(NOW + number // 4)))
    seen: list[str] = []
    query = Query(order=order, limit=3)
    while True:
        page = store.list(query)
        seen += [status.request_id for status in page.items]
        if page.token is None or len(seen) >= len(expected):
            break
        query = replace(query, token=page.token)
        later, earlier = len(seen) + 100, len(seen) + 200
        if order == "desc":  # newer ones belong before what was seen
            write(store, at(later, f"new-{later}", *succeeded(NOW + later)))
        else:
            write(store, at(earlier, f"old-{earlier}", *succeeded(NOW - earlier)))

    assert seen == (expected if order == "asc" else expected[::-1])


def test_a_page_that_is_exactly_full_is_the_last_one(store: ReadModel):
    write(store, at(0, "a", *succeeded()), at(1, "b", *succeeded()))

    assert store.list(Query(limit=2)).token is None
    assert store.list(Query(limit=1)).token is not None


@pytest.mark.parametrize(
    "token", ["", "x", "é", "AAAA", *(base64.urlsafe_b64encode(t).decode() for t in (b"[1,2]", b"[1,2,1e9]", b"{}"))]
)
def test_a_token_of_somebody_else_is_refused(store: ReadModel, token: str):
    with pytest.raises(InvalidToken):
        store.list(Query(token=token))


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_an_odd_limit_is_refused(store: ReadModel, limit: int):
    with pytest.raises(ValueError, match="from 1 to 1000"):
        store.list(Query(limit=limit))


# writing


def test_positions_move_with_the_rows(store: ReadModel):
    store.write([Move("facts", 0, 0, 3), Move("aws.success", 0, 0, 9)], [at(2, "a", accepted())], [])

    assert store.positions() == {("facts", 0): 3, ("aws.success", 0): 9}


@pytest.mark.parametrize("start", [0, 1, 4])
def test_who_is_not_where_the_database_is_writes_nothing(store: ReadModel, start: int):
    store.write([Move("facts", 0, 0, 3), Move("facts", 1, 0, 3)], [at(2, "a", accepted())], [])

    with pytest.raises(Overtaken):
        store.write([Move("facts", 0, start, 5), Move("facts", 1, 3, 5)], [at(4, "b", accepted())], [record("b")])

    assert store.positions() == {("facts", 0): 3, ("facts", 1): 3}
    assert store.find("b") == []


def test_of_many_that_write_the_same_one_does(url: str, store: ReadModel):
    def once(_number: int) -> bool:
        own = ReadModel(url)
        try:
            own.write([Move("facts", 0, 0, 1)], [at(0, "a", *succeeded())], [record("a")])
        except Overtaken:
            return False
        else:
            return True
        finally:
            own.close()

    with ThreadPoolExecutor(4) as threads:
        wrote = list(threads.map(once, range(4)))

    assert sum(wrote) == 1
    assert len(store.find("a")) == 1


def test_what_is_read_again_changes_nothing(store: ReadModel):
    log = [
        at(0, "a", *failed_once()),
        at(1, "b", *succeeded()),
        at(2, "a", *exhausted()),
        at(3, "b", accepted(NOW + 9)),
    ]
    write(store, *log, records=(record("b"),))
    before = store.list(Query())

    for start in range(4):
        write(store, *log[start:], records=(record("b"),))
        write(store, log[start])

    assert store.list(Query()) == before
    assert store.events(store.find("a")[0]) == [*failed_once(), *exhausted()]
    assert store.records(store.find("b")) == [None, RecordPlace("p.aws.success", 0, 5)]


def test_old_invocations_are_forgotten_and_those_that_go_on_are_kept(store: ReadModel):
    write(
        store,
        at(0, "old", *succeeded(NOW)),
        at(1, "old and still waiting", *failed_once(NOW)),
        at(2, "new", *succeeded(NOW + 100_000)),
        records=(record("old"), record("new", offset=6, at_ms=NOW + 100_009)),
    )
    write(store, at(3, "old and still waiting", *exhausted()))
    old = store.find("old")[0]

    assert store.prune(NOW + 1000) == 1

    assert ids(store, Query()) == ["new", "old and still waiting"]
    assert store.events(old) == []
    assert store.records([old, *store.find("new")]) == [None, RecordPlace("p.aws.success", 0, 6)]
    assert store.prune(NOW + 1000) == 0


def test_more_than_one_portion_is_pruned(store: ReadModel):
    write(store, *(at(number, f"r{number}", *succeeded()) for number in range(2500)))

    assert store.prune(NOW + 1000) == 2500
    assert store.counts(Query()) == {}


def test_a_rebuilt_read_model_is_empty_and_begins_at_the_beginning(store: ReadModel):
    write(store, at(0, "a", accepted()), records=(record("a"),))

    store.rebuild()

    assert (store.find("a"), store.positions(), store.counts(Query())) == ([], {}, {})
    write(store, at(0, "a", accepted()))
    assert len(store.find("a")) == 1


def test_it_is_made_once_however_many_want_to(url: str):
    stores = [ReadModel(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ReadModel.prepare, stores))

    assert stores[0].exists()
    for store in stores:
        store.prepare()
        store.close()


def test_one_of_another_version_is_to_be_rebuilt(url: str, store: ReadModel):
    address = url.replace("postgresql:", "postgresql+psycopg:") if "://" in url else f"sqlite:///{url}"
    engine = create_engine(address)
    with engine.begin() as connection:
        connection.execute(text("UPDATE streams_layout SET version = 0"))
    engine.dispose()

    assert not store.exists()
    with pytest.raises(ConfigurationError, match="streams console --rebuild"):
        store.prepare()

    store.rebuild()
    store.prepare()


# what cannot be used


def test_asking_where_there_is_none_says_what_to_do(tmp_path: Path):
    store = ReadModel(str(tmp_path / "none.db"))

    assert not store.exists()
    with pytest.raises(ReadModelError, match="run `streams console`"):
        store.get("aws", "a")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "none.db").touch()
    with pytest.raises(ReadModelError, match="run `streams console`"):
        store.get("aws", "a")
    store.close()


def test_a_file_that_is_something_else_is_refused(tmp_path: Path):
    (tmp_path / "x.db").write_bytes(b"not a database, but long enough to look at" * 50)
    store = ReadModel(str(tmp_path / "x.db"))

    with pytest.raises(ReadModelError, match="not a database"):
        store.prepare()
    store.close()


def test_a_folder_that_is_not_there_is_made(tmp_path: Path):
    store = ReadModel(str(tmp_path / "a" / "b" / "read-model.db"))

    store.prepare()

    assert store.exists()
    store.close()


@pytest.mark.parametrize("url", ["mysql+nothing://h/d", "://", "nonsense://x"])
def test_an_url_that_cannot_be_one_is_refused(url: str):
    with pytest.raises(ConfigurationError, match="STREAMS_READ_MODEL"):
        ReadModel(url)


def test_a_password_is_never_shown():
    store = ReadModel("postgresql://user:secret@127.0.0.1:1/database")

    assert "secret" not in store.where
    with pytest.raises(ReadModelError) as refused:
        store.get("aws", "a")
    assert "secret" not in str(refused.value)
    store.close()


def test_a_read_model_belongs_to_the_log_that_was_first(store: ReadModel):
    assert store.claim("one") == "one"
    assert store.claim("other") == "one"

    store.rebuild()

    assert store.claim("other") == "other"
