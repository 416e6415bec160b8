"""What aiokafka cannot read is read all the same."""

from __future__ import annotations

import struct

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from streams.engine.fetched import LenientRecords, _PartitionRecords

PARTITION = TopicPartition("t", 0)
PRODUCER = 7
_LENGTH, _CRC, _ATTRIBUTES, _COUNT, _RECORDS = 8, 17, 21, 57, 61
_CONTROL = 0x20
READ_COMMITTED = 1


def batch(offset: int, value: bytes) -> bytes:
    """A batch of one record of a transaction."""
    builder = DefaultRecordBatchBuilder(2, 0, 1, PRODUCER, 0, 0, 1 << 20)
    builder.append(0, 1, b"key", value, [])
    return struct.pack(">q", offset) + bytes(builder.build())[8:]


def emptied_marker(offset: int) -> bytes:
    """What compaction leaves of a transaction's marker that is the last batch of its producer."""
    data = bytearray(batch(offset, b"")[:_RECORDS])
    struct.pack_into(">i", data, _LENGTH, len(data) - 12)
    struct.pack_into(">h", data, _ATTRIBUTES, struct.unpack_from(">h", data, _ATTRIBUTES)[0] | _CONTROL)
    struct.pack_into(">i", data, _COUNT, 0)
    struct.pack_into(">I", data, _CRC, calc_crc32c(bytes(data[_ATTRIBUTES:])))
    return bytes(data)


FETCHED = batch(0, b"before") + emptied_marker(1) + batch(2, b"after")


def read(kind: type[fetcher.PartitionRecords]) -> list[bytes | None]:
    records = kind(PARTITION, LenientRecords(FETCHED), [], 0, None, None, True, READ_COMMITTED)
    return [record.value for record in records]


def test_what_follows_a_marker_that_compaction_has_emptied_is_read() -> None:
    assert read(_PartitionRecords) == [b"before", b"after"]


def test_aiokafka_cannot_read_it() -> None:
    with pytest.raises(KafkaError, match="did not contain any records"):
        read(_PartitionRecords.__bases__[0])
