"""Programs in the shape of those that the clouds show in their documentation, and how they are run: as they are.

Each is a process of its own that gets nothing but an environment. Alibaba's name the endpoint in their text, and only
that is changed; Huawei's SDK finds it in the environment. The cloud speaks TLS, so the gateway does, too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

FC_ENDPOINT = "1234567890123456.cn-hangzhou.fc.aliyuncs.com"
ID = "[0-9a-f-]{36}"
ACCEPTED = re.compile(r'^202 (\S+)$|^\{"request_id": "(\S+)"\}$', re.MULTILINE)
"""How a program tells of an invocation that was accepted."""


class Documented(NamedTuple):
    """A program."""

    text: str
    prints: str
    """All that it prints, as a regular expression: most of these programs print their errors and end well."""


def run(documented: Documented, trusted: Path, **environment: str) -> list[str]:
    """Run the program and check what it prints; gives the request ids of what it invoked."""
    nothing_of_this_machine = {"PATH": os.environ["PATH"], "HOME": os.devnull}
    trusting = {"REQUESTS_CA_BUNDLE": str(trusted), "SSL_CERT_FILE": str(trusted)}
    finished = subprocess.run(
        [sys.executable, "-c", documented.text],
        env={**nothing_of_this_machine, **trusting, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    assert re.fullmatch(documented.prints, finished.stdout), finished.stdout + finished.stderr
    return [match[1] or match[2] for match in ACCEPTED.finditer(finished.stdout)]


def with_endpoint(documented: Documented, address: str) -> Documented:
    """The program with the endpoint *address*; nothing else is changed."""
    assert FC_ENDPOINT in documented.text
    return documented._replace(text=documented.text.replace(FC_ENDPOINT, address))


def named(programs: Mapping[str, Documented]) -> dict[str, list[object]]:
    """Parameters for pytest."""
    return {"argvalues": list(programs.values()), "ids": list(programs)}


# -- Alibaba Function Compute ----------------------------------------------------------------------------------------

FC = {
    "3.0, from the portal": Documented(
        """
# -*- coding: utf-8 -*-
import asyncio
import sys
from typing import List

from alibabacloud_credentials.client import Client as CredentialClient
from alibabacloud_fc20230330 import models as fc20230330_models
from alibabacloud_fc20230330.client import Client as FC20230330Client
from alibabacloud_tea_openapi import models as open_api_models
from alibabacloud_tea_util import models as util_models
from alibabacloud_tea_util.client import Client as UtilClient


class Sample:
    def __init__(self):
        pass

    @staticmethod
    def create_client() -> FC20230330Client:
        credential = CredentialClient()
        config = open_api_models.Config(credential=credential)
        config.endpoint = f'1234567890123456.cn-hangzhou.fc.aliyuncs.com'
        return FC20230330Client(config)

    @staticmethod
    def main(args: List[str]) -> None:
        client = Sample.create_client()
        invoke_function_headers = fc20230330_models.InvokeFunctionHeaders(x_fc_invocation_type='Async')
        invoke_function_request = fc20230330_models.InvokeFunctionRequest(body='{"key": "value"}')
        runtime = util_models.RuntimeOptions()
        try:
            resp = client.invoke_function_with_options(
                'echo', invoke_function_request, invoke_function_headers, runtime
            )
            print(resp.status_code, resp.headers['x-fc-request-id'])
            client.invoke_function_with_options('nobody', invoke_function_request, invoke_function_headers, runtime)
        except Exception as error:
            print(error.message)
            print(error.data.get("Recommend"))
            UtilClient.assert_as_string(error.message)

    @staticmethod
    async def main_async(args: List[str]) -> None:
        client = Sample.create_client()
        invoke_function_headers = fc20230330_models.InvokeFunctionHeaders(x_fc_invocation_type='Async')
        invoke_function_request = fc20230330_models.InvokeFunctionRequest(body='{"key": "value"}')
        runtime = util_models.RuntimeOptions()
        try:
            resp = await client.invoke_function_with_options_async(
                'echo', invoke_function_request, invoke_function_headers, runtime
            )
            print(resp.status_code, resp.headers['x-fc-request-id'])
            await client.invoke_function_with_options_async(
                'echo',
                fc20230330_models.InvokeFunctionRequest(body='x' * 131073),
                invoke_function_headers,
                runtime,
            )
        except Exception as error:
            print(error.message)
            print(error.data.get("Recommend"))
            UtilClient.assert_as_string(error.message)


if __name__ == '__main__':
    Sample.main(sys.argv[1:])
    asyncio.run(Sample.main_async(sys.argv[1:]))
