"""Settlement over a real server that works; what happens when it does not stands in `test_outages` and `test_lost_tail`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from ratelimit.asks import Grant, boot_of, voided
from ratelimit.settling import Settling
from ratelimit.troubles import GateStats, Troubles
from ratelimit.upkeep import reap
from store.cells import FIRST
from store.lane import Lane, LaneLost
from tests.ratelimit.cell import ask_of
from tests.ratelimit.gates import World, plan_of, until
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


# Over a store that answers when the test says so...


class Script:
    """A lane whose calls are answered by the test, one at a time, and what settles over it."""

    def __init__(self, folder: Path) -> None:
        self.connected = True
        self.lives = 1
        self.asked: tuple[Any, ...] = ()
        self._answered: Callable[[Any], None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.boot = boot_of("r/0.1")
        self.settling = Settling(
            cast("Lane", self),
            boot=self.boot,
            journal_dir=folder,
            timeout_s=30,
            stats=GateStats(),
            troubles=Troubles(),
            spawn=lambda coroutine: self._tasks.add(asyncio.ensure_future(coroutine)),
            observe=None,
        )

    def call(self, answered: Callable[[Any], None], *command: Any) -> None:
        assert self._answered is None
        self._answered, self.asked = answered, command

    def settle(self, attempt_id: str) -> None:
        self.settling.settle(voided(plan_of(), self.boot, attempt_id))

    async def answers(self, answer: Any) -> None:
        """Answer what is asked, when it is asked."""
        await until(lambda: self._answered is not None)
        answered, self._answered = self._answered, None
        assert answered is not None
        answered(answer)

    async def is_lost(self) -> None:
        """Lose the connection while something is asked, and have another one."""
        self.lives += 1
        await self.answers(LaneLost("lost"))
        await until(lambda: self._answered is not None)

    async def leave(self) -> None:
        self.settling.hand_over()
        await asyncio.gather(*self._tasks)


@pytest.fixture
async def script(tmp_path: Path) -> AsyncIterator[Script]:
    script = Script(tmp_path)
    yield script
    await script.leave()


async def test_what_has_to_be_told_again_is_not_taken_for_what_is_waited_for(
    script: Script,
) -> None:
    """After a failover more settlements are confirmed than were handed over; those that are waited for may be the last."""
    script.settle("q1.1")
    await script.answers(1)
    script.settle("q2.1")
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(script.settling.confirmed(30))
        await script.is_lost()
        assert script.asked[0] == "MGET"
        await script.answers([b"0"])
        await script.answers(1)
        await asyncio.sleep(0.02)
        assert not waiting.done()
        await script.answers(1)


async def test_what_a_store_has_forgotten_is_owed_whatever_happens_to_the_connection(
    script: Script,
) -> None:
    """Until it is confirmed the store knows less than before, and what is asked anew changes nothing of that."""
    settling = script.settling
    for attempt_id in ("q1.1", "q2.1"):
        script.settle(attempt_id)
        await script.answers(1)
    script.settle("q3.1")
    await script.is_lost()
    await script.answers([b"1"])
    await until(lambda: script.asked[0] != "MGET")
    await script.is_lost()
    # This question gets no answer, the next one does.
    await script.is_lost()
    assert script.asked[0] == "MGET"
    await script.answers([b"1"])
    assert not settling.caught_up
    await script.answers(1)
    await until(lambda: settling.caught_up)
    await script.answers(1)
    assert settling.unsettled == 0


async def test_what_stands_in_the_journal_may_be_replayed(script: Script) -> None:
    """So its boot is not done with when the store has confirmed it: whoever finds the journal sends it once more."""
    settling = script.settling
    ask = ask_of(plan_of(), "q0.1", 10, cap=90, assumed=90, n=1, tie=1, user="u")
    settling.granted(ask, Grant([1, 1, 90, 5, [0] * 6, 3, "", 0], script.boot))
    script.settle("q1.1")
    await script.is_lost()
    await script.answers(1)
    await until(lambda: not settling.unsettled)
    settling._kept.clear()
    assert settling.owes(script.boot)
    settling.asserted(["q0.1"])
    assert not settling.owes(script.boot)
