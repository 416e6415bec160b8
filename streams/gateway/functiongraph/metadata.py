"""What FunctionGraph tells of functions, as far as there is something to tell: their code is not here. Pure."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

from streams.core.model import Function, HttpTarget
from streams.gateway.functiongraph.configuration import Configured, shared_members
from streams.providers.functiongraph import FunctionGraph

_MEMORY_MB = 128
"""The smallest size that there is. Nothing limits memory here."""


def project_document(provider: FunctionGraph) -> dict[str, Any]:
    """The project in IAM's list of projects [D]."""
    return {
        "id": provider.project_id,
        "name": provider.region,
        "description": "",
        "enabled": True,
        "is_domain": False,
        "links": {},
    }


def function_document(function: Function, provider: FunctionGraph, modified_at_ms: int) -> dict[str, Any]:
    """What lists of functions and the configuration of one have in common."""
    target = function.target
    is_http = isinstance(target, HttpTarget)
    return {
        "resource_id": f"{provider.project_id}:{provider.package}:{function.name}",
        "func_urn": function.resource,
        "func_name": function.name,
        "namespace": provider.project_id,
        "project_name": provider.region,
        "package": provider.package,
        "runtime": "http" if is_http else f"Python{sys.version_info.major}.{sys.version_info.minor}",
        "timeout": -(-function.timeout_ms // 1000),
        "handler": target.url if isinstance(target, HttpTarget) else f"{target.module}.{target.attribute}",
        "memory_size": _MEMORY_MB,
        "code_type": "inline",
        "version": function.executed_version,
        "description": "",
        # The SDK parses this one, and puts a Z at its end if there is none.
        "last_modified": f"{datetime.fromtimestamp(modified_at_ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "type": "v2",
    }


def version_document(
    function: Function, provider: FunctionGraph, modified_at_ms: int, found: Configured | None
) -> dict[str, Any]:
    """A version in the list of a function's versions, with its asynchronous configuration if it has one."""
    document = function_document(function, provider, modified_at_ms)
    document["concurrency"] = 0 if function.reserved_concurrency == 0 else -1  # 0: disabled, -1: enabled [M]
    if found is not None:
        document["function_async_config"] = shared_members(found, provider)
    return document
