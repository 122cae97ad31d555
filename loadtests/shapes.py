"""
The shapes of load over time, and the moments at which calls are meant to begin.

In an open loop calls begin when they are due, whether earlier ones were answered or not, as the outside world's do.
A Locust user is a source of arrivals there.
Where a shape says the rate, each of so many sources takes an equal share of it and follows it by itself: the moments are those at which the
integral of the rate reaches the numbers that are due (time rescaling), so that a ramp or a burst is exact to the microsecond, whatever
second Locust looks at its users in.
Shares of a Poisson process add up to one (E. Çinlar, "Introduction to Stochastic Processes", 1975); of constant arrivals source number i
of n takes every n-th from the i-th on.
Where Locust's own number of users says the rate, nobody knows how many sources there will be: constant ones then begin at phases that the
golden ratio spreads, so that any number of them is nearly even (the three-gap theorem).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, pairwise
from math import sqrt
from random import Random

_GOLDEN = 0.6180339887498949
HIGHEST_RATE = 100_000.0
LONGEST_S = 7 * 86400.0


class BadShape(ValueError):
    """A load cannot be read; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Shape:
    """
    A rate over time: `points` are (seconds, rate), straight lines between them; beyond the last point there is no load.

    In a closed loop the numbers are users instead of arrivals per second.
    """

    points: tuple[tuple[float, float], ...]

    @property
    def duration_s(self) -> float:
        """How long it lasts."""
        return self.points[-1][0]

    @property
    def highest(self) -> float:
        """The highest rate on the way."""
        return max(rate for _, rate in self.points)

    def moments(self, numbers: Iterator[float]) -> Iterator[float]:
        """
        Give the seconds at which so many arrivals are due since the beginning; `numbers` must not fall.

        Ends with the shape.
        """
        pieces = pairwise(self.points)
        begin = end = (0.0, 0.0)
        before = piece = 0.0
        for number in numbers:
            while number >= before + piece:
                before += piece
                try:
                    begin, end = next(pieces)
                except StopIteration:
                    return
                piece = (begin[1] + end[1]) / 2 * (end[0] - begin[0])
            # Where the area under a straight line reaches what is left: the root of a quadratic, in the form that does not cancel.
            slope = (end[1] - begin[1]) / (end[0] - begin[0])
            left = number - before
            root = sqrt(max(0.0, begin[1] ** 2 + 2 * slope * left))
            yield begin[0] + (2 * left / (begin[1] + root) if left else 0.0)

    def at(self, seconds: float) -> float | None:
        """Give the rate at a moment, `None` when it is over."""
        if seconds >= self.duration_s:
            return None
        before = self.points[0]
        for point in self.points:
            if point[0] > seconds:
                share = (seconds - before[0]) / (point[0] - before[0])
                return before[1] + (point[1] - before[1]) * share
            before = point
        return before[1]


def read_shape(text: str, duration_s: float) -> Shape:
    """
    Read a load, spread over `duration_s`.

    `20` or `constant:20`; `ramp:1-50`; `steps:10,20,40`, as long each; `burst:10-100/20s/2s`, from 10 to 100 every 20 s for 2 s.
    Raises `BadShape`.
    """
    if not 0 < duration_s <= LONGEST_S:
        raise BadShape(f"{duration_s:g} s is no duration between 0 s and a week")
    shape = _read(text, duration_s)
    if not shape.highest:
        raise BadShape(f"{text!r} is no load at all")
    return shape


def _read(text: str, duration_s: float) -> Shape:
    kind, colon, rest = text.partition(":")
    if not colon:
        kind, rest = "constant", text
    if kind == "constant":
        rate = _rate(rest)
        return Shape(((0.0, rate), (duration_s, rate)))
    if kind == "ramp":
        low, dash, high = rest.partition("-")
        if not dash:
            raise BadShape(f"{text!r}: a ramp has two rates, as in ramp:1-50")
        return Shape(((0.0, _rate(low)), (duration_s, _rate(high))))
    if kind == "steps":
        rates = [_rate(part) for part in rest.split(",")]
        width = duration_s / len(rates)
        return Shape(
            tuple(
                point
                for at, rate in enumerate(rates)
                for point in ((at * width, rate), ((at + 1) * width, rate))
            )
        )
    if kind == "burst":
        return _bursts(text, rest, duration_s)
    raise BadShape(
        f"{text!r} is no load: a rate, constant:R, ramp:A-B, steps:A,B,… or burst:A-B/EVERYs/FORs"
    )


_BURST = re.compile(r"([\d.]+)-([\d.]+)/([\d.]+)s/([\d.]+)s")


def _bursts(text: str, rest: str, duration_s: float) -> Shape:
    found = _BURST.fullmatch(rest)
    if found is None:
        raise BadShape(f"{text!r}: a burst is written burst:10-100/20s/2s")
    low, high = _rate(found[1]), _rate(found[2])
    every, lasting = _rate(found[3]), _rate(found[4])
    if not 0 < lasting < every:
        raise BadShape(f"{text!r}: a burst is shorter than the time from one to the next")
    points = [(0.0, low)]
    begin = every - lasting
    while begin < duration_s:
        end = min(begin + lasting, duration_s)
        points += [(begin, low), (begin, high), (end, high), (end, low)]
        begin += every
    if points[-1][0] < duration_s:
        points.append((duration_s, low))
    return Shape(tuple(points))


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        raise BadShape(f"{text!r} is no number") from None
    if not 0 <= rate <= HIGHEST_RATE:
        raise BadShape(f"{text!r} is not between 0 and {HIGHEST_RATE:,.0f}")
    return rate


_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def read_duration_s(text: str) -> float:
    """Read `30`, `30s`, `10m` or `2h` as seconds. Raises `BadShape`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if found is None:
        raise BadShape(f"{text!r} is no duration: 30s, 10m, 2h")
    return float(found[1]) * _UNITS_S[found[2]]


def arrivals(
    kind: str, shape: Shape, random: Random, *, share: int = 1, phase: float = 0.0
) -> Iterator[float]:
    """
    Give the seconds of the run at which one of `share` equal sources has calls begin: `constant` or `poisson`.

    A constant source begins `phase` of its own interval late. Ends with the shape; raises `BadShape` for another kind.
    """
    if kind not in {"constant", "poisson"}:
        raise BadShape(f"{kind!r} is no kind of arrivals: constant, poisson")
    return shape.moments(_even(share, phase) if kind == "constant" else _random(share, random))


def _even(share: int, phase: float) -> Iterator[float]:
    return ((phase + number) * share for number in count())


def _random(share: int, random: Random) -> Iterator[float]:
    due = 0.0
    while True:
        due += random.expovariate(1.0) * share
        yield due


def endless(rate: float) -> Shape:
    """Give a load that does not end by itself."""
    return Shape(((0.0, rate), (LONGEST_S, rate)))


def phase_of(index: int, share: int = 0) -> float:
    """Give the phase of source number `index` of `share`, or of nobody knows how many (0)."""
    return (index / share if share else index * _GOLDEN) % 1.0
