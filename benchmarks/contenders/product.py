"""Streams as it is: `streams worker`, one transaction for record, state, facts and acknowledgement.

Settings that any user would set: a worker name, so that a restarted worker has its partitions back at once
(STREAMS_WORKER_NAME), the functions file, the prefix. For W3 STREAMS_IN_FLIGHT_MAX, which is per partition, so that
500 are in flight in all. For W2 `time_scale`: AWS's minute between attempts becomes 120 ms. Nothing else, and the
crash gate runs the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.contenders.place import Place

IN_FLIGHT = 500
RETRY_SCALE = 0.002

FUNCTIONS = ("noop", "work", "flaky", "slow", "blocking")


def functions_file(folder: Path, place: Place) -> Path:
    """Write the functions file of a measurement."""
    scale = f"time_scale = {RETRY_SCALE}\n" if place.function == "flaky" else ""
    tables = [
        f'[[function]]\nname = "{name}"\nprovider = "aws"\ntarget = "benchmarks.functions:{name}"\n'
        + ('records = "none"\n' if name == "noop" else "")
        for name in FUNCTIONS
    ]
    file = folder / "streams.toml"
    file.write_text("\n".join([scale, *tables]))
    return file


def command(_place: Place, number: int) -> list[str]:
    return [sys.executable, "-m", "streams", "worker", "--name", f"worker-{number}"]


def environment(place: Place, folder: Path) -> dict[str, str]:
    given = {
        "STREAMS_BROKER": place.broker,
        "STREAMS_PREFIX": place.prefix,
        "STREAMS_CONFIG": str(functions_file(folder, place)),
    }
    if place.function == "slow":
        given["STREAMS_IN_FLIGHT_MAX"] = str(-(-IN_FLIGHT // place.partitions))
    return given
