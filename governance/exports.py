"""
The ledger for others' books: every entry of a span of time, one at a time.

An entry has the ledger's own fields, without `decision` (`penstock route explain` reads that), and two more at its
head: `at`, when it was admitted, and `cost_usd`, what it cost, exact.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from governance.ledger import ENTRY_FIELDS
from governance.usage import FOREVER_US, restriction, usd
from store.sql import open_reader, statement

__all__ = ["FIELDS", "entries"]

_OF_THE_LEDGER = tuple(name for name in ENTRY_FIELDS if name != "decision")
FIELDS = ("at", "cost_usd", *_OF_THE_LEDGER)
"""The fields of an exported entry, in their order."""


def entries(
    path: Path,
    *,
    since_us: int,
    until_us: int | None = None,
    where: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[dict[str, str | int]]:
    """
    Yield the entries from `since_us` to before `until_us` (unix microseconds; None: everything after), as they stood at one moment.

    `where` keeps those that have these values in these dimensions of usage. It reads for as long as it is asked: use
    it in a thread. Raises `BadQuestion` and `LedgerUnreachable`.
    """
    kept, values = restriction(where)
    text = statement("governance", "select_span").replace("{where}", kept)
    span = {"since": since_us, "until": FOREVER_US if until_us is None else until_us} | values
    with open_reader(path) as connection:
        for row in connection.execute(text, span):
            at = datetime.fromtimestamp(row["at_us"] // 1_000_000, UTC)
            yield {
                "at": f"{at:%Y-%m-%dT%H:%M:%S}.{row['at_us'] % 1_000_000:06d}Z",
                "cost_usd": usd(row["cost_nusd"]),
                **{name: row[name] for name in _OF_THE_LEDGER},
            }
