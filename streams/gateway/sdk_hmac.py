"""Huawei's request signature ``SDK-HMAC-SHA256``, as a server checks it. Pure.

Sources, read November 2026: [C] the signer in huaweicloudsdkcore 3.1.219, [D] the API Request Signing Guide for the
time limit and the texts. In short: an HMAC with the secret key over the time and a hash of method, path (encoded anew,
with a slash at its end), sorted query, signed headers and the hash of the body.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, unquote

ALGORITHM = "SDK-HMAC-SHA256"
SKEW_MAX_MS = 15 * 60_000
"""A request signed that long ago, or ahead, is refused [D]."""

_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Access=(?P<key>[^,\s]+), ?SignedHeaders=(?P<headers>[^,\s]+), ?Signature=(?P<signature>[0-9a-fA-F]+)"
)
_TIME = "%Y%m%dT%H%M%SZ"
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
    lines = (
        method.upper(),
        _canonical_path(raw_path),
        _canonical_query(raw_query),
        "".join(f"{name}:{headers[name].strip()}\n" for name in names),
        ";".join(names),
        hashed,
    )
    signed = f"{ALGORITHM}\n{time}\n{_sha256(_bytes(chr(10).join(lines)))}"
    expected = hmac.digest(secret.encode(), signed.encode(), "sha256").hex()
    if not hmac.compare_digest(expected, match["signature"].lower()):
        raise SignatureRefused("verify aksk signature fail")
    return key


def _is_near(time: str, now_ms: int) -> bool:
    try:
        at = datetime.strptime(time, _TIME).replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs(at.timestamp() * 1000 - now_ms) <= SKEW_MAX_MS


def _body_hash(headers: Mapping[str, str], names: list[str], body: bytes) -> str | None:
    """What stands for the body in the signature; None when the request says something untrue of it.

    The hash may be in a header, which must be right; the word for "not signed" counts only if that word is signed.
    """
    hashed = _sha256(body)
    given = headers.get("X-Sdk-Content-Sha256")
    if not body or given is None or given == hashed:
        return hashed
    return given if given == _UNSIGNED and "x-sdk-content-sha256" in names else None


def _canonical_path(raw_path: str) -> str:
    path = "/".join(quote(part, safe="~", errors="surrogateescape") for part in _decoded(raw_path).split("/"))
    return path if path.endswith("/") else path + "/"


def _canonical_query(raw_query: str) -> str:
    pairs = (pair.partition("=") for pair in raw_query.split("&") if pair)
    decoded = sorted((_decoded(name), _decoded(value)) for name, _, value in pairs)
    return "&".join("=".join(quote(part, safe="~", errors="surrogateescape") for part in pair) for pair in decoded)


def _decoded(text: str) -> str:
    return unquote(text, errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
