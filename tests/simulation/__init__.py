"""The real engine on a simulated Kafka: one seed is one world, with its own loads, crashes, delays and rebalances.

`loop` has the clock, `log` the cluster, `group` its consumer group, `worker` a process of ours, `functions` what it
runs, `world` puts them together from a seed, `judgement` says what the world looked like from outside.
"""
