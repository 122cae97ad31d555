"""
Reckoning: telling a store that may have forgotten what was spent.

A store that was started anew, promoted or emptied admits nothing under strict budgets until two things are known again:
what every replica holds, which the replicas assert themselves, and what was spent, which the ledger knows.
This is the second: each budget's counter becomes the larger of what it says and what the ledger says.
What it says of several lives, and when it is over, stands in `lua/epoch.lua`.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

import msgpack
from redis.asyncio import Redis

from ratelimit.upkeep import run
from store.cells import FIRST, Cell

# Sums that travel in one call.
PART = 256
LEARNING, TOLD, KNOWN = 0, 1, 2
_MORE, _LAST, _LAST_AND_ALONE = 0, 1, 2

_pack = msgpack.Packer(use_bin_type=False).pack


class Sum(NamedTuple):
    """
    What was spent under one budget in the running period; `ends_us` is since 2024-01-01, `kind` as in the scripts.

    `default` is the key of the limits that hold where the scope has none of its own, empty when there are none.
    """

    key: str
    default: str
    kind: int
    ends_us: int
    spent_nusd: int


async def ask(client: Redis, cell: Cell = FIRST) -> tuple[str, int]:
    """Return the life of the store's memory, and whether it is `LEARNING`, `TOLD` (by all replicas) or `KNOWN`."""
    life, knows, _ = await _ask(client, cell)
    return life, knows


async def _ask(client: Redis, cell: Cell) -> tuple[str, int, bool]:
    life, knows, blank = await run(client, "reckon", [cell.epoch, cell.beats], ["", "", _MORE])
    return life.decode(), knows, blank == 1


async def reckon(
    client: Redis,
    *,
    nobody_holds: Callable[[], Awaitable[bool]],
    sums: Callable[[], Awaitable[Sequence[Sum]]],
    cell: Cell = FIRST,
) -> bool:
    """
    Do what is to be done now. Returns whether strict budgets were opened by it.

    `nobody_holds` tells whether no replica can hold anything, as when an installation begins.
    `sums` is asked then, or when every replica has told what it holds, and may seed what it names: what the store does not know
    keeps the budgets closed.
    """
    life, knows, blank = await _ask(client, cell)
    if knows == KNOWN:
        return False
    # Where something is remembered, it is remembered who lived.
    alone = blank and await nobody_holds()
    if knows == LEARNING and not alone:
        return False
    found = await sums()
    for start in range(0, len(found), PART):
        if await _tell(client, cell, life, _MORE, found[start : start + PART]) == LEARNING:
            return False
    last = _LAST_AND_ALONE if alone else _LAST
    return await _tell(client, cell, life, last, ()) == KNOWN


async def _tell(client: Redis, cell: Cell, life: str, step: int, sums: Iterable[Sum]) -> int:
    keys: dict[str, int] = {}
    rows = []
    for one in sums:
        place = keys.setdefault(one.key, 3 + len(keys))
        default = keys.setdefault(one.default, 3 + len(keys)) if one.default else 0
        rows.append(_pack((place, default, one.kind, one.ends_us, one.spent_nusd)))
    _, knows, _ = await run(
        client, "reckon", [cell.epoch, cell.beats, *keys], ["", life, step, *rows]
    )
    return int(knows)
