"""What stays reserved for replicas that fell silent, as people are told of it, and their word that one is dead."""

import msgpack
import pytest
from redis.asyncio import Redis

from config.quotas import Budget
from ratelimit.lives import DEAD
from ratelimit.silence import bury, silent
from ratelimit.upkeep import reap
from store.cells import FIRST, cell
from store.clock import EPOCH_US
from tests.ratelimit.gates import KEY, TEAM, World

STRICT = Budget(usd=1, per="day", mode="strict")


async def asked(client: Redis, command: str) -> int:
    """Return how often a server was given a command."""
    stats = await client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def fall_silent(world: World, calls: int = 1) -> str:
    """Let a replica be reaped with some calls open; gives its name."""
    gate = await world.gate()
    await world.reckon()
    for _ in range(calls):
        await world.granted(gate)
    member = gate.boot.member
    await world.kill(gate)
    await world.client.zadd(FIRST.beats, {member: 0})
    assert await reap(world.client) == calls
    return member


async def test_who_fell_silent_is_told_with_what_stays(world: World) -> None:
    """By scope and period; the most that calls may still cost is the largest of what each reserves."""
    world.budgets[KEY] = (STRICT, Budget(usd=1, per="week"))
    world.budgets[TEAM] = (Budget(usd=2, per="total", mode="strict"),)
    assert await silent(world.client) == []
    member = await fall_silent(world, calls=100)
    seconds, micros = await world.client.time()
    (one,) = await silent(world.client)
    assert (one.replica, one.cell, one.attempts) == (member, FIRST, 100)
    assert 0 <= seconds * 10**6 + micros - one.since_us < 60 * 10**6
    assert one.reserved_nusd == {(KEY, "day"): 9000, (TEAM, "total"): 9000}
    assert one.most_nusd == 9000
    assert (await world.scope(KEY)).budgets["day"].held_nusd == 9000


async def test_what_a_period_took_along_is_not_told(world: World) -> None:
    """It is nobody's any more."""
    world.budgets[KEY] = (STRICT,)
    member = await fall_silent(world)
    graves = f"{FIRST.tag}:z:{member}"
    ((name, packed),) = (await world.client.hgetall(graves)).items()
    grave = msgpack.unpackb(packed, raw=True)
    grave[8][3] -= 1
    await world.client.hset(graves, name, msgpack.packb(grave, use_bin_type=False))
    (one,) = await silent(world.client)
    assert (one.attempts, one.most_nusd, one.reserved_nusd) == (0, 0, {})


async def test_whose_reservations_are_gone_is_not_looked_through_again(world: World) -> None:
    """However many there are: who is known to be free costs its name."""
    member = await fall_silent(world, calls=3)
    (one,) = await silent(world.client)
    assert one.attempts == 0
    before = await asked(world.client, "hscan")
    assert await silent(world.client, free={member}) == [one]
    assert await asked(world.client, "hscan") == before


async def test_whoever_is_said_to_be_dead_is_freed_by_the_next_reaper(world: World) -> None:
    """And forgotten; nobody is silent then."""
    world.budgets[KEY] = (STRICT,)
    member = await fall_silent(world)
    assert await bury(world.client, member)
    assert await reap(world.client) == 0
    assert (await world.scope(KEY)).budgets["day"].held_nusd == 0
    assert await silent(world.client) == []
    assert not await bury(world.client, member)


@pytest.mark.parametrize("score", [None, 10**15])
async def test_nobody_is_buried_alive(redis_client: Redis, score: int | None) -> None:
    """Who beats is alive, whatever is said; who is not known stays so."""
    if score is not None:
        await redis_client.zadd(FIRST.beats, {"r/0.1": score})
    assert not await bury(redis_client, "r/0.1")
    assert await redis_client.zscore(FIRST.beats, "r/0.1") == score


async def test_each_cell_has_its_own_silent(redis_client: Redis) -> None:
    """Who is known to be dead, or was not reaped yet, is none of them."""
    other = cell(1)
    await redis_client.zadd(other.beats, {"r/0.1": -5, "r/0.2": -3, "r/0.3": DEAD, "r/0.4": -2})
    assert await silent(redis_client) == []
    found = await silent(redis_client, other)
    assert [(one.replica, one.since_us - EPOCH_US) for one in found] == [("r/0.2", 3), ("r/0.1", 5)]
