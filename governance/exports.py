"""
The ledger for others' books: every entry of a span of time, one at a time.

An entry has the ledger's own fields, without `decision` (`penstock route explain` reads that), and two more at its
head: `at`, when it was admitted, and `cost_usd`, what it cost, exact.
"""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from governance.ledger import ENTRY_FIELDS
from governance.usage import usd
from store.sql import LedgerUnreachable, open_reader, statement

__all__ = ["FIELDS", "entries"]

_OF_THE_LEDGER = tuple(name for name in ENTRY_FIELDS if name != "decision")
FIELDS = ("at", "cost_usd", *_OF_THE_LEDGER)
"""The fields of an exported entry, in their order."""

_FOREVER_US = (1 << 62) - 1


def entries(
    path: Path, *, since_us: int, until_us: int | None = None
) -> Iterator[dict[str, str | int]]:
    """
    Yield the entries from `since_us` to before `until_us` (unix microseconds; None: everything after), as they stood at one moment.

    It reads for as long as it is asked: use it in a thread. Raises `LedgerUnreachable`.
    """
    span = {"since": since_us, "until": _FOREVER_US if until_us is None else until_us}
    try:
        with open_reader(path) as connection:
            for row in connection.execute(statement("governance", "select_span"), span):
                at = datetime.fromtimestamp(row["at_us"] // 1_000_000, UTC)
                micros = row["at_us"] % 1_000_000
                yield {
                    "at": f"{at:%Y-%m-%dT%H:%M:%S}.{micros:06d}Z",
                    "cost_usd": usd(row["cost_nusd"]),
                    **{name: row[name] for name in _OF_THE_LEDGER},
                }
    except sqlite3.Error as error:
        raise LedgerUnreachable(f"cannot read the ledger {path}: {error}") from error
