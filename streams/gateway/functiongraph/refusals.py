"""FunctionGraph's refusals, with its own codes and texts.

Sources, read November 2026: [D] OTC API reference, error codes and the pages of the operations; [D] API Gateway's error
codes, which are what a client sees when it is not let in. What follows a text in a second sentence is ours.
"""

from __future__ import annotations

from streams.gateway.edge import Refused


def invalid_parameter(why: str) -> Refused:
    return Refused(400, "FSS.0400", f"Invalid parameter. {why}")


def invalid_query(why: str) -> Refused:
    return Refused(400, "FSS.1001", f"Invalid query parameter. {why}")


def invalid_urn() -> Refused:
    return Refused(400, "FSS.1309", "Invalid function URN.")


def invalid_request_id() -> Refused:
    return Refused(400, "FSS.0400", "Invalid RequestId")


def nothing_to_cancel() -> Refused:
    """There is no such function whose invocation could be cancelled; other operations say `no_function`."""
    return Refused(404, "FSS.0404", "can not find function")


def not_acceptable(why: str) -> Refused:
    return Refused(406, "FSS.0406", f"Not acceptable. {why}")


def not_invokable(name: str) -> Refused:
    """There is no such function to invoke; other operations say `no_function`."""
    return Refused(404, "FSS.0404", f"function '{name}' not exist")


def no_function() -> Refused:
    return Refused(404, "FSS.1051", "The function does not exist.")


def no_version() -> Refused:
    return Refused(404, "FSS.1052", "The version does not exist.")


def no_alias() -> Refused:
    return Refused(404, "FSS.1053", "The alias does not exist.")


def no_alias_here() -> Refused:
    """Configuration is per version; aliases have none [D]. [G] The code."""
    return Refused(400, "FSS.1014", "Invalid function alias. Asynchronous configuration belongs to a version.")


def not_found() -> Refused:
    """[G] For a configuration that is not there; no page gives its code."""
    return Refused(404, "FSS.0404", "The specified resource was not found.")


def other_project() -> Refused:
    return Refused(403, "FSS.0403", "Forbidden. This gateway serves another project.")


def disabled() -> Refused:
    return Refused(429, "FSS.0429", "Function Disabled")


def too_many() -> Refused:
    return Refused(429, "FSS.0429", "Too many requests.")


def too_large() -> Refused:
    return Refused(413, "FSS.0413", "The request body is too large.")


def internal(why: str = "") -> Refused:
    return Refused(500, "FSS.0500", "Internal server error." + (f" {why}" if why else ""))


def unavailable(why: str) -> Refused:
    return Refused(503, "FSS.0503", f"Service unavailable. {why}")


def no_api(other_methods: bool) -> Refused:
    if other_methods:
        return Refused(404, "APIGW.0101", "The API does not exist.")
    return Refused(404, "APIGW.0101", "The API does not exist or has not been published in the environment.")


def unauthorized(why: str) -> Refused:
    return Refused(401, "APIGW.0301", f"Incorrect IAM authentication information: {why}")
