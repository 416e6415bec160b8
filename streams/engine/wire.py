"""The Kafka requests aiokafka 0.14 lacks, built on its own request classes (all flexible versions).

Transactions follow Kafka 4's protocol (transaction version 2, KIP-890): no AddPartitionsToTxn, no AddOffsetsToTxn,
every EndTxn bumps the producer epoch. TxnOffsetCommit carries the group generation and member (KIP-447).
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from streams.engine.compiled import compiled

_STRING = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)  # last field of every struct of a flexible version
_ARRAY = CompactArray


def _by_topic(*partition: Any) -> Any:
    """Partitions under their topics; *partition* is what is said of each."""
    return _ARRAY(("name", _STRING), ("partitions", _ARRAY(*partition)), _TAGS)


def _api(name: str, key: int, version: int, fields: list[Any], reply: list[Any]) -> Any:
    """The request class of one flexible API version; its response's fields are attributes named as in *reply*."""
    response = type(
        f"{name}Response", (Response,), {"API_KEY": key, "API_VERSION": version, "SCHEMA": Schema(*reply, _TAGS)}
    )
    struct: type[RequestStruct] = type(
        f"{name}Struct",
        (RequestStruct,),
        {
            "FLEXIBLE_VERSION": True,
            "API_KEY": key,
            "API_VERSION": version,
            "RESPONSE_TYPE": response,
            "SCHEMA": Schema(*fields, _TAGS),
        },
    )
    struct = compiled(struct)

    class _Request(Request[struct]):  # type: ignore[valid-type]  # aiokafka reads the type argument at run time
        API_KEY = key

        def __init__(self, *args: Any) -> None:
            self.args = args

        def build(self, request_struct_class: Any) -> Any:
            return request_struct_class(*self.args, {})

    _Request.__name__ = _Request.__qualname__ = name
    return _Request


InitProducerId = _api(
    "InitProducerId",
    22,
    4,
    [
        ("transactional_id", _STRING),
        ("transaction_timeout_ms", Int32),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
    ],
    [("throttle_ms", Int32), ("error_code", Int16), ("producer_id", Int64), ("producer_epoch", Int16)],
)

