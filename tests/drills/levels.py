"""
`python -m tests.drills.levels`: what calls of each business level, cost preference and budget pressure cost, and how good what they get is.

Real models at their real prices and listed qualities, a seeded traffic of all tasks and complexities, and the scorer as it runs.
Laws: from premium to economy, from `high` to `low`, and from no pressure to full, neither cost nor quality rises; a request that is stuffed with words
that sound difficult gets no model above the ceiling of its key. Then what a decision costs in CPU time, with 8, 50 and 200 models.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from config.loader import load_text
from config.wishes import Wishes
from loadtests.drills import report
from loadtests.tables import lined_up
from ratelimit.limits import MOST_OUTPUT
from routing.classify import classify
from routing.contenders import field_of, policy_of
from routing.eligibility import Pool
from routing.kinds import kind_of
from routing.listing import TASKS
from routing.scoring import (
    ECONOMY,
    NO_FACTS,
    NORMAL,
    PREMIUM,
    Call,
    Contender,
    Facts,
    Field,
    blended_nusd,
)

VENDORS = {
    "openai": ("https://api.openai.com/v1", ("gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-4.1", "o3")),
    "anthropic": (
        "https://api.anthropic.com",
        ("claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"),
    ),
    "google": ("https://generativelanguage.googleapis.com", ("gemini-2.5-pro", "gemini-2.5-flash")),
    "deepseek": ("https://api.deepseek.com", ("deepseek-chat",)),
    "mistral": ("https://api.mistral.ai/v1", ("mistral-large-latest", "mistral-small-latest")),
}
PROTOCOLS = {"anthropic": "anthropic", "google": "gemini"}
LEVELS = {"premium": PREMIUM, "normal": NORMAL, "economy": ECONOMY}
PREFERENCES = ("high", "low")
PRESSURES = (0.0, 0.5, 1.0)
SIZES = (8, 50, 200)
CEILING_USD = 1
STUFFING = (
    "Prove this theorem rigorously. Derive the complexity of the algorithm, refactor the kernel, "
    "explain the proof step by step, ```def f(): return SELECT``` \\frac{a}{b} = c^2, analyse trade-offs. "
)


@dataclass(frozen=True)
class Cell:
    """What the calls of one level, preference and pressure cost (USD per thousand), and their mean predicted quality."""

    level: str
    prefer: str
    pressure: float
    usd_per_thousand: float
    quality: float


def pool() -> Field:
    """Return the models as a route over them sees them."""
    said: dict[str, Any] = {
        "providers": {
            name: {"protocol": PROTOCOLS.get(name, "openai"), "base_url": url}
            for name, (url, _) in VENDORS.items()
        },
        "models": {
            model: {"deployments": [{"provider": name}]}
            for name, (_, models) in VENDORS.items()
            for model in models
        },
    }
    said["routes"] = {"r": {"models": list(said["models"]), "policy": "cost_quality", "explore": 0}}
    config = load_text(json.dumps(said), source="drill", environ={}).config
    asked = Pool(config, datetime(2026, 1, 15, tzinfo=UTC)).asked("r", lambda _: True)
    return field_of(asked.options, policy_of(asked.route, 600), MOST_OUTPUT)


def traffic(seed: int, count: int) -> list[Call]:
    """Return calls of all tasks and complexities, from a line to a few pages."""
    random = Random(seed)
    calls = [
        Call(
            input_tokens=int(random.lognormvariate(6, 1)),
            cap=0,
            n=1,
            level=NORMAL,
            wishes=Wishes(),
            task=random.choice(TASKS),
            complexity=random.betavariate(2, 2),
        )
        for _ in range(count)
    ]
    return [of_its_kind(call) for call in calls]


def of_its_kind(call: Call) -> Call:
    """Return a call of which is known what it is like, as the gateway knows it."""
    return call._replace(kind=kind_of(call.task, call.input_tokens, call.complexity))


def matrix(field: Field, calls: Sequence[Call]) -> list[Cell]:
    """Return every cell of the matrix."""
    return [_cell(field, calls, level, prefer, pressure) for level, prefer, pressure in cells()]


def cells() -> Iterator[tuple[str, str, float]]:
    """Yield levels, preferences and pressures, from the most demanding to the least."""
    for level in LEVELS:
        for prefer in PREFERENCES:
            for pressure in PRESSURES:
                yield level, prefer, pressure


def _cell(field: Field, calls: Sequence[Call], level: str, prefer: str, pressure: float) -> Cell:
    wishes = Wishes(prefer=prefer)
    costs, qualities = [], []
    for call in calls:
        one = call._replace(level=LEVELS[level], wishes=wishes, pressure=pressure)
        choice = field.choose(one, NO_FACTS)
        costs.append(choice.costs[choice.first])
        qualities.append(choice.qualities[choice.first])
    return Cell(level, prefer, pressure, fmean(costs) / 1e6, fmean(qualities))


def broken(found: Sequence[Cell]) -> list[str]:
    """Return where cost or quality rises from one cell to a less demanding one."""
    by_place = {(one.level, one.prefer, one.pressure): one for one in found}
    words = []
    for one in found:
        less = [
            *((level, one.prefer, one.pressure) for level in _after(list(LEVELS), one.level)),
            *((one.level, prefer, one.pressure) for prefer in _after(PREFERENCES, one.prefer)),
            *((one.level, one.prefer, part) for part in _after(PRESSURES, one.pressure)),
        ]
        words += [
            f"{what} rises from {one} to {by_place[place]}"
            for place in less
            for what in ("usd_per_thousand", "quality")
            if getattr(by_place[place], what) > getattr(one, what) * (1 + 1e-9)
        ]
    return words


def _after(row: Sequence[Any], one: Any) -> Sequence[Any]:
    return row[row.index(one) + 1 :]


def stuffed(field: Field, seed: int, count: int) -> tuple[float, float, float]:
    """
    Return what economy calls under a ceiling cost when they are plain and when they are stuffed (USD per thousand), and the dearest price chosen.

    Costs are for the plain text's tokens, so that what is compared is the choice of the model alone.
    """
    random = Random(seed)
    wishes = Wishes(prefer="low", max_price_nusd=CEILING_USD * 10**9)
    sums = [0, 0]
    dearest = 0
    for _ in range(count):
        plain = " ".join(random.choices(["hello", "there", "what", "is", "new", "today"], k=20))
        for at, text in enumerate((plain, STUFFING * random.randint(1, 5) + plain)):
            body = json.dumps({"model": "r", "messages": [{"role": "user", "content": text}]})
            task, complexity = classify(body.encode(), tokens=30)
            call = of_its_kind(Call(30, 0, 1, ECONOMY, wishes, task, complexity))
            choice = field.choose(call, NO_FACTS)
            sums[at] += choice.costs[choice.first]
            dearest = max(dearest, field.contenders[choice.first].price_nusd or 0)
    return sums[0] / count / 1e6, sums[1] / count / 1e6, dearest / 1e9


def timed(size: int, seed: int, count: int) -> tuple[float, float]:
    """Return the median and the 99th percentile of the CPU time of a decision over so many models, in us."""
    random = Random(seed)
    contenders = []
    for n in range(size):
        dear_in, dear_out = random.randint(20_000, 5_000_000), random.randint(100_000, 25_000_000)
        contenders.append(
            Contender(
                model=f"m{n}",
                tags=frozenset({"chat"}),
                lacks=frozenset(),
                quality={task: random.random() for task in ("", *TASKS)},
                input=dear_in,
                output=dear_out,
                request=0,
                price_nusd=blended_nusd(dear_in, dear_out),
                context=random.choice([32_000, 128_000, 1_000_000]),
                max_output=8_000,
                places=(n,),
                ids=(f"m{n}/p",),
                regions=("",),
            )
        )
    field = Field(contenders, pool().policy, [0] * size)
    facts = Facts(version=1)
    calls = [
        one._replace(level=random.choice(list(LEVELS.values())), pressure=random.random())
        for one in traffic(seed, count)
    ]
    spent = []
    warm = calls[:100]
    for call in [*warm, *calls]:
        begun = time.thread_time_ns()
        field.choose(call, facts)
        spent.append(time.thread_time_ns() - begun)
    rows = sorted(spent[len(warm) :])
    return rows[len(rows) // 2] / 1000, rows[len(rows) * 99 // 100] / 1000


def main(arguments: list[str] | None = None) -> int:
    """Run the drill; gives 1 when a law is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills.levels", description=__doc__)
    parser.add_argument("--calls", type=int, default=2000, help="in the traffic (2000)")
    parser.add_argument("--seed", type=int, default=1, help="of the traffic (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw results and machine")
    given = parser.parse_args(arguments)
    field = pool()
    found = matrix(field, traffic(given.seed, given.calls))
    wrong = broken(found)
    plain, worst, dearest = stuffed(field, given.seed, 500)
    if dearest > CEILING_USD:
        wrong.append(f"a stuffed request got a model of {dearest} USD per million tokens")
    times = {size: timed(size, given.seed, given.calls) for size in SIZES}
    print(tell(found), end="\n\n")  # noqa: T201
    print(  # noqa: T201
        f"stuffed: {plain:.4f} USD per thousand plain economy calls, {worst:.4f} stuffed;"
        f" dearest model {dearest:.3f} USD per million tokens, ceiling {CEILING_USD}\n"
    )
    rows = [(size, f"{low:.1f}", f"{high:.1f}") for size, (low, high) in times.items()]
    print(lined_up([("models", "p50 us", "p99 us"), *rows]), flush=True)  # noqa: T201
    for words in wrong:
        print(f"broken: {words}")  # noqa: T201
    if given.json is not None:
        report.write(
            given.json,
            {
                "drill": "levels",
                "seed": given.seed,
                "calls": given.calls,
                "machine": report.machine(""),
                "cells": [asdict(one) for one in found],
                "stuffed": {"plain": plain, "stuffed": worst, "dearest_usd": dearest},
                "decision_us": {str(size): both for size, both in times.items()},
                "broken": wrong,
            },
        )
    return 1 if wrong else 0


def tell(found: Sequence[Cell]) -> str:
    """Render the matrix."""
    head = ("level", "prefer_cost", "pressure", "USD per 1000 calls", "quality")
    rows = [
        (one.level, one.prefer, one.pressure, f"{one.usd_per_thousand:.3f}", f"{one.quality:.3f}")
        for one in found
    ]
    return lined_up([head, *rows])


if __name__ == "__main__":
    sys.exit(main())
