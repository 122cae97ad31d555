"""
What the arms of an experiment did: the sums that judgements about them are made from.

A look reads only what came into the ledger since the one before (`Look.after`), so that a canary of many calls costs
no more at its end than at its beginning.
Only the database is read; call it in a thread.
"""

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

from store.sql import open_reader, statement

__all__ = ["ArmSums", "Look", "look"]


@dataclass(frozen=True, slots=True)
class ArmSums:
    """
    Tries and errors, and count, sum and sum of squares of what was measured of the tries that were answered.

    `ttft_` is the natural logarithm of the first-byte time in us, `cost_` is nano-USD; of each answer
    that has a cost, `defect_sum` sums what was wrong with it, from 0 to 1.
    """

    tries: int = 0
    errors: int = 0
    ttft_count: int = 0
    ttft_sum: float = 0.0
    ttft_squares: float = 0.0
    cost_count: int = 0
    cost_sum: float = 0.0
    cost_squares: float = 0.0
    defect_sum: float = 0.0

    def __add__(self, more: "ArmSums") -> "ArmSums":
        """Return the sums of both."""
        return ArmSums(*(a + b for a, b in zip(astuple(self), astuple(more), strict=True)))


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of an experiment since a moment: its arms by label, `experiment/arm`, and the row after which nothing was read."""

    since_us: int
    arms: Mapping[str, ArmSums]
    after: int = 0


def look(path: Path, name: str, since_us: int, before: Look | None = None) -> Look:
    """
    Sum what the arms of an experiment did since a moment (unix us), beginning where `before` ended.

    Raises `LedgerUnreachable`.
    """
    if before is None or before.since_us != since_us:
        before = Look(since_us, {})
    index = "NOT INDEXED" if before.after else "INDEXED BY entries_by_experiment"
    text = statement("governance", "arms").replace("{index}", index)
    asked = {"name": name, "since": since_us, "after": before.after}
    arms = dict(before.arms)
    with open_reader(path) as connection:
        connection.create_function("ln", 1, math.log, deterministic=True)
        # Of the whole ledger: an experiment whose calls pause does not read the others' again and again
        (last,) = connection.execute(statement("governance", "last_entry")).fetchone()
        for label, *sums in connection.execute(text, asked):
            arms[label] = arms.get(label, ArmSums()) + ArmSums(*sums)
    return Look(since_us, arms, last)
