"""
The capacity: the highest rate at which the gateway keeps its budget.

A bounded search: the rate doubles until the budget breaks, then the gap between the highest that held and the lowest that broke is halved.
Each probe is an open loop, so that a gateway that falls behind shows it as latency and not as a lower rate.
Where the generator is the bottleneck below that, or the cores that all processes share, the answer is "at least", and says so: for that each probe
tells where the machine's cores went.
Workers that may use a part of a core only (`bench.quota`) end before a small machine does, and show how it scales by their rates.
Otherwise it is still told by what does not depend on whose turn it is: the CPU of one call, with one worker and with several, and how
evenly the workers share it.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from loadtests import health, runner, summary
from loadtests.bench.measure import Watch
from loadtests.engine import Health
from loadtests.metrics import Record, percentile
from loadtests.rig import DIRECT, OURS, Rig

# Cores that other processes kept busy, above which a capacity is a lower bound.
NOISY_CORES = 0.15
HELD, BROKE, GENERATOR = "held", "broke", "the generator was the bottleneck"
MACHINE = "the machine was busy, and no worker was"
# Of its core, above which a worker cannot do more; of all cores, above which nobody can.
_FULL_WORKER = 0.85
_FULL_MACHINE = 0.9
_WORKER = "worker"
INTERRUPTED = "interrupted"
# What the rig calls the gateway's workers: edge, edge1, ...
_EDGE = re.compile(r"edge\d*")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a rate has to keep: p99 of what is added over direct calls, and the share of errors."""

    added_p99_ms: float = 25.0
    errors: float = 0.001


