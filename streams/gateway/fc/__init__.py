"""The API of Alibaba Cloud Function Compute in its three versions, for its stock SDKs.

`versions` says what sets 3.0, 2.0 and the oldest apart, `signatures` who may use it, `api` takes the requests;
`invoking`, `configs`, `tasks` and `catalogue` are the operations by what they are about.
"""

from streams.gateway.fc.api import function_compute

__all__ = ["function_compute"]
