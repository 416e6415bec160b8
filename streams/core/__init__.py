"""Pure rules of asynchronous invocation: no clock, no socket, no Kafka, no Faust.

`model` has the nouns, `facts` what can happen, `policy` a provider's numbers, `lifecycle` every decision,
`tiers` where a retry waits, `routing` where an ended invocation is written, `values` what values are made of.
"""
