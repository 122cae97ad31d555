"""
`penstock bench routing`: how good the choice among models is, and what it costs.

Figure 1, on a public table (`routing.tables`): the scorer of the edge (`routing.scoring`) with the classifier of the
edge (`routing.classify`) chooses a model for each question of the test part, at many settings of its one knob, δ.
What it knows is what a gateway would know that had served the training part: mean quality and cost by model and task.
It is held against each single model, the Zero router, lots, and an oracle that knows every outcome beforehand.
A second row is what it does before it learned anything, with the catalogue's priors alone, where all models are listed.

Figure 2: how long a decision takes with 8, 50 and 200 models of the catalogue, and how long telling the task does.
Times are of the processor, so that what else the machine does is not among them.

The scorer reckons in prices per token, and a table tells what an answer cost: a token of it stands for one nano-USD.
"""

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from time import thread_time_ns
from typing import Any, Final, NamedTuple

from config.wishes import NO_WISHES
from routing.catalogue import rates_for
from routing.classify import classify
from routing.listing import TASKS, listed, listing
from routing.measures import Curve, Outcomes, Point, bootstrap, cost_at, hull, mean_height
from routing.scoring import DELTAS, NORMAL, AtLevel, Call, Contender, Facts, Field, Lesson, Policy
from routing.tables import FILES, TABLES, BadTable, Table
from routing.training import body_of

__all__ = ["main", "measured", "scorer_cost"]

SEED: Final = 4
TIMES: Final = 1000
SIZES: Final = (8, 50, 200)
DECISIONS: Final = 4000
SHARES: Final = (98, 99, 100)
"""Percents of the best single model's quality."""
KNOBS: Final = (*(n / 1000 for n in range(0, 40, 4)), *(n / 100 for n in range(4, 41, 3)), 1.0)
"""Settings of δ."""
UNBOUNDED: Final = 2**40
LEVELS: Final = {1: "premium", 2: "normal", 3: "economy"}


# What is known...


class _Call(NamedTuple):
    tokens: int
    task: str
    complexity: float


def _calls(table: Table) -> list[_Call]:
    """Return what the edge would know of each question."""
    found = []
    for row in table.rows:
        body = body_of(row.text)
        tokens = len(body) // 4
        found.append(_Call(tokens, *classify(body, tokens=tokens)))
    return found


def _lessons(table: Table, calls: Sequence[_Call]) -> dict[tuple[str, str], Lesson]:
    """Return what serving a table teaches, by model and task, and over all tasks."""
    found = {}
    for task in ("", *sorted({call.task for call in calls})):
        rows = [row for row, call in zip(table.rows, calls, strict=True) if task in {"", call.task}]
        for at, model in enumerate(table.models):
            scores = [row.scores[at] for row in rows]
            costs = [row.costs_nusd[at] for row in rows]
            found[model, task] = Lesson(
                calls=len(rows), votes=len(rows), score=sum(scores), output=mean(costs)
            )
    return found


def _contenders(
    models: Sequence[str], quality: Mapping[str, Mapping[str, float]]
) -> list[Contender]:
    """Return models whose answers cost one nano-USD per token, and whose input nothing."""
    return [
        Contender(
            model=model,
            tags=frozenset(),
            lacks=frozenset(),
            quality=quality[model],
            input=0,
            output=1000,
            request=0,
            price_nusd=None,
            context=UNBOUNDED,
            max_output=UNBOUNDED,
            places=(at,),
            ids=(model,),
            regions=("",),
        )
        for at, model in enumerate(models)
    ]


# Figure 1...


def _routed(
    table: Table, calls: Sequence[_Call], contenders: Sequence[Contender], facts: Facts
) -> tuple[list[Outcomes], dict[str, Outcomes]]:
    """Return what the scorer does at each knob, and at each business level in the middle of its cost preferences."""

    def outcomes(policy: Policy, level: int) -> Outcomes:
        field = Field(contenders, policy, [0] * len(contenders))
        chosen = [
            field.choose(
                Call(call.tokens, 0, 1, level, NO_WISHES, call.task, call.complexity), facts
            ).first
            for call in calls
        ]
        return _of(table, chosen)

    knobs = [outcomes(Policy("bench", {NORMAL: AtLevel(delta, delta)}), NORMAL) for delta in KNOBS]
    policy = Policy("bench", {level: AtLevel(*both) for level, both in DELTAS.items()})
    return knobs, {word: outcomes(policy, level) for level, word in LEVELS.items()}


def _of(table: Table, chosen: Sequence[int]) -> Outcomes:
    return Outcomes(
        tuple(float(row.costs_nusd[at]) for row, at in zip(table.rows, chosen, strict=True)),
        tuple(row.scores[at] for row, at in zip(table.rows, chosen, strict=True)),
    )


def _oracle(table: Table) -> list[Outcomes]:
    """Return what is possible at all: for each price of quality, the best net of its cost for every question."""
    dearest = max(max(row.costs_nusd) for row in table.rows)
    found = []
    for weight in (0.0, *(10 ** (n / 2) for n in range(-12, 13))):
        chosen = [
            max(
                range(len(table.models)),
                key=lambda at, row=row: (  # type: ignore[misc]
                    row.scores[at] - weight * row.costs_nusd[at] / dearest,
                    -row.costs_nusd[at],
                ),
            )
            for row in table.rows
        ]
        found.append(_of(table, chosen))
    return found


