"""A client of the schema registry's HTTP API (Confluent's; Apicurio and others speak it), as much of it as we use."""

from __future__ import annotations

import json
from base64 import b64encode
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
from yarl import URL

from streams.codec.errors import AvroError
from streams.errors import BrokerError, ConfigurationError

COMPATIBILITY = "FULL_TRANSITIVE"
"""Every version of a topic's schema can read what any other has written."""

Member = TypeVar("Member")

_SCHEMA_NOT_FOUND = 40403  # a 404 alone may also mean that the URL's path is wrong
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


class Registry:
    """The schema registry at *url*, which may carry a user and a password; close it, or use it as ``async with``.

    Raises ConfigurationError for what the operator must put right (address, credentials, an incompatible schema) and
    BrokerError when the registry does not answer, or not as it should. Every request may take *timeout_s* seconds.
    """

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        try:
            address = URL(url)
        except ValueError as error:
            raise ConfigurationError("The schema registry's URL cannot be parsed.") from error
        if address.scheme not in ("http", "https") or not address.host:
            raise ConfigurationError("The schema registry's URL must be like http://host:8081 or https://host/path.")
        self._url = address.with_user(None)
        self._headers = {"Accept": _CONTENT_TYPE, "Content-Type": _CONTENT_TYPE}
        if address.user:
            credentials = f"{address.user}:{address.password or ''}".encode()
            self._headers["Authorization"] = f"Basic {b64encode(credentials).decode()}"
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._texts: dict[int, str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def register(self, topic: str, schema: str) -> int:
        """Register *schema*, the text of an .avsc file, for the values of *topic* and answer its id.

        The same schema twice gives the same id. The subject's compatibility becomes FULL_TRANSITIVE first.
        """
        subject = f"{topic}-value"
        await self._request("PUT", f"config/{subject}", {"compatibility": COMPATIBILITY})
        answer = await self._request("POST", f"subjects/{subject}/versions", {"schema": schema})
        schema_id = _member(answer, "id", int)
        self._texts[schema_id] = schema
        return schema_id

    async def schema(self, schema_id: int) -> str:
        """The text of schema number *schema_id*. Raises AvroError when the registry does not have it."""
        if schema_id not in self._texts:
            answer = await self._request("GET", f"schemas/ids/{schema_id}")
            if answer is None:
                raise AvroError(f"The schema registry has no schema {schema_id}.")
            self._texts[schema_id] = _member(answer, "schema", str)
        return self._texts[schema_id]

    def fetched(self, schema_id: int) -> str | None:
        """The text of a schema that `schema` or `register` has met, else None."""
        return self._texts.get(schema_id)

    async def _request(self, method: str, path: str, body: object = None) -> Any:
        """The JSON of the answer, or None when the registry has no such schema."""
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout)
        url = self._url / path
        data = None if body is None else json.dumps(body)
        try:
            async with self._session.request(method, url, data=data) as response:
                status, text = response.status, await response.text()
        except TimeoutError:
            raise BrokerError(f"The schema registry took over {self._timeout.total} s for {method} {url}.") from None
        except (aiohttp.ClientError, UnicodeDecodeError) as error:
            raise BrokerError(f"The schema registry cannot be reached by {method} {url}: {error}") from error
        if status == 404 and _error(text).get("error_code") == _SCHEMA_NOT_FOUND:
            return None
        if status >= 400:
            raise _refusal(f"The schema registry answered {method} {url} with {status}", status, text)
        try:
            return json.loads(text)
        except ValueError:
            raise BrokerError(f"The schema registry answered {method} {url} with something that is not JSON.") from None


def _refusal(what: str, status: int, text: str) -> ConfigurationError | BrokerError:
    match status:
        case 401 | 403:
            return ConfigurationError(f"{what}: put user and password into its URL, or ask for the right to register.")
        case 404:
            return ConfigurationError(f"{what}: no registry has its API there; look at the path of its URL.")
        case 409:
            return ConfigurationError(f"{what}: the schema is not {COMPATIBILITY} with earlier ones. {_reason(text)}")
        case 422:
            return ConfigurationError(f"{what}: it does not accept the schema. {_reason(text)}")
        case _:
            return BrokerError(f"{what}. {_reason(text)}")


def _reason(text: str) -> str:
    """The message in an error's JSON body, or the beginning of the body."""
    return str(_error(text).get("message", text[:200]))[:2000]


def _error(text: str) -> dict[str, Any]:
    try:
        error = json.loads(text)
    except ValueError:
        return {}
    return error if isinstance(error, dict) else {}


def _member(answer: Any, name: str, kind: type[Member]) -> Member:
    member = answer.get(name) if isinstance(answer, dict) else None
    if isinstance(member, kind):
        return member
    raise BrokerError(f"The schema registry's answer has no {name}: is its URL that of a Confluent compatible API?")
