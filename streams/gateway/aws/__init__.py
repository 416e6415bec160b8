"""AWS Lambda's API, as far as asynchronous invocation needs it; for boto3, the AWS CLI and every other stock client.

`invoke` runs functions, `configurations` are their asynchronous configurations, `definitions` makes and changes
functions, `versions` are versions and aliases, `limits` concurrency and account. `account` is what all of them look up
and change, `names` how functions are named, `shown` what is shown of them, `wire` how the API speaks.
"""

from streams.gateway.aws.api import AwsLambda

__all__ = ["AwsLambda"]
