"""Where the microseconds of a request go: a sampling profile of a worker, by stage of the hot path."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click

from benchmarks.contenders import CONTENDERS, STREAMS
from benchmarks.measure import Site, session
from benchmarks.tables import columns, number
from benchmarks.workloads import Workload

SAMPLES_PER_S = 400
FUNCTIONS_SHOWN = 25

STAGES: tuple[tuple[str, str], ...] = (
    ("read_json (streams/providers", "decode event"),
    ("read_event (streams/providers", "decode event"),
    ("write (streams/providers/base", "encode response"),
    ("returned (streams/providers", "encode response"),
    ("codec/envelope.py", "decode"),
    ("codec/retry.py", "decode"),
    ("engine/requests.py", "dedupe and state"),
    ("engine/table.py", "dedupe and state"),
    ("codec/state.py", "dedupe and state"),
    ("core/lifecycle.py", "decide"),
    ("apply (streams/engine/work.py", "decide"),
    ("streams/invokers/", "invoke"),
    ("benchmarks/functions.py", "invoke"),
    ("codec/facts.py", "encode facts"),
    ("codec/avro.py", "encode record"),
    ("codec/writing.py", "encode record"),
    ("streams/providers/", "render record"),
    ("engine/transaction.py", "append and commit"),
    ("engine/commits.py", "append and commit"),
    ("aiokafka/record/", "fetch"),
    ("aiokafka/consumer/", "fetch"),
    ("engine/fetch_sessions.py", "fetch"),
    ("engine/wire.py", "append and commit"),
    ("engine/compiled.py", "Kafka client"),
    ("engine/transport.py", "fetch"),
    ("engine/effects.py", "effects"),
    ("engine/careful.py", "careful mode"),
    ("engine/health.py", "health"),
    ("engine/partition.py", "book-keeping of partitions"),
    ("engine/work.py", "book-keeping of partitions"),
    ("engine/processor.py", "processor"),
    ("engine/attempts.py", "processor"),
    ("engine/deliveries.py", "processor"),
    ("engine/fetched.py", "fetch"),
    ("engine/delays.py", "processor"),
    ("aiokafka/", "Kafka client"),
    ("faust/", "Faust"),
    ("mode/", "Faust"),
    ("asyncio/", "event loop"),
    ("selectors.py", "event loop"),
)
"""Part of a frame, and the stage it belongs to. The innermost frame that is of any stage decides."""

_FRAME = re.compile(r"^(.*) \((.*?)(?::\d+)?\)$")


def stage(frames: Sequence[str]) -> str:
    """The stage of a stack, outermost frame first."""
    for frame in reversed(frames):
        for part, name in STAGES:
            if part in frame:
                return name
    return "other"


def read_folded(lines: Iterable[str]) -> Counter[tuple[str, ...]]:
    """Stacks and how often each was seen, from ``outer;…;inner count``."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        text, _, count = line.strip().rpartition(" ")
        if text:
            stacks[tuple(text.split(";"))] += int(count)
    return stacks


def summary(stacks: Mapping[tuple[str, ...], int], cpu_us: float) -> str:
    """Stages and functions with their share, and what that is of *cpu_us* for each request."""
    total = sum(stacks.values())
    stages, functions = Counter[str](), Counter[str]()
    for frames, count in stacks.items():
        stages[stage(frames)] += count
        functions[_function(frames[-1])] += count
    parts = []
    for title, counted, most in (("stage", stages, None), ("function, by itself", functions, FUNCTIONS_SHOWN)):
        rows = [[title, "%", "µs/request"]]
        rows += [
            [name, f"{100 * count / total:.1f}", number(cpu_us * count / total)]
            for name, count in counted.most_common(most)
        ]
        parts.append(columns(rows))
    return "\n\n".join(parts)


def _function(frame: str) -> str:
    """A frame without its line."""
    found = _FRAME.match(frame)
    return f"{found[1]} ({found[2]})" if found else frame


def profile_worker(site: Site, workload: Workload, requests: int, raw: Path | None) -> str:
    """Do the workload's backlog while py-spy looks, and say what it saw."""
    tool = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if tool is None:
        raise click.ClickException("py-spy is not installed: pip install -e '.[benchmarks]'")
    with session(site, CONTENDERS[STREAMS], workload) as opened:
        opened.warm_up(requests // 10)
        [worker] = opened.workers
        worker.freeze()
        opened.load(requests)
        before_s, file = worker.cpu_s(), raw or opened.folder / "profile.folded"
        worker.thaw()
        began = time.monotonic()
        command = [tool, "record", "--pid", str(worker.pid), "--rate", str(SAMPLES_PER_S), "--nonblocking"]
        with (opened.folder / "py-spy.log").open("w") as log:
            spy = subprocess.Popen(
                [*command, "--format", "raw", "--duration", "600", "--output", str(file)], stdout=log, stderr=log
            )
        try:
            opened.wait(opened.sent)
        finally:
            spy.send_signal(signal.SIGINT)
            spy.wait(30)
        wall_s, cpu_us = time.monotonic() - began, 1e6 * (worker.cpu_s() - before_s) / requests
        if not file.exists():
            raise click.ClickException(f"py-spy saw nothing: {(opened.folder / 'py-spy.log').read_text()}")
        stacks = read_folded(file.read_text().splitlines())
    head = f"{workload.name}: {number(requests / wall_s)} requests/s, {number(cpu_us)} µs of CPU a request, profiled"
    return f"{head}\n\n{summary(stacks, cpu_us)}"
