"""
What the ledger says was spent: by the scopes over which budgets stand.

A scope is named as everywhere: `key:<id>`, `team:<organization>/<name>`, `org:<organization>` and those above it,
`user:<organization>#<name>`, likewise `application` and `business_line`, `model:`, `deployment:` and `provider:<name>`, `shadow:<experiment>`.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from store.sql import open_reader, statement


def spent_since(path: Path, since_us: int) -> dict[str, int]:
    """
    Return nano-USD by scope, of calls that were admitted since a moment in unix us.

    Raises `LedgerUnreachable`.
    """
    sums: dict[str, int] = {}
    with open_reader(path) as connection:
        for row in connection.execute(statement("governance", "spent"), (since_us,)):
            for scope in _scopes(row):
                sums[scope] = sums.get(scope, 0) + row["cost_nusd"]
    return sums


def is_blank(path: Path) -> bool:
    """Tell whether nothing was ever entered. Raises `LedgerUnreachable`."""
    if not path.exists():
        return True
    with open_reader(path) as connection:
        return connection.execute(statement("governance", "any_entry")).fetchone() is None


def _scopes(row: sqlite3.Row) -> Iterator[str]:
    """Yield every scope that a call counts in."""
    organization = row["organization"]
    yield f"key:{row['key']}"
    yield f"team:{organization}/{row['team']}"
    for kind in ("model", "deployment", "provider"):
        yield f"{kind}:{row[kind]}"
    if row["shadow"]:
        yield f"shadow:{row['shadow']}"
    while organization:
        yield f"org:{organization}"
        for kind in ("user", "application", "business_line"):
            if row[kind]:
                yield f"{kind}:{organization}#{row[kind]}"
        organization = organization.rpartition("/")[0]
