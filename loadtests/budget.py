"""
The latency budget: a YAML file of bounds with units, read completely before anything starts, and the verdict over repeated runs.

A verdict compares the median of interleaved repeats with its bound.
`broken` needs more than a high median, for a noisy machine must not cry wolf.
What a bare native proxy in the same runs (`beside`) did not keep either is `too noisy`.
So is a percentile beyond which no more calls lay than chance may bring (`Tail`): the p99 of a few hundred calls is its two or three worst.
On a machine that was busy with something else, every repeat must exceed twice the bound, and where that took more than half of its cores
(`hopeless`) nothing is said at all.
Shares of errors are not a matter of noise, and break at once.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

import yaml

from loadtests.bench.figures import plain
from loadtests.bench.measure import MODELS
from loadtests.metrics import BadObjective, read_objectives
from loadtests.scenarios import SCENARIOS

FILE = Path(__file__).with_name("budget.yaml")
PERCENTILES = ("p50", "p95", "p99")
# What is added, and the metric it is taken from.
ADDED = {"ttft": "ttft", "chunk": "icl", "total": "e2e"}
_UNITS: dict[str, dict[str, float]] = {
    "time": {"ms": 1.0, "us": 0.001, "µs": 0.001, "s": 1000.0},
    "share": {"%": 1.0},
    "ratio": {"x": 1.0},
    "memory": {"KB": 1.0, "MB": 1024.0},
}
_SHOWN = {"time": "ms", "share": "%", "ratio": "x", "memory": "KB"}
_PLAIN = {"errors": "share", "cpu": "ratio", "memory": "memory", "goodput": "share"}
_OF_PROCESSES = ("cpu", "memory")
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*(\S+)")
# Of a normal distribution, beyond which one in twenty lies.
_ONE_IN_TWENTY = 1.645
KEPT, BROKEN, NOISY, UNKNOWN = "kept", "broken", "too noisy", "not measured"


class BadBudget(ValueError):
    """The budget cannot be used; one mistake a line, each with its path."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One line of the budget; `row` is like `added.ttft.p95`, `cpu` or `goodput`, `value` is in `unit`."""

    row: str
    value: float
    unit: str
    floor: bool = False

    def exceeded(self, value: float, factor: float = 1.0) -> bool:
        """Whether a value lies beyond this bound, or beyond a multiple of it."""
        return value < self.value / factor if self.floor else value > self.value * factor

    @property
    def percentile(self) -> float:
        """The share of values that its percentile is of: 0.99 of `added.ttft.p99`, 0 where it is of none."""
        last = self.row.rpartition(".")[2]
        return int(last[1:]) / 100 if last in PERCENTILES else 0.0

    def words(self) -> str:
        """Write the bound with its unit."""
        return f"{'≥' if self.floor else '≤'} {plain(self.value)} {self.unit}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """The bounds of one scenario, and how it is run."""

    name: str
    model: str
    load: float
    slo: str
    bounds: tuple[Bound, ...]

    def wants(self, row: str) -> bool:
        """Whether any bound begins so."""
        return any(bound.row.startswith(row) for bound in self.bounds)


def load(path: Path = FILE) -> tuple[Scenario, ...]:
    """Read a budget; raises `BadBudget` with every mistake in it."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as mistake:
        raise BadBudget(f"{path}: {mistake.strerror}") from mistake
    except (UnicodeDecodeError, yaml.YAMLError) as mistake:
        raise BadBudget(f"{path} is no YAML: {mistake}") from mistake
    return read(document)


def read(document: Any) -> tuple[Scenario, ...]:
    """Check a budget as it came from YAML; raises `BadBudget` with every mistake in it."""
    reader = _Reader()
    top = reader.mapping(document, "budget", ("scenarios",))
    rows = reader.mapping(top.get("scenarios"), "scenarios", tuple(SCENARIOS))
    if not rows and not reader.mistakes:
        reader.mistakes.append("scenarios: at least one was expected")
    found = tuple(reader.scenario(name, row) for name, row in rows.items() if name in SCENARIOS)
    if reader.mistakes:
        raise BadBudget("\n".join(reader.mistakes))
    return found


