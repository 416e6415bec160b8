"""Giving deliveries to services outside Kafka: `aws` SQS, SNS, EventBridge and S3, `alibaba` MNS and EventBridge,
`huawei` SMN, OBS and DIS.

When to try again, and what becomes of what nobody took, is `engine.deliveries`' business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Protocol

from streams.core.model import Delivery, Refusal, Service, ServiceKind
from streams.destinations.alibaba import Alibaba
from streams.destinations.aws import Aws
from streams.destinations.huawei import Huawei

log = logging.getLogger(__name__)

SEND_S = 10.0
"""A service that has not taken a delivery by then has not taken it."""


class Cloud(Protocol):
    """The services of one cloud."""

    async def send(self, delivery: Delivery, service: Service) -> Refusal | None:
        """Give *delivery* to *service*; None once it has it."""

    async def close(self) -> None: ...


class Destinations:
    """All services. *environ* has the credentials, where the clouds' own tools look for them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        aws, alibaba, huawei = Aws(), Alibaba(environ), Huawei(environ)
        self._clouds: tuple[Cloud, ...] = (aws, alibaba, huawei)
        self._senders: dict[ServiceKind, Cloud] = {
            "sqs": aws,
            "sns": aws,
            "eventbridge": aws,
            "s3": aws,
            "mns-queue": alibaba,
            "mns-topic": alibaba,
            "fc-eventbridge": alibaba,
            "smn": huawei,
            "obs": huawei,
            "dis": huawei,
        }

    async def close(self) -> None:
        for cloud in self._clouds:
            await cloud.close()

    async def send(self, delivery: Delivery, service: Service) -> Refusal | None:
        """Give *delivery* to *service*: None once it has it. Never raises, and takes at most `SEND_S` seconds."""
        try:
            async with asyncio.timeout(SEND_S):
                return await self._senders[service.kind].send(delivery, service)
        except TimeoutError:
            return Refusal(f"No answer within {SEND_S:g} s.", "Timeout")
        except Exception as error:
            log.exception("a delivery to %s failed in a way that nobody thought of", service.kind)
            return Refusal(f"{type(error).__name__}: {error}", type(error).__name__, may_pass=False)
