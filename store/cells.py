"""
Cells: the parts of the store that hold different tenants.

All keys of a cell share a hash tag, so that one script sees them all and they lie in one slot.
The first cell is home: the configuration lies there, and who leads what in an installation.
"""

from dataclasses import dataclass
from functools import cache

__all__ = ["FIRST", "Cell", "cell"]


@dataclass(frozen=True, slots=True)
class Cell:
    """
    One cell, and the keys that it has once.

    `beats` say until when each replica lives, `epoch` what is known of the memory there; `ledger` is the stream of entries,
    `totals` are the sums of all ever appended, `book` names this life of them; `events` are those of budgets, `told` says how far they
    were told of; `shares` says who divided the limits of vendors last.
    """

    number: int
    tag: str
    beats: str
    epoch: str
    ledger: str
    totals: str
    book: str
    events: str
    told: str
    shares: str

    def __str__(self) -> str:
        """Return how people call it."""
        return f"c{self.number}"


@cache
def cell(number: int) -> Cell:
    """Return a cell by its number, from 0."""
    tag = f"{{c{number}}}"
    return Cell(
        number=number,
        tag=tag,
        beats=f"{tag}:r",
        epoch=f"{tag}:e",
        ledger=f"{tag}:led",
        totals=f"{tag}:tot",
        book=f"{tag}:book",
        events=f"{tag}:ev",
        told=f"{tag}:ev:told",
        shares=f"{tag}:sh",
    )


FIRST = cell(0)
"""The only one by default."""
