"""Laws of the record of a decision: what was written can be read, and nothing else is taken for it."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.decision import (
    DECLARED,
    Decision,
    MalformedDecision,
    Reasons,
    Scored,
    head,
    read,
    record,
)

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(NAMES, st.lists(NAMES, max_size=5), st.integers(0, 99), st.text("0123456789abcd"))
def test_what_the_declared_order_decided_can_be_read(
    asked: str, places: list[str], chosen: int, lost: str
) -> None:
    """The text that an offer begins and a grant completes is the decision."""
    text = record(head(asked, places), chosen, lost, DECLARED)
    assert read(text) == Decision(
        "declared", asked=asked, places=tuple(places), chosen=chosen, lost=lost
    )


@pytest.mark.parametrize("effort", ["", "low"])
def test_a_scored_decision_can_be_read(effort: str) -> None:
    """Scores are arrays, so that fifty candidates stay small; what is nothing is not written."""
    reasons = Reasons(
        "cost_quality",
        tiers=(255, 0),
        models=(Scored("m", 900, 5000, 0, "price"), Scored("n", 880, 100, 20)),
        level="normal",
        delta=40,
    )
    text = record(head("auto", ("m/a", "n/b")), 1, "d0", reasons.ending(), effort)
    found = read(text)
    assert found is not None
    assert (found.asked, found.places, found.chosen) == ("auto", ("m/a", "n/b"), 1)
    assert (found.lost, found.effort) == ("d0", effort)
    for name in Reasons.__struct_fields__:
        assert getattr(found, name) == getattr(reasons, name)
    assert '["n",880,100,20,""]' in text
    assert "explored" not in text
    assert ("effort" in text) == bool(effort)


def test_an_entry_without_a_decision_has_none() -> None:
    """Where one deployment could serve, nothing was decided."""
    assert read("") is None


@given(st.text())
def test_whatever_is_no_decision_is_refused_with_one_error(text: str) -> None:
    """Any text is a decision or raises `MalformedDecision`."""
    with suppress(MalformedDecision):
        read(text)
    with pytest.raises(MalformedDecision):
        read("{" + text)
