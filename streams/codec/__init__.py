"""Bytes to values and back: pure, apart from `registry`; no clock, no Kafka client.

`envelope` reads what lands on `invocations`, `retry` and `state` what we write for ourselves, `avro` everything in
`schemas/` (`facts` its hottest record, `binary` its strict reader), `dead_letter` what nobody could process,
`registry` speaks to a schema registry.
"""