""",
        rf"202 {ID}\n"
        rf"code: 404, function 'nobody' does not exist request id: {ID}\nNone\n"
        rf"202 {ID}\n"
        rf"code: 400, payload size exceeds maximum allowed size \(131072 bytes\) request id: {ID}\nNone\n",
    ),
    "3.0, configuration and tasks": Documented(
        """
import os

from alibabacloud_fc20230330 import models
from alibabacloud_fc20230330.client import Client
from alibabacloud_tea_openapi.models import Config
from alibabacloud_tea_util.models import RuntimeOptions

client = Client(Config(
    access_key_id=os.environ['ALIBABA_CLOUD_ACCESS_KEY_ID'],
    access_key_secret=os.environ['ALIBABA_CLOUD_ACCESS_KEY_SECRET'],
    endpoint='1234567890123456.cn-hangzhou.fc.aliyuncs.com',
))
runtime = RuntimeOptions()
put = models.PutAsyncInvokeConfigRequest(
    qualifier='LATEST',
    body=models.PutAsyncInvokeConfigInput(
        async_task=True,
        max_async_event_age_in_seconds=86400,
        max_async_retry_attempts=3,
        destination_config=models.DestinationConfig(
            on_success=models.Destination(destination='acs:fc:cn-hangzhou:1234567890123456:functions/work'),
            on_failure=models.Destination(destination='acs:mns:cn-hangzhou:1234567890123456:/queues/q/messages'),
        ),
    ),
)
print(client.put_async_invoke_config_with_options('samples', put, {}, runtime).body.async_task)
got = client.get_async_invoke_config_with_options('samples', models.GetAsyncInvokeConfigRequest(), {}, runtime)
print(got.body.destination_config.on_failure.destination)
configs = client.list_async_invoke_configs_with_options(
    models.ListAsyncInvokeConfigsRequest(function_name='samples', limit=10), {}, runtime
)
print([config.max_async_retry_attempts for config in configs.body.configs])

headers = models.InvokeFunctionHeaders(x_fc_invocation_type='Async', common_headers={'x-fc-async-delay': '3600'})
invoked = client.invoke_function_with_options('samples', models.InvokeFunctionRequest(body='{}'), headers, runtime)
task_id = invoked.headers['x-fc-async-task-id']
tasks = client.list_async_tasks_with_options(
    'samples', models.ListAsyncTasksRequest(limit=10, include_payload=True), {}, runtime
)
print([(task.task_id == task_id, task.status, task.task_payload) for task in tasks.body.tasks])
print(client.stop_async_task_with_options('samples', task_id, models.StopAsyncTaskRequest(), {}, runtime).status_code)
print(client.get_async_task_with_options('samples', task_id, models.GetAsyncTaskRequest(), {}, runtime).body.status)

deleted = client.delete_async_invoke_config_with_options(
    'samples', models.DeleteAsyncInvokeConfigRequest(), {}, runtime
)
print(deleted.status_code)
try:
    client.get_async_invoke_config_with_options('samples', models.GetAsyncInvokeConfigRequest(), {}, runtime)
except Exception as error:
    print(error.code, error.status_code, error.message)
""",
        r"True\nacs:mns:cn-hangzhou:1234567890123456:/queues/q/messages\n\[3\]\n"
        r"\[\(True, 'Enqueued', '\{\}'\)\]\n204\nStopped\n204\n"
        rf"AsyncConfigNotExists 404 code: 404, AsyncConfig for samples:LATEST does not exist. request id: {ID}\n",
    ),
    "2.0": Documented(
        """
import os
import uuid

from alibabacloud_fc_open20210406 import models as fc_models
from alibabacloud_fc_open20210406.client import Client as FCClient
from alibabacloud_tea_openapi import models as open_api_models
from alibabacloud_tea_util import models as util_models


def create_client() -> FCClient:
    config = open_api_models.Config(
        access_key_id=os.environ['ALIBABA_CLOUD_ACCESS_KEY_ID'],
        access_key_secret=os.environ['ALIBABA_CLOUD_ACCESS_KEY_SECRET'],
    )
    config.endpoint = '1234567890123456.cn-hangzhou.fc.aliyuncs.com'
    return FCClient(config)


client = create_client()
runtime = util_models.RuntimeOptions()
put = fc_models.PutFunctionAsyncInvokeConfigRequest(
    stateful_invocation=True,
    max_async_retry_attempts=2,
    destination_config=fc_models.DestinationConfig(
        on_success=fc_models.Destination(destination='acs:fc:::services/media.LATEST/functions/echo')
    ),
)
put_headers = fc_models.PutFunctionAsyncInvokeConfigHeaders()
config = client.put_function_async_invoke_config_with_options('media', 'idle', put, put_headers, runtime).body
print(config.service, config.function, config.qualifier, config.stateful_invocation)

