"""Records as JSON: a provider's own document, byte for byte; dead letters and facts in a JSON of ours."""

from __future__ import annotations

import dataclasses
import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import click
import orjson

from streams.codec.facts import read_facts
from streams.core.model import Outcome
from streams.errors import ConfigurationError
from streams.functions import load_functions
from streams.providers import PROVIDERS
from streams.providers.base import Provider
from streams.settings import Settings

_SERVICE = re.compile(r"services/([^/.]+)(?:\.[^/]*)?/functions/")


def providers(settings: Settings) -> dict[str, Provider]:
    """The clouds by name, with the settings of the functions file: a few change how a document looks."""
    file = settings.functions_file()
    if file is None:
        return PROVIDERS
    try:
        functions = load_functions(file)
    except ConfigurationError as error:
        click.echo(f"Documents are written with default settings: {error}", err=True)
        return PROVIDERS
    return {name: functions.provider(name) for name in PROVIDERS}


class Documents:
    """Turns what a `Decoder` decoded into JSON."""

    def __init__(self, clouds: Mapping[str, Provider]) -> None:
        self._by_schema = {provider.record_schema: provider for provider in clouds.values()}

    def write(self, schema: str, datum: Mapping[str, Any]) -> bytes:
        """The JSON document of a record. Raises KeyError for a schema that has none."""
        match schema:
            case "DeadLetter":
                return orjson.dumps(_dead_letter(datum))
            case "Facts":
                return orjson.dumps(_facts(datum))
            case _:
                return self._by_schema[schema].document(datum)


def one_line(document: bytes) -> bytes:
    """*document* without line breaks. Only an event that a provider nests as it came has any, and only between tokens:
    inside of a string they would be escaped."""
    return document.replace(b"\r\n", b" ").replace(b"\n", b" ").replace(b"\r", b" ")


def pretty(document: bytes) -> str:
    """*document*, indented for people."""
    return json.dumps(json.loads(document), indent=2, ensure_ascii=False)


def _context(datum: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a record that says what it is about; each cloud has its own case."""
    context: Mapping[str, Any] = datum.get("requestContext") or datum.get("request_context") or datum
    return context


def request_id(schema: str, datum: Mapping[str, Any]) -> str:
    """Which request a record is about."""
    context = _context(datum)
    return str(context["requestId"] if "requestId" in context else context["request_id"])


def resource(schema: str, datum: Mapping[str, Any]) -> str:
    """Which function a record is about: its ARN or URN, or what a dead letter knows of it."""
    context = _context(datum)
    return str(context.get("functionArn") or context.get("function_urn") or context.get("function") or "")


def condition(schema: str, datum: Mapping[str, Any]) -> str:
    """In a few words what a record says: the provider's condition, a dead letter's reason, or the facts' names."""
    match schema:
        case "DeadLetter":
            return str(datum["reason"])
        case "Facts":
            return ", ".join(type(fact).__name__ for fact in read_facts(datum).happened)
        case _:
            return str(_context(datum)["condition"])


def is_about(function: str, resource: str) -> bool:
    """Whether *resource* (an ARN, URN or name) is *function* (the same, or only its name)."""
    named = _SERVICE.sub(r"\1/", resource)  # FC 2.0: service/function
    return function == resource or re.search(rf"(?:^|[:/]){re.escape(function)}(?:$|[:/])", named) is not None


def may_concern(wanted: str, key: bytes | None, value: bytes) -> bool:
    """Whether a record can be about request *wanted*: a look before it is decoded."""
    return key == wanted.encode() or wanted.encode() in value


def concerns(wanted: str, schema: str, datum: Mapping[str, Any]) -> bool:
    """Whether a record is about request *wanted*. The dead letter of what never became an invocation has an id of its
    own; the one its producer gave is in the original headers."""
    if request_id(schema, datum) == wanted:
        return True
    headers = datum["headers"] if schema == "DeadLetter" else ()
    return any(
        header["name"].lower() in ("request-id", "ce_id") and header["value"] == wanted.encode() for header in headers
    )


def _dead_letter(datum: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of Avro `DeadLetter`; bytes as text under their own name, else in base 64 under ``<name>_base64``."""
    headers = [{"name": header["name"], **_bytes("value", header["value"])} for header in datum["headers"]]
    rest = {name: value for name, value in datum.items() if name not in ("key", "value", "headers")}
    return {**rest, **_bytes("key", datum["key"]), "headers": headers, **_bytes("payload", datum["value"])}


def _bytes(name: str, value: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if value is None else value.decode()}
    except UnicodeDecodeError:
        assert value is not None
        return {f"{name}_base64": b64encode(value).decode()}


def _facts(datum: Mapping[str, Any]) -> dict[str, Any]:
    record = read_facts(datum)
    return {
        "request_id": record.request_id,
        "function": record.function,
        "provider": record.provider,
        "traceparent": record.traceparent,
        "facts": [{"fact": type(fact).__name__, **_fields(fact)} for fact in record.happened],
    }


def _fields(fact: Any) -> dict[str, Any]:
    """A fact's fields; of an outcome what a fact keeps of it."""
    fields = {field.name: getattr(fact, field.name) for field in dataclasses.fields(fact)}
    outcome = fields.get("outcome")
    if isinstance(outcome, Outcome):
        kept: Sequence[str] = ("kind", "status_code", "error_type", "error_message")
        fields["outcome"] = {name: getattr(outcome, name) for name in kept}
    return fields
