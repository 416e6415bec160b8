"""What sets the three versions of Function Compute's API apart: paths, headers, names of members, the error document.

Sources, read by November 2026: the models of the SDKs alibabacloud-fc20230330 4.8.3 (3.0), alibabacloud-fc-open20210406
2.0.12 (2.0) and aliyun-fc2 2.5.2 (the oldest), and the help pages on error codes. Marks as in `streams.providers.base`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from streams.gateway.edge import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of the API."""

    date: str
    """First segment of its paths."""
    function: str
    """The beginning of a function's paths."""
    task_header: str
    """Names a task: in a request (the client chooses) and in the reply [D]."""
    enable_header: str | None
    """Makes a single invocation a task; None: only the configuration can [D]."""
    task_switch: str
    """Member of a configuration that makes every asynchronous invocation a task [D]."""
    tasks: str
    """Segment of the paths of tasks."""
    task_list: str
    """Member of a list of tasks that has them."""
    task_prefix: str
    """Query parameter: how the task's id begins."""
    task_members: Mapping[str, str]
    """Names of a task's members, by their names in 3.0."""
    error: Callable[[str, str, str], dict[str, str]]
    """The document of a refusal, from its code, text and request id."""

    @property
    def has_services(self) -> bool:
        """Whether a function is part of a service, to which its versions and aliases belong."""
        return "{service}" in self.function

    def document(self, refusal: Refused, message: str, request_id: str) -> dict[str, str]:
        """The document of *refusal*."""
        return self.error(refusal.code, message, request_id)


def _error_3_0(code: str, message: str, request_id: str) -> dict[str, str]:
    return {"Code": code, "Message": message, "RequestId": request_id}


def _error_2_0(code: str, message: str, request_id: str) -> dict[str, str]:
    """What the help page and the model have (errorCode, errorMessage), and what the SDK reads (Code, Message)."""
    return {"errorCode": code, "errorMessage": message, **_error_3_0(code, message, request_id)}


def _error_oldest(code: str, message: str, request_id: str) -> dict[str, str]:
    return {"ErrorCode": code, "ErrorMessage": message}


_STATEFUL = MappingProxyType(
    {
        "taskId": "invocationId",
        "taskPayload": "invocationPayload",
        "taskErrorMessage": "invocationErrorMessage",
    }
)
_STATEFUL_HEADER = "X-Fc-Stateful-Async-Invocation-Id"
_ENABLE_HEADER = "X-Fc-Stateful-Async-Invocation-Enable"

V3_0 = Version(
    date="2023-03-30",
    function="/2023-03-30/functions/{function}",
    task_header="X-Fc-Async-Task-Id",
    enable_header=None,
    task_switch="asyncTask",
    tasks="async-tasks",
    task_list="tasks",
    task_prefix="prefix",
    task_members=MappingProxyType({}),
    error=_error_3_0,
)
V2_0 = Version(
    date="2021-04-06",
    function="/2021-04-06/services/{service}/functions/{function}",
    task_header=_STATEFUL_HEADER,
    enable_header=_ENABLE_HEADER,
    task_switch="statefulInvocation",
    tasks="stateful-async-invocations",
    task_list="invocations",
    task_prefix="invocationIdPrefix",
    task_members=_STATEFUL,
    error=_error_2_0,
)
OLDEST = Version(
    date="2016-08-15",
    function="/2016-08-15/services/{service}/functions/{function}",
    task_header=_STATEFUL_HEADER,
    enable_header=_ENABLE_HEADER,
    task_switch="statefulInvocation",
    tasks="stateful-async-invocations",
    task_list="invocations",
    task_prefix="invocationIdPrefix",
    task_members=_STATEFUL,
    error=_error_oldest,
)

VERSIONS = (V3_0, V2_0, OLDEST)