invocation_id = 'task-' + str(uuid.uuid4())
headers = fc_models.InvokeFunctionHeaders(
    x_fc_invocation_type='Async', x_fc_stateful_async_invocation_id=invocation_id
)
request = fc_models.InvokeFunctionRequest(body=b'{"key": "value"}', qualifier='prod')
response = client.invoke_function_with_options('media', 'echo', request, headers, runtime)
print(response.status_code, response.headers['x-fc-request-id'])
listed = client.list_stateful_async_invocations(
    'media', 'echo', fc_models.ListStatefulAsyncInvocationsRequest(invocation_id_prefix=invocation_id)
)
print([invocation.invocation_id == invocation_id for invocation in listed.body.invocations])
try:
    client.invoke_function_with_options('media', 'echo', request, headers, runtime)
except Exception as error:
    print(error.code)
client.delete_function_async_invoke_config('media', 'idle', fc_models.DeleteFunctionAsyncInvokeConfigRequest())
try:
    client.get_function_async_invoke_config('nowhere', 'idle', fc_models.GetFunctionAsyncInvokeConfigRequest())
except Exception as error:
    print(error.code, error.message)
""",
        rf"media idle LATEST True\n202 \S+\.task-{ID}\n\[True\]\nStatefulAsyncInvocationAlreadyExists\n"
        rf"ServiceNotFound code: 404, service 'nowhere' does not exist request id: {ID}\n",
    ),
    "the oldest": Documented(
        """
# -*- coding: utf-8 -*-
import os

import fc2

client = fc2.Client(
    endpoint='https://1234567890123456.cn-hangzhou.fc.aliyuncs.com',
    accessKeyID=os.environ['ALIBABA_CLOUD_ACCESS_KEY_ID'],
    accessKeySecret=os.environ['ALIBABA_CLOUD_ACCESS_KEY_SECRET'])

r = client.invoke_function('media', 'echo', headers={'x-fc-invocation-type': 'Async'})
print(202, r.headers['X-Fc-Request-Id'])
r = client.invoke_function('media', 'echo', payload=bytes('hello_world', 'utf8'), headers={'x-fc-log-type': 'Tail'})
print(r.data)
async_config = {
    'maxAsyncEventAgeInSeconds': 100,
    'maxAsyncRetryAttempts': 1,
    'destinationConfig': {
        'onSuccess': {'destination': 'acs:mns:cn-hangzhou:1234567890123456:/queues/q/messages'},
    },
}
print(client.put_function_async_invoke_config('media', 'LATEST', 'idle', async_config).data['maxAsyncRetryAttempts'])
print(client.get_function_async_invoke_config('media', 'LATEST', 'idle').data['destinationConfig']['onFailure'])
print(len(client.list_function_async_invoke_configs('media', 'idle', limit=10).data['configs']))
client.delete_function_async_invoke_config('media', 'LATEST', 'idle')
try:
    client.invoke_function('media', 'nobody', headers={'x-fc-invocation-type': 'Async'})
except fc2.FcError as e:
    print(e.status_code, e.err_code)
""",
        rf"202 {ID}\nb'hello_world'\n1\nNone\n1\n404 FunctionNotFound\n",
    ),
}


# -- Huawei FunctionGraph --------------------------------------------------------------------------------------------

URN = "urn:fss:cn-north-4:0123456789abcdef0123456789abcdef:function:default"
FUNCTIONGRAPH = {
    "an invocation": Documented(
        f"""
# coding: utf-8

import os
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkfunctiongraph.v2.region.functiongraph_region import FunctionGraphRegion
from huaweicloudsdkcore.exceptions import exceptions
from huaweicloudsdkfunctiongraph.v2 import *

if __name__ == "__main__":
    ak = os.environ["CLOUD_SDK_AK"]
    sk = os.environ["CLOUD_SDK_SK"]

    credentials = BasicCredentials(ak, sk)

    client = FunctionGraphClient.new_builder() \\
        .with_credentials(credentials) \\
        .with_region(FunctionGraphRegion.value_of("cn-north-4")) \\
        .build()

    for name in ("echo:latest", "nobody:latest"):
        try:
            request = AsyncInvokeFunctionRequest()
            request.function_urn = "{URN}:" + name
            request.body = {{"k": "v"}}
            response = client.async_invoke_function(request)
            print(response)
        except exceptions.ClientRequestException as e:
            print(e.status_code)
            print(e.request_id)
            print(e.error_code)
            print(e.error_msg)
