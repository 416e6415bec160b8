"""Request id -> packed state for very many requests: a million that wait take 80 MB, in a dict 180.

A dict has two objects and a slot for each entry; here a handful of entries share one bytes object, a *bucket*:

    length of the key (two bytes), key, state (PACKED_BYTES); the next entry …

The hash of a key says which bucket; to look a key up is to search for its bytes there. Buckets are split one at a time
as entries are added (linear hashing), so that no single `put` has to move all of them. The price is time: half a
microsecond for a key that is not there, two for one that is. Entries have no order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streams.codec.state import PACKED_BYTES

_LENGTH_BYTES = 2
_ENTRIES = 4
"""On average in a bucket: more would save 2 MB of a million, and take longer to search."""


class PackedStates:
    """States by request id; each has `PACKED_BYTES` bytes."""

    __slots__ = ("_buckets", "_count", "_mask")

    def __init__(self, states: Mapping[bytes, bytes] | None = None) -> None:
        states = states or {}
        self._count = len(states)
        self._buckets = [b""] * (len(states) // _ENTRIES + 1)
        self._mask = (1 << len(self._buckets).bit_length()) - 1
        """Of a hash; a bucket with that number may not have been split off yet, then its half has the entry."""
        groups: list[list[bytes]] = [[] for _ in self._buckets]
        for key in states:
            groups[self._number(key)].append(key)
        for number, keys in enumerate(groups):
            self._buckets[number] = b"".join([_entry(key, states[key]) for key in keys])

    def __len__(self) -> int:
        return self._count

    def get(self, key: bytes) -> bytes | None:
        if not self._count:
            return None
        bucket = self._buckets[self._number(key)]
        if key not in bucket or (at := _find(bucket, key)) is None:
            return None
        return bucket[at : at + PACKED_BYTES]

    def put(self, key: bytes, packed: bytes) -> None:
        assert len(packed) == PACKED_BYTES
        number = self._number(key)
        bucket = self._buckets[number]
        at = _find(bucket, key)
        if at is not None:
            self._buckets[number] = bucket[:at] + packed + bucket[at + PACKED_BYTES :]
            return
        self._buckets[number] = bucket + _entry(key, packed)
        self._count += 1
        if self._count > _ENTRIES * len(self._buckets):
            self._split()

    def discard(self, key: bytes) -> None:
        """Forget *key*, if it is there."""
        if not self._count:
            return
        number = self._number(key)
        bucket = self._buckets[number]
        if key in bucket and (at := _find(bucket, key)) is not None:
            self._buckets[number] = bucket[: at - len(key) - _LENGTH_BYTES] + bucket[at + PACKED_BYTES :]
            self._count -= 1

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for bucket in self._buckets:
            yield from _entries(bucket)

    def _number(self, key: bytes) -> int:
        number = hash(key) & self._mask
        return number if number < len(self._buckets) else number & self._mask >> 1

    def _split(self) -> None:
        """Add a bucket, and move there what belongs there of the one bucket that had it so far."""
        half = self._mask >> 1
        number = len(self._buckets) & half
        groups: tuple[list[bytes], list[bytes]] = ([], [])
        for key, packed in _entries(self._buckets[number]):
            groups[hash(key) & self._mask > half].append(_entry(key, packed))
        self._buckets[number], added = map(b"".join, groups)
        self._buckets.append(added)
        self._mask = (1 << len(self._buckets).bit_length()) - 1


def _entry(key: bytes, packed: bytes) -> bytes:
    return len(key).to_bytes(_LENGTH_BYTES, "big") + key + packed


def _entries(bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(bucket):
        key_at = at + _LENGTH_BYTES
        end = key_at + int.from_bytes(bucket[at:key_at], "big")
        at = end + PACKED_BYTES
        yield bucket[key_at:end], bucket[end:at]


def _find(bucket: bytes, key: bytes) -> int | None:
    """Where the state of *key* begins in *bucket*. A request id may contain anything, also what looks like an entry."""
    head = len(key).to_bytes(_LENGTH_BYTES, "big") + key
    found, at = bucket.find(head), 0
    while found >= 0:
        while at < found:
            at += _LENGTH_BYTES + int.from_bytes(bucket[at : at + _LENGTH_BYTES], "big") + PACKED_BYTES
        if at == found:
            return found + len(head)
        found = bucket.find(head, at)
    return None
