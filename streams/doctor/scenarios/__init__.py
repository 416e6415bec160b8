"""Every scenario, by name, in the order in which they are run."""

from __future__ import annotations

from streams.doctor.scenarios import broker, crashes, inputs, mayhem, network, soak, workers
from streams.doctor.trial import Scenario

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        workers.KILL,
        workers.STORM,
        broker.BROKER,
        broker.OUTAGE,
        workers.PAUSE,
        crashes.CRASH,
        network.NETWORK,
        inputs.POISON,
        inputs.CULPRIT,
        mayhem.MAYHEM,
        soak.SOAK,
    )
}
