"""Laws of tables: columns line up, text to the left and numbers to the right."""

from loadtests.tables import lined_up


def test_columns_line_up():
    """As wide as their widest cell, under a rule; no blanks at the end of a line."""
    rows = [("what", "n", "why"), ("a", 1000, "b"), ("long one", 7, "")]
    assert lined_up(rows, {0, 2}).splitlines() == [
        "what         n  why",
        "--------  ----  ---",
        "a         1000  b",
        "long one     7",
    ]
