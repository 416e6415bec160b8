"""Huawei Cloud's and OTC's services: SMN topics, OBS buckets, DIS streams.

Sources, read by November 2026 (marks in `providers.base`): [D] the page on notifications of FunctionGraph; [C]
huaweicloudsdksmn and huaweicloudsdkdis 3.1.219 and esdk-obs-python 3.26.6, for requests and signatures.

- SMN gets the record as a message without a subject. [G]
- OBS gets an object ``<prefix>/<request id>.json`` [G] that is deleted after *expires* days [D].
- DIS gets the record as data, with the request id as its partition key. [G]

Who we are is told as to every program on Huawei's SDK: HUAWEICLOUD_SDK_AK, HUAWEICLOUD_SDK_SK and, for temporary keys,
HUAWEICLOUD_SDK_SECURITY_TOKEN.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from streams.core.model import Delivery, Refusal, Service
from streams.destinations.http import Http, signed_sha1, xml_error
from streams.destinations.sdk_hmac import ALGORITHM, TIME_FORMAT, sha256, signature

_SIGNED = ("content-type", "host", "x-project-id", "x-sdk-date")


class Huawei:
    """Senders for one account's keys, which are in *environ*."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._key = environ.get("HUAWEICLOUD_SDK_AK", "")
        self._secret = environ.get("HUAWEICLOUD_SDK_SK", "")
        self._token = environ.get("HUAWEICLOUD_SDK_SECURITY_TOKEN", "")
        self._http = Http()

    async def close(self) -> None:
        await self._http.close()

    async def send(self, delivery: Delivery, service: Service) -> Refusal | None:
        """Give *delivery* to *service*; None once it has it."""
        if not self._key or not self._secret:
            return Refusal("HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK are not set.", "NoKeys")
        match service.kind:
            case "smn":
                path = f"/v2/{service.account}/notifications/topics/{quote(service.name, safe='')}/publish"
                return await self._post(service, path, {"message": delivery.body.decode()})
            case "dis":
                record = {"data": base64.b64encode(delivery.body).decode(), "partition_key": delivery.request_id}
                document = {"stream_name": service.name, "records": [record]}
                return await self._post(service, f"/v2/{service.account}/records", document)
            case _:
                return await self._put_object(delivery, service)

    async def _post(self, service: Service, path: str, document: dict[str, Any]) -> Refusal | None:
        assert service.endpoint is not None
        body, time = orjson.dumps(document), f"{datetime.now(UTC):{TIME_FORMAT}}"
        headers = {
            "content-type": "application/json;charset=utf8",
            "host": urlsplit(service.endpoint).netloc,
            "x-project-id": service.account,
            "x-sdk-date": time,
        }
        signed = signature(self._secret, time, "POST", path, "", headers, _SIGNED, sha256(body))
        headers["authorization"] = (
            f"{ALGORITHM} Access={self._key}, SignedHeaders={';'.join(_SIGNED)}, Signature={signed}"
        )
        if self._token:
            headers["x-security-token"] = self._token
        answer = await self._http.send("POST", service.endpoint + path, headers, body, _error)
        return answer if isinstance(answer, Refusal) else _failed_record(answer.body)

    async def _put_object(self, delivery: Delivery, service: Service) -> Refusal | None:
        assert service.endpoint is not None
        key = quote(object_key(delivery, service))
        headers = {"Content-Type": "application/json", "Date": formatdate(usegmt=True)}
        own = {}
        if service.expires_days:
            own["x-obs-expires"] = str(service.expires_days)
        if self._token:
            own["x-obs-security-token"] = self._token
        text = "".join(f"{name}:{own[name]}\n" for name in sorted(own))
        signed = f"PUT\n\n{headers['Content-Type']}\n{headers['Date']}\n{text}/{service.name}/{key}"
        headers |= own | {"Authorization": f"OBS {self._key}:{signed_sha1(self._secret, signed)}"}
        url = f"{bucket_url(service.endpoint, service.name)}/{key}"
        answer = await self._http.send("PUT", url, headers, delivery.body, xml_error)
        return answer if isinstance(answer, Refusal) else None


def object_key(delivery: Delivery, service: Service) -> str:
    """The name of a record's object in a bucket."""
    prefix = service.prefix.strip("/")
    return f"{prefix}/{delivery.request_id}.json" if prefix else f"{delivery.request_id}.json"


def bucket_url(endpoint: str, bucket: str) -> str:
    """Where a bucket is: under a name of its own, unless the endpoint is an address, where there are no names."""
    parts = urlsplit(endpoint)
    try:
        ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        if parts.hostname != "localhost":
            return f"{parts.scheme}://{bucket}.{parts.netloc}"
    return f"{endpoint}/{bucket}"


# -- answers ---------------------------------------------------------------------------------------------------------


def _error(body: bytes) -> tuple[str, str]:
    """``code`` and ``message`` of SMN, ``error_code`` and ``error_msg`` of what is before it, ``errorCode`` of DIS."""
    answer = orjson.loads(body)
    code = answer.get("error_code") or answer.get("code") or answer["errorCode"]
    return str(code), str(answer.get("error_msg") or answer.get("message") or "")


def _failed_record(body: bytes) -> Refusal | None:
    """DIS takes requests some of whose records it does not take [C]; others have no such list."""
    try:
        records = orjson.loads(body).get("records") or []
        failed = next((r for r in records if r.get("error_code")), None)
    except (orjson.JSONDecodeError, AttributeError, TypeError):
        return None
    if failed is None:
        return None
    return Refusal(str(failed.get("error_message") or ""), str(failed["error_code"]))
