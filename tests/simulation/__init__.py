"""The real engine on a simulated Kafka: one seed is one world, with its own loads, crashes, delays and rebalances.

`loop` has the clock, `log` the cluster, `group` its consumer group, `worker` a process of ours, `functions` what it
runs; `shape` says how a world is made, `world` is one, `judgement` says what it looked like from outside.
"""
