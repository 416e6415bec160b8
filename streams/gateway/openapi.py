"""The OpenAPI 3.1 document of the native API, made from its operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from streams import __version__

if TYPE_CHECKING:
    from streams.gateway.native import Operation

PROBLEM: Mapping[str, Any] = {
    "description": "A problem document (RFC 9457).",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_TEXT: Mapping[str, Any] = {"type": "string"}
_TIME: Mapping[str, Any] = {"type": ["string", "null"], "format": "date-time"}
_SCHEMAS: Mapping[str, Any] = {
    "Problem": {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT},
    },
    "Accepted": {"type": "object", "required": ["id"], "properties": {"id": _TEXT}},
    "Envelope": {
        "type": "object",
        "required": ["function", "payload"],
        "additionalProperties": False,
        "properties": {
            "function": _TEXT,
            "payload": {},
            "qualifier": {"type": ["string", "null"]},
            "id": {"type": ["string", "null"]},
            "delay_ms": {"type": ["integer", "null"], "minimum": 0},
        },
    },
    "Results": {
        "type": "object",
        "required": ["results"],
        "properties": {
            "results": {
                "type": "array",
                "items": {
                    "oneOf": [
                        {
                            "type": "object",
                            "required": ["status", "id"],
                            "properties": {"status": {"const": 202}, "id": _TEXT},
                        },
                        {"$ref": "#/components/schemas/Problem"},
                    ]
                },
            }
        },
    },
    "Invocation": {
        "type": "object",
        "required": ["id", "function", "provider", "status", "attempts", "accepted_at", "events"],
        "properties": {
            "id": _TEXT,
            "function": {"type": "string", "description": "The qualified ARN or URN."},
            "provider": {"enum": ["aws", "fc", "functiongraph"]},
            "status": {"enum": ["waiting", "running", "retrying", "succeeded", "failed"]},
            "ending": {"type": ["string", "null"]},
            "attempts": {"type": "integer"},
            "accepted_at": _TIME,
            "due_at": _TIME,
            "started_at": _TIME,
            "ended_at": _TIME,
            "error": {
                "type": ["object", "null"],
                "properties": {"kind": _TEXT, "type": _TEXT, "message": _TEXT},
            },
            "destination": {"type": ["string", "null"], "enum": ["delivered", "failed", None]},
            "events": {"type": "array", "items": {"type": "object", "required": ["fact"]}},
        },
    },
}


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The document that says what *operations* there are."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.route.path, {})[operation.route.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Streams",
            "version": __version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {"schemas": _SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _described(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.route.handler.__name__,
        "summary": operation.summary,
        "responses": {**operation.responses, "401": PROBLEM},
    }
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.request_body is not None:
        described["requestBody"] = operation.request_body
    return described
