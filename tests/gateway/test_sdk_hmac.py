"""Huawei's signature: what the stock SDK signs is accepted, and nothing that was changed since."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from streams.gateway.sdk_hmac import SKEW_MAX_MS, SignatureRefused, verify

SECRETS = {"ak": "sk", "other": "key"}
TIME = "20260131T120000Z"
AT_MS = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp() * 1000)
URN = quote("urn:fss:cn-north-4:p:function:default:resize:latest", safe="")


class Signed:
    """A request that the stock SDK has signed; tests change it."""

    def __init__(
        self,
        method: str = "POST",
        path: str = f"/v2/p/fgs/functions/{URN}/invocations-async",
        query: list[tuple[str, object]] | None = None,
        body: bytes = b'{"k": "v"}',
        content_type: str = "application/json",
    ) -> None:
        headers = {"Content-Type": content_type, "X-Project-Id": "p", "User-Agent": " sdk ", "X-Sdk-Date": TIME}
        request = SdkRequest(
            method=method,
            schema="http",
            host="127.0.0.1:8080",
            resource_path=path,
            query_params=query or [],
            header_params=headers,
            body=body,
        )
        signed = Signer(BasicCredentials("ak", "sk", "p")).sign(request)
        self.method = method
        self.path, _, self.query = signed.uri.partition("?")
        self.headers = CIMultiDict({name: str(value) for name, value in signed.header_params.items()})
        self.body = body

    def verify(self, at_ms: int = AT_MS) -> str:
        return verify(self.method, self.path, self.query, self.headers, self.body, SECRETS, at_ms)


@pytest.mark.parametrize(
    "signed",
    [
        Signed(),
        Signed("GET", body=b""),
        Signed("GET", query=[("limit", 10), ("status", "WAIT"), ("marker", "a b+c/ü~")], body=b""),
        Signed("GET", query=[("requests", ["b", "a"]), ("deep", True)], body=b""),
        Signed("GET", path="/v2/p/fgs/functions", body=b""),
        Signed(body='{"ü": "\\u0000"}'.encode()),
        Signed(body=b"\0\1", content_type="application/octet-stream"),
    ],
)
def test_what_the_sdk_signs_is_accepted(signed: Signed) -> None:
    assert signed.verify() == "ak"


def change(**members: object) -> Callable[[Signed], None]:
    def apply(signed: Signed) -> None:
        for name, value in members.items():
            setattr(signed, name, value)

    return apply


def set_header(name: str, value: str) -> Callable[[Signed], None]:
    return lambda signed: signed.headers.__setitem__(name, value)


@pytest.mark.parametrize(
    "tamper",
    [
        change(method="PUT"),
        change(path="/v2/q/fgs/functions"),
        change(query="limit=1"),
        change(body=b'{"k": "w"}'),
        change(body=b""),
        set_header("X-Project-Id", "q"),
        set_header("Host", "elsewhere"),
        set_header("X-Sdk-Content-Sha256", "UNSIGNED-PAYLOAD"),
        lambda signed: signed.headers.pop("X-Project-Id"),
    ],
)
def test_what_was_changed_since_is_refused(tamper: Callable[[Signed], None]) -> None:
    signed = Signed()
    tamper(signed)

    with pytest.raises(SignatureRefused, match="verify aksk signature fail"):
        signed.verify()


def test_a_body_hash_in_an_unsigned_header_does_not_stand_for_another_body() -> None:
    signed = Signed()
    original = Signed(body=signed.body)
    signed.headers["X-Sdk-Content-Sha256"] = "0" * 64
    with pytest.raises(SignatureRefused):
        signed.verify()

    assert original.verify() == "ak"


def test_the_secret_must_be_that_of_the_key() -> None:
    signed = Signed()
    signed.headers["Authorization"] = signed.headers["Authorization"].replace("Access=ak", "Access=other")
    with pytest.raises(SignatureRefused, match="verify aksk signature fail"):
        signed.verify()

    signed.headers["Authorization"] = signed.headers["Authorization"].replace("Access=other", "Access=unknown")
    with pytest.raises(SignatureRefused, match="ak not exist"):
        signed.verify()


def test_a_signature_lasts_a_quarter_of_an_hour_either_way() -> None:
    signed = Signed()

    assert signed.verify(AT_MS + SKEW_MAX_MS) == signed.verify(AT_MS - SKEW_MAX_MS) == "ak"
    for at_ms in (AT_MS + SKEW_MAX_MS + 1, AT_MS - SKEW_MAX_MS - 1):
        with pytest.raises(SignatureRefused, match="15 minutes"):
            signed.verify(at_ms)


def test_a_time_that_is_not_signed_is_none() -> None:
    signed = Signed()
    authorization = signed.headers["Authorization"]
    signed.headers["Authorization"] = authorization.replace(";x-sdk-date", "")

    with pytest.raises(SignatureRefused):
        signed.verify()


@pytest.mark.parametrize(
    "text",
    ["", "Basic YWs6c2s=", "SDK-HMAC-SHA256", "SDK-HMAC-SHA256 Access=ak, SignedHeaders=host, Signature=ü", "x" * 9999],
)
def test_what_is_no_signature_is_refused(text: str) -> None:
    signed = Signed()
    signed.headers["Authorization"] = text

    with pytest.raises(SignatureRefused, match="not a signature"):
        signed.verify()


# What aiohttp makes of the bytes of a header.
TEXTS = st.binary(max_size=30).map(lambda data: data.decode("utf-8", "surrogateescape"))


@given(
    headers=st.dictionaries(st.sampled_from(["X-Sdk-Date", "X-Sdk-Content-Sha256", "Host"]), TEXTS | st.just(TIME)),
    access=TEXTS | st.just("ak"),
    names=TEXTS | st.sampled_from(["host", "x-sdk-date", "host;x-sdk-date"]),
    signature=TEXTS | st.just("00"),
    path=TEXTS,
    query=TEXTS,
    body=st.binary(max_size=9),
)
def test_whatever_comes_is_refused_in_order(
    headers: dict[str, str], access: str, names: str, signature: str, path: str, query: str, body: bytes
) -> None:
    given_headers = CIMultiDict(headers)
    given_headers["Authorization"] = f"SDK-HMAC-SHA256 Access={access}, SignedHeaders={names}, Signature={signature}"

    with pytest.raises(SignatureRefused):
        verify("GET", path, query, given_headers, body, SECRETS, AT_MS)
