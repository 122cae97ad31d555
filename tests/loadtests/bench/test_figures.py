"""Laws of the rows and their arithmetic."""

import pytest

from loadtests.bench.figures import PARTS, ROWS, Figure, Row, plain, spread

LOW = Row("low", "part", "what", "ms", target=2, stretch=1)
HIGH = Row("high", "part", "what", "req/s", target=7000, stretch=10000, higher_is_better=True)
RATIO = Row("ratio", "part", "what", "µs", target=5, stretch=3.5, ratio=True)


@pytest.mark.parametrize(
    ("row", "value", "verdict"),
    [
        (LOW, 1, "stretch"),
        (LOW, 1.01, "target"),
        (LOW, 2, "target"),
        (LOW, 2.01, "missed"),
        (HIGH, 10000, "stretch"),
        (HIGH, 9999, "target"),
        (HIGH, 7000, "target"),
        (HIGH, 6999, "missed"),
    ],
)
def test_a_mark_is_reached_when_it_is_met(row, value, verdict):
    """A value that equals a mark has reached it, in either direction."""
    assert row.judge(value) == verdict


def test_a_ratio_is_the_median_of_pairs():
    """Each run of ours is held against its neighbour, so a slow minute that hits both changes nothing."""
    calm = Figure(RATIO, nginx=[10, 10, 10], penstock=[30, 40, 50])
    stormy = Figure(RATIO, nginx=[10, 20, 10], penstock=[30, 80, 50])
    assert calm.judged() == stormy.judged() == 4
    assert calm.verdict() == "target"


def test_a_row_without_ratio_is_judged_by_itself():
    """Nginx's value stands beside it, and is not divided by."""
    assert Figure(LOW, nginx=[0.1], penstock=[3, 1, 2]).judged() == 2


def test_rows_have_names_and_parts_of_their_own():
    """Names are unique, stretches are harder than targets, every part fills a row."""
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert {row.part for row in ROWS} == set(PARTS)
    for row in ROWS:
        assert row.judge(row.stretch) == "stretch"
        assert row.judge(row.target) == "target"


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "0.123"), (3.456, "3.46"), (456.7, "457"), (12345.6, "12,346")]
)
def test_numbers_are_short(value, text):
    """Three digits say what a bench knows."""
    assert plain(value) == text


def test_a_single_run_has_no_spread():
    """Where there is nothing to compare, nothing is claimed."""
    assert spread([1.0]) == ""
    assert spread([3, 1, 2]) == "1 to 3"
