"""The retry budget: never more than its share of the last ten seconds, and a few in any case."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.retries import LEAST, WINDOW_S, RetryBudget


def test_a_total_outage_is_answered_with_a_fifth_more() -> None:
    """Every request fails and wants to be tried again: 1.2 attempts for each, when there are many."""
    budget = RetryBudget()
    made = 0
    for n in range(10_000):
        budget.count(1000 + n / 500)
        made += budget.take(1000 + n / 500, 0.2)
    assert made <= 0.2 * 10_000
    assert made >= 0.19 * 10_000
    assert (budget.made, budget.made + budget.refused) == (made, 10_000)


def test_a_quiet_edge_retries_all_the_same() -> None:
    """One request a minute that fails is tried again each time."""
    budget = RetryBudget()
    for n in range(20):
        budget.count(60.0 * n)
        assert budget.take(60.0 * n, 0.2)


def test_it_can_be_turned_off() -> None:
    """A ratio of nothing is no retry."""
    budget = RetryBudget()
    budget.count(0)
    assert not budget.take(0, 0)


def test_what_is_older_than_the_window_counts_no_more() -> None:
    """Requests of ten seconds ago pay for nothing now."""
    budget = RetryBudget()
    for _ in range(1000):
        budget.count(0)
    assert all(budget.take(WINDOW_S - 0.1, 0.2) for _ in range(200))
    assert not budget.take(WINDOW_S - 0.1, 0.2)
    assert sum(budget.take(2 * WINDOW_S, 0.2) for _ in range(50)) == LEAST


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.7, 3, 11, 100]), st.booleans()), max_size=300)
)
def test_the_sums_are_those_of_the_window(steps: list[tuple[float, bool]]) -> None:
    """Whatever the gaps: the counts are of the seconds that lie in the window, and of no others."""
    budget = RetryBudget()
    now, told = 5.0, []
    for gap, is_retry in steps:
        now += gap
        if is_retry:
            if budget.take(now, 1):
                told.append((int(now), "retry"))
        else:
            budget.count(now)
            told.append((int(now), "request"))
        recent = [what for second, what in told if second > int(now) - WINDOW_S]
        assert (budget.requests, budget.retries) == (
            recent.count("request"),
            recent.count("retry"),
        )
