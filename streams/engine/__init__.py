"""Kafka and Faust: everything that makes an invocation durable.

`wire` the Kafka requests aiokafka lacks, `transaction` one transaction as one coroutine, `partition` what a worker
knows about one partition number (offsets, in-flight records, effects not yet committed, state), `commits` group
commit, `ownership` taking partitions over and letting them go, `recovery` reading state back, `transport` Faust's
consumer with our inside, `delays` retry tiers waiting at their head, `processor` what happens to a record,
`worker` the Faust app put together.
"""
