"""Laws of shapes and arrivals: rates are what was written, arrivals come when they are due, and mistakes are told with an example."""

import itertools
import math
import random
import statistics

import pytest

from loadtests.shapes import (
    BadShape,
    Shape,
    arrivals,
    endless,
    phase_of,
    read_duration_s,
    read_shape,
)


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("20", {0: 20, 5: 20, 9.9: 20, 10: None}),
        ("constant:3", {0: 3, 10: None}),
        ("ramp:0-100", {0: 0, 5: 50, 9: 90}),
        ("ramp:100-0", {0: 100, 5: 50}),
        ("steps:10,20,40,80", {0: 10, 2.4: 10, 2.6: 20, 5.1: 40, 9: 80}),
        ("burst:10-100/4s/1s", {0: 10, 2.9: 10, 3.1: 100, 3.9: 100, 4.1: 10, 7.5: 100, 9: 10}),
    ],
)
def test_a_load_over_ten_seconds(text, rates):
    """At any moment the rate that was written, and none when it is over."""
    shape = read_shape(text, 10)
    for at, rate in rates.items():
        got = shape.at(at)
        assert got == (None if rate is None else pytest.approx(rate)), at
    assert shape.duration_s == 10


@pytest.mark.parametrize(
    "text",
    ["", "fast", "-5", "ramp:5", "steps:1,b", "burst:1-2", "burst:1-2/1s/2s", "sine:3", "1e9"],
)
def test_a_load_that_is_none_is_told(text):
    """With what was expected."""
    with pytest.raises(BadShape):
        read_shape(text, 10)


@pytest.mark.parametrize(("text", "seconds"), [("30", 30), ("30s", 30), ("1.5m", 90), ("2h", 7200)])
def test_durations(text, seconds):
    """Seconds, minutes, hours."""
    assert read_duration_s(text) == seconds


def test_a_duration_that_is_none_is_told():
    """And one of zero or of a month, too."""
    with pytest.raises(BadShape, match="30s, 10m, 2h"):
        read_duration_s("soon")
    for seconds in (0, 40 * 86400):
        with pytest.raises(BadShape, match="duration"):
            read_shape("1", seconds)


def together(kind, shape, share, seed=1):
    """Give the arrivals of all sources of a shape, in order."""
    return sorted(
        at
        for index in range(share)
        for at in arrivals(
            kind, shape, random.Random(f"{seed}:{index}"), share=share, phase=phase_of(index, share)
        )
    )


@pytest.mark.parametrize("rate", [0.5, 2.5, 7, 100])
@pytest.mark.parametrize("share", [1, 5, 48])
def test_constant_arrivals_are_even_and_as_many_as_was_written(rate, share):
    """Whatever the number of sources; a rate below one and a fraction are no whole users."""
    times = together("constant", read_shape(str(rate), 20), share)
    assert len(times) == int(rate * 20)
    assert times == pytest.approx([at / rate for at in range(len(times))])


def test_a_ramp_has_its_arrivals_where_its_area_has_them():
    """From 0 to 100 a second in ten seconds: the n-th arrival at the square root of n over 5."""
    times = together("constant", read_shape("ramp:0-100", 10), 7)
    assert len(times) == 500
    assert times == pytest.approx([(at / 5) ** 0.5 for at in range(500)])
    falling = together("constant", read_shape("ramp:100-0", 10), 7)
    assert falling == pytest.approx([10 - ((500 - at) / 5) ** 0.5 for at in range(500)])


def test_a_burst_begins_and_ends_when_it_was_written():
    """Not when Locust looks: nine seconds of 10, one of 100, to the arrival."""
    times = together("constant", read_shape("burst:10-100/10s/1s", 20), 48)
    for begin, end, count in ((0, 9, 90), (9, 10, 100), (10, 19, 90), (19, 20, 100)):
        assert sum(begin - 1e-9 <= at < end - 1e-9 for at in times) == count


def test_steps_may_fall_silent():
    """A step of nothing has no arrivals, and the next begins in time."""
    times = together("constant", read_shape("steps:5,0,10", 30), 3)
    assert [sum(low <= at < low + 10 for at in times) for low in (0, 10, 20)] == [50, 0, 100]


@pytest.mark.parametrize("count", [1, 3, 10, 17, 50])
def test_constant_sources_of_an_unknown_number_are_nearly_even_together(count):
    """At most three lengths of gap, the longest less than three times the mean: the three-gap theorem."""
    times = sorted(
        at
        for index in range(count)
        for at in itertools.takewhile(
            lambda at: at < 20,
            arrivals("constant", endless(1.0), random.Random(1), phase=phase_of(index)),
        )
    )
    assert len(times) == 20 * count
    gaps = [round(b - a, 6) for a, b in itertools.pairwise(times)]
    assert len(set(gaps)) <= 4
    assert max(gaps) < 3 / count


@pytest.mark.parametrize("share", [1, 48])
def test_poisson_arrivals_pass_a_test_of_fit(share):
    """
    The gaps fit an exponential distribution and the counts have the variance of their mean.

    Kolmogorov and Smirnov's distance at 1 %: 1.63 / sqrt(n); the index of dispersion of 400 counts lies in 1 ± 3 sqrt(2 / 400).
    """
    times = together("poisson", read_shape("25", 400), share)
    gaps = sorted(b - a for a, b in itertools.pairwise(times))
    count = len(gaps)
    assert count == pytest.approx(10_000, abs=3 * 100)
    distance = max(
        max(abs((at + 1) / count - fit), abs(at / count - fit))
        for at, gap in enumerate(gaps)
        for fit in (1 - math.exp(-25 * gap),)
    )
    assert distance < 1.63 / math.sqrt(count)
    seconds = [0] * 400
    for at in times:
        seconds[int(at)] += 1
    dispersion = statistics.variance(seconds) / statistics.mean(seconds)
    assert abs(dispersion - 1) < 3 * math.sqrt(2 / 400)


def test_poisson_arrivals_follow_a_ramp():
    """Their number in each tenth is that of the area, within three standard deviations."""
    times = together("poisson", read_shape("ramp:0-200", 100), 12)
    for tenth in range(10):
        due = 100 * (2 * tenth + 1)
        got = sum(10 * tenth <= at < 10 * tenth + 10 for at in times)
        assert abs(got - due) < 3 * math.sqrt(due), tenth


def test_poisson_arrivals_are_seeded():
    """The same seed, the same moments; another, others."""
    shape = read_shape("ramp:1-50", 20)
    one, again, other = (together("poisson", shape, 8, seed) for seed in (1, 1, 2))
    assert one == again != other


def test_a_shape_ends_its_arrivals():
    """The last is due before the end; without any rate there is none."""
    assert max(together("poisson", read_shape("50", 3), 4)) < 3
    assert list(Shape(((0.0, 0.0), (5.0, 0.0))).moments(iter([0.0]))) == []


def test_an_unknown_kind_of_arrivals_is_told():
    """Before the first of them."""
    with pytest.raises(BadShape, match="constant, poisson"):
        arrivals("random", endless(1), random.Random(1))


@pytest.mark.parametrize("text", ["0", "ramp:0-0", "steps:0,0"])
def test_no_load_at_all_is_told(text):
    """It would be a run that measures nothing."""
    with pytest.raises(BadShape, match="no load at all"):
        read_shape(text, 10)
