"""Laws of the record of a decision: what was written can be read, and nothing else is taken for it."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.decision import Decision, MalformedDecision, Scored, declared, head, read

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(NAMES, st.lists(NAMES, max_size=5), st.integers(0, 99), st.text("0123456789abcd"))
def test_what_the_declared_order_decided_can_be_read(
    asked: str, places: list[str], chosen: int, lost: str
) -> None:
    """The text that an offer begins and a grant completes is the decision."""
    text = declared(head("declared", asked, places), chosen, lost)
    assert read(text) == Decision("declared", asked, tuple(places), chosen, lost)


def test_a_scored_decision_can_be_read() -> None:
    """Scores are arrays, so that fifty candidates stay small; what is nothing is not written."""
    whole = Decision(
        "cost_quality",
        "auto",
        ("m/a", "n/b"),
        1,
        "d0",
        tiers=(255, 0),
        models=(Scored("m", 900, 5000, 0, "price"), Scored("n", 880, 100, 20)),
        level="normal",
        delta=40,
    )
    text = msgspec.json.encode(whole).decode()
    assert read(text) == whole
    assert '["n",880,100,20,""]' in text
    assert "explored" not in text


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
