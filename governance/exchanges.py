"""
What became of one exchange: its entries, from the database and from the stream.

The stream is looked at first: an entry that moves to the database meanwhile is found there.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from governance.ledger import ENTRY_FIELDS, FIELD, MalformedEntry, decode
from store.cells import FIRST, Cell
from store.sql import open_reader, statement

__all__ = ["find_exchange", "in_database", "in_stream"]

_PAGE = 1000
LOOK_BACK = 50_000
"""How many of the newest entries of the stream are looked through; a drain leaves far fewer."""


async def find_exchange(
    stores: Mapping[Cell, Redis], path: Path, request_id: str
) -> list[dict[str, str | int]]:
    """
    Return the entries of an exchange in their order, empty if there are none (yet); `stores` are all cells.

    Raises what redis-py raises, and `LedgerUnreachable`.
    """
    waiting = [
        entry
        for cell, store in stores.items()
        for entry in await in_stream(store, request_id, cell)
    ]
    entered = await asyncio.to_thread(in_database, path, request_id)
    known = {entry["attempt_id"] for entry in entered}
    new = [entry for entry in waiting if entry["attempt_id"] not in known]
    return sorted(entered + new, key=lambda entry: (entry["attempt"], entry["attempt_id"]))


def in_database(path: Path, request_id: str) -> list[dict[str, str | int]]:
    """Return the entries of an exchange that the database holds; call it in a thread."""
    with open_reader(path) as connection:
        rows = connection.execute(
            statement("governance", "select_exchange"), {"request_id": request_id}
        )
        return [{name: row[name] for name in ENTRY_FIELDS} for row in rows]


async def in_stream(
    client: Redis, request_id: str, cell: Cell = FIRST
) -> list[dict[str, str | int]]:
    """Return the entries of an exchange that wait in the stream, newest first."""
    wanted = request_id.encode()
    found = []
    end, seen = "+", 0
    while seen < LOOK_BACK:
        page: Any = await client.xrevrange(cell.ledger, end, "-", count=_PAGE)
        for _, content in page:
            payload = content.get(FIELD, b"")
            if wanted not in payload:  # far cheaper than to decode them all
                continue
            try:
                entry = decode(payload)
            except MalformedEntry:
                continue
            if entry.request_id == request_id:
                found.append(entry.as_dict())
        if len(page) < _PAGE:
            break
        end, seen = f"({page[-1][0].decode()}", seen + len(page)
    return found
