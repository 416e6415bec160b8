"""`streams demo` from outside: it ends by itself, tells the truth, and leaves nothing behind."""

import re
import signal
import subprocess
import sys
import time
from typing import Any

import psutil
import pytest
from confluent_kafka.admin import AdminClient

pytestmark = pytest.mark.kafka


def start(broker: Any, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "streams", "--broker", broker.bootstrap, "--prefix", "test.", "demo", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def topics_left(broker: Any, prefix: str) -> list[str]:
    """Topics of the demo, when the broker has forgotten those it deleted."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    deadline = time.monotonic() + 10
    while left := [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]:
        if time.monotonic() > deadline:
            return left
    return []


def test_every_outcome_is_as_it_must_be(broker: Any):
    with start(broker) as demo:
        output, errors = demo.communicate(timeout=120)

    assert (demo.returncode, errors) == (0, "")
    rows = {re.split(r"  +", line)[0]: [int(text) for text in line.split()[-6:]] for line in table(output)}
    assert list(rows) == [
        "AWS Lambda",
        "Function Compute 3.0",
        "Function Compute 2.0",
        "FunctionGraph",
        "(not an invocation)",
        "total",
    ]
    for invoked, succeeded, _, _, failed, dead in (row for name, row in rows.items() if name[0] in "AF"):
        assert invoked == succeeded + failed
        assert dead == failed > 0
    assert rows["AWS Lambda"][0] == 349
    assert rows["(not an invocation)"] == [7, 0, 0, 0, 0, 7]
    for cloud, word in (("AWS Lambda", "RetriesExhausted"), ("FunctionGraph", "UnhandledInvocationError")):
        record = output.split(f"A record of {cloud}:\n", 1)[1].split("\n}\n", 1)[0]
        assert f'"condition": "{word}"' in record
    assert "✓ each of 1127 invocations has exactly one outcome" in output
    assert "Everything took" in output


def table(output: str) -> list[str]:
    """The lines of the table."""
    lines = output.splitlines()
    head = next(number for number, line in enumerate(lines) if line.endswith("dead-lettered"))
    return lines[head + 1 : lines.index("", head)]


def test_kept_until_terminated(broker: Any):
    with start(broker, "--keep") as demo:
        assert demo.stdout is not None and demo.stderr is not None
        output = ""
        while "Ctrl-C stops everything." not in output:
            line = demo.stdout.readline()
            assert line, demo.stderr.read()
            output += line
        below = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(signal.SIGTERM)
        rest, errors = demo.communicate(timeout=60)

    assert (demo.returncode, rest, errors) == (0, "Stopping.\n", "")
    assert len(below) >= 2, "two workers"
    assert not [process for process in below if process.is_running()]
    [prefix] = set(re.findall(r"--prefix (\S+)", output))
    assert f"kcat -b {broker.bootstrap} -t {prefix}invocations -P -H function=aws-succeeds" in output
    assert f'new ProducerRecord<>("{prefix}invocations", id' in output
    assert topics_left(broker, prefix) == []


def test_interrupted_early_it_leaves_nothing(broker: Any):
    with start(broker) as demo:
        assert demo.stdout is not None
        output = ""
        while "Two workers" not in output:
            output += demo.stdout.read(1)
        below = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=60)

    assert (demo.returncode, errors) == (1, "\nAborted!\n")
    assert not [process for process in below if process.is_running()]
    assert topics_left(broker, "test.demo-") == []
