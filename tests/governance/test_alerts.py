"""Events of budgets are read as the scripts write them: each in its place, and told of once."""

import asyncio

import msgpack
from redis.asyncio import Redis

from governance import alerts
from governance.alerts import BATCH, Event, newest, untold
from store.cells import FIRST
from store.clock import EPOCH_US


async def write(redis: Redis, percent: int, key: str = "{c0}:s:team:o/t", kind: int = 3) -> str:
    """Append an event as a settlement does; return its place."""
    row = [key, kind, 24_318, percent, 5 * 10**9, 4 * 10**9, 1, 1_000_000]
    return (await redis.xadd(FIRST.events, {"e": msgpack.packb(row)})).decode()


async def test_an_event_says_what_was_reached(redis_client: Redis) -> None:
    """The scope by its name, times by the store's clock, money to the nano-USD."""
    place = await write(redis_client, 80)
    assert await newest(redis_client, 5) == [
        Event(
            id=place,
            at_us=EPOCH_US + 1_000_000,
            scope="team:o/t",
            per="month",
            period=24_318,
            percent=80,
            amount_nusd=5 * 10**9,
            spent_nusd=4 * 10**9,
            mode="strict",
        )
    ]
    await write(redis_client, 100, "{c0}:d:m/p#2", kind=5)
    event, _ = await newest(redis_client, 5)
    assert (event.scope, event.kind, event.per) == ("deployment:m/p#2", "deployment", "total")


async def test_the_newest_come_first_and_one_scope_can_be_asked_for(redis_client: Redis) -> None:
    """However many others lie between."""
    assert await newest(redis_client, 5) == []
    await write(redis_client, 50, "{c0}:s:user:o#ann")
    for percent in range(1, 2 * BATCH + 10):
        await write(redis_client, percent % 200)
    assert [one.percent for one in await newest(redis_client, 2)] == [9, 8]
    (found,) = await newest(redis_client, 2, "user:o#ann")
    assert found.percent == 50
    assert len(await newest(redis_client, 1000)) == 2 * BATCH + 10


async def test_each_event_is_told_once(redis_client: Redis) -> None:
    """Also by another process that goes on later; what is being told when one dies is told again."""
    for percent in range(1, BATCH + 21):
        await write(redis_client, percent)
    told = []
    async for event in untold(redis_client):
        told.append(event.percent)
        if len(told) == BATCH + 10:
            break
    told += [event.percent async for event in untold(redis_client)]
    assert told == [*range(1, BATCH + 11), *range(BATCH + 10, BATCH + 21)]
    assert [event async for event in untold(redis_client)] == []
    await write(redis_client, 99)
    assert [event.percent async for event in untold(redis_client)] == [99]


async def test_periods_are_numbered_as_the_scripts_do() -> None:
    """Day, week, month, quarter, total: from 1."""
    await asyncio.sleep(0)
    assert alerts._PERIODS == ("day", "week", "month", "quarter", "total")
