"""Settlement over a real server that works; what happens when it does not stands in `test_outages` and `test_lost_tail`."""

import asyncio

import pytest

from ratelimit.upkeep import reap
from tests.ratelimit.gates import World


async def test_a_settlement_that_cannot_be_packed_frees_its_lease(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes nobody else's booking with it, and is not lost in silence."""
    gate = await world.gate()
    pairs = [await world.granted(gate) for _ in range(3)]
    gate.settle(world.settlement(*pairs[1], cost_nusd=10**30))
    world.settle(gate, *pairs[0])
    world.settle(gate, *pairs[2])
    await world.settles_down(gate)
    await world.assert_books()
    assert "attempt q2.1 cannot be booked (OverflowError)" in caplog.text


async def test_what_is_settled_after_the_end_is_left_to_the_next_process(world: World) -> None:
    """A stream that is cut by the shutdown is still booked."""
    gate = await world.gate()
    first, second, third = [await world.granted(gate) for _ in range(3)]
    world.settle(gate, *first)
    await gate.close()
    world.settle(gate, *second)
    await asyncio.sleep(0)
    world.settle(gate, *third)
    await asyncio.sleep(0.01)
    await reap(world.client)
    following = await world.gate("r/0")
    assert following.stats.replayed >= 2
    entries, cost = await world.totals()
    assert cost == sum(world.settled)
    assert entries >= 3
    assert world.journals() == []


async def test_nothing_is_written_to_disk_while_the_store_answers(world: World) -> None:
    """The journal is for bad days."""
    gate = await world.gate()
    await asyncio.gather(*(world.exchange(gate) for _ in range(100)))
    await world.settles_down(gate)
    assert world.journals() == []
    assert gate.stats.journalled == 0
    assert gate.unsettled == 0
