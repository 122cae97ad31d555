"""
The guard: hold a gateway to its latency budget.

Each repeat asks all bases in turn within one run, the same questions of each (see `engine`), so that what is added is the percentile through the
gateway minus the percentile straight to the same mock vendor, in the same seconds; CPU is taken per call, while calls are open, and set
against nginx's.
The median over the repeats is judged, and a machine that was busy with something else is said to be too noisy rather than the gateway too slow;
nginx, which adds next to nothing, shows it.

With a rig of its own (the default) it sees processes and measures CPU and memory; of a gateway that somebody else runs it sees the wire only.
"""

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from loadtests import budget, document, machine, rig, runner, summary
from loadtests.bench import usage
from loadtests.bench.held import HeldStreams, request
from loadtests.bench.measure import Contestant, Watch, body_of
from loadtests.budget import ADDED, PERCENTILES, Scenario, Tail, Verdict
from loadtests.meter import Meter
from loadtests.metrics import Record, meets, percentile, read_objectives
from loadtests.rig import DIRECT, NGINX, OURS, Rig

# Cores that other processes kept busy, above which latencies say more about them.
NOISY_CORES = 0.15
NOISY_SPREAD = 0.5
# Of all cores that others kept busy, above which nobody can say anything of latency.
HOPELESS_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a guard measures: seconds of a run, repeats, streams held open."""

    seconds: int = 8
    repeats: int = 3
    held: int = 500


QUICK = Effort(seconds=2, repeats=1, held=100)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A gateway that somebody else runs, and what stands behind it."""

    url: str
    key: str
    model: str
    direct_url: str
    direct_model: str
    direct_key: str = ""
    ca: str = ""

    def bases(self) -> list[dict[str, str]]:
        """Give both bases as a run takes them."""
        return [
            {
                "name": DIRECT,
                "url": self.direct_url,
                "model": self.direct_model,
                "key": self.direct_key,
                "ca": self.ca,
            },
            {"name": OURS, "url": self.url, "model": self.model, "key": self.key, "ca": self.ca},
        ]


@dataclass(slots=True)
class Found:
    """What the repeats of one scenario gave, by the rows of the budget, and what nginx gave in the same (`beside`)."""

    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    beside: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    tails: dict[str, Tail] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    direct_p50: list[float] = field(default_factory=list)

    @property
    def noise(self) -> str:
        """Say why the machine was too busy, nothing when it was not."""
        if self.others and median(self.others) > NOISY_CORES:
            return f"other processes kept {median(self.others):.2f} cores busy"
        if self.warnings:
            return self.warnings[0]
        if self.direct_p50 and (max(self.direct_p50) / min(self.direct_p50) - 1) > NOISY_SPREAD:
            return "the direct calls' own median moved by more than half between the repeats"
        return ""

    @property
    def hopeless(self) -> bool:
        """Whether others had more of the machine than we."""
        return bool(self.others) and median(self.others) > HOPELESS_SHARE * (os.cpu_count() or 1)