class _Routers(NamedTuple):
    """All that is compared: every router as the outcomes of its settings, and some settings by name."""

    singles: list[Outcomes]
    routers: dict[str, list[Outcomes]]
    settings: dict[str, Outcomes]


def _compared(folder: Path, name: str) -> tuple[Table, _Routers]:
    read = TABLES[name]
    training, table = read(folder, "train"), read(folder, "test")
    calls = _calls(table)
    flat = {model: {"": 0.5} for model in table.models}
    lessons = _lessons(training, _calls(training))
    learned, levels = _routed(table, calls, _contenders(table.models, flat), Facts(1, lessons))
    blind = [call._replace(complexity=0.5) for call in calls]
    without, _ = _routed(table, blind, _contenders(table.models, flat), Facts(1, lessons))
    count = len(table.models)
    singles = [_of(table, [at] * len(table.rows)) for at in range(count)]
    lots = Outcomes(
        tuple(mean(row.costs_nusd) for row in table.rows),
        tuple(mean(row.scores) for row in table.rows),
    )
    routers = {
        "zero": singles,
        "penstock": learned,
        "penstock, complexity ignored": without,
        "oracle": _oracle(table),
    }
    known = {model: listed(model) for model in table.models}
    if all(each is not None and each.quality for each in known.values()):
        priors = {model: each.quality for model, each in known.items() if each is not None}
        # What its answers cost is learned by the first of them; how good they are is not.
        costs = {key: Lesson(output=lesson.output) for key, lesson in lessons.items()}
        routers["penstock, catalogue alone"], _ = _routed(
            table, calls, _contenders(table.models, priors), Facts(1, costs)
        )
    settings = {f"level {word}": outcomes for word, outcomes in levels.items()}
    return table, _Routers(singles, routers, {"random": lots, **settings})


def _figures(compared: _Routers, counts: Sequence[int] | None) -> dict[str, float | None]:
    """Return every figure, each question counted as often as said."""
    singles = [each.mean(counts) for each in compared.singles]
    best = max(singles, key=lambda point: (point.quality, -point.cost))
    low, high = min(point.cost for point in singles), max(point.cost for point in singles)
    curves: dict[str, Curve] = {
        name: hull([each.mean(counts) for each in settings])
        for name, settings in compared.routers.items()
    }
    found: dict[str, float | None] = {}
    for name, curve in curves.items():
        for scale in ("linear", "log"):
            found[f"{name}/aiq_{scale}"] = mean_height(curve, low, high, logarithmic=scale == "log")
        for share in SHARES:
            cost = cost_at(curve, best.quality * (share / 100))
            found[f"{name}/cost_at_{share}"] = None if cost is None else cost / best.cost
    for name in curves:
        if name.startswith("penstock"):
            for scale in ("linear", "log"):
                ours, zero = found[f"{name}/aiq_{scale}"], found[f"zero/aiq_{scale}"]
                assert ours is not None
                assert zero is not None
                found[f"{name}/aiq_{scale}_above_zero"] = ours - zero
    for word, outcomes in compared.settings.items():
        point = outcomes.mean(counts)
        found[f"{word}/cost"] = point.cost / best.cost
        found[f"{word}/quality"] = point.quality / best.quality
    return found


def measured(folder: Path, name: str, *, times: int = TIMES) -> dict[str, Any]:
    """
    Return the figures of a table with their intervals, as JSON. Raises `BadTable`.

    Costs are parts of what the best single model costs, for all questions; `cost_at_99` is that of 99 % of its quality.
    """
    table, compared = _compared(folder, name)
    intervals = bootstrap(
        lambda counts: _figures(compared, counts), len(table.rows), times=times, seed=SEED
    )
    singles = {
        model: _point(outcomes.mean())
        for model, outcomes in zip(table.models, compared.singles, strict=True)
    }
    return {
        "table": name,
        "questions": len(table.rows),
        "digest": table.digest,
        "bootstrap": {"times": times, "seed": SEED, "interval": "2.5th to 97.5th percentile"},
        "single_models": singles,
        "best_single": max(singles, key=lambda model: singles[model]["quality"]),
        "curves": {
            router: [_point(each.mean()) for each in settings]
            for router, settings in compared.routers.items()
        },
        "deltas": list(KNOBS),
        "figures": {
            figure: {
                "value": _short(each.value),
                "low": _short(each.low),
                "high": _short(each.high),
            }
            for figure, each in intervals.items()
        },
    }


def _point(point: Point) -> dict[str, Any]:
    return {"cost_nusd": round(point.cost), "quality": round(point.quality, 4)}


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


# Figure 2...


