"""
Events of budgets: which threshold of which budget was reached, when, and what was spent then.

The settlement that makes it so appends the event, in the same step (`lua/budget.lua`); here they are read.
The stream keeps some ten thousand of them. Whoever tells of them (the log, metrics) remembers in the
store how far it has come, so that each is told once, and again only by a process that dies between the
telling and the remembering.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast, get_args

import msgpack
from redis.asyncio import Redis

from config.quotas import Period
from store.cells import FIRST, Cell
from store.clock import EPOCH_US

__all__ = ["Event", "newest", "untold"]

BATCH = 100
_PERIODS: tuple[str, ...] = get_args(Period)


@dataclass(frozen=True, slots=True)
class Event:
    """
    One threshold that was reached.

    `id` is its place in the stream, `at_us` unix microseconds by the store's clock; `amount_nusd` is what held then,
    raised or not; `period` numbers the period (days and weeks since 2024-01-01, months and quarters since year 0).
    """

    id: str
    at_us: int
    scope: str
    per: str
    period: int
    percent: int
    amount_nusd: int
    spent_nusd: int
    mode: str

    @property
    def kind(self) -> str:
        """The kind of its scope, as in `team`."""
        return self.scope.partition(":")[0]


async def newest(
    client: Redis, count: int, scope: str | None = None, cell: Cell = FIRST
) -> list[Event]:
    """Return the latest events, the newest first; of one scope where that is named."""
    found: list[Event] = []
    end = "+"
    while len(found) < count:
        rows: list[Any] = await client.xrevrange(cell.events, end, "-", count=BATCH) or []
        found += [event for event in map(_read, rows) if scope in {None, event.scope}]
        if len(rows) < BATCH:
            break
        end = f"({rows[-1][0].decode()}"
    return found[:count]


async def untold(client: Redis, cell: Cell = FIRST) -> AsyncIterator[Event]:
    """Yield the events that nobody has told of, in their order; each counts as told when the next one is asked for."""
    told = cast("bytes | None", await client.get(cell.told))
    while True:
        start = "-" if told is None else f"({told.decode()}"
        rows: list[Any] = await client.xrange(cell.events, start, "+", count=BATCH) or []
        for row in rows:
            yield _read(row)
            told = row[0]
            await client.set(cell.told, row[0])
        if len(rows) < BATCH:
            return


def _read(row: tuple[bytes, dict[bytes, bytes]]) -> Event:
    place, fields = row
    values: list[Any] = msgpack.unpackb(fields[b"e"], raw=True)
    key, kind, period, percent, amount, spent, strict, now = values
    _, store_kind, name = key.decode().split(":", 2)
    return Event(
        id=place.decode(),
        at_us=int(now) + EPOCH_US,
        scope=f"deployment:{name}" if store_kind == "d" else name,
        per=_PERIODS[kind - 1],
        period=int(period),
        percent=int(percent),
        amount_nusd=int(amount),
        spent_nusd=int(spent),
        mode="strict" if strict else "soft",
    )
