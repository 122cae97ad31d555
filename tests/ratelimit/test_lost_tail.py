"""
The gate over a store that comes back without the last second of what it had confirmed.

`appendfsync everysec` allows that in a power cut, and a failover does the same; another store altogether is told apart from it.
"""

import os
from decimal import Decimal

import pytest

from config.quotas import Budget
from ratelimit.gate import Gate
from tests.conftest import RedisServer
from tests.ratelimit.gates import TEAM, World, log_of, until


@pytest.fixture(autouse=True)
def budget(durable: tuple[World, RedisServer]) -> None:
    """Put a strict budget over the team."""
    durable[0].budgets[TEAM] = (Budget(usd=Decimal(1), per="month", mode="strict"),)


def lose(server: RedisServer, size: int) -> None:
    """Kill the server, cut its file, start it again."""
    server.kill()
    os.truncate(log_of(server), size)
    server.start()


async def back(gate: Gate) -> None:
    """Wait until both lanes are connected again."""
    await until(lambda: gate._admission._lane.connected and gate._settling._lane.connected)


async def test_what_the_store_forgot_is_sent_again(durable: tuple[World, RedisServer]) -> None:
    """Leases whose settlement was confirmed and then lost are freed, and charged once."""
    world, server = durable
    gate = await world.gate()
    await world.exchange(gate)
    pairs = [await world.granted(gate) for _ in range(5)]
    await gate.drain(5)
    size = log_of(server).stat().st_size
    for pair in pairs:
        world.settle(gate, *pair)
        await gate.drain(5)
    assert await world.leases() == 0
    lose(server, size)
    # Nobody settles anything: the reconnect alone brings it about.
    await back(gate)
    await world.settles_down(gate)
    await world.assert_books()
    assert gate.stats.recalled == 5
    budget = (await world.scope(TEAM)).budgets["month"]
    assert (budget.spent_nusd, budget.held_nusd) == (sum(world.settled), 0)


async def test_what_it_still_knows_is_not_sent_again(durable: tuple[World, RedisServer]) -> None:
    """A crash that lost nothing changes nothing, and what is settled meanwhile comes after what was lost."""
    world, server = durable
    gate = await world.gate()
    for _ in range(3):
        await world.exchange(gate)
        await gate.drain(5)
    first, second = await world.granted(gate), await world.granted(gate)
    size = log_of(server).stat().st_size
    world.settle(gate, *first)
    await gate.drain(5)
    server.kill()
    world.settle(gate, *second)
    os.truncate(log_of(server), size)
    server.start()
    await world.settles_down(gate)
    await world.assert_books()
    assert gate.stats.recalled == 1
    lose(server, log_of(server).stat().st_size)
    await back(gate)
    await world.exchange(gate)
    await world.settles_down(gate)
    await world.assert_books()
    assert gate.stats.recalled == 1


async def test_another_store_is_not_told_of_the_old_ones_settlements(
    durable: tuple[World, RedisServer],
) -> None:
    """Its sums begin anew; what the old one had confirmed is in the old one's books."""
    world, server = durable
    gate = await world.gate()
    await world.exchange(gate)
    await gate.drain(5)
    server.kill()
    for file in server.folder.glob("appendonlydir/*"):
        file.unlink()
    server.start()
    world.settled.clear()
    await back(gate)
    await world.exchange(gate)
    await world.settles_down(gate)
    await world.assert_books()
    assert gate.stats.recalled == 0


async def test_the_first_settlement_of_a_replica_is_sent_again_too(
    durable: tuple[World, RedisServer],
) -> None:
    """A store that knows a boot knows its number from the beginning, so that none is not taken for another store."""
    world, server = durable
    gate = await world.gate()
    pair = await world.granted(gate)
    size = log_of(server).stat().st_size
    world.settle(gate, *pair)
    await gate.drain(5)
    lose(server, size)
    await back(gate)
    await world.settles_down(gate)
    await world.assert_books()
    assert gate.stats.recalled == 1
