"""The providers' own HTTP APIs: whoever speaks to a cloud with its stock SDK speaks to us by changing the endpoint.

`server` reads requests and writes replies, `edge` is what every API is made of, `intake` puts invocations on Kafka, and
each cloud's API is one file. A gateway keeps nothing: any number of them may run.
"""
