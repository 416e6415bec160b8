"""AWS's services: SQS, SNS, EventBridge and S3, in the envelopes that Lambda sends them.

Sources, read by November 2026 (marks in `providers.base`): [D] Lambda developer guide, "Capturing records of
asynchronous invocations"; [V] LocalStack's snapshots recorded against AWS (test_lambda_destinations); [N] captures.

- SQS gets the record as its body and no message attributes [V]; a dead-letter queue gets the event, and why as
  attributes: RequestID, ErrorCode (a Number) and ErrorMessage [V]. AWSTraceHeader comes with both [V].
- SNS gets the same as its message, without a subject [D].
- EventBridge: source ``lambda``, resources bus and function, in this order [V].
- S3: ``aws/lambda/async/<function>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<uuid>`` [D]. The uuid comes of the request id, so
  that a record that is delivered twice is one object.

Where the services are and who we are is told as to every program on AWS's SDK: AWS_ACCESS_KEY_ID, AWS_PROFILE, a role
of the machine; AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_SQS and so on for servers that are not AWS's.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from streams.core.model import Delivery, Refusal, Service

CONNECT_S = 3.0
READ_S = 8.0
MESSAGE_BYTES_MAX = 1_048_576
"""None of them takes more [D]; SNS and EventBridge themselves refuse what is too much for them."""
AT_ONCE = 64
"""Connections to one service in one region."""

_CLIENTS = {"sqs": "sqs", "sns": "sns", "eventbridge": "events", "s3": "s3"}
_THROTTLED = frozenset({"Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "SlowDown"})
_MISSING_QUEUE = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
_DETAIL_TYPE = "Lambda Function Invocation Result - "


class Aws:
    """Clients of AWS's services, each made when it is first needed."""

    def __init__(self) -> None:
        self._session: Any = None
        self._clients: dict[tuple[str, str], Any] = {}
        self._making = asyncio.Lock()
        self._open = AsyncExitStack()
        self._queue_urls: dict[tuple[str, str, str], str] = {}

    async def close(self) -> None:
        await self._open.aclose()

    async def send(self, delivery: Delivery, service: Service) -> Refusal | None:
        """Give *delivery* to *service*; None once it has it."""
        if len(delivery.body) > MESSAGE_BYTES_MAX and service.kind != "s3":
            return Refusal(f"A message has at most {MESSAGE_BYTES_MAX} bytes.", "MessageTooLong", may_pass=False)
        try:
            from botocore import exceptions
        except ImportError:
            return Refusal("Its client is not installed here: pip install 'invocation-streams[aws]'.", "ImportError")
        try:
            client = await self._client(_CLIENTS[service.kind], service.region)
            return await self._call(client, delivery, service)
        except exceptions.ClientError as error:
            return self._refused(error.response, service)
        except exceptions.BotoCoreError as error:  # away, or no credentials: somebody can put that right
            may_pass = not isinstance(error, exceptions.ParamValidationError)
            return Refusal(str(error), type(error).__name__, may_pass=may_pass)

    async def _call(self, client: Any, delivery: Delivery, service: Service) -> Refusal | None:
        match service.kind:
            case "sqs":
                await self._send_message(client, delivery, service)
            case "sns":
                await client.publish(
                    TopicArn=delivery.address, Message=_text(delivery), MessageAttributes=attributes(delivery)
                )
            case "eventbridge":
                return _failed_entry(await client.put_events(Entries=[event_entry(delivery)]))
            case _:
                await client.put_object(
                    Bucket=service.name,
                    Key=object_key(delivery),
                    Body=BytesIO(delivery.body),  # bytes would be sent in one piece
                    ContentType="application/octet-stream",
                )
        return None

    async def _send_message(self, client: Any, delivery: Delivery, service: Service) -> None:
        queue = service.region, service.account, service.name
        url = self._queue_urls.get(queue)
        if url is None:
            found = await client.get_queue_url(QueueName=service.name, QueueOwnerAWSAccountId=service.account)
            url = self._queue_urls[queue] = found["QueueUrl"]
        await client.send_message(
            QueueUrl=url,
            MessageBody=_text(delivery),
            MessageAttributes=attributes(delivery),
            MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": trace_header(delivery)}},
        )

    def _refused(self, response: dict[str, Any], service: Service) -> Refusal:
        code, message = response["Error"].get("Code", ""), response["Error"].get("Message", "")
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code in _MISSING_QUEUE:  # it may be made anew, under another URL
            self._queue_urls.pop((service.region, service.account, service.name), None)
        may_pass = status is None or status >= 500 or status == 429 or code in _THROTTLED
        return Refusal(message, code, status, may_pass)

    async def _client(self, name: str, region: str) -> Any:
        async with self._making:
            client = self._clients.get((name, region))
            if client is None:
                session = self._session = await asyncio.to_thread(_prepared, self._session, name)
                client = await self._open.enter_async_context(
                    session.create_client(name, region_name=region, config=_config())
                )
                self._clients[name, region] = client
            return client


