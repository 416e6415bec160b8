"""Who signed a request: signatures made by the stock SDKs are found right, all others are refused."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from threading import Thread
from urllib.parse import parse_qsl

import fc2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy, MultiDict

from streams.gateway.edge import Refused, Request
from streams.gateway.fc.signatures import SKEW_MAX_S, signer

KEY, SECRET = "LTAI5tStreams", "a secret of thirty characters."
KEYS = {KEY: SECRET, "other": "another secret"}


class Caught:
    """A server that catches what a client sends, and answers anything."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        caught = self.requests

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                caught.append(request(self.command, self.path, dict(self.headers.items()), body))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_GET = do_PUT = do_POST = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                """Tests print nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def request(method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> Request:
    path, _, query = target.partition("?")
    given = CIMultiDictProxy(CIMultiDict(headers))
    return Request(method, path, query, MultiDict(parse_qsl(query, keep_blank_values=True)), given, body, "id-1")


def time_ms(signed: Request) -> int:
    """When *signed* was, by its own account."""
    date = signed.headers.get("x-acs-date")
    if date is None:
        return int(parsedate_to_datetime(signed.headers["Date"]).timestamp() * 1000)
    return int(datetime.strptime(date, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp() * 1000)


def refusal(signed: Request, now_ms: int | None = None) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        signer(signed, KEYS, time_ms(signed) if now_ms is None else now_ms)
    return refused.value.status, refused.value.code


CALLS = [
    "invoke_3_0", "configure_3_0", "list_3_0", "invoke_2_0", "list_2_0",
    "invoke_oldest", "configure_oldest", "list_oldest",
]  # fmt: skip
"""Functions of `fc_sdks`."""
ACS3, FC = CALLS[:5], CALLS[5:]


@pytest.fixture(scope="module")
def signed() -> Iterator[Callable[[str], Request]]:
    """What a call of an SDK sends."""
    caught = Caught()

    def signed(call: str) -> Request:
        getattr(import_module(".fc_sdks", __package__), call)(caught.address)
        return caught.requests[-1]

    yield signed
    caught.close()


Signed = Callable[[str], Request]


@pytest.mark.parametrize("call", CALLS)
def test_what_a_stock_sdk_signs_is_its_key_s(signed: Signed, call: str) -> None:
    one = signed(call)

    assert signer(one, KEYS, time_ms(one)) == KEY


@pytest.mark.parametrize("call", CALLS)
def test_another_secret_or_key_is_refused(signed: Signed, call: str) -> None:
    one = signed(call)

    with pytest.raises(Refused, match="The request signature we calculated does not match") as wrong:
        signer(one, {KEY: "a wrong secret"}, time_ms(one))
    with pytest.raises(Refused, match=f"invalid access key ID '{KEY}'") as unknown:
        signer(one, {"other": SECRET}, time_ms(one))

    assert (wrong.value.status, wrong.value.code) == (403, "SignatureNotMatch")
    assert (unknown.value.status, unknown.value.code) == (403, "InvalidAccessKeyID")


@pytest.mark.parametrize("call", CALLS)
def test_nothing_that_was_signed_can_be_changed(signed: Signed, call: str) -> None:
    one = signed(call)
    headers = dict(one.headers)
    invocation_type = {"x-fc-invocation-type": "Sync"} if "x-fc-invocation-type" in one.headers else {"Date": "now"}

    assert refusal(request("PATCH", one.raw_path, headers, one.body), time_ms(one)) == (403, "SignatureNotMatch")
    assert refusal(request(one.method, one.raw_path + "x", headers, one.body), time_ms(one)) == (
        403,
        "SignatureNotMatch",
    )
    if call in FC or "x-fc-invocation-type" in one.headers:
        changed = CIMultiDict(one.headers)
        changed.update(invocation_type)
        assert refusal(request(one.method, one.raw_path, changed, one.body), time_ms(one)) == (403, "SignatureNotMatch")


@pytest.mark.parametrize("call", ACS3)
def test_acs3_covers_body_and_query(signed: Signed, call: str) -> None:
    one = signed(call)
    headers = dict(one.headers)

    other_body = request(one.method, f"{one.raw_path}?{one.raw_query}", headers, one.body + b"x")
    other_query = request(one.method, f"{one.raw_path}?{one.raw_query}&limit=99", headers, one.body)

    assert refusal(other_body) == refusal(other_query) == (403, "SignatureNotMatch")


@pytest.mark.parametrize("name", ["host", "x-acs-date", "x-acs-content-sha256"])
def test_acs3_must_cover_time_body_and_host(signed: Signed, name: str) -> None:
    one = signed("invoke_3_0")
    headers = dict(one.headers)
    headers["Authorization"] = headers["Authorization"].replace(f"{name};", "")

    assert refusal(request(one.method, f"{one.raw_path}?{one.raw_query}", headers, one.body)) == (
        403,
        "SignatureNotMatch",
    )


@pytest.mark.parametrize("call", FC)
def test_the_digest_of_a_body_must_be_the_body_s(signed: Signed, call: str) -> None:
    one = signed(call)

    def with_digest_of(body: bytes) -> Request:
        digest = base64.b64encode(hashlib.md5(body).digest()).decode()
        headers = {name.lower(): value for name, value in one.headers.items()} | {"content-md5": digest}
        headers["authorization"] = fc2.auth.Auth(KEY, SECRET).sign_request(one.method, one.raw_path, headers)
        return request(one.method, one.raw_path, headers, one.body)

    assert signer(with_digest_of(one.body), KEYS, time_ms(one)) == KEY
    assert refusal(with_digest_of(one.body + b"x")) == (403, "SignatureNotMatch")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_signature_is_good_for_a_quarter_of_an_hour(signed: Signed, call: str, sign: int) -> None:
    one = signed(call)

    assert signer(one, KEYS, time_ms(one) + sign * SKEW_MAX_S * 1000) == KEY
    assert refusal(one, time_ms(one) + sign * (SKEW_MAX_S * 1000 + 1)) == (403, "AccessDenied")


@pytest.mark.parametrize(("call", "name"), [("invoke_3_0", "Authorization"), ("invoke_3_0", "x-acs-date"),
                                            ("invoke_oldest", "Authorization"), ("invoke_oldest", "Date")])  # fmt: skip
def test_a_missing_header_is_named(signed: Signed, call: str, name: str) -> None:
    one = signed(call)
    headers = CIMultiDict(one.headers)
    del headers[name]

    with pytest.raises(Refused, match=f"required HTTP header {name} was not specified") as refused:
        signer(request(one.method, one.raw_path, headers, one.body), KEYS, time_ms(one))

    assert (refused.value.status, refused.value.code) == (400, "MissingRequiredHeader")


HEADERS = st.sampled_from(["Authorization", "Date", "x-acs-date", "x-acs-content-sha256", "content-md5", "x-fc-ü", "x"])
VALUES = st.text(max_size=20) | st.sampled_from(
    [
        f"FC {KEY}:{'A' * 43}=",
        f"ACS3-HMAC-SHA256 Credential={KEY},SignedHeaders=host;x-acs-date;x-acs-content-sha256,Signature={'0' * 64}",
        f"ACS3-HMAC-SHA256 Credential=\udcff,SignedHeaders=,Signature={'0' * 64}",
        "Mon, 01 Jan 0001 00:00:00 -0000",
        "9999-99-99T99:99:99Z",
        "0001-01-01T00:00:00Z",
        hashlib.sha256(b"").hexdigest(),
    ]
)


@given(
    st.dictionaries(HEADERS, VALUES, max_size=6),
    st.sampled_from(["/a", "/%ff\udc80"]),
    st.text(alphabet="ab=&%f;+\udc80ü", max_size=8),
    st.sampled_from([b"", b"x"]),
)
def test_whatever_is_in_the_headers_is_refused(headers: dict[str, str], path: str, query: str, body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        signer(request("GET", f"{path}?{query}", headers, body), KEYS, 0)

    assert refused.value.status in (400, 403)
