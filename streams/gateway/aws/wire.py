"""How AWS Lambda's API speaks: errors as its SDKs expect them, and request bodies checked in its order and words.

Sources and marks as in `streams/providers/aws.py`; shapes, bounds and patterns are those of botocore's service model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import orjson

from streams.gateway.edge import JSON, Refused, Reply, Request
from streams.providers.base import plain

REQUEST_ID = "x-amzn-RequestId"
_ERROR_TYPE = "x-amzn-ErrorType"

_CAPITAL = {"ResourceNotFoundException", "ServiceException", "AccessDeniedException", "SerializationException"}
"""Errors whose document says ``Message``; the others' say ``message`` [D, V]."""

RETRY_AFTER_S = "1"


def reply(request: Request, status: int, document: object) -> Reply:
    """A JSON reply."""
    return Reply(status, orjson.dumps(document), JSON, {REQUEST_ID: request.request_id})


def no_content(request: Request) -> Reply:
    return Reply(204, headers={REQUEST_ID: request.request_id})


def error(refusal: Refused, request_id: str) -> Reply:
    """The document and the header by which SDKs know an error."""
    name = "Message" if refusal.code in _CAPITAL else "message"
    message = plain(refusal.message) or None
    headers = {REQUEST_ID: request_id, _ERROR_TYPE: refusal.code}
    if refusal.status == 429 and refusal.members.get("Reason") == "CallerRateLimitExceeded":
        headers["Retry-After"] = RETRY_AFTER_S
    return Reply(refusal.status, orjson.dumps({**refusal.members, name: message}), JSON, headers)


# -- errors ----------------------------------------------------------------------------------------------------------


def invalid(message: str) -> Refused:
    return Refused(400, "InvalidParameterValueException", message, Type="User")


def validation(faults: Collection[str]) -> Refused:
    """What AWS's framework refuses before its service sees it: all *faults* at once, and no Type [V]."""
    plural = "" if len(faults) == 1 else "s"
    message = f"{len(faults)} validation error{plural} detected: {'; '.join(faults)}"
    return Refused(400, "ValidationException", message)


def not_found(message: str) -> Refused:
    return Refused(404, "ResourceNotFoundException", message, Type="User")


def function_not_found(arn: str) -> Refused:
    return not_found(f"Function not found: {arn}")


def conflict(message: str) -> Refused:
    return Refused(409, "ResourceConflictException", message, Type="User")


def unreadable(message: str) -> Refused:
    return Refused(400, "InvalidRequestContentException", message, Type="User")


def too_large(message: str) -> Refused:
    return Refused(413, "RequestEntityTooLargeException", message, Type="User")


def stale_revision() -> Refused:
    message = (
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
    )
    return Refused(412, "PreconditionFailedException", message, Type="User")


# -- what a request holds --------------------------------------------------------------------------------------------


def fault(value: object, at: str, constraint: str) -> str:
    """One of the faults of a `validation`."""
    shown = "null" if value is None else f"'{value}'"
    return f"Value {shown} at '{at}' failed to satisfy constraint: Member must {constraint}"


def pattern_fault(value: str, at: str, pattern: str) -> str:
    return fault(value, at, f"satisfy regular expression pattern: {pattern}")


