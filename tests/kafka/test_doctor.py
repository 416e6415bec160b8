"""`streams doctor` on a cluster that is somebody's own: what it finds, and that it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from streams.local.broker import Broker

pytestmark = pytest.mark.kafka

WITHIN_S = 60.0
DONE_WITHIN_S = 600.0
"""A run is over in a fraction of that, or never."""


def doctor(broker: Broker, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "streams", "--broker", broker.bootstrap, "--prefix", "mine.", "doctor", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def topics(broker: Broker) -> list[str]:
    """Doctor's topics that are there."""
    names = AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=10).topics
    return [name for name in names if name.startswith("mine.doctor-")]


def test_every_law_holds_at_a_small_scale(broker: Broker, tmp_path: Path) -> None:
    chosen = [argument for name in ("kill", "broker", "poison") for argument in ("--scenario", name)]
    process = doctor(broker, tmp_path, *chosen, "--scale", "0.03", "--seed", "5", "--json", "-")
    out, said = process.communicate(timeout=DONE_WITHIN_S)
    assert process.returncode == 0, said
    kill, broken_broker, poison = map(json.loads, out.splitlines())

    assert (kill["scenario"], kill["verdict"], kill["kills"], kill["seed"]) == ("kill", "ok", 1, 5)
    assert kill["invocations"] >= 300
    assert kill["executions"] > kill["invocations"]
    assert (kill["lost"], kill["duplicate_outcomes"]) == (0, 0)
    assert (broken_broker["verdict"], broken_broker["why"]) == (
        "skipped",
        "it kills the broker, and this one is not ours (without --broker it would be)",
    )
    assert "broker: skipped, it kills the broker" in said
    assert (poison["verdict"], poison["lost"], poison["exits"]) == ("ok", 0, [])
    assert "Seed: 5" in said
    assert topics(broker) == []
    assert list(tmp_path.iterdir()) == []


def test_every_law_holds_on_a_broker_that_is_killed(tmp_path: Path) -> None:
    """A selection of what CI runs in full: `streams doctor`, here on a broker of its own."""
    chosen = [argument for name in ("broker", "pause", "crash") for argument in ("--scenario", name)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMS_")}
    command = [sys.executable, "-m", "streams", "doctor", *chosen, "--scale", "0.1", "--seed", "5", "--json", "-"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DONE_WITHIN_S)
    assert done.returncode == 0, done.stderr
    broken_broker, pause, crash = map(json.loads, done.stdout.splitlines())

    assert broken_broker["first_outcome_s"] <= 15
    assert [line["kills"] for line in (broken_broker, pause, crash)] == [3, 1, 10]
    assert [line["lost"] + line["duplicate_outcomes"] for line in (broken_broker, pause, crash)] == [0, 0, 0]


def test_when_it_is_interrupted_it_cleans_up_and_says_130(broker: Broker, tmp_path: Path) -> None:
    process = doctor(broker, tmp_path, "--scenario", "storm", "--keep-logs", "logs")
    try:
        deadline = time.monotonic() + WITHIN_S
        while not any("Worker ready" in log.read_text() for log in tmp_path.glob("logs/*/*.log")):
            assert time.monotonic() < deadline, "it does not begin"
            time.sleep(0.1)
        assert topics(broker) != []
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=WITHIN_S)
    finally:
        process.kill()

    assert process.returncode == 130
    assert "nothing is left behind" in said
    assert "Traceback" not in said
    assert topics(broker) == []
