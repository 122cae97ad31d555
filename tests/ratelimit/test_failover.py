"""
The gate over stores whose primary is replaced under it: by Sentinels, by a cluster, by hand.

The laws of `test_outages` hold here too: who asks is answered in time, nothing stays held that nobody holds, and every
settlement that was handed over is booked exactly once, whatever the old primary said and the new one never heard.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic

import pytest

from loadtests.drills.company import Cluster, SentinelSet, means_to_move
from ratelimit.asks import Grant
from ratelimit.gate import Gate
from ratelimit.troubles import StoreUnavailable
from tests.ratelimit.gates import World, until
from tests.servers import server_binary

FAILS_OVER_WITHIN_S = 60.0
# Far more than the patience of an ask, for the sake of a busy machine.
ANSWERED_WITHIN_S = 10.0
Worlds = Callable[[str], World]


@pytest.fixture
async def world_of() -> AsyncIterator[Worlds]:
    """Make worlds over stores of any form."""
    made: list[World] = []

    def make(url: str) -> World:
        made.append(World(url))
        return made[-1]

    yield make
    for world in made:
        await world.close()


class Callers:
    """Callers who ask and settle without a pause, over some gates."""

    def __init__(self, world: World, gates: list[Gate], count: int = 12) -> None:
        self.answers: Counter[type] = Counter()
        self.slowest_s = 0.0
        self._world = world
        self._done = False
        self._tasks = [
            asyncio.ensure_future(self._call(gates[n % len(gates)])) for n in range(count)
        ]

    async def _call(self, gate: Gate) -> None:
        while not self._done:
            begun = monotonic()
            answer = await self._world.exchange(gate)
            self.slowest_s = max(self.slowest_s, monotonic() - begun)
            self.answers[type(answer)] += 1
            await asyncio.sleep(0.002)

    async def are_served(self, count: int = 100, within_s: float = FAILS_OVER_WITHIN_S) -> None:
        """Wait until so many more have been granted."""
        wanted = self.answers[Grant] + count
        await until(lambda: self.answers[Grant] >= wanted, within_s)

    async def stop(self) -> None:
        """Let everybody finish."""
        self._done = True
        await asyncio.gather(*self._tasks)


async def survives(
    world: World, primary_is_replaced: Callable[[], Awaitable[None]]
) -> tuple[Callers, list[Gate]]:
    """Require the laws while calls run and the primary is replaced."""
    gates = [await world.gate(f"r/{n}", timeout_s=0.4) for n in range(2)]
    callers = Callers(world, gates)
    await callers.are_served()
    await primary_is_replaced()
    await callers.are_served()
    await callers.stop()
    for gate in gates:
        await world.settles_down(gate, 30)
    await world.assert_books()
    assert set(callers.answers) <= {Grant, StoreUnavailable}
    assert callers.slowest_s < ANSWERED_WITHIN_S
    assert not world.journal.exists() or world.journals() == []
    return callers, gates


async def test_a_primary_that_is_killed_is_replaced_by_the_sentinels(
    world_of: Worlds, sentinels: SentinelSet
) -> None:
    """With a tail that no replica has heard of: what it had confirmed is told again to the next one."""
    primary = sentinels.primary()

    async def kill() -> None:
        for one in sentinels.servers:
            if one is not primary:
                one.lose_primary()
        await asyncio.sleep(0.15)
        primary.kill()

    _, gates = await survives(world_of(sentinels.url), kill)
    assert sentinels.primary() is not primary
    assert sum(gate.stats.recalled for gate in gates) > 0


async def test_a_primary_that_stood_still_comes_back_as_a_replica(
    world_of: Worlds, sentinels: SentinelSet
) -> None:
    """It takes what lay in its sockets for its own, and forgets it when it follows: none of that counts as done."""
    primary = sentinels.primary()
    world = world_of(sentinels.url)

    async def suspend() -> None:
        primary.suspend()
        await until(lambda: sentinels.primary() is not primary, FAILS_OVER_WITHIN_S)
        primary.resume()
        # Until the Sentinels have told it, it goes on as if it were the one.
        await until(primary.follows, FAILS_OVER_WITHIN_S)

    await survives(world, suspend)


async def test_an_owner_that_is_killed_is_replaced_by_its_replica(
    world_of: Worlds, cluster: Cluster
) -> None:
    """With a tail that the replica has not heard of, and one of the nodes of the URL dead, maybe."""
    owner = cluster.owner()

    async def kill() -> None:
        cluster.replica_of(owner).lose_primary()
        await asyncio.sleep(0.15)
        owner.kill()

    _, gates = await survives(world_of(cluster.url), kill)
    assert cluster.owner() is not owner
    assert sum(gate.stats.recalled for gate in gates) > 0


@pytest.mark.parametrize("means", means_to_move(server_binary()))
async def test_a_slot_that_moves_takes_everything_along(
    world_of: Worlds, cluster: Cluster, means: str
) -> None:
    """The keys go to another node one by one, or all at once where the server can do that."""
    owner = cluster.owner()
    there = next(node for node in cluster.owners() if node is not owner)
    world = world_of(cluster.url)
    # So many that calls meet the slot on its way.
    await world.client.mset({f"{{c0}}:filler:{n}": b"x" * 100 for n in range(3000)})

    async def move() -> None:
        await asyncio.to_thread(cluster.move_slot, owner, there, means)

    _, gates = await survives(world, move)
    assert cluster.owner() is there
    assert all(gate.stats.store_errors > 0 for gate in gates)