class Guard:
    """One guarding: scenarios over bases; `found` fills as they are run."""

    def __init__(
        self,
        scenarios: Sequence[Scenario],
        effort: Effort,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self.found: dict[str, Found] = {scenario.name: Found() for scenario in scenarios}
        self.gathered = runner.Gathered()
        self._scenarios = scenarios
        self._effort = effort
        self._folder = folder
        self._say = say
        self.rig: Rig | None = None

    def run(self, ours: Rig | None, foreign: Foreign | None) -> None:
        """Take all measurements: scenarios in turn, and that as often as there are repeats."""
        self.rig = ours
        if ours is not None:
            for scenario in self._scenarios:
                if scenario.wants("memory"):
                    kb = memory_kb(ours, self._effort.held)
                    self.found[scenario.name].values["memory"].append(kb)
                    self._say(f"  {scenario.name:<15} memory per open stream {kb:.1f} KB")
        for repeat in range(1, self._effort.repeats + 1):
            for scenario in self._scenarios:
                self._repeat(scenario, repeat, ours, foreign)

    def _repeat(
        self, scenario: Scenario, repeat: int, ours: Rig | None, foreign: Foreign | None
    ) -> None:
        bases = ours.bases(scenario.model) if ours else foreign.bases() if foreign else []
        watch = None
        meter = Meter(ours.cpu_by_base if ours else dict)
        if ours is not None:
            ours.ground.settle(give_up_s=10)
            watch = Watch(ours.ground)
        with meter:
            run = runner.measure(
                scenario.name,
                bases,
                self._folder / f"{scenario.name}-{repeat}",
                load=scenario.load * len(bases),
                duration=f"{self._effort.seconds}s",
                slo=scenario.slo,
                seed=repeat,
                title=f"{scenario.name}, repeat {repeat}",
            )
        records = self.gathered.add(run)
        found = self.found[scenario.name]
        found.warnings += run.document()["warnings"]
        if watch is not None:
            found.others.append(watch.told()[1])
        span = summary.span_of(records)
        if span and (ratio := cpu_ratio(records, meter.used(span.begin_s, span.end_s))):
            found.values["cpu"].append(ratio)
        for row, tail in tails(records, scenario).items():
            found.tails[row] = found.tails.get(row, Tail()) + tail
        for base, rows in ((OURS, found.values), (NGINX, found.beside)):
            for row, value in wire_values(records, scenario.slo, base).items():
                rows[row].append(value)
        direct = summary.values_of(of(records, DIRECT), "e2e")
        if direct:
            found.direct_p50.append(percentile(sorted(direct), 0.5))
        self._say(f"  {scenario.name:<15} {repeat}/{self._effort.repeats}  {_told(found, ours)}")

    def verdicts(self) -> list[Verdict]:
        """Judge everything that was found."""
        missing = (
            "no nginx here" if self.rig else "processes of a gateway that others run are not seen"
        )
        return [
            verdict
            for scenario in self._scenarios
            for found in (self.found[scenario.name],)
            for verdict in budget.judge(
                scenario,
                found.values,
                noise=found.noise,
                missing=missing,
                beside=found.beside,
                hopeless=found.hopeless,
                tails=found.tails,
            )
        ]

    def document(self, config: dict[str, Any]) -> dict[str, Any]:
        """Make the document of all runs together, with the verdicts in it."""
        gathered = self.gathered
        run = summary.summarize(
            gathered.records,
            gathered.samples,
            objectives={},
            about={"title": "guard", "config": config, "machine": machine.described()},
            spans=gathered.spans,
            parts=True,
        )
        return {
            **run,
            "verdicts": [verdict.row() for verdict in self.verdicts()],
            "values": {name: dict(found.values) for name, found in self.found.items()},
            "nginx": {name: dict(found.beside) for name, found in self.found.items()},
            "others_cores": {name: found.others for name, found in self.found.items()},
            "warnings": sorted(set(gathered.warnings)),
        }

    @property
    def records(self) -> list[Record]:
        """Every call of every repeat."""
        return self.gathered.records


def _told(found: Found, ours: Rig | None) -> str:
    parts = []
    for what in ADDED:
        row = f"added.{what}.p50"
        if found.values.get(row):
            parts.append(f"added {what} p50 {found.values[row][-1]:.2f} ms")
    if found.values.get("cpu"):
        parts.append(f"CPU {found.values['cpu'][-1]:.2f} x nginx")
    if ours is not None:
        parts.append(f"others {found.others[-1]:.2f} cores")
    return ", ".join(parts)


def of(records: Sequence[Record], base: str) -> list[Record]:
    """Give the records of one base that say anything."""
    return [record for record in records if record.base == base and record.counts]


def wire_values(records: Sequence[Record], slo: str, base: str = OURS) -> dict[str, float]:
    """
    Give what the wire tells of a base, by the budget's rows: what is added in milliseconds, shares in percent.

    A call that had no end when the run's `--drain` was over is an error and no good one: a gateway that hangs is not to pass for a fast one.
    """
    values: dict[str, float] = {}
    ours, direct = of(records, base), of(records, DIRECT)
    for what, metric in ADDED.items():
        through = sorted(summary.values_of(ours, metric))
        without = sorted(summary.values_of(direct, metric))
        if through and without:
            for name in PERCENTILES:
                share = int(name[1:]) / 100
                added = percentile(through, share) - percentile(without, share)
                values[f"added.{what}.{name}"] = added
    every = [record for record in records if record.base == base]
    if every:
        objectives = read_objectives(slo)
        values["errors"] = 100 * sum(not record.fine for record in every) / len(every)
        values["goodput"] = 100 * sum(meets(record, objectives) for record in every) / len(every)
    return values


def tails(records: Sequence[Record], scenario: Scenario) -> dict[str, Tail]:
    """Give, for each bound on what is added, how many of the gateway's values exceed the direct percentile by more than that."""
    found = {}
    for bound in scenario.bounds:
        # Gaps between chunks are no trials of their own: one stall delays that of every open stream.
        if not bound.percentile or bound.row.startswith("added.chunk"):
            continue
        metric = ADDED[bound.row.split(".")[1]]
        through = summary.values_of(of(records, OURS), metric)
        without = sorted(summary.values_of(of(records, DIRECT), metric))
        if through and without:
            most = percentile(without, bound.percentile) + bound.value
            found[bound.row] = Tail(sum(value > most for value in through), len(through))
    return found


def cpu_ratio(records: Sequence[Record], used: Mapping[str, float]) -> float | None:
    """Give the gateway's CPU per call over nginx's, `None` where one of them did nothing that can be told."""
    if NGINX not in used or not used[NGINX]:
        return None
    calls = {name: len(of(records, name)) for name in (NGINX, OURS)}
    if not all(calls.values()):
        return None
    return (used[OURS] / calls[OURS]) / (used[NGINX] / calls[NGINX])


def memory_kb(ours: Rig, count: int) -> float:
    """Give resident memory per open stream, beyond the process before they were opened, in KB."""
    (pid,) = ours.pids[OURS]
    gateway = ours.gateway
    where = urlsplit(gateway.url)
    contestant = Contestant(OURS, gateway.url, gateway.key, own_names=True)
    body = body_of("bench-held", contestant, stream=True)
    wire = request(where.netloc, "/v1/chat/completions", body, gateway.key)
    assert where.hostname is not None
    assert where.port is not None
    before = usage.rss_bytes(pid)
    with HeldStreams(where.hostname, where.port, wire, count):
        held = usage.rss_bytes(pid)
    ours.ground.settle(give_up_s=10)
    return max(0.0, (held - before) / count / 1024)


@contextlib.contextmanager
def standing(foreign: Foreign | None) -> Iterator[Rig | None]:
    """Stand up a rig, unless a gateway of somebody else's is guarded."""
    if foreign is not None:
        yield None
        return
    with rig.rig() as ours:
        yield ours


def table(verdicts: Sequence[Verdict]) -> str:
    """Render budget, measured and verdict, and say below what broke and what could not be judged."""
    columns = (
        ("what", "what"),
        ("budget", "budget"),
        ("measured", "measured"),
        ("range", "lowest to highest"),
        ("verdict", "verdict"),
    )
    lines = [document.table(columns, [verdict.row() for verdict in verdicts]), ""]
    for word, title in (
        (budget.BROKEN, "broken"),
        (budget.NOISY, "too noisy to judge"),
        (budget.UNKNOWN, "not measured"),
    ):
        for verdict in verdicts:
            if verdict.word == word:
                why = f" ({verdict.why})" if verdict.why else ""
                lines.append(f"{title}: {verdict.scenario} {verdict.bound.row}{why}")
    if all(verdict.word == budget.KEPT for verdict in verdicts):
        lines.append("the budget is kept")
    return "\n".join(lines)
