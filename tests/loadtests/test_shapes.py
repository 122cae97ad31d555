"""Laws of shapes and arrivals: rates are what was written, arrivals come when they are due, and mistakes are told with an example."""

import itertools
import random
import statistics

import pytest

from loadtests.shapes import BadShape, arrivals, read_duration_s, read_shape, sources


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


@pytest.mark.parametrize("count", [1, 3, 10, 17, 50])
def test_constant_sources_are_nearly_even_together(count):
    """At most three lengths of gap, the longest less than three times the mean: the three-gap theorem."""
    random_ = random.Random(1)
    times = sorted(
        at
        for index in range(count)
        for at in itertools.takewhile(lambda at: at < 20, arrivals("constant", 1.0, index, random_))
    )
    assert len(times) == 20 * count
    gaps = [round(b - a, 6) for a, b in itertools.pairwise(times)]
    assert len(set(gaps)) <= 4
    assert max(gaps) < 3 / count


def test_poisson_sources_add_up_to_a_poisson_stream():
    """Mean gap one over the sum of the rates, standard deviation equal to the mean."""
    times = sorted(
        at
        for index in range(10)
        for at in itertools.takewhile(
            lambda at: at < 400, arrivals("poisson", 0.5, index, random.Random(index))
        )
    )
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(0.2, rel=0.1)
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.1)


def test_an_unknown_kind_of_arrivals_is_told():
    """Before the first of them."""
    with pytest.raises(BadShape, match="constant, poisson"):
        arrivals("random", 1, 0, random.Random(1))


def test_sources_make_the_rate():
    """One at least, where there is any load."""
    assert [sources(rate, 2.0) for rate in (0, 0.1, 4, 100)] == [0, 1, 2, 50]
