"""
Side by side: the same scenario in turn against several bases, and one table of them.

Each base is loaded alone, in turn and repeatedly, so that no base works while another is measured and a slow minute hits all of them.
"""

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loadtests import document, machine, preflight, runner, summary
from loadtests.engine import Plan
from loadtests.metrics import BadObjective, read_objectives
from loadtests.options import ARRIVALS, OptionsWrong, read_bases
from loadtests.scenarios import SCENARIOS
from loadtests.shapes import BadShape, read_duration_s, read_shape

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_KNOWN = ("scenario", "load", "duration", "arrivals", "slo", "repeats", "bases")
COLUMNS = (
    ("name", "base"),
    ("calls", "calls"),
    ("errors", "errors %"),
    ("unfinished", "unfinished"),
    ("rate", "begun/s"),
    ("goodput", "goodput/s"),
    ("ttft50", "TTFT p50 ms"),
    ("ttft99", "p99"),
    ("icl99", "ICL p99 ms"),
    ("e2e50", "E2E p50 ms"),
    ("e2e95", "p95"),
    ("e2e99", "p99"),
    ("added50", "added p50 ms"),
    ("added99", "p99"),
)


class BadComparison(ValueError):
    """The file cannot be used; one mistake a line."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is run against whom; the first base is what the others are set against."""

    bases: tuple[dict[str, str], ...]
    scenario: str = "chat-stream"
    load: str = "10"
    duration: str = "10s"
    arrivals: str = "poisson"
    slo: str = "ttft:1000 itl:100"
    repeats: int = 2


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Comparison:
    """Read a comparison; `${NAME}` is taken from the environment. Raises `BadComparison` with every mistake in it."""
    try:
        text = path.read_text(encoding="utf-8")
        missing = sorted({name for name in _VARIABLE.findall(text) if name not in environ})
        filled = _VARIABLE.sub(lambda found: environ.get(found[1], ""), text)
        content = yaml.safe_load(filled)
    except OSError as mistake:
        raise BadComparison(f"{path}: {mistake.strerror}") from mistake
    except (UnicodeDecodeError, yaml.YAMLError) as mistake:
        raise BadComparison(f"{path} is no YAML: {mistake}") from mistake
    mistakes = [f"the environment has no {name}" for name in missing]
    return read(content, mistakes)


def read(content: Any, mistakes: list[str]) -> Comparison:
    """Check a comparison as it came from YAML; `mistakes` are those known already. Raises `BadComparison`."""
    if not isinstance(content, dict):
        raise BadComparison("a mapping with bases was expected")
    mistakes = [*mistakes, *(f"unknown setting {name!r}" for name in content if name not in _KNOWN)]
    try:
        bases = read_bases(content.get("bases"))
        mistakes += [f"{base.name}: model is missing" for base in bases if not base.model]
    except OptionsWrong as mistake:
        mistakes += str(mistake).splitlines()
    given: dict[str, Any] = {name: str(content[name]) for name in _KNOWN[:5] if name in content}
    made = Comparison(bases=(), **given)
    if made.scenario not in SCENARIOS:
        mistakes.append(f"no scenario {made.scenario!r}; one of {', '.join(SCENARIOS)}")
    if made.arrivals not in ARRIVALS:
        mistakes.append(f"arrivals {made.arrivals!r}: one of {', '.join(ARRIVALS)}")
    try:
        read_shape(made.load, read_duration_s(made.duration))
        read_objectives(made.slo)
    except (BadShape, BadObjective) as mistake:
        mistakes.append(str(mistake))
    repeats = content.get("repeats", 2)
    if not isinstance(repeats, int) or isinstance(repeats, bool) or not 1 <= repeats <= 50:
        mistakes.append(f"repeats {repeats!r} is no number from 1 to 50")
    if mistakes:
        raise BadComparison("\n".join(mistakes))
    return Comparison(bases=tuple(content["bases"]), repeats=repeats, **given)


def look(comparison: Comparison) -> list[str]:
    """Ask every base before any is loaded; gives what is wrong, in words."""
    plan = Plan(bases=read_bases(list(comparison.bases)))
    return preflight.look(plan, [comparison.scenario])


def run(
    comparison: Comparison, folder: Path, say: Callable[[str], None], into: runner.Gathered
) -> None:
    """Run everything, and put what came of it where it outlives an interruption, that of the base which was interrupted, too."""
    for repeat in range(1, comparison.repeats + 1):
        for base in comparison.bases:
            name = re.sub(r"\W+", "-", base["name"])
            where = folder / f"{name}-{repeat}"
            try:
                made = runner.measure(
                    comparison.scenario,
                    [base],
                    where,
                    load=comparison.load,
                    duration=comparison.duration,
                    arrivals=comparison.arrivals,
                    slo=comparison.slo,
                    seed=repeat,
                )
            except KeyboardInterrupt:
                with contextlib.suppress(document.NoRun):
                    into.add(runner.Run(where))
                raise
            known = len(into.warnings)
            records = into.add(made)
            for words in into.warnings[known:]:
                say(f"  {base['name']}: {words}")
            say(f"  {base['name']} {repeat}/{comparison.repeats}: {len(records)} calls")


def summarize(comparison: Comparison, gathered: runner.Gathered) -> dict[str, Any]:
    """Make the document of a comparison, with its table in it."""
    told = summary.summarize(
        gathered.records,
        gathered.samples,
        spans=gathered.spans,
        objectives=read_objectives(comparison.slo),
        about={
            "title": f"{comparison.scenario} side by side",
            "config": {
                "scenario": comparison.scenario,
                "load": comparison.load,
                "duration": comparison.duration,
                "arrivals": comparison.arrivals,
                "repeats": comparison.repeats,
                "bases": [{"name": one["name"], "url": one["url"]} for one in comparison.bases],
            },
            "machine": machine.described(),
        },
    )
    return {**told, "side": rows(comparison, gathered), "columns": dict(COLUMNS)}


def rows(comparison: Comparison, gathered: runner.Gathered) -> list[dict[str, Any]]:
    """Give the table's rows in the order of the bases; `added` is E2E minus that of the first base."""
    objectives = read_objectives(comparison.slo)
    found: list[dict[str, Any]] = []
    first: dict[str, float] | None = None
    for base in comparison.bases:
        own = [record for record in gathered.records if record.base == base["name"]]
        figures = summary.figures_of(own, objectives, summary.times_of(own, gathered.spans))
        row: dict[str, Any] = {
            "name": base["name"],
            "calls": figures["calls"],
            "errors": round(100 * figures["error_share"], 2),
            "unfinished": figures["unfinished"],
            "rate": figures["rate"],
            "goodput": figures["goodput"],
        }
        for key in ("ttft50", "ttft99", "icl99", "e2e50", "e2e95", "e2e99"):
            metric, share = key[:-2], f"p{key[-2:]}"
            if figures[metric]:
                row[key] = round(figures[metric][share], 2)
        if not found:
            first = figures["e2e"]
        elif first and figures["e2e"]:
            row["added50"] = round(figures["e2e"]["p50"] - first["p50"], 2)
            row["added99"] = round(figures["e2e"]["p99"] - first["p99"], 2)
        found.append(row)
    return found
