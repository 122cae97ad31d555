"""Laws of insight: a model is judged at the same call as its rivals, by what its answers are worth and cost."""

from dataclasses import dataclass, replace

import pytest

from routing.insight import Known, report
from routing.rates import Rates


@dataclass(frozen=True)
class Used:
    model: str
    task: str = ""
    requests: int = 1000
    attempts: int = 1000
    errors: int = 0
    served: int = 1000
    input_tokens: int = 100_000
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 50_000
    reasoning_tokens: int = 0
    cost_nusd: int = 0
    ttft_us: int = 1000


def priced(each: int) -> Rates:
    """Give a price of so many nano-USD per thousand tokens of any kind."""
    return Rates(each, each, each, each, each, each, each)


FLEET = {
    "big": Known(0.90, priced(10_000)),
    "small": Known(0.88, priced(1_000)),
    "old": Known(0.70, priced(8_000)),
    "middle": Known(0.89, priced(6_000)),
    "dark": Known(None, priced(1)),
}


def known(model: str, task: str) -> Known:
    return FLEET[model]


def test_each_verdict() -> None:
    """Best, cheap and nearly as good, in between, dominated (and by whom), unknown."""
    made = report([Used(name) for name in FLEET], known)
    verdicts = {row.model: (row.verdict, row.instead) for row in made.rows}
    assert verdicts == {
        "big": ("best", ""),
        "small": ("bargain", ""),
        "old": ("dear", "small"),
        "middle": ("fair", ""),
        "dark": ("unrated", ""),
    }


def test_a_price_is_told_for_the_mean_call_of_all() -> None:
    """A model that was given the long calls is not dear for that."""
    short, long = Used("big"), Used("small", input_tokens=1_900_000, output_tokens=950_000)
    made = report([short, long], known)
    prices = {row.model: row.price_nusd for row in made.rows}
    # (100 + 1900) / 2 input and (50 + 950) / 2 output tokens a call
    assert prices == {"big": 1000 * 15_000, "small": 1000 * 1_500}


def test_answers_that_do_not_come_are_worth_nothing() -> None:
    """A good model that fails half of its tries is dominated by a lesser one that answers."""
    failing = Used("big", errors=500, served=500)
    made = report([failing, Used("small")], known)
    verdict = {row.model: row.verdict for row in made.rows}
    assert verdict == {"big": "dear", "small": "best"}


def test_one_failure_of_three_condemns_nobody() -> None:
    """Few tries say little: they are drawn towards the fleet's."""
    few = Used("big", requests=3, attempts=3, errors=1, served=2)
    made = report([few, Used("old")], known)
    assert next(row for row in made.rows if row.model == "big").verdict == "best"


def test_what_routing_saved_is_what_the_best_single_model_would_have_cost_more() -> None:
    """Everything that was served, at the best one's price, less what everything did cost."""
    uses = [
        Used("big", cost_nusd=1_500_000),
        Used("small", cost_nusd=150_000, attempts=1100, errors=100),
    ]
    made = report(uses, known)
    assert made.best is not None
    assert (made.best.model, made.best.cost_nusd) == ("big", 2 * 1000 * 1500)
    assert made.saved_nusd == 3_000_000 - 1_650_000
    assert made.worth is not None
    assert 0.83 < made.worth < made.best.worth


def test_the_best_single_model_is_weighed_over_all_tasks() -> None:
    """One that is best in the rarer task does not win."""

    def by_task(model: str, task: str) -> Known:
        good = {("coder", "coding"): 0.9, ("coder", "chat"): 0.5, ("talker", "coding"): 0.6}
        return Known(good.get((model, task), 0.9), priced(1000))

    uses = [
        Used("coder", task="coding", requests=100, served=100),
        Used("talker", task="chat", requests=900, served=900),
    ]
    made = report(uses, by_task)
    assert made.best is not None
    assert made.best.model == "talker"
    assert [(row.task, row.verdict) for row in made.rows] == [("coding", "best"), ("chat", "best")]


@pytest.mark.parametrize("uses", [[], [Used("dark")]])
def test_where_nothing_is_rated_nothing_is_claimed(uses: list[Used]) -> None:
    """No best, no savings, no worth."""
    made = report(uses, known)
    assert (made.best, made.saved_nusd, made.worth) == (None, None, None)


def test_what_could_be_saved_is_told_for_its_own_calls() -> None:
    """At the mean of the calls that it served, and for as many."""
    old = replace(Used("old"), input_tokens=10_000, output_tokens=5_000)
    made = report([old, Used("small")], known)
    row = next(row for row in made.rows if row.model == "old")
    # 15 tokens a call: 120 nano-USD here, 15 there
    assert row.could_save_nusd == 1000 * (120 - 15)
