"""
How good a router is: its curve of cost and quality, the area under it, and how sure one can be of both.

- A router is a few points (mean cost, mean quality), one for each setting of its knob. Any two can be mixed by drawing
  lots, so that what counts is their non-decreasing upper hull, as in RouterBench (arXiv 2403.12031).
- **AIQ** is the mean height of that hull between the cost of the cheapest single model and that of the dearest:
  over the cost, or over its logarithm, where what is cheap counts as much as what is dear.
- The **Zero router** is the hull of the single models; a router that learned nothing is worth that.
- Intervals are percentiles of a bootstrap over the questions: the choices stay, the questions are drawn again.

Pure; costs in any unit, qualities from 0 to 1.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log
from operator import mul
from typing import NamedTuple

__all__ = [
    "Curve",
    "Interval",
    "Outcomes",
    "Point",
    "bootstrap",
    "cost_at",
    "hull",
    "mean_height",
    "quality_at",
]

GRID = 200


class Point(NamedTuple):
    """What a router costs and is worth, on the average."""

    cost: float
    quality: float


class Interval(NamedTuple):
    """A figure, and the 2.5th and 97.5th percentile of its bootstrap; None where it does not exist."""

    value: float | None
    low: float | None
    high: float | None


Curve = tuple[Point, ...]


def hull(points: Sequence[Point]) -> Curve:
    """Return the non-decreasing upper hull of some points, by cost; mixing its neighbours gives what lies between."""
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.cost, -each.quality)):
        if best and point.quality <= best[-1].quality:
            continue
        while len(best) >= 2 and _is_below(best[-2], best[-1], point):
            best.pop()
        best.append(point)
    return tuple(best)


def _is_below(left: Point, middle: Point, right: Point) -> bool:
    """Whether the middle lies on or below the line from left to right."""
    return (middle.quality - left.quality) * (right.cost - left.cost) <= (
        right.quality - left.quality
    ) * (middle.cost - left.cost)


def quality_at(curve: Curve, cost: float) -> float:
    """Return the quality that a hull gives for a cost: 0 below its cheapest point, level after its dearest."""
    if not curve or cost < curve[0].cost:
        return 0.0
    for left, right in pairwise(curve):
        if cost <= right.cost:
            share = (cost - left.cost) / (right.cost - left.cost)
            return left.quality + share * (right.quality - left.quality)
    return curve[-1].quality


def cost_at(curve: Curve, quality: float) -> float | None:
    """Return the least cost at which a hull gives a quality, None where it never does."""
    if not curve:
        return None
    if quality <= curve[0].quality:
        return curve[0].cost
    for left, right in pairwise(curve):
        if quality <= right.quality:
            share = (quality - left.quality) / (right.quality - left.quality)
            return left.cost + share * (right.cost - left.cost)
    return None


def mean_height(curve: Curve, low: float, high: float, *, logarithmic: bool) -> float:
    """Return the AIQ of a hull from cost `low` to `high` (above 0), over the cost or over its logarithm."""
    first, last = (log(low), log(high)) if logarithmic else (low, high)
    if last <= first:
        return quality_at(curve, high)
    total = 0.0
    for step in range(GRID):
        # The middle of each of GRID equal parts.
        place = first + (last - first) * (step + 0.5) / GRID
        total += quality_at(curve, exp(place) if logarithmic else place)
    return total / GRID


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What one setting of a router did: the cost and the quality of each question, in the same order everywhere."""

    costs: tuple[float, ...]
    qualities: tuple[float, ...]

    def mean(self, counts: Sequence[int] | None = None) -> Point:
        """Return the averages, each question counted as often as `counts` says (once where nothing does)."""
        if counts is None:
            size = len(self.costs)
            return Point(sum(self.costs) / size, sum(self.qualities) / size)
        size = sum(counts)
        return Point(
            sum(map(mul, self.costs, counts)) / size, sum(map(mul, self.qualities, counts)) / size
        )


def bootstrap(
    figures: Callable[[Sequence[int] | None], dict[str, float | None]],
    questions: int,
    *,
    times: int,
    seed: int,
) -> dict[str, Interval]:
    """
    Return figures with their 95 % intervals.

    `figures` computes them from how often each question counts (None: once each); one that does not exist in more than
    a fortieth of the draws has no upper end.
    """
    rng = random.Random(seed)  # noqa: S311 - draws of a bootstrap are no secret
    whole = figures(None)
    drawn: dict[str, list[float | None]] = {name: [] for name in whole}
    numbers = range(questions)
    for _ in range(times):
        counts = [0] * questions
        for number in rng.choices(numbers, k=questions):
            counts[number] += 1
        for name, value in figures(counts).items():
            drawn[name].append(value)
    return {name: _interval(value, drawn[name]) for name, value in whole.items()}


def _interval(value: float | None, drawn: Sequence[float | None]) -> Interval:
    # What cannot be reached costs more than anything that can.
    ordered = sorted(drawn, key=lambda each: (each is None, each or 0.0))
    at = max(0, round(len(ordered) * 0.025))
    if not ordered:
        return Interval(value, None, None)
    return Interval(value, ordered[at], ordered[max(0, len(ordered) - 1 - at)])
