"""Alibaba Cloud's services: queues and topics of MNS ("Simple Message Queue"), and EventBridge.

Sources, read by November 2026 (marks in `providers.base`): [D] the page on result callbacks of Function Compute; [C]
aliyun-mns-sdk 1.3.0 and alibabacloud_eventbridge 1.3.8, for requests and signatures.

- MNS gets the record as a message: base64 in a queue, where the SDKs expect that, plain in a topic [C]. [G] That the
  cloud itself writes base64 into queues.
- EventBridge gets a CloudEvent of source ``acs:fc`` and type ``fc:AsyncInvoke:succeeded`` [D]; [G] ``…:failed``.

Who we are is told as to every program on Alibaba's SDKs: ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET
and, for temporary keys, ALIBABA_CLOUD_SECURITY_TOKEN.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any
from xml.sax.saxutils import escape

import orjson

from streams.core.model import Delivery, Refusal, Service
from streams.destinations.http import Http, signed_sha1, xml_error

_MNS_VERSION = "2015-06-06"
_XMLNS = "http://mns.aliyuncs.com/doc/v1/"
_PUT_EVENTS = "/openapi/putEvents"
_EVENTS = "application/cloudevents-batch+json; charset=utf-8"


class Alibaba:
    """Senders for one account's keys, which are in *environ*."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._key = environ.get("ALIBABA_CLOUD_ACCESS_KEY_ID", "")
        self._secret = environ.get("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "")
        self._token = environ.get("ALIBABA_CLOUD_SECURITY_TOKEN", "")
        self._http = Http()

    async def close(self) -> None:
        await self._http.close()

    async def send(self, delivery: Delivery, service: Service) -> Refusal | None:
        """Give *delivery* to *service*; None once it has it."""
        if not self._key or not self._secret:
            return Refusal("ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET are not set.", "NoKeys")
        if service.kind == "fc-eventbridge":
            return await self._put_event(delivery, service)
        return await self._send_message(delivery, service)

    async def _send_message(self, delivery: Delivery, service: Service) -> Refusal | None:
        in_queue = service.kind == "mns-queue"
        path = f"/{'queues' if in_queue else 'topics'}/{service.name}/messages"
        body = message_xml(delivery.body, in_queue)
        headers = {
            "Content-MD5": base64.b64encode(hashlib.md5(body).hexdigest().encode()).decode(),
            "Content-Type": "text/xml;charset=UTF-8",
            "Date": formatdate(usegmt=True),
        }
        signed = "\n".join(("POST", *headers.values(), f"x-mns-version:{_MNS_VERSION}", path))
        headers |= {
            "x-mns-version": _MNS_VERSION,
            "Authorization": f"MNS {self._key}:{signed_sha1(self._secret, signed)}",
        }
        if self._token:
            headers["security-token"] = self._token
        answer = await self._http.send("POST", f"{service.endpoint}{path}", headers, body, xml_error)
        return answer if isinstance(answer, Refusal) else None

    async def _put_event(self, delivery: Delivery, service: Service) -> Refusal | None:
        body = orjson.dumps([cloud_event(delivery, service)])
        headers = {
            "Content-Type": _EVENTS,
            "Date": formatdate(usegmt=True),
            "x-acs-signature-method": "HMAC-SHA1",
            "x-acs-signature-nonce": uuid.uuid4().hex,
            "x-acs-signature-version": "1.0",
            "x-eventbridge-version": "2015-06-06",
        }
        if self._token:
            headers |= {"x-acs-accesskey-id": self._key, "x-acs-security-token": self._token}
        ours = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-acs"))
        signed = f"POST\n\n{_EVENTS}\n{headers['Date']}\n{ours}{_PUT_EVENTS}"
        headers["Authorization"] = f"acs:{self._key}:{signed_sha1(self._secret, signed)}"
        answer = await self._http.send("POST", f"{service.endpoint}{_PUT_EVENTS}", headers, body, _json_error)
        return answer if isinstance(answer, Refusal) else _failed_entry(answer.body)


# -- envelopes -------------------------------------------------------------------------------------------------------


def message_xml(body: bytes, in_queue: bool) -> bytes:
    """A message of MNS."""
    text = base64.b64encode(body).decode() if in_queue else escape(body.decode())
    return (
        f'<?xml version="1.0" encoding="utf-8"?><Message xmlns="{_XMLNS}"><MessageBody>{text}</MessageBody></Message>'
    ).encode()


def cloud_event(delivery: Delivery, service: Service) -> dict[str, Any]:
    """The CloudEvent of a record. EventBridge itself adds when and from where it was published."""
    at = datetime.fromtimestamp(delivery.ended_at_ms // 1000, UTC)
    return {
        "specversion": "1.0",
        "id": delivery.request_id,
        "source": "acs:fc",
        "type": f"fc:AsyncInvoke:{'succeeded' if delivery.succeeded else 'failed'}",
        "subject": delivery.resource,
        "time": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "datacontenttype": "application/json",
        "data": orjson.Fragment(delivery.body),
        "aliyuneventbusname": service.name,
        "aliyunaccountid": service.account,
        "aliyunregionid": service.region,
    }


# -- answers ---------------------------------------------------------------------------------------------------------


def _json_error(body: bytes) -> tuple[str, str]:
    answer = orjson.loads(body)
    return str(answer["code"]), str(answer.get("message", ""))


def _failed_entry(body: bytes) -> Refusal | None:
    """What EventBridge says of the one event it got [C]."""
    try:
        entries = orjson.loads(body).get("entryList") or []
        code, message = next(
            ((e["errorCode"], e.get("errorMessage") or "") for e in entries if e.get("errorCode")), ("", "")
        )
    except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError):
        return Refusal("EventBridge answers what is no answer of it.", "BadAnswer")
    return Refusal(message, code, may_pass=False) if code else None
