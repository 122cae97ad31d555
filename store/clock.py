"""
The store's clock, by which everything is counted that several processes share.

The scripts count microseconds since 2024-01-01 in UTC, a Monday and the first day of a quarter: the numbers stay small enough to be
exact as the doubles of Lua, and weeks and months begin where they should (`ratelimit/lua/gcra.lua`, `governance/lua/budget.lua`).
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from redis.asyncio import Redis

__all__ = ["EPOCH", "EPOCH_US", "now", "now_us"]

EPOCH: Final = datetime(2024, 1, 1, tzinfo=UTC)
"""When the scripts' clock began."""

EPOCH_US: Final = 1_704_067_200_000_000
"""The same in unix microseconds."""


async def now_us(client: Redis) -> int:
    """Return what time it is at the server, in unix microseconds. Raises what redis-py raises."""
    seconds, micros = await client.time()
    return seconds * 1_000_000 + micros


async def now(client: Redis) -> datetime:
    """Return what time it is at the server. Raises what redis-py raises."""
    return EPOCH + timedelta(microseconds=await now_us(client) - EPOCH_US)