class _Reader:
    """Reads on after a mistake, so that all are told."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []

    def mapping(self, value: Any, path: str, known: Sequence[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.mistakes.append(f"{path}: a mapping was expected, not {value!r}")
            return {}
        for name in value:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
                self.mistakes.append(f"{path}.{name}: unknown; {hint}")
        return value

    def scenario(self, name: str, row: Any) -> Scenario:
        path = f"scenarios.{name}"
        known = ("model", "load", "slo", "added", *_PLAIN)
        given = self.mapping(row, path, known)
        model, load, slo = given.get("model"), given.get("load"), given.get("slo", "")
        if model not in MODELS:
            self.mistakes.append(f"{path}.model: {model!r} is none of {', '.join(MODELS)}")
        if not isinstance(load, int | float) or isinstance(load, bool) or not 0 < load <= 10_000:
            self.mistakes.append(f"{path}.load: {load!r} is no number of calls per second")
            load = 1.0
        try:
            read_objectives(str(slo))
        except BadObjective as mistake:
            self.mistakes.append(f"{path}.slo: {mistake}")
        bounds = list(self.added(given.get("added", {}), f"{path}.added"))
        for key, kind in _PLAIN.items():
            if key in given:
                bounds.append(
                    self.bound(key, given[key], kind, f"{path}.{key}", floor=key == "goodput")
                )
        return Scenario(name, str(model), float(load), str(slo), tuple(bounds))

    def added(self, value: Any, path: str) -> Iterable[Bound]:
        for what, rows in self.mapping(value, path, tuple(ADDED)).items():
            if what in ADDED:
                for share, bound in self.mapping(rows, f"{path}.{what}", PERCENTILES).items():
                    if share in PERCENTILES:
                        yield self.bound(
                            f"added.{what}.{share}", bound, "time", f"{path}.{what}.{share}"
                        )

    def bound(self, row: str, value: Any, kind: str, path: str, *, floor: bool = False) -> Bound:
        units = _UNITS[kind]
        found = _QUANTITY.fullmatch(str(value).strip())
        if found is None:
            self.mistakes.append(f"{path}: {value!r} is no number with a unit ({', '.join(units)})")
            return Bound(row, 0, "", floor)
        if found[2] not in units:
            self.mistakes.append(
                f"{path}: unknown unit {found[2]!r}; known here are {', '.join(units)}"
            )
            return Bound(row, 0, "", floor)
        return Bound(row, float(found[1]) * units[found[2]], _SHOWN[kind], floor)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one bound; `values` are those of the repeats."""

    scenario: str
    bound: Bound
    values: tuple[float, ...]
    word: str
    why: str = ""

    def row(self) -> dict[str, str]:
        """Write it as the table and the report have it."""
        unit = self.bound.unit
        measured = f"{plain(median(self.values))} {unit}" if self.values else "-"
        between = (
            f"{plain(min(self.values))} to {plain(max(self.values))}"
            if len(self.values) > 1
            else ""
        )
        return {
            "what": f"{self.scenario} {self.bound.row}",
            "budget": self.bound.words(),
            "measured": measured,
            "range": between,
            "verdict": self.word,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Tail:
    """How many values lay beyond a percentile's bound, of how many."""

    beyond: int = 0
    of: int = 0

    def __add__(self, other: "Tail") -> "Tail":
        """Take two repeats together."""
        return Tail(self.beyond + other.beyond, self.of + other.of)

    def certain(self, percentile: float) -> bool:
        """
        Whether more lay beyond than a percentile at its bound leaves there, by 1.64 standard deviations of what chance adds.

        Source: the binomial distribution; of a few hundred values chance adds as much once in fifteen to six times, and the
        direct calls' own percentile, which is a sample too, moves beside it.
        """
        share = 1 - percentile
        expected = self.of * share
        return self.beyond > expected + _ONE_IN_TWENTY * sqrt(expected * percentile)


def judge(
    scenario: Scenario,
    values: Mapping[str, Sequence[float]],
    *,
    noise: str = "",
    missing: str = "",
    beside: Mapping[str, Sequence[float]] = MappingProxyType({}),
    hopeless: bool = False,
    tails: Mapping[str, Tail] = MappingProxyType({}),
) -> list[Verdict]:
    """
    Judge every bound of a scenario by the values of its repeats.

    `noise` says why the machine was too busy to trust latencies, `missing` why what is seen of processes may have no values; empty is neither.
    `beside` are the values of a bare proxy in the same repeats, by the same rows, `tails` what lay beyond the bounds of percentiles.
    """
    verdicts = []
    for bound in scenario.bounds:
        got = tuple(values.get(bound.row, ()))
        others = beside.get(bound.row, ())
        why = ""
        if not got:
            word = UNKNOWN
            # Whoever calls at all has a share of errors.
            if "errors" not in values:
                why = "it was not run"
            elif bound.row in _OF_PROCESSES:
                why = missing
            else:
                why = "no call was answered, through it or directly"
        elif not bound.exceeded(median(got)):
            word = KEPT
        elif bound.row == "errors":
            word = BROKEN
        elif others and bound.exceeded(median(others)):
            word, why = NOISY, f"nginx did not keep it either: {plain(median(others))} {bound.unit}"
        elif (
            (share := bound.percentile)
            and (tail := tails.get(bound.row))
            and not tail.certain(share)
        ):
            word, why = NOISY, f"{tail.beyond} of {tail.of} lay beyond it, which may be chance"
        elif not noise:
            word = BROKEN
        elif not hopeless and all(bound.exceeded(value, 2.0) for value in got):
            word, why = BROKEN, f"by more than twice, even though {noise}"
        else:
            word, why = NOISY, noise
        verdicts.append(Verdict(scenario.name, bound, got, word, why))
    return verdicts
