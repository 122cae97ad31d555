"""A replica that fell silent with two calls, as a reaper leaves it in the store."""

import msgpack
from redis.asyncio import Redis

from ratelimit.asks import boot_of
from ratelimit.limits import scope_key
from store.cells import FIRST

SCOPE = "team:acme/support"
MEMBER = "host/0.ab12"
SINCE_US = 60_000_000


async def fall_silent(redis: Redis) -> None:
    """Leave 3000 nano-USD reserved for it, of a total: no period's end takes them along."""
    limits = [1, 1 << 14, 0, 0, 0, 6, 5, 10**9, 1, 0, 0, "", ""]
    state = [1 << 14, 0, 5, 1, 30, 3000, 0, 0]
    where = scope_key(SCOPE)
    await redis.hset(where, mapping={"l2": msgpack.packb(limits), "s2": msgpack.packb(state)})
    graves = {}
    for number, stays in ((1, 1000), (2, 2000)):
        grave = [0, 10, 0, 15, [], 1, SINCE_US, "", [where, "", 5, 1, stays]]
        graves[f"q{number}.1"] = msgpack.packb(grave)
    await redis.hset(boot_of(MEMBER).graves, mapping=graves)
    await redis.zadd(FIRST.beats, {MEMBER: -SINCE_US})
