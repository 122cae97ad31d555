"""The measures of a router, held to cases that one can reckon by hand, and to laws."""

import itertools
from math import e

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.measures import (
    Outcomes,
    Point,
    bootstrap,
    cost_at,
    hull,
    mean_height,
    quality_at,
)

CHEAP, MIDDLE, DEAR = Point(1, 0.5), Point(2, 0.9), Point(5, 1.0)
points = st.lists(
    st.builds(Point, st.integers(1, 50).map(float), st.integers(0, 20).map(lambda n: n / 20)),
    min_size=1,
    max_size=12,
)


def test_a_hull_leaves_out_what_mixing_gives_for_less() -> None:
    """What is dearer and worse, and what lies below the line between two others."""
    assert hull([DEAR, Point(3, 0.6), CHEAP, Point(1, 0.4), Point(1.5, 0.7), MIDDLE]) == (
        CHEAP,
        MIDDLE,
        DEAR,
    )
    assert hull([]) == ()


def test_costs_and_qualities_are_read_off_it() -> None:
    """Linearly between two points; nothing below the first, level after the last."""
    curve = hull([CHEAP, MIDDLE, DEAR])
    assert quality_at(curve, 0.9) == 0.0
    assert quality_at(curve, 1.5) == pytest.approx(0.7)
    assert quality_at(curve, 9) == 1.0
    assert cost_at(curve, 0.1) == 1
    assert cost_at(curve, 0.95) == pytest.approx(3.5)
    assert cost_at(curve, 1.0) == 5
    assert cost_at(curve, 1.01) is None
    assert cost_at((), 0.5) is None


def test_the_area_is_a_mean_height() -> None:
    """Over the cost, and over its logarithm."""
    flat = (Point(1, 0.8),)
    assert mean_height(flat, 1, 100, logarithmic=False) == pytest.approx(0.8)
    assert mean_height(flat, 1, 100, logarithmic=True) == pytest.approx(0.8)
    slope = (Point(1, 0.0), Point(e, e - 1))
    assert mean_height(slope, 1, e, logarithmic=False) == pytest.approx((e - 1) / 2, rel=1e-4)
    # The integral of exp(t) - 1 from 0 to 1.
    assert mean_height(slope, 1, e, logarithmic=True) == pytest.approx(e - 2, rel=1e-4)
    assert mean_height(flat, 3, 3, logarithmic=True) == 0.8


@given(points)
def test_a_hull_is_above_all_of_its_points(found: list[Point]) -> None:
    """It rises, it bends down, and no point is above it."""
    curve = hull(found)
    assert all(left.cost < right.cost for left, right in itertools.pairwise(curve))
    assert all(left.quality < right.quality for left, right in itertools.pairwise(curve))
    for point in found:
        assert quality_at(curve, point.cost) >= point.quality - 1e-9
        least = cost_at(curve, point.quality)
        assert least is not None
        assert least <= point.cost + 1e-9
    assert hull(curve) == curve


@given(points, points)
def test_more_settings_never_make_a_router_worse(one: list[Point], more: list[Point]) -> None:
    """A curve that contains another has at least its area."""
    low, high = 1.0, 50.0
    assert mean_height(hull([*one, *more]), low, high, logarithmic=True) >= (
        mean_height(hull(one), low, high, logarithmic=True) - 1e-9
    )


def test_outcomes_are_counted_as_often_as_said() -> None:
    """Once each where nothing is."""
    outcomes = Outcomes((1.0, 3.0), (0.0, 1.0))
    assert outcomes.mean() == Point(2.0, 0.5)
    assert outcomes.mean([3, 1]) == Point(1.5, 0.25)


def test_a_bootstrap_covers_the_figure_and_is_drawn_with_a_seed() -> None:
    """Of a mean over a hundred questions; the same seed gives the same ends."""
    outcomes = Outcomes((1.0,) * 100, tuple(float(n % 2) for n in range(100)))

    def figures(counts: object) -> dict[str, float | None]:
        return {"quality": outcomes.mean(counts).quality, "never": None}  # type: ignore[arg-type]

    once = bootstrap(figures, 100, times=200, seed=1)
    assert once == bootstrap(figures, 100, times=200, seed=1)
    quality = once["quality"]
    assert quality.value == 0.5
    assert quality.low is not None
    assert quality.high is not None
    assert 0.35 < quality.low < 0.5 < quality.high < 0.65
    assert once["never"] == (None, None, None)


def test_what_is_not_always_reached_has_no_upper_end() -> None:
    """It may cost more than anything."""
    outcomes = Outcomes((1.0, 1.0), (0.0, 1.0))

    def figures(counts: object) -> dict[str, float | None]:
        quality = outcomes.mean(counts).quality  # type: ignore[arg-type]
        return {"cost": 1.0 if quality >= 0.5 else None}

    found = bootstrap(figures, 2, times=200, seed=1)["cost"]
    assert (found.value, found.low, found.high) == (1.0, 1.0, None)
