"""
Outages of real stores, as a replica lives through them: it judges alone, says so, and everything is booked once.

The rules of judging stand in `test_degraded`; what happens to asks and settlements that are cut off stands in `test_outages`.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest

from config.quotas import Budget, Limits
from ratelimit.asks import Ask, Denied, Grant
from ratelimit.gate import Gate
from ratelimit.troubles import StoreUnavailable
from ratelimit.upkeep import reap
from tests.conftest import RedisServer
from tests.patience import within
from tests.ratelimit.gates import KEY, ORG, TEAM, Meddler, World, until
from tests.store.peers import Pipe

WorldAt = Callable[..., tuple[World, RedisServer]]


@contextlib.contextmanager
def stopped(server: RedisServer) -> Iterator[None]:
    """Stop a server for a while."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.fixture
async def gate_of(world_at: WorldAt) -> tuple[World, RedisServer, Gate]:
    """Hand out a gate that knows its rules, over a server of its own."""
    world, server = world_at()
    gate = await world.gate(timeout_s=0.25, rule=world.rule)
    await until(lambda: admits(world, gate))
    await world.settles_down(gate)
    return world, server, gate


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        one.getMessage()
        for one in caplog.records
        if one.name == "penstock.gate" and "degraded" in one.getMessage()
    ]


async def calls(world: World, gate: Gate, count: int, **wish: Any) -> list[tuple[Ask, Any]]:
    """Ask some times at once."""
    asks = [world.ask(**wish) for _ in range(count)]
    answers = await asyncio.gather(*(gate.admit(ask) for ask in asks), return_exceptions=True)
    return list(zip(asks, answers, strict=True))


async def is_well(gate: Gate) -> None:
    await until(lambda: not gate.degraded)


async def admits(world: World, gate: Gate) -> bool:
    """Whether the store admits what is asked now."""
    answer = await world.exchange(gate)
    return isinstance(answer, Grant) and not answer.degraded


async def test_calls_go_on_without_the_store_and_are_booked_once(
    gate_of: tuple[World, RedisServer, Gate], caplog: pytest.LogCaptureFixture
) -> None:
    """Granted here, said so, settled while it is away or when it is back; one line at the beginning, one at the end."""
    world, server, gate = gate_of
    with stopped(server):
        first = await calls(world, gate, 5)
        assert gate.degraded
        more = await calls(world, gate, 5)
        for _, answer in [*first, *more]:
            assert isinstance(answer, Grant)
            assert answer.degraded == "store; share=1/1"
        for ask, answer in first:
            world.settle(gate, ask, answer)
    await is_well(gate)
    for ask, answer in more:
        world.settle(gate, ask, answer)
    answer = await world.exchange(gate)
    assert isinstance(answer, Grant)
    assert answer.degraded == ""
    await world.settles_down(gate)
    await world.assert_books()
    begun, ended = told(caplog)
    assert begun == (
        "degraded: the store did not answer in time; rates are held at 1 / 1 on each replica, strict budgets closed"
    )
    assert ended.startswith("no longer degraded after")
    assert ended.endswith("10 calls were granted here meanwhile")
    assert (gate.stats.degraded_granted, gate.stats.unavailable) == (10, 0)


async def test_once_ill_nobody_waits_for_it(gate_of: tuple[World, RedisServer, Gate]) -> None:
    """The first to wait in vain is the last to wait."""
    world, server, gate = gate_of
    with stopped(server):
        await calls(world, gate, 1)
        for _ in range(20):
            answer = gate.admit(world.ask())
            assert answer.done()
            assert answer.result().degraded


async def test_strict_budgets_close_and_open_again(
    gate_of: tuple[World, RedisServer, Gate],
) -> None:
    """Not a call passes while the store is away; what ran before is charged when it is back."""
    world, server, gate = gate_of
    world.budgets[TEAM] = (Budget(usd=1, per="month", mode="strict"),)
    await world.seed([f"{{c0}}:s:{TEAM}"])
    await world.reckon()
    await until(lambda: gate._admission._assertion.known)
    pair = await world.granted(gate)
    with stopped(server):
        for _ in range(2):
            [(_, closed)] = await calls(world, gate, 1)
            assert isinstance(closed, StoreUnavailable)
            assert str(closed) == (
                "the store does not answer, and the strict budget of team o/t is closed until it does"
            )
            assert closed.degraded == "store; share=1/1"
        world.settle(gate, *pair)
    await is_well(gate)
    assert isinstance(await world.exchange(gate), Grant)
    await world.settles_down(gate)
    budget = (await world.scope(TEAM)).budgets["month"]
    assert (budget.spent_nusd, budget.held_nusd) == (sum(world.settled[1:]), 0)
    assert gate.stats.degraded_closed == 2