def scorer_cost(sizes: Sequence[int] = SIZES, decisions: int = DECISIONS) -> dict[str, Any]:
    """Return how long a decision takes among so many models of the catalogue, in microseconds."""
    found: dict[str, Any] = {}
    for size in sizes:
        field = Field(
            list(_listed_contenders(size)),
            Policy("bench", {level: AtLevel(*both) for level, both in DELTAS.items()}),
            [0] * size,
        )
        facts = Facts(1)
        calls = [
            Call(
                200 + 37 * n % 4000,
                0,
                1,
                1 + n % 3,
                NO_WISHES,
                TASKS[n % len(TASKS)],
                (n % 100) / 100,
            )
            for n in range(decisions)
        ]
        for call in calls[: decisions // 10]:
            field.choose(call, facts)
        found[f"{size} models"] = _times([(field.choose, (call, facts), {}) for call in calls])
    bodies = [
        body_of(f"{n} " + "what is the best way to sort a list of names " * (n % 40))
        for n in range(decisions)
    ]
    for body in bodies[: decisions // 10]:
        classify(body, tokens=len(body) // 4)
    found["task and complexity"] = _times(
        [(classify, (body,), {"tokens": len(body) // 4}) for body in bodies]
    )
    return found


def _listed_contenders(size: int) -> Iterator[Contender]:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    found = 0
    for each in listing():
        rates = rates_for(each.id, each.seller, now) if each.quality else None
        if rates is None:
            continue
        yield Contender(
            model=each.id,
            tags=frozenset(each.tags),
            lacks=frozenset(),
            quality=each.quality,
            input=rates.input_nusd_per_ktok,
            output=rates.output_nusd_per_ktok,
            request=rates.request_nusd,
            price_nusd=None,
            context=each.context or UNBOUNDED,
            max_output=each.max_output or UNBOUNDED,
            places=(found,),
            ids=(each.id,),
            regions=("",),
        )
        found += 1
        if found == size:
            return


def _times(asked: Sequence[tuple[Any, tuple[Any, ...], dict[str, Any]]]) -> dict[str, float]:
    taken = []
    for function, arguments, named in asked:
        begun = thread_time_ns()
        function(*arguments, **named)
        taken.append(thread_time_ns() - begun)
    taken.sort()
    return {
        "p50_us": round(taken[len(taken) // 2] / 1000, 1),
        "p99_us": round(taken[int(len(taken) * 0.99)] / 1000, 1),
    }


# What is printed...


def main(argv: Sequence[str]) -> int:
    """Run the bench and return the exit code: 0 measured, 2 misuse, or a table that is not there."""
    options = _parser().parse_args(argv)
    report: dict[str, Any] = {
        "machine": {"python": platform.python_version(), "processor": platform.machine()},
        "tables": [],
    }
    try:
        for name in options.table or TABLES:
            if options.tables is not None:
                report["tables"].append(measured(options.tables, name, times=options.times))
    except BadTable as bad:
        sys.stderr.write(f"penstock bench routing: {bad}\n")
        return 2
    report["scorer"] = scorer_cost()
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(report, indent=1) + "\n" if options.json else _text(report))
    if options.tables is None:
        sys.stderr.write("Without --tables there is no figure of quality. Get the files:\n")
        for name, published in FILES.items():
            sys.stderr.write(f"  {name}: {published.how}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="penstock bench routing",
        allow_abbrev=False,
        description="Measures the choice among models on public tables: AIQ, and what the best single model's quality"
        " costs, with bootstrap intervals; and how long a decision takes.",
    )
    parser.add_argument(
        "--tables",
        type=Path,
        metavar="FOLDER",
        help="where the tables' files lie, as they are published",
    )
    parser.add_argument(
        "--table", action="append", choices=tuple(TABLES), help="only this one (default: all)"
    )
    parser.add_argument(
        "--times",
        type=int,
        default=TIMES,
        metavar="N",
        help=f"draws of the bootstrap (default: {TIMES})",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures there, as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _text(report: Mapping[str, Any]) -> str:
    lines = []
    for table in report["tables"]:
        figures = table["figures"]
        lines += [
            f"{table['table']}: {table['questions']} questions, best single model {table['best_single']}",
            f"  {'router':<30}{'AIQ linear':>24}{'AIQ log':>24}"
            + "".join(f"{f'cost at {share} %':>24}" for share in SHARES),
        ]
        for router in table["curves"]:
            keys = ("aiq_linear", "aiq_log", *(f"cost_at_{share}" for share in SHARES))
            cells = [_cell(figures[f"{router}/{key}"]) for key in keys]
            lines.append(f"  {router:<30}" + "".join(f"{cell:>24}" for cell in cells))
        for name, figure in figures.items():
            if name.startswith(("level", "random")) or name.endswith("above_zero"):
                lines.append(f"  {name:<54}{_cell(figure):>24}")
    lines += [
        f"{name}: p50 {times['p50_us']} us, p99 {times['p99_us']} us"
        for name, times in report["scorer"].items()
    ]
    return "\n".join(lines) + "\n"


def _cell(figure: Mapping[str, float | None]) -> str:
    if figure["value"] is None:
        return "-"
    low, high = (("-" if end is None else f"{end:.3f}") for end in (figure["low"], figure["high"]))
    return f"{figure['value']:.4f} [{low}, {high}]"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