def _prepared(session: Any, name: str) -> Any:
    """A session that has read all that a client for the service *name* needs: half a second of work, in a thread."""
    from aiobotocore.session import get_session

    session = session or get_session()
    loader = session.get_component("data_loader")
    loader.load_data("endpoints")
    loader.load_data("partitions")
    loader.load_service_model(name, "service-2")
    loader.load_service_model(name, "endpoint-rule-set-1")
    return session


def _config() -> Any:
    from aiobotocore.config import AioConfig

    return AioConfig(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"total_max_attempts": 1},  # when to try again is for the provider's rules
        max_pool_connections=AT_ONCE,
        request_checksum_calculation="when_required",  # other servers of this API know no trailing checksums
    )


# -- envelopes -------------------------------------------------------------------------------------------------------


def _text(delivery: Delivery) -> str:
    return delivery.body.decode()  # all of it is JSON


def attributes(delivery: Delivery) -> dict[str, dict[str, str]]:
    """The message attributes of a dead letter; a record has none."""
    if not delivery.is_event:
        return {}
    given = {"RequestID": {"DataType": "String", "StringValue": delivery.request_id}}
    if delivery.error_code is not None:
        given["ErrorCode"] = {"DataType": "Number", "StringValue": str(delivery.error_code)}
    if delivery.error_message:  # an attribute cannot be empty
        given["ErrorMessage"] = {"DataType": "String", "StringValue": delivery.error_message}
    return given


def trace_header(delivery: Delivery) -> str:
    """X-Ray's form of the trace the invocation came with, or of one that is made of its request id."""
    if delivery.traceparent is not None:
        _, trace, parent, flags = delivery.traceparent.split("-")[:4]  # later versions may have more
        sampled = int(flags, 16) & 1
    else:
        digest = hashlib.sha256(delivery.request_id.encode()).hexdigest()
        trace, parent, sampled = f"{delivery.ended_at_ms // 1000:08x}{digest[:24]}", digest[24:40], 0
    return f"Root=1-{trace[:8]}-{trace[8:]};Parent={parent};Sampled={sampled}"


def event_entry(delivery: Delivery) -> dict[str, Any]:
    """The entry of PutEvents."""
    return {
        "Source": "lambda",
        "DetailType": _DETAIL_TYPE + ("Success" if delivery.succeeded else "Failure"),
        "Detail": _text(delivery),
        "EventBusName": delivery.address,
        "Resources": [delivery.address, delivery.resource],
        "Time": datetime.fromtimestamp(delivery.ended_at_ms // 1000, UTC),
    }


def _failed_entry(answer: dict[str, Any]) -> Refusal | None:
    [entry] = answer["Entries"]
    if "ErrorCode" not in entry:
        return None
    may_pass = entry["ErrorCode"] == "InternalFailure" or entry["ErrorCode"] in _THROTTLED
    return Refusal(entry.get("ErrorMessage", ""), entry["ErrorCode"], None, may_pass)


def object_key(delivery: Delivery) -> str:
    """The name of a record's object in a bucket."""
    at = datetime.fromtimestamp(delivery.ended_at_ms // 1000, UTC)
    function = delivery.resource.split(":")[6]
    unique = uuid.uuid5(uuid.NAMESPACE_OID, delivery.request_id)
    return f"aws/lambda/async/{function}/{at:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{unique}"
