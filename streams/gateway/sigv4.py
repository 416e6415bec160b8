"""AWS Signature Version 4, the form in the header ``Authorization``: who signed a request, and whether rightly so.

Source: "Create a signed AWS API request" in AWS's IAM user guide. The texts are those of AWS's refusals. Signatures in
the query (presigned URLs) and of streamed bodies are not used with Lambda and not understood.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from posixpath import normpath
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from multidict import CIMultiDictProxy

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW_MAX = timedelta(minutes=5)
"""A signature's time may differ so much from ours. (15 minutes with a few of AWS's services, not with Lambda.)"""
_TIME = "%Y%m%dT%H%M%SZ"
_PARAMETERS = ("Credential", "Signature", "SignedHeaders")
_DIGITS_TIME = re.compile(r"\d{8}T\d{6}Z", re.ASCII)


class SignatureRefused(Exception):
    """The request is not signed, or not rightly. *code*, *status* and the message are AWS's."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Signed(NamedTuple):
    """What is signed."""

    method: str
    raw_path: str
    """Percent-encoded, as it was sent."""
    raw_query: str
    headers: CIMultiDictProxy[str]
    body: bytes


def verify(request: Signed, secrets: Mapping[str, str], region: str, service: str, now_ms: int) -> str:
    """The access key id that signed *request*. *secrets* are by access key id. Raises `SignatureRefused`."""
    authorization = request.headers.get("Authorization")
    if authorization is None:
        raise SignatureRefused(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    algorithm, _, rest = authorization.strip().partition(" ")
    if algorithm != ALGORITHM:
        raise _incomplete(f"Unsupported AWS 'algorithm': '{_shown(algorithm)}'", authorization)
    parameters = _parameters(rest)
    date = request.headers.get("X-Amz-Date")
    missing = [f"Authorization header requires '{name}' parameter." for name in _PARAMETERS if name not in parameters]
    if date is None:
        missing.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    if missing or date is None:
        raise _incomplete(" ".join(missing), authorization)
    signed_headers = parameters["SignedHeaders"].lower().split(";")
    if "host" not in signed_headers:
        raise _mismatch("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    key_id, scope = _scope(parameters["Credential"], authorization)
    secret = secrets.get(key_id)
    if secret is None:
        message = "The security token included in the request is invalid."
        raise SignatureRefused(403, "UnrecognizedClientException", message)
    _check_scope(scope, date, region, service)
    _check_time(date, authorization, now_ms)
    expected = signature(request, signed_headers, date, scope, secret)
    if not hmac.compare_digest(expected.encode(), _bytes(parameters["Signature"])):
        raise _mismatch(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details."
        )
    return key_id


def signature(request: Signed, signed_headers: Sequence[str], date: str, scope: Sequence[str], secret: str) -> str:
    """The signature of *request*, in hexadecimal digits. *scope* is day, region and service."""
    canonical = hashlib.sha256(_bytes(canonical_request(request, signed_headers))).hexdigest()
    text = f"{ALGORITHM}\n{date}\n{'/'.join(scope)}/aws4_request\n{canonical}"
    day, region, service = scope
    return hmac.new(_signing_key(secret, day, region, service), _bytes(text), hashlib.sha256).hexdigest()


def canonical_request(request: Signed, signed_headers: Sequence[str]) -> str:
    """The text that stands for *request*. The path is encoded once more, as with every service but S3."""
    headers = "".join(f"{name}:{_header(request.headers, name)}\n" for name in signed_headers)
    return "\n".join(
        (
            request.method,
            quote(_bytes(_normal_path(request.raw_path)), safe="/~"),
            _query(request.raw_query),
            headers,
            ";".join(signed_headers),
            hashlib.sha256(request.body).hexdigest(),
        )
    )


@lru_cache(maxsize=256)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """Good for a day, so it is kept: it takes four of the five hashes of a signature."""
    key = _bytes(f"AWS4{secret}")
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, _bytes(part), hashlib.sha256).digest()
    return key


def _normal_path(raw_path: str) -> str:
    path = normpath(raw_path) if raw_path else "/"
    path = "/" + path.lstrip("/")
    return path + "/" if raw_path.endswith("/") and path != "/" else path


def _query(raw_query: str) -> str:
    pairs = (part.partition("=") for part in raw_query.split("&") if part)
    encoded = sorted((_encoded(name), _encoded(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def _encoded(text: str) -> str:
    """A name or value of a query, percent-encoded in the one way that counts."""
    return quote(unquote_to_bytes(_bytes(text)), safe="~")


def _header(headers: CIMultiDictProxy[str], name: str) -> str:
    return ",".join(" ".join(value.split()) for value in headers.getall(name, ()))


def _parameters(text: str) -> dict[str, str]:
    """``Credential=…, SignedHeaders=…, Signature=…``"""
    pairs = (part.strip().partition("=") for part in text.split(","))
    return {name: value for name, _, value in pairs if value}


def _scope(credential: str, authorization: str) -> tuple[str, tuple[str, str, str]]:
    """Key id, and day, region and service, of ``key/20260131/us-east-1/lambda/aws4_request``."""
    parts = credential.rsplit("/", 4)
    if len(parts) != 5:
        raise _incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got "
            f"'{_shown(credential)}'",
            authorization,
        )
    key_id, day, region, service, term = parts
    if term != "aws4_request":
        raise _mismatch(f"Credential should be scoped with a valid terminator: 'aws4_request', not '{_shown(term)}'.")
    return key_id, (day, region, service)


def _check_scope(scope: Sequence[str], date: str, region: str, service: str) -> None:
    day, scope_region, scope_service = scope
    if scope_region != region:
        raise _mismatch(f"Credential should be scoped to a valid region, not '{_shown(scope_region)}'.")
    if scope_service != service:
        raise _mismatch(f"Credential should be scoped to correct service: '{service}'.")
    if day != date[:8]:
        raise _mismatch(
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{_shown(day)}' != '{_shown(date[:8])}', from '{_shown(date)}'."
        )


def _check_time(date: str, authorization: str, now_ms: int) -> None:
    try:
        if _DIGITS_TIME.fullmatch(date) is None:
            raise ValueError
        at = datetime.strptime(date, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise _incomplete(
            f"Date must be in ISO-8601 'basic format'. Got '{_shown(date)}'. See http://en.wikipedia.org/wiki/ISO_8601",
            authorization,
        ) from None
    now = datetime.fromtimestamp(now_ms // 1000, UTC)
    earliest, latest = now - SKEW_MAX, now + SKEW_MAX
    minutes = SKEW_MAX // timedelta(minutes=1)
    if at < earliest:
        limit = f"{earliest.strftime(_TIME)} ({now.strftime(_TIME)} - {minutes} min.)"
        raise _mismatch(f"Signature expired: {date} is now earlier than {limit}")
    if at > latest:
        limit = f"{latest.strftime(_TIME)} ({now.strftime(_TIME)} + {minutes} min.)"
        raise _mismatch(f"Signature not yet current: {date} is still later than {limit}")


def _bytes(text: str) -> bytes:
    """What was sent: bytes that are not UTF-8 are surrogates in a header."""
    return text.encode(errors="surrogateescape")


def _mismatch(message: str) -> SignatureRefused:
    return SignatureRefused(403, "InvalidSignatureException", message)


def _incomplete(message: str, authorization: str) -> SignatureRefused:
    """The header itself is not repeated: it may hold a secret that was meant for another scheme."""
    digest = b64encode(hashlib.sha256(_bytes(authorization)).digest()).decode()
    how = f"(Hashed with SHA-256 and encoded with Base64) Authorization={digest}"
    return SignatureRefused(400, "IncompleteSignatureException", f"{message} {how}")


def _shown(text: str) -> str:
    """What a client sent, as far as it belongs into a message."""
    return text[:100].encode(errors="replace").decode()
