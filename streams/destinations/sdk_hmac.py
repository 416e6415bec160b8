"""Huawei's request signature ``SDK-HMAC-SHA256``. Pure.

An HMAC with the secret key over the time and a hash of method, path (encoded anew, with a slash at its end), sorted
query, signed headers and the hash of the body. [C] The signer in huaweicloudsdkcore 3.1.219.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from urllib.parse import quote, unquote

ALGORITHM = "SDK-HMAC-SHA256"
TIME_FORMAT = "%Y%m%dT%H%M%SZ"
"""Of the header X-Sdk-Date."""


def signature(
    secret: str,
    time: str,
    method: str,
    raw_path: str,
    raw_query: str,
    headers: Mapping[str, str],
    signed: Sequence[str],
    body_hash: str,
) -> str:
    """The signature of a request whose headers *signed* (in lower case, in order) are signed, in hexadecimal."""
    lines = (
        method.upper(),
        _canonical_path(raw_path),
        _canonical_query(raw_query),
        "".join(f"{name}:{headers[name].strip()}\n" for name in signed),
        ";".join(signed),
        body_hash,
    )
    text = f"{ALGORITHM}\n{time}\n{sha256(chr(10).join(lines).encode('utf-8', 'surrogateescape'))}"
    return hmac.digest(secret.encode(), text.encode(), "sha256").hex()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _canonical_path(raw_path: str) -> str:
    path = "/".join(quote(part, safe="~", errors="surrogateescape") for part in _decoded(raw_path).split("/"))
    return path if path.endswith("/") else path + "/"


def _canonical_query(raw_query: str) -> str:
    pairs = (pair.partition("=") for pair in raw_query.split("&") if pair)
    decoded = sorted((_decoded(name), _decoded(value)) for name, _, value in pairs)
    return "&".join("=".join(quote(part, safe="~", errors="surrogateescape") for part in pair) for pair in decoded)


def _decoded(text: str) -> str:
    return unquote(text, errors="surrogateescape")
