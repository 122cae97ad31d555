"""Tables for people: aligned by what is in them, in colour only where a terminal wants it."""

from collections.abc import Mapping, Sequence
from typing import TextIO

__all__ = ["count", "money", "style", "table"]

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32"}


def style(text: str, how: str, out: TextIO, environ: Mapping[str, str]) -> str:
    """Return the text in a style, plain where `out` is no terminal or NO_COLOR is set (no-color.org)."""
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb" or not out.isatty():
        return text
    return f"\x1b[{_STYLES[how]}m{text}\x1b[0m"


def count(number: int) -> str:
    """Return a count with thousands apart."""
    return f"{number:,}"


def money(amounts: Sequence[int]) -> list[str]:
    """Return nano-USD as USD, exact, all with as many decimals as the finest of them needs, at least two."""
    decimals = 2
    for nusd in amounts:
        digits = f"{abs(nusd) % 10**9:09d}".rstrip("0")
        decimals = max(decimals, len(digits))
    spelled = []
    for nusd in amounts:
        whole, part = divmod(abs(nusd), 10**9)
        sign = "-" if nusd < 0 else ""
        spelled.append(f"{sign}{whole:,}.{f'{part:09d}'[:decimals]}")
    return spelled


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: int, gap: str = "  "
) -> list[str]:
    """Return lines with the columns aligned: the first `left` to the left, the others to the right."""
    widths = [max(len(line[place]) for line in (heads, *rows)) for place in range(len(heads))]
    return [
        gap.join(
            text.ljust(width) if place < left else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (heads, *rows)
    ]
