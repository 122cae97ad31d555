"""The laws of comparing words for thinking with numbers of tokens."""

import pytest

from proxy.wire.translate.core import Thinking
from proxy.wire.translate.effort import TOKENS, budget_of, effort_of, nearest


@pytest.mark.parametrize("word", TOKENS)
def test_a_word_survives_a_way_there_and_back(word: str) -> None:
    """What was "high" is "high" again after it was a number."""
    budget = budget_of(Thinking(word))
    assert budget is not None
    assert effort_of(Thinking(budget=budget)) == word


def test_numbers_become_the_least_word_that_covers_them() -> None:
    """More than all is the greatest."""
    assert effort_of(Thinking(budget=1)) == "minimal"
    assert effort_of(Thinking(budget=2049)) == "medium"
    assert effort_of(Thinking(budget=10**9)) == "max"


def test_what_was_left_open_stays_open() -> None:
    """Only who wants none says "none"."""
    assert effort_of(Thinking()) is None
    assert budget_of(Thinking()) is None
    assert effort_of(Thinking(off=True)) == "none"
    assert budget_of(Thinking("none")) == 0


def test_an_unknown_word_becomes_the_nearest() -> None:
    """Of two as near, the greater: the caller asked for at least that."""
    assert nearest("minimal", ("low", "medium", "high")) == "low"
    assert nearest("max", ("low", "medium", "high")) == "high"
    assert nearest("medium", ("low", "high")) == "high"
