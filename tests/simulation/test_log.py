"""The simulated cluster keeps Kafka's promises, as far as the engine relies on them."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from aiokafka import TopicPartition

from streams.engine.engine import TRANSACTION_TIMEOUT_MS
from streams.engine.transaction import Member, Position

from .log import Cluster
from .loop import Process, VirtualLoop

OUT, SOURCE = TopicPartition("out", 0), TopicPartition("in", 0)
RECORD: Any = (b"key", b"value", [])


class Client:
    """A member that does as it is told."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.process = Process(cluster.loop, name)
        self.told: list[str] = []

    def must_rejoin(self) -> None:
        self.told.append("rejoin")

    def is_unknown(self, member_id: str) -> None:
        self.told.append("unknown")

    def is_fenced(self) -> None:
        self.told.append("fenced")


@pytest.fixture
def cluster() -> Any:
    cluster = Cluster(VirtualLoop(), Random(1), lambda *_: None, 1, ["in", "out"])
    cluster.weather.slow = cluster.weather.late_marker = 0.0
    yield cluster
    cluster.loop.close()


def pass_time(cluster: Cluster, seconds: float) -> None:
    cluster.loop.run_until_complete(_sleep(cluster, seconds))


async def _sleep(cluster: Cluster, seconds: float) -> None:
    done = cluster.loop.create_future()
    cluster.later(seconds, done.set_result, None)
    await done


def join(cluster: Cluster, client: Client, member_id: str = "", instance_id: str | None = None) -> Any:
    answer = cluster.group.join(member_id, instance_id, client)
    pass_time(cluster, 1.0)
    return answer.result() if answer.done() else None


def begin(cluster: Cluster, name: str = "t") -> int:
    epoch = cluster.init_producer(name)
    assert epoch is not None
    assert cluster.add_records(name, epoch, {OUT: [RECORD]}) == ""
    return epoch


def member_of(cluster: Cluster) -> Member:
    member_id, generation = join(cluster, Client(cluster, "w"))
    return Member(generation, member_id, None)


def test_readers_wait_for_the_marker_and_never_see_what_was_aborted(cluster: Cluster) -> None:
    log = cluster.log(*OUT)
    epoch = begin(cluster)
    cluster.produce("out", 0, b"other", b"", ())
    assert (log.read(0), log.high_watermark) == (([], 0), 2)

    _, epoch = cluster.end("t", epoch, committed=False)
    assert log.read(0) == ([], 0)
    pass_time(cluster, 1)
    assert [record.key for record in log.read(0)[0]] == [b"other"]

    cluster.add_records("t", epoch, {OUT: [RECORD]})
    cluster.end("t", epoch, committed=True)
    pass_time(cluster, 1)
    records, position = log.read(0)
    assert ([record.offset for record in records], position) == ([1, 3], 5)


def test_the_next_transaction_waits_until_the_last_one_has_ended_everywhere(cluster: Cluster) -> None:
    _, epoch = cluster.end("t", begin(cluster), committed=True)

    assert cluster.add_records("t", epoch, {OUT: [RECORD]}) == "concurrent"
    pass_time(cluster, 1)
    assert cluster.add_records("t", epoch, {OUT: [RECORD]}) == ""


def test_an_end_may_be_repeated(cluster: Cluster) -> None:
    epoch = begin(cluster)

    assert cluster.end("t", epoch, committed=True) == cluster.end("t", epoch, committed=True) == ("", epoch + 1)
    assert cluster.end("t", epoch, committed=False)[0] == "fenced"


def test_who_takes_the_name_aborts_and_fences(cluster: Cluster) -> None:
    epoch = begin(cluster)

    assert cluster.init_producer("t") is None
    assert cluster.end("t", epoch, committed=True)[0] == "fenced"
    pass_time(cluster, 1)
    assert cluster.init_producer("t") is not None
    assert cluster.log(*OUT).read(0) == ([], 2)


def test_a_transaction_does_not_stay_open_for_ever(cluster: Cluster) -> None:
    epoch = begin(cluster)
    pass_time(cluster, 2 * TRANSACTION_TIMEOUT_MS / 1000)

    assert cluster.end("t", epoch, committed=True)[0] == "fenced"
    assert cluster.is_quiet


def test_offsets_are_unstable_until_their_transaction_has_ended(cluster: Cluster) -> None:
    member = member_of(cluster)
    epoch = begin(cluster)
    assert cluster.add_offsets("t", epoch, {SOURCE: Position(7, "me")}, member) == ""
    assert cluster.group.fetch([SOURCE], stable=True) is None
    assert cluster.group.fetch([SOURCE], stable=False) == {SOURCE: Position(-1, "")}

    cluster.end("t", epoch, committed=True)
    pass_time(cluster, 1)

    assert cluster.group.fetch([SOURCE], stable=True) == {SOURCE: Position(7, "me")}


def test_offsets_of_an_older_generation_are_refused(cluster: Cluster) -> None:
    old = member_of(cluster)
    join(cluster, Client(cluster, "another"))
    assert cluster.add_offsets("t", begin(cluster), {SOURCE: Position(7, "")}, old) == ""  # nobody has joined anew yet

    new_id, generation = join(cluster, Client(cluster, "w"), old.member_id)
    assert cluster.group.refuse(old) == "illegal generation"
    assert cluster.group.refuse(Member(generation, new_id, None)) == ""
    assert cluster.group.refuse(Member(generation, "stranger", None)) == "unknown member"


def test_a_silent_member_loses_its_place(cluster: Cluster) -> None:
    client = Client(cluster, "w")
    member_id, generation = join(cluster, client)
    client.process.stop()
    cluster.group.silent(client)
    pass_time(cluster, 60)

    assert cluster.group.sync(member_id, generation) is None
    client.process.go_on()
    pass_time(cluster, 1)
    assert client.told == ["unknown"]


def test_a_static_member_takes_its_own_place(cluster: Cluster) -> None:
    old = Client(cluster, "old")
    old_id, generation = join(cluster, old, instance_id="slot")
    new_id, _ = join(cluster, Client(cluster, "new"), instance_id="slot")
    pass_time(cluster, 10)

    assert cluster.group.refuse(Member(generation, old_id, "slot")) == "fenced instance"
    assert new_id != old_id
    assert old.told[-1] == "fenced"


def test_compaction_keeps_offsets_and_the_last_value_of_each_key(cluster: Cluster) -> None:
    log = cluster.log(*OUT)
    for key in (b"a", b"b", b"a"):
        cluster.produce("out", 0, key, b"", ())
    log.compact()

    assert ([record.offset for record in log.read(0)[0]], log.high_watermark) == ([1, 2], 3)
