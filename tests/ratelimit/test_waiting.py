"""Waiting for a place: over real gates, who gets it, who is told when, and that nobody waits for nothing."""

import asyncio
from time import monotonic
from typing import Any

import pytest

from config.quotas import Limits
from ratelimit.asks import Grant, Nobody
from ratelimit.gate import Gate
from tests.ratelimit.gates import World, plan_of, until

PREMIUM, NORMAL, ECONOMY = 1, 2, 3
LONG_S = 10.0


@pytest.fixture
def small(world: World) -> World:
    """One deployment, where one call can be under way."""
    world.limits["deployment:d1"] = Limits(concurrency=1)
    del world.limits["deployment:d2"]
    world.plan = plan_of("d1")
    return world


class Line:
    """Asks that wait in tasks of their own, and the order in which they were granted."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.granted: list[str] = []
        self.tasks: list[asyncio.Task[Any]] = []

    async def join(self, gate: Gate, name: str, level: int = NORMAL, **wish: Any) -> None:
        """Have somebody wait, and return when the store has given a ticket."""
        before = gate.waiting
        self.tasks.append(
            asyncio.get_running_loop().create_task(self._wait(gate, name, level, wish))
        )
        await until(lambda: gate.waiting > before)

    async def _wait(self, gate: Gate, name: str, level: int, wish: dict[str, Any]) -> None:
        ask = self.world.ask(level=level, may_wait=True, **wish)
        answer = await gate.admit(ask)
        if isinstance(answer, Nobody) and answer.queued:
            answer = await gate.wait(ask, answer, monotonic() + LONG_S)
        assert isinstance(answer, Grant), answer
        self.granted.append(name)
        self.world.settle(gate, ask, answer)

    async def end(self) -> list[str]:
        """Return who came when, once all have."""
        await asyncio.gather(*self.tasks)
        return self.granted


async def test_a_place_that_comes_free_goes_to_who_waits(small: World) -> None:
    """Nobody is refused who can be served soon, and the store calls him: no tenth of a second passes idle."""
    gate = await small.gate()
    ask, grant = await small.granted(gate)
    line = Line(small)
    await line.join(gate, "waits")
    # Whoever is not before him in turn is refused, as long as there is but his place.
    assert isinstance(await gate.admit(small.ask(level=ECONOMY)), Nobody)
    small.settle(gate, ask, grant)
    assert await line.end() == ["waits"]
    await small.settles_down(gate)
    await small.assert_books()


async def test_rank_decides_over_all_replicas(small: World) -> None:
    """Premium before normal before economy, wherever they wait and whoever came first."""
    one, other = await small.gate("r/0"), await small.gate("r/1")
    ask, grant = await small.granted(one)
    line = Line(small)
    for gate, name, level in (
        (one, "economy", ECONOMY),
        (other, "normal", NORMAL),
        (one, "premium", PREMIUM),
        (other, "premium too", PREMIUM),
    ):
        await line.join(gate, name, level)
    small.settle(one, ask, grant)
    assert await line.end() == ["premium", "premium too", "normal", "economy"]
    for gate in (one, other):
        await small.settles_down(gate)


async def test_a_noisy_tenant_does_not_starve_another(small: World) -> None:
    """Of two tenants of one level, the one that waits with few calls gets its turn after each of the other's."""
    gate = await small.gate()
    ask, grant = await small.granted(gate)
    line = Line(small)
    noisy, quiet = plan_of("d1", tenant="noisy"), plan_of("d1", tenant="quiet")
    for n in range(6):
        await line.join(gate, f"noisy {n}", plan=noisy)
    for n in range(2):
        await line.join(gate, f"quiet {n}", plan=quiet)
    small.settle(gate, ask, grant)
    granted = await line.end()
    assert [name.partition(" ")[0] for name in granted[:4]] == ["noisy", "quiet"] * 2
    await small.settles_down(gate)


async def test_the_wait_is_bounded(small: World) -> None:
    """When no place comes free in time the answer is the refusal, and the ticket is given back at once."""
    gate = await small.gate()
    ask, grant = await small.granted(gate)
    late = small.ask(level=PREMIUM, may_wait=True)
    answer = await gate.admit(late)
    assert isinstance(answer, Nobody)
    assert answer.queued
    assert isinstance(await gate.wait(late, answer, monotonic() + 0.05), Nobody)
    assert not gate.waiting
    small.settle(gate, ask, grant)
    assert await gate.drain(5)
    # Were the ticket still good, its place would be kept for it.
    assert isinstance(await gate.admit(small.ask(level=ECONOMY)), Grant)


async def test_who_does_not_want_to_wait_is_refused_at_once(small: World) -> None:
    """Without patience there is no ticket."""
    gate = await small.gate()
    await small.granted(gate)
    answer = await gate.admit(small.ask())
    assert isinstance(answer, Nobody)
    assert not answer.queued
    assert not await small.client.hexists("{c0}:d:d1", "w")


async def test_a_rate_is_waited_for(world: World) -> None:
    """A deployment's rate frees by time: who waits for it is granted when it does, without being called."""
    world.limits["deployment:d1"] = Limits(rpm=600, burst={"rpm": 1})
    world.plan = plan_of("d1")
    gate = await world.gate()
    ask, grant = await world.granted(gate)
    world.settle(gate, ask, grant)
    line = Line(world)
    await line.join(gate, "waits")
    assert await line.end() == ["waits"]


async def test_a_callers_own_limit_refuses_at_once(world: World) -> None:
    """Only for what the deployments can take is it worth to wait."""
    world.limits["team:o/t"] = Limits(concurrency=1)
    gate = await world.gate()
    await world.granted(gate)
    answer = await gate.admit(world.ask(may_wait=True))
    assert not isinstance(answer, Grant | Nobody)


async def test_who_leaves_while_waiting_leaves_nothing(small: World) -> None:
    """A caller that is gone is forgotten within the life of its ticket, and its place goes to the next."""
    gate = await small.gate()
    ask, grant = await small.granted(gate)
    line = Line(small)
    await line.join(gate, "leaves", PREMIUM)
    await line.join(gate, "stays", ECONOMY)
    line.tasks[0].cancel()
    await asyncio.gather(line.tasks.pop(0), return_exceptions=True)
    small.settle(gate, ask, grant)
    assert await line.end() == ["stays"]
    await small.settles_down(gate)


async def test_a_lost_call_costs_a_tenth_of_a_second_at_most(
    small: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tickets are renewed by asking again: without one call of the store's everybody is served all the same."""
    gate = await small.gate()
    monkeypatch.setattr(gate._room, "call", lambda _: None)
    ask, grant = await small.granted(gate)
    line = Line(small)
    for n in range(3):
        await line.join(gate, str(n))
    small.settle(gate, ask, grant)
    assert await line.end() == ["0", "1", "2"]
