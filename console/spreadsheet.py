"""CSV that programs read back and that spreadsheets may open: RFC 4180 in UTF-8."""

import csv
from collections.abc import Iterable, Sequence
from typing import TextIO

__all__ = ["write"]

# https://owasp.org/www-community/attacks/CSV_Injection
_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(heads: Sequence[str], rows: Iterable[Sequence[str | int]], out: TextIO) -> None:
    """
    Write a head and rows as they come.

    A text that a spreadsheet would run as a formula gets an apostrophe before it: names of users are what callers
    say they are. A number, negative or not, is none.
    """
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(heads)
    for row in rows:
        writer.writerow([_plain(value) for value in row])


def _plain(value: str | int) -> str | int:
    if isinstance(value, int) or not value.startswith(_BEGINS_A_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