""",
        rf'\{{"request_id": "{ID}"\}}\n404\n{ID}\nFSS\.0404\nfunction \'nobody\' not exist\n',
    ),
    "a configuration": Documented(
        f"""
# coding: utf-8

import os
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkfunctiongraph.v2.region.functiongraph_region import FunctionGraphRegion
from huaweicloudsdkcore.exceptions import exceptions
from huaweicloudsdkfunctiongraph.v2 import *

ak = os.environ["CLOUD_SDK_AK"]
sk = os.environ["CLOUD_SDK_SK"]
projectId = "0123456789abcdef0123456789abcdef"
credentials = BasicCredentials(ak, sk, projectId)
client = FunctionGraphClient.new_builder() \\
    .with_credentials(credentials) \\
    .with_region(FunctionGraphRegion.value_of("cn-north-4")) \\
    .build()

try:
    request = UpdateFunctionAsyncInvokeConfigRequest()
    request.function_urn = "{URN}:documented"
    onFailureDestinationConfig = FuncDestinationConfig(
        destination="SMN",
        param="{{\\"topic_urn\\":\\"urn:smn:cn-north-4:0123456789abcdef0123456789abcdef:failed\\"}}"
    )
    onSuccessDestinationConfig = FuncDestinationConfig(
        destination="OBS",
        param="{{\\"bucket\\":\\"async-invoke\\",\\"prefix\\":\\"/success\\",\\"expires\\":5}}"
    )
    destinationConfigbody = FuncAsyncDestinationConfig(
        on_success=onSuccessDestinationConfig,
        on_failure=onFailureDestinationConfig
    )
    request.body = UpdateFunctionAsyncInvokeConfigRequestBody(
        enable_async_status_log=True,
        destination_config=destinationConfigbody,
        max_async_retry_attempts=2,
        max_async_event_age_in_seconds=3500
    )
    response = client.update_function_async_invoke_config(request)
    print(response)
    request = ListFunctionAsyncInvokeConfigRequest()
    request.function_urn = "{URN}:documented"
    request.marker = "0"
    request.limit = "10"
    print(client.list_function_async_invoke_config(request).count)
    request = DeleteFunctionAsyncInvokeConfigRequest()
    request.function_urn = "{URN}:documented"
    response = client.delete_function_async_invoke_config(request)
    print(response)
    request = ShowFunctionAsyncInvokeConfigRequest()
    request.function_urn = "{URN}:documented"
    response = client.show_function_async_invoke_config(request)
    print(response)
except exceptions.ClientRequestException as e:
    print(e.status_code)
    print(e.request_id)
    print(e.error_code)
    print(e.error_msg)
""",
        rf'\{{"func_urn": "{URN}:documented:latest", "max_async_event_age_in_seconds": 3500, .*\}}\n1\n\{{\}}\n'
        rf"404\n{ID}\nFSS\.0404\n.+\n",
    ),
    "states, with futures": Documented(
        f"""
import os
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkfunctiongraph.v2 import *
from huaweicloudsdkfunctiongraph.v2.region.functiongraph_region import FunctionGraphRegion

config = HttpConfig.get_default_config()
config.timeout = 60
client = FunctionGraphAsyncClient.new_builder() \\
    .with_http_config(config) \\
    .with_credentials(BasicCredentials(os.environ["CLOUD_SDK_AK"], os.environ["CLOUD_SDK_SK"])) \\
    .with_region(FunctionGraphRegion.value_of("cn-north-4")) \\
    .build()
urn = "{URN}:work:latest"

client.enable_async_status_log_async(EnableAsyncStatusLogRequest()).result()
detail = client.show_project_async_status_log_info_async(ShowProjectAsyncStatusLogInfoRequest()).result()
print(bool(detail.stream_name))
invoked = client.async_invoke_function_async(AsyncInvokeFunctionRequest(urn, body={{"ms": 60000}})).result()
request_id = invoked.request_id
listed = client.list_async_invocations_async(
    ListAsyncInvocationsRequest(function_urn=urn, request_id=request_id, limit="10", marker="0")
).result()
print([(each.request_id == request_id, each.status in ("WAIT", "RUNNING")) for each in listed.invocations])
cancel = CancelAsyncInvocationRequest(urn)
cancel.body = CancelAsyncInvocationRequestBody(request_id=request_id, type="force")
print(client.cancel_async_invocation_async(cancel).result())
try:
    cancel.body = CancelAsyncInvocationRequestBody(request_id="xxxx")
    client.cancel_async_invocation_async(cancel).result()
except ClientRequestException as e:
    print(e.status_code, e.error_code, e.error_msg)
""",
        r"True\n\[\(True, True\)\]\n\{\}\n400 FSS\.0400 Invalid RequestId\n",
    ),
}
