"""
A store that has forgotten is told what is held: each lease once, and none that has ended.

It is emptied, or restarted without its last writes; what it then knows of what was spent stands in `test_reckoning`.
"""

import asyncio
import os
from decimal import Decimal
from typing import Any

from config.quotas import Budget, Limits
from ratelimit.asks import Grant
from ratelimit.gate import Gate
from ratelimit.limits import scope_key
from ratelimit.upkeep import reap
from tests.conftest import RedisServer
from tests.ratelimit.gates import KEY, TEAM, World, log_of

STRICT = (Budget(usd=Decimal("0.000001"), per="month", mode="strict"),)


async def gate_of(world: World, replica: str = "r/0", **options: Any) -> Gate:
    return await world.gate(replica, rule=world.rule, **options)


# What is held...


async def test_a_flush_forgets_no_lease(world: World) -> None:
    """Each call under way has its lease again, counts again, and is settled once."""
    world.limits[KEY] = Limits(concurrency=5)
    gate = await gate_of(world)
    pairs = [await world.granted(gate) for _ in range(3)]
    await world.client.flushall()
    answers = [await world.exchange(gate) for _ in range(3)]
    assert {type(answer) for answer in answers} == {Grant}
    await gate.drain(5)
    assert await world.leases() == 3
    assert (await world.scope(KEY)).in_flight == 3
    assert gate.stats.asserted == 3
    world.settled = world.settled[-3:]
    for pair in pairs:
        world.settle(gate, *pair)
    await world.settles_down(gate)
    await world.assert_books()


async def test_limits_of_concurrency_hold_through_a_flush(world: World) -> None:
    """Three of five places are taken, whoever remembers it."""
    world.limits[KEY] = Limits(concurrency=5)
    gate = await gate_of(world)
    held = [await world.granted(gate) for _ in range(3)]
    await world.seed([scope_key(KEY)])
    await world.client.flushall()
    await world.seed([scope_key(KEY), scope_key(TEAM)])
    answers = await asyncio.gather(*(gate.admit(world.ask()) for _ in range(8)))
    granted = sum(isinstance(one, Grant) for one in answers)
    # The scopes were seeded before the replica asserted: what it holds is counted first.
    assert granted == 2
    del held


async def test_leases_of_the_second_that_was_lost_are_asserted(
    durable: tuple[World, RedisServer],
) -> None:
    """A restart without the last writes: the reconnect alone brings them back, under the same boot, and none twice."""
    world, server = durable
    world.budgets[TEAM] = STRICT
    await world.reckon()
    gate = await gate_of(world)
    kept = await world.granted(gate)
    size = log_of(server).stat().st_size
    lost = [await world.granted(gate) for _ in range(4)]
    boot = gate.boot
    server.kill()
    os.truncate(log_of(server), size)
    server.start()
    await world.told()
    assert await world.leases() == 5
    assert gate.boot is boot
    assert gate.stats.asserted == 4
    budget = (await world.scope(TEAM)).budgets["month"]
    assert budget.held_nusd == 500
    for pair in [kept, *lost]:
        world.settle(gate, *pair)
    await world.settles_down(gate)
    await world.assert_books()


async def test_what_was_reaped_is_not_asserted_again(world: World) -> None:
    """A replica that was taken for dead comes back: its attempts were charged, and stay where they are."""
    gate = await gate_of(world)
    pairs = [await world.granted(gate) for _ in range(3)]
    await world.client.zadd("{c0}:r", {gate.boot.member: 0})
    assert await reap(world.client) == 3
    assert isinstance(await world.exchange(gate), Grant)
    await gate.drain(5)
    assert await world.leases() == 0
    assert gate.stats.asserted == 0
    for pair in pairs:
        world.settle(gate, *pair)
    await world.settles_down(gate)
    # Three reaped, three corrected, one as usual; the sum is the truth.
    assert await world.totals() == (7, sum(world.settled))


async def test_what_is_settled_while_it_is_asserted_is_not_left_behind(world: World) -> None:
    """The settlement gives the sending up, whichever the store comes to first."""
    gate = await gate_of(world)
    for _ in range(20):
        pairs = [await world.granted(gate) for _ in range(8)]
        gate._admission._assertion._made = None
        asking = gate.admit(world.ask())
        await asyncio.sleep(0)
        for pair in pairs:
            world.settle(gate, *pair)
        answer = await asking
        assert isinstance(answer, Grant)
        gate.abandon(world.gates[0]._outage.held_under(gate.boot)[0][0])
        await world.settles_down(gate)
    await world.assert_books()
