"""The second argument of a handler: an object like the one its provider's Python runtime passes.

What is the same for every call of a function is in a class made for that function, so a call builds an object with two
attributes. Attributes can be set, as on the originals. Our functions have no memory size, agency or role: sizes are the
providers' smallest, keys come from the environment variables that the providers' newest runtimes set.

Sources, read 2026-10: AWS's open Python runtime client (`awslambdaric`, class LambdaContext); Alibaba's page "Context"
for Python runtimes (functioncompute/context-1; Python 3.12 has no `credentials`, FC 3.0 no `service`: both are kept
for older functions); Huawei's developer guide (functiongraph_02_0420, table of context methods).
"""

from __future__ import annotations

import logging
import os
import sys
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TypeAlias

from streams.core.model import Function, PythonTarget
from streams.providers.base import Provider

MEMORY_MB = 128
"""What a context says about memory. Nothing enforces it."""

ContextClass: TypeAlias = Callable[[str, float], object]
"""Makes the context of one call from its request id and its deadline in `time.monotonic` seconds."""


def context_class(function: Function, provider: Provider) -> ContextClass:
    """The class of the contexts that *function* gets."""
    make = {"aws": _lambda, "fc": _function_compute, "functiongraph": _function_graph}[function.provider]
    return make(function, provider)


class _Context:
    _deadline: float

    def _remaining_ms(self) -> int:
        return max(0, int((self._deadline - time.monotonic()) * 1000))


class LambdaContext(_Context):
    """AWS Lambda."""

    function_name: str
    function_version: str
    invoked_function_arn: str
    memory_limit_in_mb: str  # a string there too
    log_group_name: str
    log_stream_name: str
    client_context = None  # asynchronous invocations have none
    tenant_id = None

    def __init__(self, request_id: str, deadline: float) -> None:
        self.aws_request_id = request_id
        self._deadline = deadline

    @property
    def identity(self) -> SimpleNamespace:
        return SimpleNamespace(cognito_identity_id=None, cognito_identity_pool_id=None)

    def get_remaining_time_in_millis(self) -> int:
        return self._remaining_ms()

    def log(self, message: object) -> None:
        sys.stdout.write(str(message))


class FCContext(_Context):
    """Alibaba Function Compute."""

    function: SimpleNamespace
    service: SimpleNamespace
    region: str
    account_id: str
    logger: logging.Logger
    log_project = ""
    log_store = ""

    def __init__(self, request_id: str, deadline: float) -> None:
        self.request_id = request_id
        self._deadline = deadline

    @property
    def credentials(self) -> SimpleNamespace:
        return SimpleNamespace(
            access_key_id=_env("ALIBABA_CLOUD_ACCESS_KEY_ID"),
            access_key_secret=_env("ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
            security_token=_env("ALIBABA_CLOUD_SECURITY_TOKEN"),
        )


class FunctionGraphContext(_Context):
    """Huawei FunctionGraph."""

    _function: Function
    _project_id: str
    _package: str
    _alias: str

    def __init__(self, request_id: str, deadline: float) -> None:
        self._request_id = request_id
        self._deadline = deadline

    def getRequestID(self) -> str:
        return self._request_id

    def getRemainingTimeInMilliSeconds(self) -> int:
        return self._remaining_ms()

    def getRunningTimeInSeconds(self) -> int:
        """The time limit of the function."""
        return self._function.timeout_ms // 1000

    def getFunctionName(self) -> str:
        return self._function.name

    def getVersion(self) -> str:
        return self._function.executed_version

    def getAlias(self) -> str:
        return self._alias

    def getPackage(self) -> str:
        return self._package

    def getProjectID(self) -> str:
        return self._project_id

    def getMemorySize(self) -> int:
        return MEMORY_MB

    def getCPUNumber(self) -> int:
        """Thousandths of a processor."""
        return 100

    def getUserData(self, key: str, default: str = "") -> str:
        """A setting of the function, which is an environment variable there too."""
        return os.environ.get(key, default)

    def getLogger(self) -> logging.Logger:
        return logging.getLogger(self._function.name)

    def getToken(self) -> str:
        return ""

    def getAccessKey(self) -> str:
        return _env("HUAWEICLOUD_SDK_AK")

    def getSecretKey(self) -> str:
        return _env("HUAWEICLOUD_SDK_SK")

    def getSecurityAccessKey(self) -> str:
        return self.getAccessKey()

    def getSecuritySecretKey(self) -> str:
        return self.getSecretKey()

    def getSecurityToken(self) -> str:
        return _env("HUAWEICLOUD_SDK_SECURITY_TOKEN")


def _lambda(function: Function, provider: Provider) -> ContextClass:
    # A function asked for without a qualifier has an ARN without one here, unlike in its records (AWS, measured).
    unqualified = function.qualifier == provider.latest
    arn = function.resource.removesuffix(f":{function.qualifier}") if unqualified else function.resource
    today = datetime.now(UTC).strftime("%Y/%m/%d")
    attributes = {
        "function_name": function.name,
        "function_version": function.executed_version,
        "invoked_function_arn": arn,
        "memory_limit_in_mb": str(MEMORY_MB),
        "log_group_name": f"/aws/lambda/{function.name}",
        "log_stream_name": f"{today}/[{function.executed_version}]{uuid.uuid4().hex}",
    }
    return type("LambdaContext", (LambdaContext,), attributes)


def _function_compute(function: Function, provider: Provider) -> ContextClass:
    version = {"qualifier": function.qualifier, "version_id": function.executed_version}
    target = function.target
    service, _, name = function.name.rpartition("/")
    meta = SimpleNamespace(
        name=name,
        handler=f"{target.module}.{target.attribute}" if isinstance(target, PythonTarget) else "",
        memory=MEMORY_MB,
        timeout=function.timeout_ms // 1000,
        **version,
    )
    attributes = {
        "function": meta,
        "service": SimpleNamespace(name=service, log_project="", log_store="", **version),
        "region": setting(provider, "region"),
        "account_id": setting(provider, "account"),
        "logger": logging.getLogger(function.name),
    }
    return type("FCContext", (FCContext,), attributes)


def _function_graph(function: Function, provider: Provider) -> ContextClass:
    attributes = {
        "_function": function,
        "_project_id": setting(provider, "project_id"),
        "_package": setting(provider, "package"),
        "_alias": "" if function.qualifier == function.executed_version else function.qualifier,
    }
    return type("FunctionGraphContext", (FunctionGraphContext,), attributes)


def setting(provider: Provider, name: str) -> str:
    """A setting that this provider's contexts and headers show, by the name its dataclass gives it."""
    return str(getattr(provider, name))


def _env(name: str) -> str:
    return os.environ.get(name, "")