class Members:
    """The members of a JSON object in a request. A wrong kind is refused at once; broken constraints are gathered, and
    `check` refuses them all together, as AWS does."""

    def __init__(self, document: object, path: str = "", faults: list[str] | None = None) -> None:
        if document is not None and not isinstance(document, Mapping):
            raise _wrong_kind(document, "a structure")
        self._document: Mapping[str, Any] = document or {}
        self._path = path
        self.faults = [] if faults is None else faults
        """Broken constraints, here and in the structures inside."""

    @classmethod
    def of(cls, request: Request) -> Members:
        """The body of *request*; an empty one is an empty object."""
        try:
            return cls(request.json())
        except ValueError as wrong:
            raise unreadable(f"Could not parse request body into json: {wrong}") from wrong

    def __contains__(self, name: str) -> bool:
        return self._document.get(name) is not None

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._document)

    def fault(self, text: str) -> None:
        self.faults.append(text)

    def check(self) -> None:
        """Raises `Refused` if any constraint was broken so far."""
        if self.faults:
            raise validation(self.faults)

    def at(self, name: str) -> str:
        """How AWS names this member in its messages."""
        return f"{self._path}{name[0].lower()}{name[1:]}"

    def text(
        self,
        name: str,
        *,
        required: bool = False,
        pattern: re.Pattern[str] | None = None,
        shown_pattern: str = "",
        chars_max: int | None = None,
        choices: Collection[str] = (),
    ) -> str | None:
        value = self._document.get(name)
        if value is None:
            self._require(required, name)
            return None
        if not isinstance(value, str):
            raise _wrong_kind(value, "a String")
        if chars_max is not None and len(value) > chars_max:
            self.fault(fault(value, self.at(name), f"have length less than or equal to {chars_max}"))
        if pattern is not None and pattern.fullmatch(value) is None:
            self.fault(pattern_fault(value, self.at(name), shown_pattern or pattern.pattern))
        if choices and value not in choices:
            self.fault(fault(value, self.at(name), f"satisfy enum value set: [{', '.join(choices)}]"))
        return value

    def integer(self, name: str, minimum: int = 0, maximum: int | None = None, *, required: bool = False) -> int | None:
        value = self._document.get(name)
        if value is None:
            self._require(required, name)
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong_kind(value, "an Integer")
        if value < minimum:
            self.fault(fault(value, self.at(name), f"have value greater than or equal to {minimum}"))
        if maximum is not None and value > maximum:
            self.fault(fault(value, self.at(name), f"have value less than or equal to {maximum}"))
        return value

    def flag(self, name: str) -> bool:
        value = self._document.get(name, False)
        if not isinstance(value, bool | None):
            raise _wrong_kind(value, "a Boolean")
        return bool(value)

    def structure(self, name: str) -> Members:
        """A structure inside this one; an empty one when absent."""
        return Members(self._document.get(name), f"{self.at(name)}.", self.faults)

    def texts(self, name: str) -> dict[str, str]:
        """A map of texts."""
        value = self._document.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise _wrong_kind(value, "a map")
        for text in value.values():
            if not isinstance(text, str):
                raise _wrong_kind(text, "a String")
        return dict(value)

    def shown(self, name: str, kind: type[dict[str, Any]] | type[list[Any]]) -> Any:
        """A structure or a list that is only shown again. None when absent."""
        value = self._document.get(name)
        if value is not None and not isinstance(value, kind):
            raise _wrong_kind(value, "a list" if kind is list else "a structure")
        return value

    def _require(self, required: bool, name: str) -> None:
        if required:
            self.fault(fault(None, self.at(name), "not be null"))


def _wrong_kind(value: object, wanted: str) -> Refused:
    """In the words of AWS's parser [T]."""
    kinds: dict[type, str] = {
        str: "STRING_VALUE",
        bool: "TRUE_VALUE" if value else "FALSE_VALUE",
        int: "NUMBER_VALUE",
        float: "NUMBER_VALUE",
        list: "START_ARRAY",
        dict: "START_OBJECT",
        type(None): "NULL_VALUE",
    }
    kind = kinds.get(type(value), "STRING_VALUE")
    return Refused(400, "SerializationException", f"{kind} can not be converted to {wanted}")


# -- pages -----------------------------------------------------------------------------------------------------------


def page(request: Request, names: Collection[str], items_max: int) -> tuple[list[str], str | None]:
    """The *names* that a list shows in this reply, in order, and the marker of the next page.

    The marker is the last name shown, so a page is right whatever has changed before it. Raises `Refused`.
    """
    text, count = request.query.get("MaxItems"), items_max if items_max <= 50 else 50
    if text is not None:
        if re.fullmatch(r"-?\d{1,9}", text, re.ASCII) is None:
            raise Refused(400, "SerializationException", "STRING_VALUE can not be converted to an Integer")
        count = int(text)
        if not 1 <= count <= items_max:
            bound = "greater than or equal to 1" if count < 1 else f"less than or equal to {items_max}"
            raise validation([fault(count, "maxItems", f"have value {bound}")])
    marker = request.query.get("Marker", "")
    left = [name for name in sorted(names) if name > marker]
    shown = left[:count]
    return shown, shown[-1] if len(left) > count else None


def paged(document: dict[str, Any], marker: str | None) -> dict[str, Any]:
    """*document*, with the *marker* of the next page if there is one."""
    return document if marker is None else {**document, "NextMarker": marker}
