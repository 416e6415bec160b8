"""Signature Version 4, against signatures that botocore makes and against AWS's published example."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import botocore.auth
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from streams.gateway.sigv4 import SignatureRefused, Signed, canonical_request, signature, verify

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SECRETS = {KEY: SECRET}
NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)
URL = "http://127.0.0.1:8080/2015-03-31/functions/resize/invocations"


def signed_by_botocore(
    method: str = "POST",
    url: str = URL,
    body: bytes = b'{"a": 1}',
    headers: dict[str, str] | None = None,
    *,
    at: datetime = NOW,
    region: str = "us-east-1",
    service: str = "lambda",
    secret: str = SECRET,
) -> Signed:
    """A request as boto3 sends it."""
    request = AWSRequest(method, url, data=body, headers=headers or {})
    clock = botocore.auth.get_current_datetime
    botocore.auth.get_current_datetime = lambda *_, **__: at.replace(tzinfo=None)  # type: ignore[attr-defined]
    try:
        SigV4Auth(Credentials(KEY, secret), service, region).add_auth(request)
    finally:
        botocore.auth.get_current_datetime = clock  # type: ignore[attr-defined]
    parts = urlsplit(url)
    given = CIMultiDict(request.headers.items())
    given.setdefault("Host", parts.netloc)
    return Signed(method, parts.path, parts.query, CIMultiDictProxy(given), body)


def check(request: Signed, now_ms: int = NOW_MS) -> str:
    return verify(request, SECRETS, "us-east-1", "lambda", now_ms)


def changed(request: Signed, **headers: str | None) -> Signed:
    """*request* with other headers; None removes one."""
    given = CIMultiDict(request.headers)
    for name, value in headers.items():
        given.pop(name.replace("_", "-"), None)
        if value is not None:
            given[name.replace("_", "-")] = value
    return request._replace(headers=CIMultiDictProxy(given))


def test_the_published_example_gets_its_published_signature() -> None:
    # "Create a signed AWS API request", the example for IAM: canonical request and signature.
    headers = {
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        "Host": "iam.amazonaws.com",
        "X-Amz-Date": "20150830T123600Z",
    }
    request = Signed("GET", "/", "Action=ListUsers&Version=2010-05-08", CIMultiDictProxy(CIMultiDict(headers)), b"")
    names = ["content-type", "host", "x-amz-date"]

    assert canonical_request(request, names).endswith(
        "\n\ncontent-type;host;x-amz-date\ne3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    assert (
        signature(request, names, "20150830T123600Z", ("20150830", "us-east-1", "iam"), SECRET)
        == "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


@pytest.mark.parametrize(
    "url",
    [
        URL,
        f"{URL}?Qualifier=prod",
        "http://127.0.0.1/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af%3A%24LATEST",
        "http://127.0.0.1/2015-03-31/functions/?Marker=a%2Fb%20c&MaxItems=10&Empty=",
        "http://127.0.0.1/2019-09-25/functions/f/event-invoke-config/list?b=2&a=1&a=0",
    ],
)
def test_what_botocore_signs_is_let_in(url: str) -> None:
    assert check(signed_by_botocore(url=url)) == KEY


@settings(max_examples=100)
@given(
    st.binary(max_size=50),
    st.dictionaries(
        st.sampled_from(["X-Amz-Invocation-Type", "X-Amz-Client-Context"]), st.sampled_from(["a", " b  c "])
    ),
    st.lists(st.tuples(st.sampled_from("abc"), st.text("a-_.~$ /é", max_size=5)), max_size=3),
)
def test_whatever_is_signed_rightly_is_let_in(
    body: bytes, headers: dict[str, str], query: list[tuple[str, str]]
) -> None:
    text = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in query)

    assert check(signed_by_botocore(url=f"{URL}?{text}", body=body, headers=headers)) == KEY


def _moved(request: Signed) -> Signed:
    return request._replace(raw_path="/2015-03-31/functions/other/invocations")


@pytest.mark.parametrize(
    "tamper",
    [
        lambda request: request._replace(body=b"{}"),
        lambda request: request._replace(method="PUT"),
        lambda request: request._replace(raw_query="Qualifier=prod"),
        _moved,
        lambda request: changed(request, X_Amz_Invocation_Type="DryRun"),
        lambda request: changed(request, Host="elsewhere"),
    ],
)
def test_what_was_changed_on_the_way_is_refused(tamper: Callable[[Signed], Signed]) -> None:
    request = signed_by_botocore(headers={"X-Amz-Invocation-Type": "Event"})

    with pytest.raises(SignatureRefused, match="signature we calculated does not match") as refused:
        check(tamper(request))
    assert (refused.value.status, refused.value.code) == (403, "InvalidSignatureException")


@pytest.mark.parametrize(
    ("request_", "status", "code", "message"),
    [
        (changed(signed_by_botocore(), Authorization=None), 403, "MissingAuthenticationTokenException", "Missing Auth"),
        (changed(signed_by_botocore(), Authorization="Bearer x"), 400, "IncompleteSignatureException", "Unsupported"),
        (
            changed(signed_by_botocore(), Authorization="AWS4-HMAC-SHA256 Credential=a"),
            400,
            "IncompleteSignatureException",
            "Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders'",
        ),
        (changed(signed_by_botocore(), X_Amz_Date=None), 400, "IncompleteSignatureException", "'X-Amz-Date'"),
        (
            changed(signed_by_botocore(), X_Amz_Date="20261127T9"),
            400,
            "IncompleteSignatureException",
            "Date must be in ISO-8601 'basic format'. Got '20261127T9'.",
        ),
        (signed_by_botocore(secret="wrong"), 403, "InvalidSignatureException", "does not match"),
        (signed_by_botocore(region="eu-west-1"), 403, "InvalidSignatureException", "valid region, not 'eu-west-1'"),
        (signed_by_botocore(service="s3"), 403, "InvalidSignatureException", "scoped to correct service: 'lambda'"),
        (
            signed_by_botocore(at=datetime(2026, 11, 27, 11, 54, 59, tzinfo=UTC)),
            403,
            "InvalidSignatureException",
            "Signature expired: 20261127T115459Z is now earlier than 20261127T115500Z (20261127T120000Z - 5 min.)",
        ),
        (
            signed_by_botocore(at=datetime(2026, 11, 27, 12, 5, 1, tzinfo=UTC)),
            403,
            "InvalidSignatureException",
            "Signature not yet current: 20261127T120501Z is still later than 20261127T120500Z",
        ),
    ],
)
def test_refusals_are_those_of_aws(request_: Signed, status: int, code: str, message: str) -> None:
    with pytest.raises(SignatureRefused) as refused:
        check(request_)

    assert (refused.value.status, refused.value.code) == (status, code)
    assert message in str(refused.value)


def test_a_key_that_nobody_has_is_refused() -> None:
    with pytest.raises(SignatureRefused, match="security token included in the request is invalid") as refused:
        verify(signed_by_botocore(), {"other": SECRET}, "us-east-1", "lambda", NOW_MS)

    assert (refused.value.status, refused.value.code) == (403, "UnrecognizedClientException")


def test_a_refusal_repeats_no_secret_of_another_scheme() -> None:
    with pytest.raises(SignatureRefused) as refused:
        check(changed(signed_by_botocore(), Authorization="AWS4-HMAC-SHA256 token-in-the-wrong-place"))

    assert "token-in-the-wrong-place" not in str(refused.value)


@settings(max_examples=300)
@given(
    st.sampled_from(
        ["", "AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261127/us-east-1/lambda/aws4_request,"]
    ),
    st.text(max_size=60),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_whatever_the_headers_say_it_is_refused_in_order(prefix: str, rest: str, date: str, path: str) -> None:
    request = signed_by_botocore()._replace(raw_path=f"/{path}", raw_query=path)

    for authorization in (prefix + rest, f"{prefix}SignedHeaders=host;{rest},Signature={rest}"):
        with pytest.raises(SignatureRefused):
            check(changed(request, Authorization=authorization, X_Amz_Date=date))
        with pytest.raises(SignatureRefused):
            check(changed(request, Authorization=authorization))
