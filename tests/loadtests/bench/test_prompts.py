"""Laws of the calls that differ."""

from loadtests.bench.prompts import prompts


def test_prompts_differ_and_are_the_same_in_every_run():
    """No two of a run are alike, and another run has the same; they are as short as the other rows' call, and fit a line."""
    drawn = list(prompts(500))
    assert len(set(drawn)) == 500
    assert list(prompts(500)) == drawn
    assert list(prompts(500, seed=2)) != drawn
    assert all("\n" not in each for each in drawn)
    assert 70 < sum(map(len, drawn)) / 500 < 130
