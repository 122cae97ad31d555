"""Settlement over a real server that works; what happens when it does not stands in `test_outages` and `test_lost_tail`."""

import asyncio

import pytest

from ratelimit.upkeep import reap
from store.cells import FIRST
from tests.ratelimit.gates import World
from tests.store.peers import Pipe


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


async def test_what_was_settled_so_far_is_waited_for_and_nothing_that_came_after(
    world: World, pipe: Pipe
) -> None:
    """On a busy worker something is always unsettled."""
    gate = await world.gate(settle_url=pipe.url, timeout_s=30)
    pairs = [await world.granted(gate) for _ in range(2)]
    pipe.hold()
    world.settle(gate, *pairs[0])
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(gate.confirmed(FIRST, 30))
        await asyncio.sleep(0)
        world.settle(gate, *pairs[1])
        await gate.confirmed(FIRST, 0.0)
        assert (gate.unsettled, waiting.done()) == (2, False)
        pipe.release(once=True)
    assert gate.unsettled == 1
    pipe.release()
    await gate.confirmed(FIRST, 30)
    await world.settles_down(gate)
    await world.assert_books()


async def test_nothing_is_written_to_disk_while_the_store_answers(world: World) -> None:
    """The journal is for bad days."""
    gate = await world.gate()
    await asyncio.gather(*(world.exchange(gate) for _ in range(100)))
    await world.settles_down(gate)
    assert world.journals() == []
    assert gate.stats.journalled == 0
    assert gate.unsettled == 0
