"""
`penstock bench routing`: how good the choice among models is, and what it costs.

Figure 1, on a public table (`routing.tables`): the scorer of the edge (`routing.scoring`) with the classifier of the
edge (`routing.classify`) chooses a model for each question of the test part, at many settings of its one knob, δ.
What it knows is what a gateway would know that had served the training part: mean quality and cost by model and task.
It is held against each single model, the Zero router, lots, and an oracle that knows every outcome beforehand.
With `--folds` both parts are one table that is cut into so many: each is the test of what was learned from all others, the
classifier's weights included, so that every question is answered by who has not seen it, and the intervals are narrower.
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
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from time import thread_time_ns
from typing import Any, Final, NamedTuple

from config.wishes import NO_WISHES
from routing.alike import rounded_complexity, rounded_tokens
from routing.catalogue import rates_for
from routing.classify import Weights, classify
from routing.kinds import kind_of
from routing.listing import TASKS, listed, listing
from routing.measures import Curve, Outcomes, Point, bootstrap, cost_at, hull, mean_height
from routing.scoring import DELTAS, NORMAL, AtLevel, Call, Contender, Facts, Field, Lesson, Policy
from routing.tables import FILES, TABLES, BadTable, Row, Table, fold_of
from routing.training import body_of, examples_of, train

__all__ = ["main", "measured", "scorer_cost"]

SEED: Final = 4
TIMES: Final = 1000
MOST_FOLDS: Final = 20
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
    size: int

    @property
    def kind(self) -> str:
        return kind_of(self.task, self.size, self.complexity)


def _calls(table: Table, weights: Weights | None) -> list[_Call]:
    """Return what the edge would know of each question, as roughly; by the shipped weights where there are no others."""
    found = []
    for row in table.rows:
        body = body_of(row.text)
        tokens = len(body) // 4
        task, complexity = classify(body, tokens=tokens, weights=weights)
        found.append(_Call(rounded_tokens(tokens), task, rounded_complexity(complexity), tokens))
    return found


def _lessons(table: Table, calls: Sequence[_Call]) -> dict[str, dict[str, Lesson]]:
    """Return what serving a table teaches, by model, and then by kind and task, and over all tasks."""
    found: dict[str, dict[str, Lesson]] = {model: {} for model in table.models}
    of: dict[str, list[Row]] = {}
    for row, call in zip(table.rows, calls, strict=True):
        for each in ("", call.task, call.kind):
            of.setdefault(each, []).append(row)
    for kind, rows in of.items():
        for at, model in enumerate(table.models):
            scores = [row.scores[at] for row in rows]
            costs = [row.costs_nusd[at] for row in rows]
            found[model][kind] = Lesson(
                calls=len(rows),
                votes=len(rows),
                score=sum(scores),
                output=mean(costs),
                answers=len(rows),
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
                Call(
                    *(call.tokens, 0, 1, level, NO_WISHES, call.task, call.complexity),
                    kind=call.kind,
                ),
                facts,
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


class _Part(NamedTuple):
    """What is tested, what was learned from before, and the classifier's weights; None for the shipped ones."""

    training: Table
    table: Table
    weights: Weights | None


def _split(folder: Path, names: Sequence[str]) -> dict[str, list[_Part]]:
    """Return the parts of each table as their authors cut them. Raises `BadTable`."""
    return {
        name: [_Part(TABLES[name](folder, "train"), TABLES[name](folder, "test"), None)]
        for name in names
    }


def _folded(folder: Path, names: Sequence[str], folds: int) -> dict[str, list[_Part]]:
    """Return the parts of each table where every fold is tested once. Raises `BadTable`."""
    whole = {}
    for name, read in TABLES.items():
        one, other = read(folder, "train"), read(folder, "test")
        whole[name] = replace(one, rows=one.rows + other.rows)
    found: dict[str, list[_Part]] = {name: [] for name in names}
    for fold in range(folds):
        others = {
            name: replace(
                table, rows=tuple(row for row in table.rows if fold_of(row, folds) != fold)
            )
            for name, table in whole.items()
        }
        weights = Weights(train(examples_of(others.values())))
        for name in names:
            held_out = tuple(row for row in whole[name].rows if fold_of(row, folds) == fold)
            found[name].append(_Part(others[name], replace(whole[name], rows=held_out), weights))
    return found


