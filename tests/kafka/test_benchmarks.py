"""The benchmarks' own way, once through with a little of everything: contender processes, load, eyes, file, gate."""

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import RunningBroker

from benchmarks.cli import main

pytestmark = pytest.mark.kafka


def test_a_tiny_run_measures_ours_beside_a_ceiling_and_kills_both(broker: RunningBroker, tmp_path: Path):
    file = tmp_path / "results.csv"
    options = ["--broker", broker.bootstrap, "--results", str(file), "--plots", str(tmp_path), "--no-plots"]
    options += ["--quick", "--scale", "0.05", "--kills", "1"]

    result = CliRunner().invoke(main, [*options, "--workloads", "W1", "--contenders", "streams,aiokafka-txn"])

    assert result.exit_code == 0, result.output
    with file.open(newline="") as opened:
        rows = {(row["workload"], row["contender"]): row for row in csv.DictReader(opened)}
    assert rows.keys() == {(workload, name) for workload in ("W1", "gate") for name in ("streams", "aiokafka-txn")}
    for name in ("streams", "aiokafka-txn"):
        assert rows["W1", name]["requests"] == "1000"
        assert float(rows["W1", name]["per_s"]) > 0
        assert float(rows["W1", name]["cpu_us"]) > 0
        assert (rows["gate", name]["kills"], rows["gate", name]["lost"]) == ("1", "0")
    assert "W1 CPU a request" in result.output
