"""Bytes to values and back: pure, apart from `registry`; no clock, no Kafka client.

`envelope` reads what lands on `invocations`, `retry` and `state` what we write for ourselves, `dead_letter` writes what
nobody could process. `avro` frames everything in `schemas/`, with a strict reader (`binary`) and a fast writer
(`writing`; by hand for the hottest record: `facts`). `registry` speaks to a schema registry.
"""
