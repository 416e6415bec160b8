"""results.csv, and what is computed of samples."""

import csv
from pathlib import Path

from benchmarks.results import COLUMNS, FIGURES, Machine, Sample, Samples, append

MACHINE = Machine({"date": "2026-01-02T03:04:05Z", "commit": "abc", "cores": "2"})


def sample(contender: str = "streams", repeat: int = 1, workload: str = "W1", **figures: float) -> Sample:
    return Sample(workload=workload, contender=contender, repeat=repeat, figures=figures)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_every_measurement_is_a_line_and_a_second_run_is_appended(tmp_path: Path):
    file = tmp_path / "new" / "results.csv"
    append(file, MACHINE, "one", [sample(per_s=12_345.6, cpu_us=41.234), sample("faust", 2, per_s=1_900)])
    append(file, MACHINE, "two", [sample(per_s=1)])

    first, second, third = rows(file)
    assert tuple(first) == COLUMNS
    assert (first["run"], first["commit"], first["workload"], first["contender"]) == ("one", "abc", "W1", "streams")
    assert (first["per_s"], first["cpu_us"], first["p99_ms"]) == ("12346", "41.23", "")
    assert (second["contender"], second["repeat"]) == ("faust", "2")
    assert third["run"] == "two"


def test_every_figure_has_a_column(tmp_path: Path):
    file = tmp_path / "results.csv"
    append(file, MACHINE, "one", [sample(**dict.fromkeys(FIGURES, 1.5))])

    [row] = rows(file)
    assert all(row[figure] == "1.5" for figure in FIGURES)


def test_a_machine_says_what_it_is():
    machine = Machine.here("4.3.1", ["aiokafka", "no-such-package"])

    assert int(machine.fields["cores"]) >= 1
    assert machine.fields["versions"].startswith("aiokafka ")
    assert "no-such-package" not in machine.fields["versions"]


def test_repeats_come_to_a_median_and_a_range():
    samples = Samples([sample(per_s=1), sample(repeat=2, per_s=5), sample(repeat=3, per_s=2), sample("faust", per_s=9)])

    assert samples.spread("W1", "streams", "per_s") == (2, 1, 5, 3)
    assert samples.median("W1", "streams", "per_s") == 2


def test_what_was_not_measured_has_no_median():
    samples = Samples([sample(per_s=1)])

    assert samples.median("W1", "streams", "cpu_us") is None
    assert samples.median("W2", "streams", "per_s") is None
