"""Wishes: what is written further in holds, but for what can only be made narrower."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from config.tenants import Organization, Team
from config.wishes import NO_WISHES, Wishes, carried, nusd_of

CEILINGS = st.none() | st.decimals(0, 1000, places=3)


@given(st.lists(CEILINGS, min_size=1, max_size=5))
def test_the_lowest_ceiling_holds(written: list[Decimal | None]) -> None:
    """Whoever says it, and in whatever order."""
    wishes = carried(Organization(max_price=one) for one in written)
    said = [one for one in written if one is not None]
    assert wishes.max_price_nusd == (nusd_of(min(said)) if said else 0)


def test_a_ceiling_of_nothing_is_a_ceiling() -> None:
    """Nothing but what is free fits below it; 0 stands for none."""
    assert carried([Team(max_price=Decimal(0))]).max_price_nusd == 1


def test_the_innermost_word_holds_and_regions_add_up() -> None:
    """The first of the sections is the innermost; an empty list is a word, too."""
    inner = Team(capabilities=(), routing="steady", regions=("eu",))
    outer = Organization(
        capabilities=("chat",), routing="declared", min_quality=0.5, regions=("eu", "us")
    )
    assert carried([inner, outer]) == Wishes(
        routing="steady", min_quality=0.5, regions=(frozenset({"eu", "us"}), frozenset({"eu"}))
    )
    assert carried([Team(), Organization()]) is NO_WISHES


def test_only_what_leaves_somebody_out_filters() -> None:
    """A preference, a deadline and the way of routing rank; the rest filters."""
    assert not Wishes(prefer="low", deadline_ms=5, routing="steady").filters
    assert Wishes(pin="m").filters
    assert Wishes(max_price_nusd=1).filters
