"""
A store that may have forgotten admits nothing under a strict budget before it knows what was spent.

It is emptied or restarted; the replicas assert what they hold, and the test reckons in the control's place.
"""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from config.quotas import Budget
from ratelimit.asks import Grant
from ratelimit.gate import Gate
from ratelimit.limits import KINDS, scope_key
from ratelimit.reckoning import LEARNING, TOLD, Sum, ask, reckon
from ratelimit.troubles import StoreUnavailable
from store.cells import FIRST
from tests.conftest import RedisServer
from tests.ratelimit.gates import TEAM, World, until
from tests.store.peers import Pipe

FAR_US = 10**15
STRICT = (Budget(usd=Decimal("0.000001"), per="month", mode="strict"),)


def spent(nusd: int) -> Sum:
    """Return what the ledger says of the team's month."""
    return Sum(scope_key(TEAM), "", KINDS["month"], FAR_US, nusd)


@pytest.fixture
def durable(durable: tuple[World, RedisServer]) -> tuple[World, RedisServer]:
    """Let a thousand nano-USD a month be strict."""
    durable[0].budgets[TEAM] = STRICT
    return durable


async def gate_of(world: World, replica: str = "r/0", **options: Any) -> Gate:
    return await world.gate(replica, rule=world.rule, **options)


async def knows(world: World) -> bool:
    return (await ask(world.client))[1] == 2


async def closed(world: World, gate: Gate, **wish: Any) -> StoreUnavailable:
    """Require that a strict budget refuses."""
    with pytest.raises(StoreUnavailable) as refused:
        await gate.admit(world.ask(**wish))
    return refused.value


async def test_a_new_installation_opens_at_once(world: World) -> None:
    """Nothing was ever spent and nobody holds anything: the control says so, and there is nothing to wait for."""
    world.budgets[TEAM] = STRICT
    assert await world.reckon()
    gate = await gate_of(world)
    assert isinstance(await gate.admit(world.ask()), Grant)
    assert not await world.reckon()


async def test_a_strict_budget_is_closed_until_it_is_known_what_was_spent(world: World) -> None:
    """No replica, old or new, spends from a budget that was forgotten; other callers notice nothing."""
    world.budgets[TEAM] = STRICT
    await world.reckon()
    gates = [await gate_of(world, f"r/{n}", timeout_s=1.0) for n in range(2)]
    await world.exchange(gates[0], cost=700)
    await world.settles_down(gates[0])
    await world.client.flushall()
    fresh = await gate_of(world, "r/9", timeout_s=1.0)
    for gate in (*gates, fresh):
        refused = await closed(world, gate)
        assert "until it knows again what was spent" in str(refused)
        assert refused.degraded == "learning"
    # Who lived before a flush is not known: the last lease must be over, or its replica back.
    assert (await ask(world.client))[1] == LEARNING
    assert not await world.reckon(spent(700))
    await world.client.hset(FIRST.epoch, "since", 1)
    assert not await world.reckon(spent(700))
    await world.seed([scope_key(TEAM)])
    assert await world.reckon(spent(700))

    async def open_again() -> bool:
        answer = await asyncio.gather(gates[0].admit(world.ask(cap=90)), return_exceptions=True)
        return isinstance(answer[0], Grant)

    await until(open_again)
    budget = (await world.scope(TEAM)).budgets["month"]
    assert (budget.spent_nusd, budget.held_nusd) == (700, 100)


async def test_an_ask_waits_for_a_store_that_learns(
    durable: tuple[World, RedisServer],
) -> None:
    """After a restart all replicas assert within a moment; whoever asks meanwhile is answered, not refused."""
    world, server = durable
    await world.reckon()
    gates = [await gate_of(world, f"r/{n}", timeout_s=8.0) for n in range(2)]
    await world.exchange(gates[0], cost=500)
    held = await world.granted(gates[1])
    await world.settles_only(gates[0])
    server.kill()
    server.start()
    waiting = [asyncio.ensure_future(world.exchange(gates[0], cost=100)) for _ in range(3)]
    await world.told()
    assert not any(one.done() for one in waiting)
    assert await world.reckon(spent(500))
    answers = await asyncio.gather(*waiting)
    assert {type(answer) for answer in answers} == {Grant}
    world.settle(gates[1], *held, cost=100)
    for gate in gates:
        await world.settles_down(gate)
    budget = (await world.scope(TEAM)).budgets["month"]
    assert (budget.spent_nusd, budget.held_nusd) == (900, 0)


async def test_the_ledger_knows_more_than_a_counter_that_was_lost(
    durable: tuple[World, RedisServer],
) -> None:
    """The larger of both is what was spent; sums of a period that is over, and of another life, are left out."""
    world, server = durable
    await world.reckon()
    gate = await gate_of(world)
    await world.exchange(gate, cost=300)
    await world.settles_down(gate)
    server.kill()
    server.start()
    await world.told()
    over = Sum(scope_key(TEAM), "", KINDS["month"], 1, 999)

    async def never() -> bool:
        return False

    async def sums() -> list[Sum]:
        return [spent(800), over]

    assert await reckon(world.client, nobody_holds=never, sums=sums)
    assert (await world.scope(TEAM)).budgets["month"].spent_nusd == 800
    server.kill()
    server.start()
    await world.told()
    assert await world.reckon(spent(200))
    assert (await world.scope(TEAM)).budgets["month"].spent_nusd == 800


async def test_a_replica_that_died_with_the_store_is_waited_for_no_longer_than_its_lease(
    durable: tuple[World, RedisServer],
) -> None:
    """It will not assert; when a lease's life is over nobody can hold anything that is not known."""
    world, server = durable
    await world.reckon()
    gate = await gate_of(world)
    await world.seed([scope_key(TEAM)])
    dead = await gate_of(world, "r/1")
    server.kill()
    # It is gone with the store: nobody asserts for it.
    await dead._admission._lane.close()
    await dead._settling._lane.close()
    server.start()
    await until(lambda: gate._admission._assertion._made == (2, gate.boot, gate._outage.ended))
    await until(lambda: gate._settling.caught_up)
    await asyncio.sleep(0.5)
    assert (await ask(world.client))[1] == LEARNING
    await world.client.hset(FIRST.epoch, "since", 1)
    assert (await ask(world.client))[1] == TOLD
    assert not await knows(world)
    assert await world.reckon(spent(0))
    assert await knows(world)


async def test_a_caller_who_leaves_while_the_store_learns_leaves_no_lease(
    durable: tuple[World, RedisServer],
) -> None:
    """It was granted, the answer was lost with the store, and nobody waits for it any more."""
    world, server = durable
    pipe = Pipe(server.socket)
    await pipe.start()
    await world.reckon()
    gate = await gate_of(world, admit_url=pipe.url, timeout_s=5.0)
    await world.exchange(gate)
    await world.settles_down(gate)
    pipe.cut_down_after, pipe.shut = 0, True
    waiting = [asyncio.ensure_future(world.exchange(gate)) for _ in range(4)]
    await until(lambda: not gate._admission._lane.connected)
    assert await world.leases() == 4
    server.kill()
    server.start()
    pipe.cut_down_after, pipe.shut = None, False
    await until(lambda: len(gate._admission._learners) == 4)
    for one in waiting[:2]:
        one.cancel()
    await world.told()
    assert await world.reckon(spent(1))
    assert {type(one) for one in await asyncio.gather(*waiting[2:])} == {Grant}
    await world.settles_down(gate)
    await pipe.close()
