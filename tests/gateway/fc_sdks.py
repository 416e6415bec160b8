"""Calls of the stock SDKs of Function Compute. It takes seconds to import them: only who makes a call does."""

from __future__ import annotations

from typing import Any

import fc2
from alibabacloud_fc20230330 import models as models_3_0
from alibabacloud_fc20230330.client import Client as Client30
from alibabacloud_fc_open20210406 import models as models_2_0
from alibabacloud_fc_open20210406.client import Client as Client20
from alibabacloud_tea_openapi.utils_models import Config
from alibabacloud_tea_util.models import RuntimeOptions

from .test_fc_signatures import KEY, SECRET


def config(address: str) -> Config:
    return Config(
        access_key_id=KEY, access_key_secret=SECRET, endpoint=address, protocol="http", region_id="cn-hangzhou"
    )


def invoke_3_0(address: str) -> None:
    headers = models_3_0.InvokeFunctionHeaders(
        common_headers={"x-fc-async-delay": "3"}, x_fc_invocation_type="Async", x_fc_async_task_id="order-17"
    )
    wanted = models_3_0.InvokeFunctionRequest(qualifier="prod & more", body=b"\x00\xff")
    Client30(config(address)).invoke_function_with_options("crawl", wanted, headers, RuntimeOptions())


def configure_3_0(address: str) -> None:
    body = models_3_0.PutAsyncInvokeConfigInput(max_async_retry_attempts=1)
    Client30(config(address)).put_async_invoke_config("crawl", models_3_0.PutAsyncInvokeConfigRequest(body=body))


def list_3_0(address: str) -> None:
    wanted = models_3_0.ListAsyncTasksRequest(include_payload=True, limit=10, prefix="a+b/ü", status="Succeeded")
    Client30(config(address)).list_async_tasks("crawl", wanted)


def invoke_2_0(address: str) -> None:
    headers = models_2_0.InvokeFunctionHeaders(x_fc_invocation_type="Async", x_fc_stateful_async_invocation_id="t")
    wanted = models_2_0.InvokeFunctionRequest(body=b"\x00\xff")
    Client20(config(address)).invoke_function_with_options("media", "resize", wanted, headers, RuntimeOptions())


def list_2_0(address: str) -> None:
    wanted = models_2_0.ListStatefulAsyncInvocationsRequest(qualifier="LATEST", limit=10)
    Client20(config(address)).list_stateful_async_invocations("media", "resize", wanted)


def oldest(address: str) -> Any:
    return fc2.Client(endpoint=f"http://{address}", accessKeyID=KEY, accessKeySecret=SECRET)


def invoke_oldest(address: str) -> None:
    headers = {"x-fc-invocation-type": "Async", "X-Fc-Stateful-Async-Invocation-Id": "t"}
    oldest(address).invoke_function("media", "resize", b"\x00\xff", headers, "prod")


def configure_oldest(address: str) -> None:
    oldest(address).put_function_async_invoke_config("media", "LATEST", "resize", {"maxAsyncRetryAttempts": 1})


def list_oldest(address: str) -> None:
    oldest(address).list_function_async_invoke_configs("media", "resize", limit=5)
