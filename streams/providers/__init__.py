"""The clouds. `PROVIDERS` is all there is to register: a new cloud is one file and one line here."""

from __future__ import annotations

from streams.providers.aws import Aws
from streams.providers.base import Provider
from streams.providers.fc import FunctionCompute
from streams.providers.functiongraph import FunctionGraph

PROVIDERS: dict[str, Provider] = {"aws": Aws(), "fc": FunctionCompute(), "functiongraph": FunctionGraph()}
"""Each provider with its default settings; `dataclasses.replace` gives one with the user's."""
