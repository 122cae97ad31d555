"""
The capacity: the highest rate at which the gateway keeps its budget.

A bounded search: the rate doubles until the budget breaks, then the gap between the highest that held and the lowest that broke is halved.
Each probe is an open loop, so that a gateway that falls behind shows it as latency and not as a lower rate.
Where the generator is the bottleneck first, the answer is "at least", and says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from loadtests import runner, summary
from loadtests.bench.measure import Watch
from loadtests.metrics import Record
from loadtests.rig import DIRECT, OURS, Rig

# Cores that other processes kept busy, above which a capacity is a lower bound.
NOISY_CORES = 0.15
HELD, BROKE, GENERATOR = "held", "broke", "the generator was the bottleneck"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a rate has to keep: p99 of what is added over direct calls, and the share of errors."""

    added_p99_ms: float = 25.0
    errors: float = 0.001


@dataclass(frozen=True, slots=True)
class Probe:
    """One rate that was tried, and what came of it."""

    rate: float
    word: str
    why: str = ""
    achieved: float = 0.0
    p99_ms: float = 0.0
    cpu_us: float = 0.0
    others_cores: float = 0.0


@dataclass(frozen=True, slots=True)
class Capacity:
    """The highest rate that held; `bounded` is false where the search ended before anything of the gateway's broke."""

    workers: int
    rate: float
    bounded: bool
    probes: tuple[Probe, ...]
    limit: str

    def words(self) -> str:
        """Say it in a line."""
        least = "" if self.bounded else "at least "
        tried = next((p for p in reversed(self.probes) if p.rate == self.rate), None)
        cpu = ""
        if tried is not None and tried.cpu_us:
            cpu = f"; {tried.cpu_us:.0f} µs of gateway CPU per call, so one core could serve {1e6 / tried.cpu_us:,.0f}/s"
        busy = [one.others_cores for one in self.probes]
        if busy and median(busy) > NOISY_CORES:
            cpu += f"; other processes kept {median(busy):.2f} cores busy meanwhile, so it is more than that"
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        return f"{workers}: {least}{self.rate:,.0f} calls/s ({self.limit}){cpu}"


def search(
    probe: Callable[[float], Probe], *, start: float, most: float, halvings: int, workers: int
) -> Capacity:
    """
    Find the highest rate that holds, from `start` on and never above `most`.

    Makes at most log2(most / start) + 1 + `halvings` probes.
    """
    probes: list[Probe] = []
    held, broke, rate = 0.0, 0.0, start
    limit = f"{most:,.0f}/s is the most that was tried"
    while not broke:
        probes.append(probe(rate))
        if probes[-1].word != HELD:
            broke, limit = rate, f"{probes[-1].why} at {rate:,.0f}/s"
        else:
            held = rate
            if rate >= most:
                break
            rate = min(rate * 2, most)
    # A generator that cannot go on says nothing of the gateway, and halving would only find the generator's limit.
    while broke and halvings and probes[-1].word != GENERATOR and held:
        halvings -= 1
        rate = (held + broke) / 2
        probes.append(probe(rate))
        if probes[-1].word == HELD:
            held = rate
        else:
            broke, limit = rate, f"{probes[-1].why} at {rate:,.0f}/s"
    bounded = bool(broke) and not any(one.word == GENERATOR for one in probes)
    return Capacity(workers, held, bounded, tuple(probes), limit)


def judge(
    rate: float,
    records: Sequence[Record],
    warnings: Sequence[str],
    *,
    direct_p99_ms: float,
    limits: Limits,
) -> Probe:
    """Say whether a rate held; `direct_p99_ms` is that of direct calls at a low rate."""
    counting = [record for record in records if record.counts]
    if not counting:
        return Probe(rate, BROKE, "no call ended")
    errors = sum(not record.fine for record in counting) / len(counting)
    ordered = sorted(summary.values_of(counting, "e2e"))
    p99 = summary.percentile(ordered, 0.99) if ordered else 0.0
    span = max(record.at_s for record in counting) - min(record.at_s for record in counting)
    made = Probe(rate, HELD, "", len(counting) / max(span, 1.0), p99)
    if errors > limits.errors:
        kinds = sorted({record.outcome for record in counting if not record.fine})
        return replace(made, word=BROKE, why=f"{errors:.1%} errors ({', '.join(kinds)})")
    if p99 - direct_p99_ms > limits.added_p99_ms:
        if warnings:
            return replace(made, word=GENERATOR, why=GENERATOR)
        return replace(made, word=BROKE, why=f"p99 {p99 - direct_p99_ms:.0f} ms above direct calls")
    return made


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
) -> Capacity:
    """Find the capacity of the rig's gateway."""
    bases = {base["name"]: base for base in ours.bases(model, proxies=False)}
    options: dict[str, Any] = {"duration": f"{seconds}s", "processes": processes, "drain": 5}

    def measure(base: str, rate: float) -> runner.Run:
        where = folder / f"{workers}-workers-{base}-{rate:.0f}"
        return runner.measure(scenario, [bases[base]], where, load=rate, **options)

    direct = sorted(summary.values_of(measure(DIRECT, start).records(), "e2e"))
    direct_p99_ms = summary.percentile(direct, 0.99) if direct else 0.0
    say(f"  direct calls at {start:,.0f}/s: p99 {direct_p99_ms:.1f} ms")

    def probe(rate: float) -> Probe:
        ours.ground.settle(give_up_s=10)
        before = ours.cpu_s(OURS)
        watch = Watch(ours.ground)
        run = measure(OURS, rate)
        others = watch.told()[1]
        records = run.records()
        used = ours.cpu_s(OURS) - before
        warnings = run.document()["warnings"]
        made = judge(rate, records, warnings, direct_p99_ms=direct_p99_ms, limits=limits)
        cpu_us = used / max(len(records), 1) * 1e6
        made = replace(made, cpu_us=cpu_us, others_cores=round(others, 3))
        say(
            f"  {rate:>8,.0f}/s  {made.word:<6} p99 {made.p99_ms:.1f} ms, {made.achieved:,.0f}/s begun,"
            f" {made.cpu_us:.0f} µs CPU per call, others {others:.2f} cores {made.why}"
        )
        return made

    return search(probe, start=start, most=most, halvings=halvings, workers=workers)


def scaling(found: Sequence[Capacity]) -> str:
    """Say how it scales from the first to the last."""
    if len(found) < 2 or not found[0].rate:
        return ""
    factor = found[-1].rate / found[0].rate
    sure = all(one.bounded for one in found)
    doubt = (
        ""
        if sure
        else "; not all of them were bounded by the gateway, so this is no statement about it"
    )
    return (
        f"{found[-1].workers} workers make {factor:.2f} times the rate of {found[0].workers}{doubt}"
    )
