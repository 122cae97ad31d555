"""
The proof: what the counters say is what the stream and the database hold, to the token and the nano-USD.

`settle` adds to the counters and appends to the stream in one step; the drain moves entries to the
database and deletes them after the commit.
So the sums can be compared at any time, also while calls run:

1. In one transaction, read the counters and the id of the last entry ever appended.
   What counts from here on are the entries up to that id; they no longer change.
2. Read those that are still in the stream.
   One that is gone before we come to it was committed before it was deleted.
3. Then read the database, at one moment: it holds everything that step 2 did not see.
   An entry that was seen in both counts once, by its attempt id.

Only rows of the store's present book are compared: after a flush the counters begin anew.
Where the first book of a store was opened meanwhile, all is read once more.

Failure stance: what cannot be read is said, and nothing is called equal that was not compared.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from governance.ledger import (
    ENTRY_FIELDS,
    FIELD,
    MalformedEntry,
    decode_values,
    stream_id,
)
from store.cells import Cell
from store.sql import open_reader, statement

__all__ = ["Balance", "Earlier", "Verdict", "verify"]

_PAGE = 1000
_INPUT = ENTRY_FIELDS.index("input_tokens")
_OUTPUT = ENTRY_FIELDS.index("output_tokens")
_COST = ENTRY_FIELDS.index("cost_nusd")


@dataclass(frozen=True, slots=True)
class Balance:
    """A sum of entries: how many, their tokens, their cost in nano-USD."""

    entries: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nusd: int = 0

    def __add__(self, other: "Balance") -> "Balance":
        return Balance(
            *(getattr(self, one.name) + getattr(other, one.name) for one in fields(self))
        )

    def __sub__(self, other: "Balance") -> "Balance":
        return Balance(
            *(getattr(self, one.name) - getattr(other, one.name) for one in fields(self))
        )


@dataclass(frozen=True, slots=True)
class Earlier:
    """What former lives of the store left in the database; it is not compared."""

    entries: int
    cost_nusd: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What was compared, and what came of it.

    `stream` holds the entries that are in the stream and not yet in the database.
    `rejected` counts what was appended and is no entry, in the database's table and in the stream.
    `unequal` are the cells whose own counters differ: what lacks in one is not made up for by another.
    """

    counters: Balance
    database: Balance
    stream: Balance
    rejected: int
    earlier: Earlier
    unequal: tuple[str, ...] = ()

    @property
    def difference(self) -> Balance:
        """What the counters say beyond the books: positive is missing in the books."""
        return self.counters - (self.database + self.stream)

    def is_equal(self) -> bool:
        """Tell whether the books agree with the counters in everything."""
        return not self.unequal

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as plain data."""
        return asdict(self) | {"difference": asdict(self.difference), "equal": self.is_equal()}


class _Counted(NamedTuple):
    """The store at one instant: its counters, the last id of the stream, the name of its book."""

    counters: Balance
    last: tuple[int, int]
    book: str


class _Waiting(NamedTuple):
    """What is in the stream: the amounts by attempt id, and the places of what is no entry."""

    amounts: Mapping[str, Balance]
    malformed: Sequence[tuple[int, int]]


async def verify(stores: Mapping[Cell, Redis], path: Path) -> Verdict:
    """
    Compare the counters with stream and database, of all cells together.

    `stores` are all cells, each with a client that answers in bytes. A difference in one cell is told even where another's would
    make up for it: what was counted is compared cell by cell.
    Raises what redis-py raises, and `LedgerUnreachable`.
    """
    while True:
        found = []
        for cell, client in stores.items():
            counted = await _counted(client, cell)
            found.append((cell, counted, await _waiting(client, cell, counted.last)))
        verdict = await asyncio.to_thread(_judge, path, found)
        if not await _was_opened([(stores[cell], cell) for cell, one, _ in found if not one.book]):
            return verdict


async def _was_opened(without: Sequence[tuple[Redis, Cell]]) -> bool:
    """Whether a book was opened where there was none: what was counted before may have been entered into it meanwhile."""
    for client, cell in without:
        if await client.exists(cell.book):
            return True
    return False


async def _counted(client: Redis, cell: Cell) -> _Counted:
    """Read the counters, the last id and the book's name at one instant."""
    together: Any = client.pipeline(transaction=True)
    async with together:
        together.hgetall(cell.totals)
        together.xinfo_stream(cell.ledger)
        together.get(cell.book)
        totals, stream, book = await together.execute(raise_on_error=False)
    for reply in (totals, book):
        if isinstance(reply, Exception):
            raise reply
    if isinstance(stream, ResponseError):  # no such key: nothing was ever appended
        last = (0, 0)
    elif isinstance(stream, Exception):
        raise stream
    else:
        last = stream_id(stream["last-generated-id"])
    said: Mapping[bytes, bytes] = totals
    counters = Balance(*(int(said.get(one.name.encode(), 0)) for one in fields(Balance)))
    return _Counted(counters, last, "" if book is None else book.decode())


async def _waiting(client: Redis, cell: Cell, last: tuple[int, int]) -> _Waiting:
    """Read what is in the stream up to an id; of an attempt that was appended twice, the first."""
    amounts: dict[str, Balance] = {}
    malformed: list[tuple[int, int]] = []
    begin = "-"
    while True:
        page: Any = await client.xrange(cell.ledger, begin, f"{last[0]}-{last[1]}", count=_PAGE)
        for place, content in page:
            try:
                values = decode_values(content[FIELD])
            except (MalformedEntry, KeyError):
                malformed.append(stream_id(place))
            else:
                amounts.setdefault(
                    values[0], Balance(1, values[_INPUT], values[_OUTPUT], values[_COST])
                )
        if len(page) < _PAGE:
            return _Waiting(amounts, malformed)
        begin = f"({page[-1][0].decode()}"


def _judge(path: Path, found: Sequence[tuple[Cell, _Counted, _Waiting]]) -> Verdict:
    """Read the database at one moment and draw the balance."""
    verdict = Verdict(Balance(), Balance(), Balance(), 0, Earlier(0, 0))
    books: list[int] = []
    with open_reader(path) as connection:

        def one(name: str, *values: Any) -> Any:
            return connection.execute(statement("governance", name), values).fetchone()

        for cell, counted, waiting in found:
            row = one("select_book", counted.book)
            # Numbers begin at 1: a book that was never opened has no rows.
            book = 0 if row is None else row[0]
            books.append(book)
            stream = sum(
                (
                    amounts
                    for attempt_id, amounts in waiting.amounts.items()
                    if one("select_origin", attempt_id) is None
                ),
                Balance(),
            )
            database = Balance(*one("sum_book", book, *counted.last))
            rejected = one("count_rejected", book)[0] + sum(
                one("select_rejected", book, *place) is None for place in waiting.malformed
            )
            verdict = replace(
                verdict,
                counters=verdict.counters + counted.counters,
                database=verdict.database + database,
                stream=verdict.stream + stream,
                rejected=verdict.rejected + rejected,
                unequal=verdict.unequal
                + ((str(cell),) if counted.counters != database + stream else ()),
            )
        return replace(verdict, earlier=Earlier(*one("sum_other_books", json.dumps(books))))
