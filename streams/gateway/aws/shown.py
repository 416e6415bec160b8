"""What AWS Lambda's API shows of a function: FunctionConfiguration, and what of it is kept only to be shown. Pure.

Nothing is uploaded here, so `CodeSize` is 0. `CodeSha256` is that of the archive that was sent last: deployment tools
compare it with what they are about to send.
"""

from __future__ import annotations

import hashlib
import math
import sys
import uuid
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from streams.core.model import Function, HttpTarget, KafkaDestination, PythonTarget
from streams.functions.stored import Entry
from streams.gateway.aws.names import is_version
from streams.providers.aws import Aws

LATEST = Aws.latest
MEMORY_MB = 128
TIMEOUT_S = 3
"""Of a function that is made without [D]."""


def sha256(code: bytes) -> str:
    """As `CodeSha256` shows it."""
    return b64encode(hashlib.sha256(code).digest()).decode()


NO_CODE = sha256(b"")


def time_text(at_ms: int) -> str:
    """``2026-09-13T15:32:02.357+0000`` [N]."""
    at_s, ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}+0000"


def version_of(function: Function) -> str:
    """The version that a qualifier runs."""
    for version in (function.executed_version, function.qualifier):
        if is_version(version):
            return version
    return LATEST


def revision(resource: str) -> str:
    """The revision of what no API has changed yet."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, resource))


def configuration(
    function: Function, entry: Entry, arn: str, described_at_ms: int, *, status: bool = True
) -> dict[str, Any]:
    """FunctionConfiguration of *function*, as *arn*; *entry* is what is stored of it. Without *status* it says nothing
    of its last update, as in lists [V]."""
    version = version_of(function)
    shown = {
        "FunctionName": function.name,
        "FunctionArn": arn,
        **_of_target(function.target),
        "Role": f"arn:aws:iam::{arn.split(':')[4]}:role/streams",
        "CodeSize": 0,
        "Description": "",
        "Timeout": max(1, math.ceil(function.timeout_ms / 1000)),
        "MemorySize": MEMORY_MB,
        "LastModified": time_text(described_at_ms),
        "CodeSha256": NO_CODE,
        "Version": version,
        "TracingConfig": {"Mode": "PassThrough"},
        "RevisionId": revision(f"{function.resource} {version}"),
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{function.name}"},
        **kept(entry, version),
    }
    if function.dead_letter is not None:
        letter = function.dead_letter
        address = f"kafka://{letter.topic}" if isinstance(letter, KafkaDestination) else letter.address
        shown["DeadLetterConfig"] = {"TargetArn": address}
    if not status:
        del shown["LastUpdateStatus"]
    return shown


def kept(entry: Entry, version: str) -> Mapping[str, Any]:
    """What was said of *version* only to be shown again; of a published one, at that time."""
    api = entry.api
    if version == LATEST:
        return dict(api.get("configuration", {}))
    return dict(api.get("versions", {}).get(version, {}).get("configuration", {}))


def _of_target(target: PythonTarget | HttpTarget) -> dict[str, Any]:
    if isinstance(target, HttpTarget):
        return {"PackageType": "Image"}
    return {
        "Runtime": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "Handler": f"{target.module}.{target.attribute}",
        "PackageType": "Zip",
    }


def code(target: PythonTarget | HttpTarget) -> dict[str, Any]:
    """FunctionCodeLocation: where a function behind a URL is; of a Python target there is nothing to fetch."""
    if isinstance(target, HttpTarget):
        return {"RepositoryType": "ECR", "ImageUri": target.url, "ResolvedImageUri": target.url}
    return {}


def alias(function: Function, entry: Entry, arn: str) -> dict[str, Any]:
    """AliasConfiguration."""
    own = entry.api.get("aliases", {}).get(function.qualifier, {})
    return {
        "AliasArn": arn,
        "Name": function.qualifier,
        "FunctionVersion": version_of(function),
        "Description": own.get("Description", ""),
        "RevisionId": own.get("RevisionId", revision(function.resource)),
    }
