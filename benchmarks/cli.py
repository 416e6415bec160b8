"""The command line: which contenders, which workloads, how often; then tables, results.csv and plots."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import click
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from benchmarks import bars, tables
from benchmarks.contenders import CONTENDERS, STREAMS, Contender
from benchmarks.contenders import chosen as chosen_contenders
from benchmarks.gate import Verdict, pass_through
from benchmarks.measure import MeasurementFailed, Site, measure
from benchmarks.redis_server import NoRedis, RedisServer
from benchmarks.results import Machine, Sample, Samples, append
from benchmarks.workloads import WORKLOADS, Workload
from benchmarks.workloads import chosen as chosen_workloads
from streams.commands.base import terminated_like_interrupted
from streams.errors import StreamsError
from streams.local.broker import Broker

FOLDER = Path(__file__).parent
GATE_RATE = 0.5
"""The gate's load, as a part of what the contender did in W1."""
GATE_RATE_BOUNDS = (100.0, 5_000.0)
KILLS, KILLS_QUICK = 5, 2
WARM_UP = ("W1", "W6-1000-p32")


class _Group(click.Group):
    """Prints our errors as click prints its own."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except StreamsError as error:
            raise click.ClickException(str(error)) from error


def _workloads(_ctx: click.Context, _option: click.Parameter, names: str | None) -> list[Workload]:
    try:
        return chosen_workloads(names)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _contenders(_ctx: click.Context, _option: click.Parameter, names: str | None) -> list[Contender]:
    try:
        return chosen_contenders(names)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group(
    cls=_Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("--broker", metavar="HOST:PORT[,…]", help="Use this Kafka (4.0 or newer). [default: one of our own]")
@click.option(
    "--workloads",
    callback=_workloads,
    metavar="W0,W1,…",
    help="Only these; W6 and W9 stand for all that begin so. [default: all]",
)
@click.option("--contenders", callback=_contenders, metavar="NAME,…", help="Only these. [default: all]")
@click.option("--repeat", type=click.IntRange(1), help="Measurements of each, interleaved. [default: 5; quick: 1]")
@click.option("--quick", is_flag=True, help="A short run: small workloads, once. Its figures say little.")
@click.option("--scale", type=click.FloatRange(0.001), default=1.0, help="Multiply how much of everything is done.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of events and of the gate's kills.")
@click.option("--gate/--no-gate", default=True, help="Kill each contender with -9 under load, too. [default: do]")
@click.option("--kills", type=click.IntRange(1), help="So often. [default: 5; quick: 2]")
@click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    default=FOLDER / "results.csv",
    help="Where every measurement is appended. [default: benchmarks/results.csv]",
)
@click.option(
    "--plots",
    type=click.Path(file_okay=False, path_type=Path),
    default=FOLDER / "plots",
    help="Where pictures go. [default: benchmarks/plots]",
)
@click.option("--no-plots", is_flag=True, help="Draw nothing.")
@click.option("--list", "lists", is_flag=True, help="Say what there is, with each contender's settings, and end.")
@click.pass_context
def main(
    ctx: click.Context,
    broker: str | None,
    workloads: list[Workload],
    contenders: list[Contender],
    repeat: int | None,
    quick: bool,
    scale: float,
    seed: int,
    gate: bool,
    kills: int | None,
    results: Path,
    plots: Path,
    no_plots: bool,
    lists: bool,
) -> None:
    """Measure Streams and what one would otherwise use, all in one run on one broker.

    Every contender is a process of its own, in its own documented settings (`--list`). A process outside produces; a
    consumer outside, read committed, sees the outcomes. Wall time, and user + system time of the worker's processes
    from /proc. Medians of interleaved repeats, with their range. Starting and a warm-up (10 % more requests) are not
    counted; the load of a backlog is written while the worker is frozen, so that it takes none of its time.

    \b
    W0  no-op without outcome (its end is seen by committed offsets)
    W1  200-byte event, async function, outcome: ours writes record, state, facts and offset in one transaction
    W2  as W1, and 1 % fail once and are retried
    W3  functions that wait for 100 ms, 500 in flight       W4  functions that block for 10 ms, in 32 threads
    W5  64 KB events
    W6  latency, open loop: 100/s, 1,000/s, half of W1's rate; 4 and 32 partitions; from the producer's
        acknowledgement until a read_committed consumer sees the outcome
    W7  state entries read back                             W8  retries parked: memory, lateness
    W9  two and four workers (see CPU per request where cores are short)

    The gate kills each contender's worker with -9 under load, restarts it, and counts outcomes. Who loses something, or
    promises nothing, is listed apart. All of it takes hours; a part takes minutes:

    \b
    Examples:
      python -m benchmarks --quick                               everything, roughly, in a quarter of an hour
      python -m benchmarks --workloads W1 --contenders streams,faust,aiokafka
      python -m benchmarks --workloads W6 --contenders streams --repeat 3 --no-gate
      python -m benchmarks profile                               where W1's microseconds go
      python -m benchmarks gateway                               how fast a gateway accepts
    """
    ctx.obj = broker, seed
    if ctx.invoked_subcommand is not None:
        return
    if lists:
        click.echo(_listed())
        return
    run = Run(
        workloads=workloads,
        contenders=contenders,
        repeat=repeat or (1 if quick else 5),
        quick=quick,
        scale=scale,
        kills=(kills or (KILLS_QUICK if quick else KILLS)) if gate else 0,
    )
    draw = None if no_plots else _draw()
    machine = Machine.here(_kafka(broker), _packages(contenders))
    run.keep = lambda sample: append(results, machine, run.name, [sample])
    with terminated_like_interrupted(), _site(broker, seed, contenders) as site:
        try:
            run.measure_all(site)
        except KeyboardInterrupt:
            click.echo("\nInterrupted; this is what there is.", err=True)
    click.echo()
    click.echo(run.report())
    click.echo(f"\nEvery measurement: {results}")
    if run.samples and draw is not None:
        files = draw(plots, run.samples, run.gate, run.caption(machine))
        click.echo(f"Pictures: {', '.join(map(str, files)) or 'none'}")


@dataclass(kw_only=True)
class Run:
    """All that is measured under one name."""

    workloads: list[Workload]
    contenders: list[Contender]
    repeat: int
    quick: bool
    scale: float
    kills: int
    """0: no gate."""
    keep: Callable[[Sample], None] = lambda sample: None
    """Called with every measurement as soon as it is made: a long run may be interrupted."""
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    samples: Samples = field(default_factory=Samples)
    gate: dict[str, Verdict] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    """Why a contender, or a measurement, is missing."""

    def measure_all(self, site: Site) -> None:
        """Measure, contenders and workloads in turn, again and again; then the gate."""
        present = [contender for contender in self.contenders if not self._skips(contender, site)]
        work = [
            (repeat, workload, contender)
            for repeat in range(1, self.repeat + 1)
            for workload in self.workloads
            for contender in present
            if workload.name in contender.workloads
        ]
        on_kafka = [contender for contender in present if not contender.is_on_redis]
        if on_kafka and not self.quick:
            self._warm_up(site, on_kafka[0])
        total, began = len(work) + (len(present) if self.kills else 0), time.monotonic()
        for done, (repeat, workload, contender) in enumerate(work, 1):
            self._say(done, total, began, f"{workload.name} {contender.name}, {repeat} of {self.repeat}")
            self._measure(site, repeat, workload, contender)
        for done, contender in enumerate(present if self.kills else (), len(work) + 1):
            self._say(done, total, began, f"kill -9 {contender.name}")
            self._pass_gate(site, contender)

    def _warm_up(self, site: Site, contender: Contender) -> None:
        """Let the broker be compiled before anything counts: it takes half of a machine while that goes on."""
        for name in WARM_UP:
            click.echo(f"Warming up: {name} {contender.name}", err=True)
            with contextlib.suppress(MeasurementFailed, KafkaException, RuntimeError, TimeoutError):
                measure(site, contender, WORKLOADS[name], quick=True, scale=self.scale, half_rate=lambda: 0.0)

    def _skips(self, contender: Contender, site: Site) -> bool:
        missing = contender.missing()
        if missing is not None:
            self.skipped[contender.name] = f"{missing} is not installed: pip install -e '.[benchmarks]'"
        elif contender.is_on_redis and site.redis is None:
            self.skipped[contender.name] = "there is no Redis"
        return contender.name in self.skipped

    def _measure(self, site: Site, repeat: int, workload: Workload, contender: Contender) -> None:
        def half_rate() -> float:
            per_s = self.samples.median("W1", contender.name, "per_s")
            if per_s is None:
                raise MeasurementFailed("half of W1's rate needs W1 in the same run")
            return per_s / 2

        try:
            figures, latencies = measure(
                site, contender, workload, quick=self.quick, scale=self.scale, half_rate=half_rate
            )
        except (MeasurementFailed, KafkaException, RuntimeError, TimeoutError) as error:
            self.skipped[f"{workload.name} {contender.name}"] = str(error)
            click.echo(f" failed: {error}", err=True)
            return
        sample = Sample(
            workload=workload.name, contender=contender.name, repeat=repeat, figures=figures, latencies_s=latencies
        )
        self.samples.append(sample)
        self.keep(sample)
        click.echo("  " + _in_short(figures), err=True)

    def _pass_gate(self, site: Site, contender: Contender) -> None:
        per_s = self.samples.median("W1", contender.name, "per_s") or 2 * GATE_RATE_BOUNDS[0]
        rate = min(max(GATE_RATE * per_s, GATE_RATE_BOUNDS[0]), GATE_RATE_BOUNDS[1])
        try:
            verdict = self.gate[contender.name] = pass_through(site, contender, self.kills, rate)
        except (MeasurementFailed, KafkaException, TimeoutError) as error:
            self.skipped[f"gate {contender.name}"] = str(error)
            click.echo(f" failed: {error}", err=True)
            return
        click.echo(f"  {verdict.lost:,} of {verdict.requests:,} lost, {verdict.duplicates:,} duplicates", err=True)
        self.keep(Sample(workload="gate", contender=contender.name, repeat=1, figures=verdict._asdict()))

    def _say(self, done: int, total: int, began: float, what: str) -> None:
        elapsed = time.monotonic() - began
        left = f", about {elapsed / (done - 1) * (total - done + 1) / 60:.0f} min left" if done > 3 else ""
        click.echo(f"[{done}/{total}{left}] {what}", err=True, nl=False)
        sys.stderr.flush()

    def report(self) -> str:
        """Everything, for a terminal."""
        parts = [tables.results(self.samples, self.gate)]
        if (warning := tables.busy(self.samples)) is not None:
            parts.append(warning)
        if self.gate:
            parts.append(tables.verdicts(self.gate))
        if any(sample.contender == STREAMS for sample in self.samples):
            parts.append(tables.bars(bars.judge(self.samples)))
        if self.skipped:
            notes = [f"  {what}: {why.splitlines()[0]}" for what, why in self.skipped.items()]
            parts.append("Not measured\n" + "\n".join(notes))
        return "\n\n".join(parts)

    def caption(self, machine: Machine) -> str:
        """What stands under a picture."""
        about = machine.fields
        what = f"{self.repeat} repeats, medians and range" if self.repeat > 1 else "a single measurement"
        return f"{what} · {about['cores']} cores, {about['cpu']} · {about['date'][:10]}, commit {about['commit']}"


def _draw() -> Callable[[Path, Samples, Mapping[str, Verdict], str], list[Path]]:
    """What draws; before anything is measured, so that a long run does not end without it."""
    try:
        from benchmarks.plots import draw  # here: it takes a second, and tests do without
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{error}: pip install -e '.[benchmarks]', or add --no-plots") from error
    return draw


def _in_short(figures: Mapping[str, float]) -> str:
    shown = ("per_s", "cpu_us", "cpu_percent", "p50_ms", "p99_ms", "late_p99_ms", "rss_mb", "rss_growth_mb")
    return ", ".join(f"{name} {tables.number(figures[name])}" for name in shown if name in figures)


@contextlib.contextmanager
def _site(broker: str | None, seed: int, contenders: Iterable[Contender]) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        address = broker or stack.enter_context(Broker(ephemeral=True, lasts=True)).bootstrap
        redis = None
        if any(contender.is_on_redis and contender.missing() is None for contender in contenders):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streams-benchmark-redis-")))
            try:
                redis = stack.enter_context(RedisServer(folder))
            except NoRedis as error:
                click.echo(f"Without Redis: {error}", err=True)
        try:
            AdminClient({"bootstrap.servers": address, "log_level": 3}).list_topics(timeout=10)
        except KafkaException as error:
            raise click.ClickException(f"no Kafka broker answers at {address}: {error}") from error
        yield Site(address, seed, redis)


def _kafka(broker: str | None) -> str:
    if broker is not None:
        return "given"
    lines = (Path(__file__).parents[1] / "streams" / "local" / "jars.lock").read_text().splitlines()
    found = [line for line in lines if "kafka_2.13" in line]
    return next((part for line in found for part in line.replace("-", ":").split(":") if part[:2] == "4."), "embedded")


def _packages(contenders: Iterable[Contender]) -> list[str]:
    return ["invocation-streams", *(package for contender in contenders for package in contender.packages)]


def _listed() -> str:
    workloads = [[f"  {workload.name}", workload.does] for workload in WORKLOADS.values()]
    parts = ["Workloads", tables.columns(workloads), "", "Contenders"]
    for contender in CONTENDERS.values():
        versions = ", ".join(f"{name} {_version(name)}" for name in contender.packages)
        parts.append(f"\n  {contender.name}  ({versions or 'ours'}; promises: {contender.promise})")
        parts += [f"    {line}" for line in contender.settings().splitlines()]
    return "\n".join(parts)


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return "not installed"


@main.command()
@click.option("--requests", type=click.IntRange(1_000), default=100_000, show_default=True)
@click.option("--workload", type=click.Choice(["W0", "W1", "W2", "W5"]), default="W1", show_default=True)
@click.option("--raw", type=click.Path(dir_okay=False, path_type=Path), help="Keep the samples in this file, too.")
@click.pass_obj
def profile(obj: tuple[str | None, int], requests: int, workload: str, raw: Path | None) -> None:
    """Where the microseconds of a request go.

    A sampling profiler (py-spy) looks at the worker from outside while it does the workload's backlog; every sample is
    given to the innermost function of ours or of a library, and to the stage of the hot path that called it. Needs the
    right to trace own processes (root, or kernel.yama.ptrace_scope 0).
    """
    from benchmarks.profile import profile_worker

    broker, seed = obj
    with _site(broker, seed, ()) as site:
        click.echo(profile_worker(site, WORKLOADS[workload], requests, raw))


@main.command()
@click.option("--seconds", type=click.FloatRange(1.0), default=10.0, show_default=True, help="Of each load.")
@click.pass_obj
def gateway(obj: tuple[str | None, int], seconds: float) -> None:
    """How fast a gateway accepts, and what becomes of it.

    AWS's asynchronous Invoke with a 200-byte event on one gateway process: as many as 64 connections give, beside a
    bare aiohttp application under the same load; then 500 a second. Then a worker runs them all, and every accepted id
    is looked up. Then a function's configuration is changed some times while it is invoked.
    """
    from benchmarks.gateway import measure_gateway, report

    broker, seed = obj
    with terminated_like_interrupted(), _site(broker, seed, ()) as site:
        click.echo(report(measure_gateway(site.broker, seconds)))
