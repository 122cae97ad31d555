"""
What the control does in all cells of the store: writing limits, reading scopes, and having tenants lie elsewhere.

Failure stance: a cell that does not answer keeps nobody from what is done in the others; that it was not done there is raised
when all of them have been asked.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from config.cells import Division, is_shared, moved
from config.models import Config
from governance.drain import LedgerWriter
from ratelimit.limits import ScopeState, merged, records
from ratelimit.lives import SILENT
from ratelimit.rebalancing import Overtaken, divide, divided_in
from ratelimit.upkeep import living, read_scopes, reap, seed
from store.cells import Cell

__all__ = [
    "CannotMove",
    "Stores",
    "all_ended",
    "as_one",
    "in_each",
    "move",
    "put_limits",
    "scope_states",
    "shares_of",
]

MOVE_WITHIN_S = 15.0
_LOOK_EVERY_S = 0.25

_log = logging.getLogger("penstock.control")
_Given = TypeVar("_Given")

Stores = Mapping[Cell, Redis]
"""The cells of an installation, each with a client that answers in bytes; the first one is home."""


class CannotMove(Exception):
    """Tenants would lie elsewhere, and something still holds them where they are; says what."""


async def in_each(stores: Stores, do: Callable[[Cell, Redis], Awaitable[_Given]]) -> list[_Given]:
    """Do something in every cell at once; what went wrong in one is raised when all have ended."""
    return await all_ended(do(*one) for one in stores.items())


async def all_ended(begun: Iterable[Awaitable[_Given]]) -> list[_Given]:
    """Do several things at once; what went wrong in one is raised when all have ended."""
    done = await asyncio.gather(*begun, return_exceptions=True)
    found: list[_Given] = []
    for each in done:
        if isinstance(each, BaseException):
            raise each
        found.append(each)
    return found


async def put_limits(stores: Stores, config: Config, version: int) -> int:
    """
    Write the limits of a version into all cells, and divide those that are shared. Returns how many were written.

    Raises what redis-py raises, and `RedisError` where a cell did not take its share.
    """

    async def seeded(cell: Cell, store: Redis) -> int:
        return await seed(store, records(config, version, cell), version)

    scopes = divided_in(config)
    wrong: Exception | None = None
    written = 0
    if scopes:
        # The least share is for cells where nothing is; these begin with what they get now.
        try:
            division = await divide(stores, scopes, version)
        except Overtaken:
            wrong = RedisError("others divide the limits of the deployments all the time")
        else:
            written = division.written
            if division.silent:
                names = ", ".join(map(str, division.silent))
                wrong = RedisError(f"no answer from the cell {names}")
    written += sum(await in_each(stores, seeded))
    if wrong is not None:
        raise wrong
    return written


async def scope_states(stores: Stores, scopes: Sequence[str]) -> list[dict[Cell, ScopeState]]:
    """Return what each of some scopes holds now in every cell that knows it."""

    async def read(cell: Cell, store: Redis) -> list[ScopeState | None]:
        return await read_scopes(store, scopes, cell)

    each = await in_each(stores, read)
    return [
        {cell: state for cell, state in zip(stores, states, strict=True) if state is not None}
        for states in zip(*each, strict=True)
    ]


def as_one(
    stores: Stores, scope: str, found: Mapping[Cell, ScopeState], at_us: float
) -> ScopeState | None:
    """Return what cells hold of a scope at a moment (us since 2024-01-01) as if it were one; None where none knows it."""
    if not found:
        return None
    if len(stores) > 1 and is_shared(scope):
        return merged(list(found.values()), at_us)
    # Where a tenant lay before, what was known of it then may still be there.
    return max(found.values(), key=lambda state: state.version)


def shares_of(stores: Stores, scope: str, found: Mapping[Cell, ScopeState]) -> list[dict[str, Any]]:
    """Return the share that each cell has of a scope's limits, for people; nothing where they are not divided."""
    if len(stores) == 1 or not is_shared(scope):
        return []
    shares = []
    for cell, state in found.items():
        limits = {name: rate.limit for name, rate in state.rates.items()}
        if state.concurrency:
            limits["concurrency"] = state.concurrency
        if limits:
            shares.append({"cell": str(cell), "limits": limits, "in_flight": state.in_flight})
    return shares


# Having tenants lie elsewhere...


async def move(
    before: Division,
    after: Division,
    ledger: Path,
    connect: Callable[[Cell], Redis],
    *,
    within_s: float | None = None,
) -> bool:
    """
    Make it safe that tenants lie in other cells than before; return whether any does.

    What was spent is known where a tenant lay. So nothing may be under way, and everything that was spent has to be in the
    database: from there every cell is told anew, before strict budgets open in it.
    Raises `CannotMove` where edges live, and what redis-py raises.
    """
    what = moved(before, after)
    if not what:
        return False
    _log.warning("%s: waiting until nothing is under way", what)
    async with AsyncExitStack() as ours:
        stores: dict[Cell, Redis] = {}
        writers = []
        for cell in dict.fromkeys((*before.cells, *after.cells)):
            stores[cell] = connect(cell)
            ours.push_async_callback(stores[cell].aclose)
            writer = LedgerWriter(stores[cell], ledger, cell=cell)
            writers.append(await ours.enter_async_context(writer))
        within_s = MOVE_WITHIN_S if within_s is None else within_s
        until = asyncio.get_running_loop().time() + within_s
        while held := await _held(stores, writers):
            if asyncio.get_running_loop().time() >= until:
                raise CannotMove(
                    f"{what}: this changes only while nothing runs, and {held};"
                    " stop every edge, and start again"
                )
            await asyncio.sleep(_LOOK_EVERY_S)
        for cell, store in stores.items():
            together: Any = store.pipeline(transaction=True)
            async with together:
                together.delete(cell.epoch)
                # No life of a server has this name: each learns, and who holds something tells (`lua/epoch.lua`).
                together.hset(cell.epoch, "known", "before a move")
                await together.execute()
    return True


async def _held(stores: Stores, writers: list[LedgerWriter]) -> str:
    """Settle what the dead have left, and return what is still held, in words; empty when nothing is."""

    async def alive(cell: Cell, store: Redis) -> list[str]:
        return await living(store, cell)

    async def left(cell: Cell, store: Redis) -> int:
        await reap(store, cell)
        # Without those of whom only reservations stay, should they come back: nothing runs.
        beating: int = await store.zcount(cell.beats, SILENT, "+inf")
        return beating

    edges = sorted(
        {one.rpartition(".")[0] for each in await in_each(stores, alive) for one in each}
    )
    if edges:
        return f"{', '.join(edges)} {'lives' if len(edges) == 1 else 'live'}"
    if sum(await in_each(stores, left)):
        return "what the dead have left is not settled yet"
    for writer in writers:
        while await writer.drain():
            pass
        if await stores[writer.cell].xlen(writer.cell.ledger):
            return "the ledger waits for entries"
    return ""
