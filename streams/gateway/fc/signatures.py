"""Whose signature a request to Function Compute carries: ACS3-HMAC-SHA256, or the older form of its own.

- *ACS3-HMAC-SHA256* [D request syntax and signature method V3]: the SDKs of 3.0 and of 2.0 sign so. It covers method,
  path, query, the headers that it names, and the body by its digest.
- *FC* [D signature authentication, C aliyun-fc2]: ``FC <key>:<signature>``. It covers method, path without query,
  Content-MD5, Content-Type, Date and every header ``x-fc-…``, and the body only by its Content-MD5, if that is sent.

Keys have no tokens of limited validity (STS) here: a security token is not looked at.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, quote, unquote

from streams.gateway.edge import Refused, Request

SKEW_MAX_S = 15 * 60
"""How far a signature's time may be from ours [D]."""

_ACS3 = re.compile(
    r"ACS3-HMAC-SHA256\s+Credential=(?P<key>[^,\s]+)\s*,\s*SignedHeaders=(?P<headers>[^,\s]*)\s*,"
    r"\s*Signature=(?P<signature>[0-9a-fA-F]{64})\s*"
)
_FC = re.compile(r"FC\s+(?P<key>[^:\s]+):(?P<signature>[A-Za-z0-9+/]{43}=)\s*")
_ACS3_SIGNED = frozenset(("host", "x-acs-date", "x-acs-content-sha256"))
"""What a signature must cover at least: a body or a time that it does not cover could be anybody's."""


def signer(request: Request, secrets: Mapping[str, str], now_ms: int) -> str:
    """The access key that signed *request*; *secrets* by key. Raises `Refused` in Function Compute's words."""
    authorization = _required(request, "Authorization")
    if match := _ACS3.fullmatch(authorization):
        expected = _acs3(request, match["headers"], _secret(match["key"], secrets))
        given = match["signature"].lower()
        at = _iso_time(_required(request, "x-acs-date"))
    elif match := _FC.fullmatch(authorization):
        expected = _fc(request, _secret(match["key"], secrets))
        given = match["signature"]
        at = _http_date(_required(request, "Date"))
    else:
        raise _not_matching()
    if expected is None or not hmac.compare_digest(expected, given):
        raise _not_matching()
    if at is None or abs(at.timestamp() * 1000 - now_ms) > 1000 * SKEW_MAX_S:
        raise Refused(403, "AccessDenied", "the time of the request is too far from the time of the server")  # [G]
    return match["key"]


def _acs3(request: Request, signed_headers: str, secret: str) -> str | None:
    """The signature that *request* should have, in hexadecimal; None when it must not be one."""
    names = signed_headers.lower().split(";")
    digest = hashlib.sha256(request.body).hexdigest()
    if not _ACS3_SIGNED.issubset(names) or request.headers.get("x-acs-content-sha256", "").lower() != digest:
        return None
    headers = "".join(f"{name}:{_values(request, name)}\n" for name in names)
    pairs = sorted(parse_qsl(request.raw_query, keep_blank_values=True))
    query = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs)
    canonical = "\n".join((request.method, request.raw_path, query, headers, signed_headers, digest))
    text = "ACS3-HMAC-SHA256\n" + hashlib.sha256(_bytes(canonical)).hexdigest()
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def _fc(request: Request, secret: str) -> str | None:
    """The signature that *request* should have, in Base64; None when its body is not the one that was signed."""
    headers = request.headers
    content_md5 = headers.get("Content-MD5", "")
    if content_md5 and content_md5 != _base64(hashlib.md5(request.body, usedforsecurity=False).digest()):
        return None
    own = sorted({name.lower() for name in headers if name.lower().startswith("x-fc-")})
    text = "\n".join(
        (
            request.method,
            content_md5,
            headers.get("Content-Type", ""),
            headers.get("Date", ""),
            *(f"{name}:{headers[name]}" for name in own),
            unquote(request.raw_path),
        )
    )
    return _base64(hmac.digest(secret.encode(), _bytes(text), "sha256"))


def _secret(key: str, secrets: Mapping[str, str]) -> str:
    secret = secrets.get(key)
    if secret is None:
        raise Refused(403, "InvalidAccessKeyID", f"invalid access key ID '{key}'")
    return secret


def _required(request: Request, name: str) -> str:
    value = request.headers.get(name)
    if not value:
        raise Refused(400, "MissingRequiredHeader", f"required HTTP header {name} was not specified")
    return value


def _not_matching() -> Refused:
    return Refused(
        403,
        "SignatureNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your access key and "
        "signing method",
    )


def _values(request: Request, name: str) -> str:
    return ",".join(sorted(value.strip() for value in request.headers.getall(name, ())))


def _quoted(text: str) -> str:
    return quote(text, safe="~", errors="surrogateescape")


def _bytes(text: str) -> bytes:
    """*text* as it arrived: a header's bytes that are not UTF-8 come as surrogates."""
    return text.encode(errors="surrogateescape")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _iso_time(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _http_date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
