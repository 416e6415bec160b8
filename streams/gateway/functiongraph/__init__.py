"""Huawei FunctionGraph's API, version 2, and that of its twin at Open Telekom Cloud.

`api` finds the handler of each operation, `configuration` is the asynchronous configuration, `invocations` the status
lists, `metadata` what is told of functions.
"""

from streams.gateway.functiongraph.api import FunctionGraphApi

__all__ = ["FunctionGraphApi"]
