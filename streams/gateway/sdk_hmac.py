"""Huawei's request signature (`destinations.sdk_hmac`), as a server checks it. Pure.

Source, read November 2026: [D] the API Request Signing Guide, for the time limit and the texts.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from streams.destinations.sdk_hmac import ALGORITHM, TIME_FORMAT, sha256, signature

SKEW_MAX_MS = 15 * 60_000
"""A request signed that long ago, or ahead, is refused [D]."""

_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Access=(?P<key>[^,\s]+), ?SignedHeaders=(?P<headers>[^,\s]+), ?Signature=(?P<signature>[0-9a-fA-F]+)"
)
_UNSIGNED = "UNSIGNED-PAYLOAD"


class SignatureRefused(Exception):
    """Why a signature is not accepted, in the provider's words after "Incorrect IAM authentication information: "."""


def verify(
    method: str,
    raw_path: str,
    raw_query: str,
    headers: Mapping[str, str],
    body: bytes,
    secrets: Mapping[str, str],
    now_ms: int,
) -> str:
    """The access key that signed the request. *headers* are found in any case. Raises SignatureRefused."""
    match = _AUTHORIZATION.fullmatch(headers.get("Authorization", "").strip())
    if match is None:
        raise SignatureRefused("the header Authorization is not a signature")  # [G]
    key, names = match["key"], match["headers"].lower().split(";")
    secret = secrets.get(key)
    if secret is None:
        raise SignatureRefused("Get secretKey failed,ak:******,err:ak not exist")
    time = headers.get("X-Sdk-Date", "").strip()
    if "x-sdk-date" not in names or not _is_near(time, now_ms):
        raise SignatureRefused("verify aksk signature fail, x-sdk-date is not within 15 minutes of now")  # [G]
    hashed = _body_hash(headers, names, body)
    if hashed is None or any(name not in headers for name in names):
        raise SignatureRefused("verify aksk signature fail")
    expected = signature(secret, time, method, raw_path, raw_query, headers, names, hashed)
    if not hmac.compare_digest(expected, match["signature"].lower()):
        raise SignatureRefused("verify aksk signature fail")
    return key


def _is_near(time: str, now_ms: int) -> bool:
    try:
        at = datetime.strptime(time, TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs(at.timestamp() * 1000 - now_ms) <= SKEW_MAX_MS


def _body_hash(headers: Mapping[str, str], names: list[str], body: bytes) -> str | None:
    """What stands for the body in the signature; None when the request says something untrue of it.

    The hash may be in a header, which must be right; the word for "not signed" counts only if that word is signed.
    """
    hashed = sha256(body)
    given = headers.get("X-Sdk-Content-Sha256")
    if not body or given is None or given == hashed:
        return hashed
    return given if given == _UNSIGNED and "x-sdk-content-sha256" in names else None
