"""Kafka and Faust: everything that makes an invocation durable.

`wire` the Kafka requests aiokafka lacks, `compiled` its protocol schemas made quick, `transaction` one transaction as
one coroutine, `partition` what a worker knows about one partition number (offsets, in-flight records, effects not yet
committed, state), `commits` group commit, `engine` taking partitions over and letting them go, `recovery` reading state
back, `transport` Faust's consumer with our inside, `fetch_sessions` what is fetched and `fetched` what is made of it,
`delays` retry tiers waiting at their head, `processor` what happens to a record, `attempts` in what task functions run,
`deliveries` what goes to services outside Kafka, `worker` the Faust app put together.
"""