def _ran(part: _Part) -> tuple[dict[str, list[Outcomes]], dict[str, Outcomes]]:
    """Return what the scorer does with a part, by router and setting, and by business level."""
    training, table, weights = part
    calls = _calls(table, weights)
    flat = {model: {"": 0.5} for model in table.models}
    before = _calls(training, weights)
    lessons = _lessons(training, before)
    routers, facts = {}, Facts(1, lessons)
    routers["penstock"], levels = _routed(table, calls, _contenders(table.models, flat), facts)
    blind = [call._replace(complexity=0.5) for call in calls]
    routers["penstock, complexity ignored"], _ = _routed(
        table,
        blind,
        _contenders(table.models, flat),
        Facts(1, _lessons(training, [call._replace(complexity=0.5) for call in before])),
    )
    known = {model: listed(model) for model in table.models}
    if all(each is not None and each.quality for each in known.values()):
        priors = {model: each.quality for model, each in known.items() if each is not None}
        # What its answers cost is learned by the first of them; how good they are is not.
        costs = {
            model: {kind: Lesson(output=lesson.output) for kind, lesson in known_of.items()}
            for model, known_of in lessons.items()
        }
        routers["penstock, catalogue alone"], _ = _routed(
            table, calls, _contenders(table.models, priors), Facts(1, costs)
        )
    return routers, {f"level {word}": outcomes for word, outcomes in levels.items()}


def _compared(parts: Sequence[_Part]) -> tuple[Table, _Routers]:
    """Return all questions that were tested, and what every router did with them."""
    first = parts[0].table
    table = replace(first, rows=tuple(row for part in parts for row in part.table.rows))
    ran = [_ran(part) for part in parts]
    singles = [_of(table, [at] * len(table.rows)) for at in range(len(table.models))]
    routers = {"zero": singles, "oracle": _oracle(table)}
    for name in ran[0][0]:
        routers[name] = [_joined(each) for each in zip(*(one[name] for one, _ in ran), strict=True)]
    settings = {name: _joined([levels[name] for _, levels in ran]) for name in ran[0][1]}
    settings["random"] = Outcomes(
        tuple(mean(row.costs_nusd) for row in table.rows),
        tuple(mean(row.scores) for row in table.rows),
    )
    return table, _Routers(singles, routers, settings)


def _joined(parts: Sequence[Outcomes]) -> Outcomes:
    return Outcomes(
        tuple(cost for part in parts for cost in part.costs),
        tuple(quality for part in parts for quality in part.qualities),
    )


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


def measured(
    folder: Path, names: Sequence[str], *, folds: int = 0, times: int = TIMES
) -> list[dict[str, Any]]:
    """
    Return the figures of tables with their intervals, as JSON; `folds` as the module says, 0 for the authors' parts. Raises `BadTable`.

    Costs are parts of what the best single model costs, for all questions; `cost_at_99` is that of 99 % of its quality.
    """
    parts = _folded(folder, names, folds) if folds else _split(folder, names)
    return [_told(name, parts[name], folds, times) for name in names]


def _told(name: str, parts: Sequence[_Part], folds: int, times: int) -> dict[str, Any]:
    table, compared = _compared(parts)
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
        "folds": folds,
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


def scorer_cost(sizes: Sequence[int], decisions: int) -> dict[str, Any]:
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
                kind=kind_of(TASKS[n % len(TASKS)], 200 + 37 * n % 4000, (n % 100) / 100),
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
        if options.tables is not None:
            names = options.table or tuple(TABLES)
            report["tables"] = measured(
                options.tables, names, folds=options.folds, times=options.times
            )
    except BadTable as bad:
        sys.stderr.write(f"penstock bench routing: {bad}\n")
        return 2
    report["scorer"] = scorer_cost(SIZES, DECISIONS)
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
        "--folds",
        type=_folds,
        default=0,
        metavar="N",
        help="cut each whole table into so many parts, and test each with what the others teach;"
        " the classifier is trained as often, which takes minutes (default: the authors' parts)",
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


def _folds(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 2 <= int(text) <= MOST_FOLDS:
        raise argparse.ArgumentTypeError(f"expected a whole number from 2 to {MOST_FOLDS}")
    return int(text)


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
