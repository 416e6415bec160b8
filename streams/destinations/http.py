"""What the clouds' HTTP services have in common: one request, and what its answer means."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import aiohttp
from yarl import URL

from streams.core.model import Refusal

CONNECT_S = 3.0
CONNECTIONS = 64
ANSWER_BYTES_MAX = 64 * 1024
"""So much of an answer is looked at."""

_CODE = re.compile(rb"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]*)</Message>")


class Answer(NamedTuple):
    """What a service answered."""

    status: int
    body: bytes


ReadError: TypeAlias = Callable[[bytes], tuple[str, str]]
"""The service's error code and message, of the body of an answer that refuses. Raises ValueError or KeyError."""


class Http:
    """Connections to HTTP services; none is made before it is needed."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, read_error: ReadError
    ) -> Answer | Refusal:
        """The answer when the service did what was asked. 5xx, 429 and trouble with the connection may pass."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_S),
                connector=aiohttp.TCPConnector(limit_per_host=CONNECTIONS),
                auto_decompress=False,
            )
        try:
            async with self._session.request(
                method, URL(url, encoded=True), headers=headers, data=body, allow_redirects=False
            ) as response:
                answer = Answer(response.status, await response.content.read(ANSWER_BYTES_MAX))
        except (aiohttp.InvalidURL, ValueError) as error:
            return Refusal(f"{url} is no URL: {error}", "InvalidURL", may_pass=False)
        except (aiohttp.ClientError, OSError) as error:
            return Refusal(str(error) or type(error).__name__, type(error).__name__)
        return answer if answer.status < 300 else _refused(answer, read_error)


def _refused(answer: Answer, read_error: ReadError) -> Refusal:
    try:
        code, message = read_error(answer.body)
    except (ValueError, KeyError, TypeError):
        code, message = "", answer.body[:200].decode("utf-8", "replace")
    return Refusal(message, code, answer.status, may_pass=answer.status >= 500 or answer.status == 429)


def signed_sha1(secret: str, text: str) -> str:
    """The signature of *text* in the clouds' older schemes."""
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha1")).decode()


def xml_error(body: bytes) -> tuple[str, str]:
    """Code and message of ``<Error><Code>…</Code><Message>…</Message></Error>``. Raises ValueError for all else."""
    code, message = _CODE.search(body), _MESSAGE.search(body)
    if code is None:
        raise ValueError("there is no error code in it")
    return code[1].decode(), message[1].decode() if message is not None else ""