@dataclass(frozen=True, slots=True)
class Probe:
    """
    One rate that was tried, and what came of it.

    `cpu_us` is the gateway's CPU per call, all workers together, `store_us` the store's; `cores` is how many cores each process used, and
    `others_cores` how many those that are not ours did.
    """

    rate: float
    word: str
    why: str = ""
    achieved: float = 0.0
    p99_ms: float = 0.0
    cpu_us: float = 0.0
    store_us: float = 0.0
    cores: dict[str, float] = field(default_factory=dict)
    others_cores: float = 0.0

    def workers(self) -> list[float]:
        """Give the cores that each worker used."""
        return [used for name, used in self.cores.items() if name.startswith(_WORKER)]

    def shares(self) -> str:
        """Say where the cores went, the most first."""
        used = {**self.cores, "others": self.others_cores}
        ordered = sorted(used.items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {cores:.2f}" for name, cores in ordered if cores >= 0.005)


@dataclass(frozen=True, slots=True)
class Capacity:
    """The highest rate that held; `bounded` is false where the search ended before anything of the gateway's broke."""

    workers: int
    rate: float
    bounded: bool
    probes: tuple[Probe, ...]
    limit: str

    @property
    def noise(self) -> str:
        """Say how busy the machine was with something else, nothing when it was not."""
        busy = [one.others_cores for one in self.probes]
        if not busy or median(busy) <= NOISY_CORES:
            return ""
        return f"other processes kept {median(busy):.2f} cores busy"

    def words(self) -> str:
        """Say it in a line."""
        least = "" if self.bounded else "at least "
        tried = self.probe(self.rate)
        cpu = ""
        if tried is not None and tried.cpu_us:
            cpu = f"; {tried.cpu_us:.0f} µs of gateway CPU per call, so one core could serve {1e6 / tried.cpu_us:,.0f}/s"
        if self.noise:
            cpu += f"; {self.noise} meanwhile, so it is more than that"
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        return f"{workers}: {least}{self.rate:,.0f} calls/s ({self.limit}){cpu}"

    def probe(self, rate: float) -> Probe | None:
        """Give the probe of a rate that held."""
        return next((one for one in self.probes if one.rate == rate and one.word == HELD), None)


def search(
    probe: Callable[[float], Probe], *, start: float, most: float, halvings: int, workers: int
) -> Capacity:
    """
    Find the highest rate that holds, from `start` on and never above `most`.

    Makes at most log2(most / start) + 1 + `halvings` probes; on Ctrl-C what held until then is the answer, and its limit is `INTERRUPTED`.
    """
    probes: list[Probe] = []
    held, broke, rate = 0.0, 0.0, start
    limit = f"{most:,.0f}/s is the most that was tried"
    try:
        while not broke:
            probes.append(probe(rate))
            if probes[-1].word != HELD:
                broke, limit = rate, f"{probes[-1].why} at {rate:,.0f}/s"
            else:
                held = rate
                if rate >= most:
                    break
                rate = min(rate * 2, most)
        for _ in range(halvings if held and broke else 0):
            rate = (held + broke) / 2
            probes.append(probe(rate))
            if probes[-1].word == HELD:
                held = rate
            else:
                broke, limit = rate, f"{probes[-1].why} at {rate:,.0f}/s"
    except KeyboardInterrupt:
        return Capacity(workers, held, False, tuple(probes), INTERRUPTED)
    # What generator or machine could not do says nothing of the gateway, unless it broke below that by itself.
    bounded = any(one.rate == broke and one.word == BROKE for one in probes)
    return Capacity(workers, held, bounded, tuple(probes), limit)


def judge(
    rate: float,
    records: Sequence[Record],
    samples: Sequence[Health],
    *,
    direct_p99_ms: float,
    limits: Limits,
) -> Probe:
    """
    Say whether a rate held; `direct_p99_ms` is that of direct calls at a low rate.

    What broke is the generator's where it had no time to read answers in, or where calls were within the limits counted from their sending.
    One that is a little late because thousands of calls wait for the gateway is no excuse.
    """
    counting = [record for record in records if record.counts]
    if not counting:
        return Probe(rate, BROKE, "no call ended")
    errors = sum(not record.fine for record in counting) / len(counting)
    ordered = sorted(summary.values_of(counting, "e2e"))
    p99 = percentile(ordered, 0.99) if ordered else 0.0
    span = max(record.at_s for record in counting) - min(record.at_s for record in counting)
    made = Probe(rate, HELD, "", len(counting) / max(span, 1.0), p99)
    if errors > limits.errors:
        kinds = sorted({record.outcome for record in counting if not record.fine})
        return replace(made, word=BROKE, why=f"{errors:.1%} errors ({', '.join(kinds)})")
    why = ""
    if (hung := 1 - len(counting) / len(records)) > limits.errors:
        why = f"{hung:.1%} of the calls did not end"
    elif p99 - direct_p99_ms > limits.added_p99_ms:
        why = f"p99 {p99 - direct_p99_ms:.0f} ms above direct calls"
    if not why:
        return made
    sent = sorted(
        one.e2e_ms - one.late_ms for one in counting if one.fine and one.e2e_ms is not None
    )
    in_time = not sent or percentile(sent, 0.99) - direct_p99_ms <= limits.added_p99_ms
    if health.warnings(samples, ()) or (in_time and health.warnings((), counting)):
        return replace(made, word=GENERATOR, why=GENERATOR)
    return replace(made, word=BROKE, why=why)


def blame(probe: Probe, cores: int, worker_cores: float = 1.0) -> Probe:
    """
    Take a broken rate off the gateway where each of its workers had more to give, and the machine had not.

    That is where all its `cores` were busy, or some of them with what is not ours; a worker may use `worker_cores`.
    """
    used = sum(probe.cores.values()) + probe.others_cores
    full = used > _FULL_MACHINE * cores or probe.others_cores > NOISY_CORES
    spare = probe.workers() and max(probe.workers()) < _FULL_WORKER * worker_cores
    if probe.word == BROKE and spare and full:
        return replace(probe, word=MACHINE, why=f"{probe.why}; {MACHINE}: {probe.shares()}")
    return probe


def find(
    ours: Rig,
    folder: Path,
    say: Callable[[str], None],
    *,
    workers: int,
    scenario: str = "chat",
    model: str = "bench-slow",
    limits: Limits,
    seconds: int,
    start: float,
    most: float,
    halvings: int = 3,
    processes: int = 1,
    worker_cores: float = 1.0,
) -> Capacity:
    """Find the capacity of the rig's gateway, each of whose workers may use `worker_cores`."""
    bases = {base["name"]: base for base in ours.bases(model, proxies=False)}
    options: dict[str, Any] = {"duration": f"{seconds}s", "processes": processes, "drain": 5}

    def measure(base: str, rate: float) -> runner.Run:
        where = folder / f"{workers}-workers-{base}-{rate:.0f}"
        return runner.measure(scenario, [bases[base]], where, load=rate, **options)

    direct = sorted(summary.values_of(measure(DIRECT, start).records(), "e2e"))
    if not direct:
        raise runner.RunFailed("no direct call was answered, so nothing can be set against one")
    direct_p99_ms = percentile(direct, 0.99)
    say(f"  direct calls at {start:,.0f}/s: p99 {direct_p99_ms:.1f} ms")

    def probe(rate: float) -> Probe:
        ours.ground.settle(give_up_s=10)
        before = ours.cpu_s(OURS)
        watch = Watch(ours.ground)
        run = measure(OURS, rate)
        by_process, others = watch.told()
        records = run.records()
        used = ours.cpu_s(OURS) - before
        told = run.document()
        samples = runner.samples_of(told)
        made = judge(rate, records, samples, direct_p99_ms=direct_p99_ms, limits=limits)
        calls = max(len(records), 1)
        made = replace(
            made,
            cpu_us=used / calls * 1e6,
            store_us=by_process["store"] / calls * 1e6,
            cores=cores_of(by_process, told["health"], seconds),
            others_cores=round(others, 3),
        )
        made = blame(made, os.cpu_count() or 1, worker_cores)
        say(
            f"  {rate:>8,.0f}/s  {made.word:<6} p99 {made.p99_ms:.1f} ms, {made.achieved:,.0f}/s begun,"
            f" {made.cpu_us:.0f} µs CPU per call; cores: {made.shares()} {made.why}".rstrip()
        )
        return made

    return search(probe, start=start, most=most, halvings=halvings, workers=workers)


def cores_of(
    by_process: Mapping[str, float],
    health: Mapping[str, Sequence[Mapping[str, float]]],
    seconds: float,
) -> dict[str, float]:
    """
    Give how many cores each process used while there was load.

    `by_process` are CPU seconds by the names of the rig, `health` the generator's samples by its processes.
    """
    cores = {}
    for name, used_s in by_process.items():
        shown = (
            f"{_WORKER} {int(name.removeprefix('edge') or 0) + 1}"
            if _EDGE.fullmatch(name)
            else name
        )
        cores["vendor" if name == "mock" else shown] = round(used_s / seconds, 3)
    cores["generator"] = round(
        sum(fmean(row["cpu"] for row in rows) for rows in health.values() if rows), 3
    )
    return cores


def scaling(found: Sequence[Capacity]) -> list[str]:
    """Say how it scales from the first to the last: by the rates where the gateway bounded both, and by what a call costs in any case."""
    if len(found) < 2 or not found[0].rate:
        return []
    few, many = found[0], found[-1]
    said = []
    if noise := few.noise or many.noise:
        said.append(
            f"what {many.workers} workers make of {few.workers}'s rate cannot be seen: {noise}"
        )
    elif few.bounded and many.bounded:
        said.append(
            f"{many.workers} workers make {many.rate / few.rate:.2f} times the rate of {few.workers}"
        )
    else:
        said.append(
            f"what {many.workers} workers make of {few.workers}'s rate cannot be seen on this machine:"
            " generator, vendor and store have no cores of their own, and came to their end first"
        )
    # At the same load of each worker: one that has less to do does it in smaller batches, and spends more on a call.
    times = many.workers / few.workers
    held = [one.rate for one in few.probes if one.word == HELD]
    at = max((rate for rate in held if many.probe(rate * times)), default=0.0)
    one, other = few.probe(at), many.probe(at * times)
    if one is not None and other is not None and one.cpu_us and other.cpu_us:
        each = other.workers()
        even = " and ".join(f"{used / sum(each):.0%}" for used in each) if sum(each) else "-"
        gain = times * one.cpu_us / other.cpu_us
        said.append(
            f"a call costs the gateway {one.cpu_us:.0f} µs of CPU with {few.workers} at {at:,.0f}/s and {other.cpu_us:.0f} µs with"
            f" {many.workers} at {other.rate:,.0f}/s, who share it {even}: on cores of their own they make {gain:.2f} times the rate"
        )
    most = many.probe(many.rate)
    if most is not None and most.store_us:
        said.append(
            f"the store, which all workers share, spends {most.store_us:.0f} µs on a call at {most.rate:,.0f}/s: one core of it serves"
            f" {1e6 / most.store_us:,.0f}/s, however many workers there are"
        )
    return said