PRODUCE_FIELDS: list[Any] = [
    ("transactional_id", _STRING),
    ("acks", Int16),
    ("timeout_ms", Int32),
    (
        "topics",
        _by_topic(("index", Int32), ("records", CompactBytes), _TAGS),
    ),
]
PRODUCE_REPLY: list[Any] = [
    (
        "responses",
        _by_topic(
            ("index", Int32),
            ("error_code", Int16),
            ("base_offset", Int64),
            ("log_append_time", Int64),
            ("log_start_offset", Int64),
            ("record_errors", _ARRAY(("batch_index", Int32), ("message", _STRING), _TAGS)),
            ("error_message", _STRING),
            _TAGS,
        ),
    ),
    ("throttle_ms", Int32),
]
Metadata = _api(
    "Metadata",
    3,
    12,
    [
        ("topics", _ARRAY(("id_high", Int64), ("id_low", Int64), ("name", _STRING), _TAGS)),
        ("auto_create", Boolean),
        ("include_operations", Boolean),
    ],
    [
        ("throttle_ms", Int32),
        ("brokers", _ARRAY(("node", Int32), ("host", _STRING), ("port", Int32), ("rack", _STRING), _TAGS)),
        ("cluster_id", _STRING),
        ("controller", Int32),
        (
            "topics",
            _ARRAY(
                ("error_code", Int16),
                ("name", _STRING),
                ("id_high", Int64),
                ("id_low", Int64),
                ("is_internal", Boolean),
                (
                    "partitions",
                    _ARRAY(
                        ("error_code", Int16),
                        ("index", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", _ARRAY(Int32)),
                        ("in_sync", _ARRAY(Int32)),
                        ("offline", _ARRAY(Int32)),
                        _TAGS,
                    ),
                ),
                ("operations", Int32),
                _TAGS,
            ),
        ),
    ],
)

Produce = _api("Produce", 0, 12, PRODUCE_FIELDS, PRODUCE_REPLY)

TxnOffsetCommit = _api(
    "TxnOffsetCommit",
    28,
    5,
    [
        ("transactional_id", _STRING),
        ("group_id", _STRING),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", _STRING),
        ("group_instance_id", _STRING),
        (
            "topics",
            _by_topic(("index", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", _STRING), _TAGS),
        ),
    ],
    [
        ("throttle_ms", Int32),
        (
            "topics",
            _by_topic(("index", Int32), ("error_code", Int16), _TAGS),
        ),
    ],
)

EndTxn = _api(
    "EndTxn",
    26,
    5,
    [("transactional_id", _STRING), ("producer_id", Int64), ("producer_epoch", Int16), ("committed", Boolean)],
    [("throttle_ms", Int32), ("error_code", Int16), ("producer_id", Int64), ("producer_epoch", Int16)],
)

OffsetFetch = _api(
    "OffsetFetch",
    9,
    7,
    [
        ("group_id", _STRING),
        ("topics", _by_topic(Int32)),
        ("require_stable", Boolean),
    ],
    [
        ("throttle_ms", Int32),
        (
            "topics",
            _by_topic(
                ("index", Int32),
                ("offset", Int64),
                ("leader_epoch", Int32),
                ("metadata", _STRING),
                ("error_code", Int16),
                _TAGS,
            ),
        ),
        ("error_code", Int16),
    ],
)

ListTransactions = _api(
    "ListTransactions",
    66,
    1,
    [("states", _ARRAY(_STRING)), ("producer_ids", _ARRAY(Int64)), ("duration_ms", Int64)],
    [
        ("throttle_ms", Int32),
        ("error_code", Int16),
        ("unknown_states", _ARRAY(_STRING)),
        ("transactions", _ARRAY(("transactional_id", _STRING), ("producer_id", Int64), ("state", _STRING), _TAGS)),
    ],
)

DescribeTransactions = _api(
    "DescribeTransactions",
    65,
    0,
    [("transactional_ids", _ARRAY(_STRING))],
    [
        ("throttle_ms", Int32),
        (
            "states",
            _ARRAY(
                ("error_code", Int16),
                ("transactional_id", _STRING),
                ("state", _STRING),
                ("timeout_ms", Int32),
                ("started_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("topics", _by_topic(Int32)),
                _TAGS,
            ),
        ),
    ],
)

DescribeProducers = _api(
    "DescribeProducers",
    61,
    0,
    [("topics", _by_topic(Int32))],
    [
        ("throttle_ms", Int32),
        (
            "topics",
            _by_topic(
                ("index", Int32),
                ("error_code", Int16),
                ("error_message", _STRING),
                (
                    "producers",
                    _ARRAY(
                        ("producer_id", Int64),
                        ("producer_epoch", Int32),
                        ("last_sequence", Int32),
                        ("last_timestamp", Int64),
                        ("coordinator_epoch", Int32),
                        ("transaction_start", Int64),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
    ],
)

WriteTxnMarkers = _api(
    "WriteTxnMarkers",
    27,
    1,
    [
        (
            "markers",
            _ARRAY(
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("committed", Boolean),
                ("topics", _by_topic(Int32)),
                ("coordinator_epoch", Int32),
                _TAGS,
            ),
        )
    ],
    [
        (
            "markers",
            _ARRAY(
                ("producer_id", Int64),
                (
                    "topics",
                    _by_topic(("index", Int32), ("error_code", Int16), _TAGS),
                ),
                _TAGS,
            ),
        )
    ],
)


class _ApiVersionsStruct(RequestStruct):
    """ApiVersions v3. Alone among flexible versions its response has the old header, so that any client can read it."""

    FLEXIBLE_VERSION = True
    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(("client_name", _STRING), ("client_version", _STRING), _TAGS)
    RESPONSE_TYPE = type(
        "ApiVersionsResponse",
        (Response,),
        {
            "API_KEY": 18,
            "API_VERSION": 3,
            "SCHEMA": Schema(
                ("error_code", Int16),
                ("api_versions", _ARRAY(("api_key", Int16), ("min", Int16), ("max", Int16), _TAGS)),
                ("throttle_ms", Int32),
                _TAGS,
            ),
        },
    )

    def parse_response_header(self, read_buffer: Any) -> Any:
        return ResponseHeader_v0.decode(read_buffer)


class ApiVersions(Request[_ApiVersionsStruct]):
    """Asks a broker what it speaks, and which features its cluster has finalized."""

    API_KEY = 18
    ALLOW_UNKNOWN_API_VERSION = True

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class("streams", "0", {})


_FINALIZED_FEATURES_TAG = 2
_FINALIZED_FEATURES = _ARRAY(("name", _STRING), ("max_level", Int16), ("min_level", Int16), _TAGS)


def finalized_features(response: Any) -> dict[str, int]:
    """Finalized feature levels in an ApiVersions response; empty when the broker names none (before Kafka 2.7)."""
    data = response.tags.get(_FINALIZED_FEATURES_TAG)
    features: Any = _FINALIZED_FEATURES.decode(BytesIO(data)) if data else ()
    return {name: level for name, level, *_ in features}


# Error codes that aiokafka has no class for, or that we treat by number.
UNKNOWN_TOPIC_OR_PARTITION = 3
LEADER_NOT_AVAILABLE = 5
NOT_LEADER = 6
REQUEST_TIMED_OUT = 7
COORDINATOR_ERRORS = frozenset({14, 15, 16})  # loading, not available, not coordinator
NOT_ENOUGH_REPLICAS = frozenset({19, 20})  # also answered while a transaction is being added
DUPLICATE_SEQUENCE = 46
INVALID_TXN_STATE = 48
CONCURRENT_TRANSACTIONS = 51
UNSTABLE_OFFSET_COMMIT = 88
GROUP_MOVED = {22: "ILLEGAL_GENERATION", 25: "UNKNOWN_MEMBER_ID", 27: "REBALANCE_IN_PROGRESS"}
FENCED = {
    47: "INVALID_PRODUCER_EPOCH",
    49: "INVALID_PRODUCER_ID_MAPPING",
    53: "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
    82: "FENCED_INSTANCE_ID",
    90: "PRODUCER_FENCED",
}
