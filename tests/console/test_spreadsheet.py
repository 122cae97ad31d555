"""Laws of CSV: it reads back as what was written, and no spreadsheet runs what a caller has said."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.spreadsheet import write

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(st.tuples(TEXTS, st.integers()), max_size=5))
def test_what_is_written_reads_back(rows: list[tuple[str, int]]) -> None:
    """Commas, quotes and line ends included; what would be a formula has an apostrophe more."""
    out = io.StringIO(newline="")
    write(["a", "b"], rows, out)
    head, *found = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert head == ["a", "b"]
    assert [(text.removeprefix("'"), int(number)) for text, number in found] == [
        (text.removeprefix("'"), number) for text, number in rows
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ('=HYPERLINK("x")', '\'=HYPERLINK("x")'),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+49 30", "'+49 30"),
        ("-0.500000000", "-0.500000000"),
        (-5, "-5"),
        ("ann", "ann"),
    ],
)
def test_a_formula_is_a_text(value: str | int, written: str) -> None:
    """An amount may be negative; a user may be called anything."""
    out = io.StringIO()
    write(["it"], [[value]], out)
    assert next(iter([*csv.reader(io.StringIO(out.getvalue()))][1])) == written
