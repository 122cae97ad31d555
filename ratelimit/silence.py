"""
Who fell silent and was not heard of again, what stays reserved for it, and the word of people that it is dead.

What a silent replica may still settle is nobody else's, for as long as it may (`lua/lives.lua`).
Most are known to be dead within seconds (`ratelimit.lives`); of a machine that burned nobody can know but those who run it.
"""

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from ratelimit.asks import Boot, boot_of
from ratelimit.limits import PERIODS, scope_of
from ratelimit.lives import DEAD, SILENT
from ratelimit.upkeep import run, staying
from store.cells import FIRST, Cell
from store.clock import EPOCH_US

__all__ = ["Silent", "bury", "silent"]


@dataclass(frozen=True, slots=True)
class Silent:
    """
    A boot that was reaped because it fell silent, at `since_us` (Unix).

    `attempts` are those for which something stays reserved, `most_nusd` what they may still cost beyond what was charged;
    `reserved_nusd` is that under each budget, by scope and period.
    """

    replica: str
    cell: Cell
    since_us: int
    attempts: int
    most_nusd: int
    reserved_nusd: Mapping[tuple[str, str], int]


async def silent(client: Redis, cell: Cell = FIRST, *, free: Container[str] = ()) -> list[Silent]:
    """
    Return who fell silent in a cell and is not known to be dead, the longest silent first. Raises what redis-py raises.

    Of those in `free` nothing was reserved when they were looked at last; nothing is added to a life that has ended, so they are not looked at.
    """
    found: Any = await client.zrangebyscore(cell.beats, "-inf", f"({SILENT}", withscores=True)
    told = []
    for member, score in found:
        boot, since_us = boot_of(member.decode(), cell), -int(score) + EPOCH_US
        if boot.member in free:
            told.append(Silent(boot.member, cell, since_us, 0, 0, {}))
        else:
            told.append(await _tell(client, boot, since_us))
    return sorted(told, key=lambda one: one.since_us)


async def _tell(client: Redis, boot: Boot, since_us: int) -> Silent:
    attempts = most = 0
    reserved: Counter[tuple[str, str]] = Counter()
    async for batch in staying(client, boot):
        keys = dict.fromkeys(key for _, needed in batch for key in needed)
        count, sum_, *rows = await run(
            client, "staying", [boot.graves, *keys], ["", *(name for name, _ in batch)]
        )
        attempts, most = attempts + count, most + sum_
        for key, kind, amount in zip(*[iter(rows)] * 3, strict=True):
            reserved[scope_of(key.decode()), PERIODS[kind]] += amount
    return Silent(boot.member, boot.cell, since_us, attempts, most, reserved)


async def bury(client: Redis, replica: str, cell: Cell = FIRST) -> bool:
    """
    Take somebody's word that a silent boot is dead; the reaper frees what stays.

    Returns whether the cell knows such a one: one that beats is alive, whatever is said. Raises what redis-py raises.
    """
    score = await client.zscore(cell.beats, replica)
    if score is None or score >= 0:
        return False
    # It may have become known since, and no score of the living is below zero.
    await client.zadd(cell.beats, {replica: DEAD}, xx=True, gt=True)
    return True
