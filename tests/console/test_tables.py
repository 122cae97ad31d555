"""Laws of tables: money is exact, columns are straight, and colour is for terminals that want it."""

import io

from hypothesis import given
from hypothesis import strategies as st

from console.tables import count, money, style, table


@given(st.lists(st.integers(-(10**15), 10**15), min_size=1, max_size=5))
def test_money_is_exact_and_aligned(amounts: list[int]) -> None:
    """Every amount reads back to what it was; all have the same decimals, at least two."""
    spelled = money(amounts)
    decimals = {len(text.partition(".")[2]) for text in spelled}
    assert len(decimals) == 1
    (places,) = decimals
    assert 2 <= places <= 9
    for nusd, text in zip(amounts, spelled, strict=True):
        sign = -1 if text.startswith("-") else 1
        whole, _, part = text.lstrip("-").replace(",", "").partition(".")
        assert sign * (int(whole) * 10**9 + int(part.ljust(9, "0"))) == nusd


def test_money_shows_no_more_decimals_than_needed() -> None:
    """Whole cents stay short; one nano-USD makes all of them long."""
    assert money([0, 1_500_000_000, 1_234_000_000_000]) == ["0.00", "1.50", "1,234.00"]
    assert money([1, -2_000_000_000]) == ["0.000000001", "-2.000000000"]


def test_columns_are_aligned_by_what_is_in_them() -> None:
    """The first columns to the left, the others to the right, and nothing trails."""
    assert table(("team", "n"), [("a", "1"), ("longer", "12,345")], left=1) == [
        "team         n",
        "a            1",
        "longer  12,345",
    ]
    assert count(12345) == "12,345"


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


def test_colour_is_for_terminals_that_want_it() -> None:
    """A pipe, NO_COLOR and a dumb terminal get plain text."""
    assert style("x", "red", Screen(), {}) == "\x1b[31mx\x1b[0m"
    assert style("x", "red", io.StringIO(), {}) == "x"
    assert style("x", "red", Screen(), {"NO_COLOR": "1"}) == "x"
    assert style("x", "red", Screen(), {"TERM": "dumb"}) == "x"