async def test_each_replica_holds_its_share(world_at: WorldAt) -> None:
    """Two replicas have seen each other beat: five places are three and two; calls under way count."""
    world, server = world_at()
    world.limits[KEY] = Limits(concurrency=5)
    gates = [await world.gate(f"r/{n}", timeout_s=0.1, rule=world.rule) for n in range(2)]
    # The first was alone when it began; its next beat sees both.
    await gates[0]._beat()
    held = [await world.granted(gates[1]) for _ in range(2)]
    with stopped(server):
        answers = await asyncio.gather(*(calls(world, gate, 4) for gate in gates))
        passed = [[(ask, one) for ask, one in each if isinstance(one, Grant)] for each in answers]
        assert [len(each) for each in passed] == [3, 0]
        refused = answers[1][0][1]
        assert isinstance(refused, Denied)
        assert (refused.what, refused.limit, refused.degraded) == (
            "concurrency",
            5,
            "store; share=1/2",
        )
        world.settle(gates[1], *held[0])
        assert isinstance((await calls(world, gates[1], 1))[0][1], Grant)
    for gate in gates:
        await is_well(gate)
    await gates[0].drain(5)


async def test_a_rate_goes_on_at_its_share_from_an_empty_bucket(
    gate_of: tuple[World, RedisServer, Gate],
) -> None:
    """600 a minute are one in a tenth of a second since the store was asked in vain, and no burst at the beginning."""
    world, server, gate = gate_of
    world.limits[ORG] = Limits(rpm=600)
    with stopped(server):
        begun = monotonic()
        answers = [answer for _, answer in await calls(world, gate, 5)]
        granted = sum(isinstance(one, Grant) for one in answers)
        assert 1 <= granted <= (monotonic() - begun) * 10
        refused = answers[-1]
        assert isinstance(refused, Denied)
        assert refused.what == "requests"
        assert 0 < refused.retry_us <= 100_000
        await until(lambda: isinstance(gate.admit(world.ask()).result(), Grant))
        assert gate.stats.degraded_granted <= (monotonic() - begun) * 10


async def test_what_the_store_granted_too_late_is_settled_with_the_call(
    world: World, pipe: Pipe
) -> None:
    """It was granted here meanwhile under the same id: one lease, one entry, nothing held, in either order."""
    gate = await world.gate(admit_url=pipe.url, timeout_s=0.1, rule=world.rule)
    await until(lambda: admits(world, gate))
    await world.settles_down(gate)
    pipe.hold()
    pairs = await calls(world, gate, 6)
    assert all(isinstance(answer, Grant) and answer.degraded for _, answer in pairs)
    assert await world.leases() == 6
    for ask, answer in pairs[:3]:
        world.settle(gate, ask, answer)
    pipe.release()
    await is_well(gate)
    for ask, answer in pairs[3:]:
        world.settle(gate, ask, answer)
    await world.settles_down(gate)
    await world.assert_books()


async def test_a_sending_that_arrives_after_its_call_has_ended_takes_nothing(
    world: World, pipe: Pipe
) -> None:
    """Granted here, served and settled; then the network delivers the admission."""
    gate = await world.gate(admit_url=pipe.url, timeout_s=0.1, rule=world.rule)
    await until(lambda: admits(world, gate))
    await world.settles_down(gate)
    pipe.delay()
    for ask, answer in await calls(world, gate, 4):
        assert isinstance(answer, Grant)
        world.settle(gate, ask, answer)
    await is_well(gate)
    await world.settles_down(gate)
    pipe.deliver()
    await asyncio.sleep(0.05)
    await world.exchange(gate)
    await world.settles_down(gate)
    await world.assert_books()


async def test_a_caller_who_leaves_a_call_that_was_granted_here_leaves_nothing(
    gate_of: tuple[World, RedisServer, Gate],
) -> None:
    """It gives its place back here, and the store is told that there is nothing."""
    world, server, gate = gate_of
    world.limits[KEY] = Limits(concurrency=1)
    with stopped(server):
        [(ask, _)] = await calls(world, gate, 1)
        assert isinstance((await calls(world, gate, 1))[0][1], Denied)
        gate.abandon(ask)
        [(ask, answer)] = await calls(world, gate, 1)
        assert isinstance(answer, Grant)
    await is_well(gate)
    world.settle(gate, ask, answer)
    await world.settles_down(gate)
    await world.assert_books()


@pytest.mark.parametrize("refusal", ["OOM command not allowed", "READONLY You can't write"])
async def test_a_store_that_refuses_is_tried_now_and_then(
    world: World, meddler: Meddler, refusal: str
) -> None:
    """Its beats may be answered all the while: an ask that it admits is what ends the outage."""
    gate = await world.gate(admit_url=meddler.url, rule=world.rule)
    await until(lambda: admits(world, gate))
    await world.settles_down(gate)
    meddler.refusal = f"-{refusal}\r\n".encode()
    before = meddler.refused
    begun = monotonic()
    while monotonic() - begun < 0.7:
        assert isinstance(await world.exchange(gate), Grant)
        await asyncio.sleep(0.01)
    assert gate.degraded
    assert 2 <= meddler.refused - before <= 10
    meddler.refusal = b""
    await until(lambda: admits(world, gate))
    assert not gate.degraded
    await world.settles_down(gate)
    await world.assert_books()


