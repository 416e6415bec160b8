"""`streams doctor`: faults on purpose, on any cluster, and a verdict on what became of every invocation.

    run          a cluster, the scenarios that were asked for, cleaning up whatever happens
    scenarios/   what each of them does: a plan made from the seed, and the acts that follow it
    trial        one scenario in one place: topics, workers, load and eyes around its acts
    crew         worker processes and their supervisor; `worker` is what runs in them, `functions` what they run
    proxy        a TCP relay between a worker and Kafka that can be cut
    inputs       invocations, `poison` inputs that are none
    load         produces them; watch sees the outcomes arrive; evidence collects all that was seen
    verdict      judges it by the laws (`streams.laws`); `report` prints it

A run's decisions come from its seed: which worker is struck, after how many invocations, for how long. What the
machine makes of it does not.
"""