async def test_a_store_without_memory_refuses_beats_too_and_comes_back(
    gate_of: tuple[World, RedisServer, Gate],
) -> None:
    """The real thing: `maxmemory` is reached; calls go on at their share, and nothing is missing afterwards."""
    world, _, gate = gate_of
    await world.client.config_set("maxmemory", 1)
    for _ in range(10):
        assert isinstance(await world.exchange(gate), Grant)
    assert gate.degraded
    await world.client.config_set("maxmemory", 0)
    await until(lambda: admits(world, gate))
    await world.settles_down(gate)
    await world.assert_books()


async def test_a_store_that_is_slow_is_left_alone_until_it_is_quick(
    world: World, pipe: Pipe
) -> None:
    """Answers that take longer than an admission may are an outage; nothing stays held."""
    gate = await world.gate(admit_url=pipe.url, timeout_s=0.1, rule=world.rule)
    await until(lambda: admits(world, gate))
    await world.settles_down(gate)
    answers: list[Any] = []
    for _ in range(3):
        pipe.hold()
        pair = (await calls(world, gate, 1))[0]
        answers.append(pair)
        pipe.release()
        await is_well(gate)
    for ask, answer in answers:
        assert isinstance(answer, Grant)
        world.settle(gate, ask, answer)
    await world.settles_down(gate)
    await world.assert_books()


async def test_what_is_settled_in_an_outage_is_on_disk_at_once(
    gate_of: tuple[World, RedisServer, Gate],
) -> None:
    """Also while the store only stands still, and nobody knows yet that it will not answer."""
    world, server, gate = gate_of
    with stopped(server):
        for ask, answer in await calls(world, gate, 5):
            assert isinstance(answer, Grant)
            world.settle(gate, ask, answer)
        async with within(0.4):
            await until(lambda: gate.stats.journalled >= 5)
    await is_well(gate)
    await world.settles_down(gate)
    await world.assert_books()
    assert world.journals() == []


@pytest.mark.parametrize("what", ["open", "settled"])
async def test_what_the_store_knows_again_is_no_longer_in_the_journal(
    gate_of: tuple[World, RedisServer, Gate], what: str
) -> None:
    """Its lease is asserted when the outage ends; killed after that, it is reaped as all others are."""
    world, server, gate = gate_of
    with stopped(server):
        pairs = await calls(world, gate, 4)
        await until(lambda: bool(world.journals()))
    await is_well(gate)
    await until(lambda: not world.journals())
    assert await world.leases() == 4
    if what == "settled":
        for ask, answer in pairs:
            world.settle(gate, ask, answer)
        await world.settles_down(gate)
        await world.assert_books()
    else:
        await world.kill(gate)
        await world.gate("r/1", rule=world.rule)
        assert await reap(world.client) == 4
        assert await world.totals() == (1 + 4, sum(world.settled) + 4 * 10)


async def test_a_store_that_refused_is_told_what_was_granted_meanwhile(
    world: World, meddler: Meddler
) -> None:
    """No connection was lost, and yet it knows nothing of it: places that are taken count."""
    world.limits[KEY] = Limits(concurrency=4)
    gate = await world.gate(admit_url=meddler.url, rule=world.rule)
    await until(lambda: admits(world, gate))
    await world.settles_down(gate)
    meddler.refusal = b"-OOM command not allowed\r\n"
    open_ = [await world.granted(gate) for _ in range(3)]
    assert gate.degraded
    meddler.refusal = b""
    await until(lambda: admits(world, gate))
    await until_held(world, 3)
    assert (await world.scope(KEY)).in_flight == 3
    for pair in open_:
        world.settle(gate, *pair)
    await world.settles_down(gate)
    await world.assert_books()
    assert world.journals() == []


async def until_held(world: World, count: int) -> None:
    async def held() -> bool:
        return await world.leases() == count

    await until(held)


async def test_a_crash_in_an_outage_loses_nothing_that_was_settled(world_at: WorldAt) -> None:
    """Settlements of calls that no store has seen lie in the journal, and whoever starts next books them once."""
    world, server = world_at("--appendonly", "yes", "--appendfsync", "always")
    gate = await world.gate(timeout_s=0.1, rule=world.rule)
    await until(lambda: admits(world, gate))
    await world.settles_down(gate)
    server.kill()
    for ask, answer in await calls(world, gate, 7):
        assert isinstance(answer, Grant)
        world.settle(gate, ask, answer)
    assert not await gate.drain(0.1)
    await gate.close()
    server.start()
    following = await world.gate("r/1", timeout_s=0.1, rule=world.rule)
    assert following.stats.replayed >= 1
    await world.assert_books()
    assert await world.leases() == 0
