"""The life of a replica: it beats, it reports its streams, it is taken for dead and comes back, it ends."""

import asyncio
import logging
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ratelimit import gate as gate_module
from ratelimit.asks import Boot, Grant, boot_of
from ratelimit.gate import Gate
from ratelimit.troubles import StoreUnavailable
from ratelimit.upkeep import reap
from store import clock, topology
from store.cells import FIRST
from tests.ratelimit.gates import World, plan_of, until


@pytest.fixture
def fast_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let replicas beat often."""
    monkeypatch.setattr(gate_module, "BEAT_S", 0.05)


async def _is(question: Any, answer: Any) -> bool:
    return bool(await question() == answer)


@pytest.mark.usefixtures("fast_beats")
async def test_a_replica_lives_as_long_as_it_beats(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its leases outlast any number of lives of a beat; the reaper finds nothing to do."""
    monkeypatch.setattr(gate_module, "LIFE_US", 600_000)
    gate = await world.gate()
    pair = await world.granted(gate)
    until_us = await clock.now_us(world.client) + 2 * 600_000
    while await clock.now_us(world.client) < until_us:
        await asyncio.sleep(0.02)
        assert await reap(world.client) == 0
    world.settle(gate, *pair)
    await world.settles_down(gate)
    assert gate.stats.boots == 0


@pytest.mark.usefixtures("fast_beats")
async def test_streams_report_what_they_have_given(world: World) -> None:
    """When the replica dies, what was reported is charged."""
    streams: list[tuple[Boot, str, int]] = []
    gate = await world.gate(streams=lambda: streams)
    pairs = [await world.granted(gate) for _ in range(3)]
    streams += [(grant.boot, ask.attempt_id, 7) for ask, grant in pairs]
    parts = gate.boot.parts
    await until(lambda: _is(lambda: world.client.hlen(parts), 3))
    await gate.close()
    assert await reap(world.client) == 3
    assert await world.totals() == (3, 3 * 17)


async def _is_born(world: World, gate: Gate, after: Boot) -> None:
    """Wait until a gate goes on under another boot than that, which the store knows."""
    await until(lambda: gate.boot is not after)

    async def is_known() -> bool:
        return await world.client.zscore(FIRST.beats, gate.boot.member) is not None

    await until(is_known)


@pytest.mark.usefixtures("fast_beats")
async def test_a_replica_that_was_taken_for_dead_comes_back_under_another_boot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It learns so from its next beat; nothing else asks meanwhile, which would hear of it, too."""
    monkeypatch.setattr(gate_module, "WATCH_S", 600)
    gate = await world.gate()
    before = gate.boot
    await world.client.zadd(FIRST.beats, {before.member: -1})
    await _is_born(world, gate, before)
    assert isinstance(await world.exchange(gate), Grant)
    assert gate.stats.boots == 1
    assert gate.stats.unavailable == 0
    await world.settles_down(gate)


async def test_a_replica_that_was_taken_for_dead_learns_so_from_its_next_ask(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on under another boot without refusing anybody."""
    monkeypatch.setattr(gate_module, "BEAT_S", 600)
    gate = await world.gate()
    await world.client.zadd(FIRST.beats, {gate.boot.member: -1})
    assert isinstance(await world.exchange(gate), Grant)
    assert gate.stats.boots == 1
    assert gate.stats.unavailable == 0
    await world.settles_down(gate)


async def test_nobody_lives_whose_settlements_are_not_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A birth that the store breaks off has not happened; of whoever lives, the number does not fade."""
    gate = await world.gate(start=False)

    async def in_vain(*_: Any, **__: Any) -> None:
        raise RedisError("the store is busy")

    with monkeypatch.context() as broken:
        broken.setattr(Redis, "set", in_vain)
        with pytest.raises(StoreUnavailable, match="busy"):
            await gate.start()
    assert not await world.client.exists(FIRST.beats)
    await gate.start()
    await world.exchange(gate)
    await world.settles_down(gate)
    assert await world.client.get(gate.boot.seen) == b"1"
    assert await world.client.ttl(gate.boot.seen) == -1


async def test_attempts_of_an_earlier_boot_settle_under_it(world: World) -> None:
    """They were reaped meanwhile: the books get the difference, and the sum is the truth."""
    gate = await world.gate()
    old = [await world.granted(gate) for _ in range(4)]
    boot = gate.boot
    await world.client.zadd(FIRST.beats, {boot.member: 0})
    assert await reap(world.client) == 4
    new = [await world.granted(gate) for _ in range(2)]
    assert gate.boot is not boot
    for pair in (old[0], new[0], old[1], new[1], old[2]):
        world.settle(gate, *pair)
    await world.settles_down(gate)
    # Four reaped, three of them corrected, two settled as usual; the fourth stays as the reaper charged it.
    assert await world.totals() == (4 + 3 + 2, sum(world.settled) + 10)
    assert await world.client.hlen(boot_of(boot.member).graves) == 4


async def test_a_boot_that_was_closed_holds_nothing_beyond_the_next_reaping(world: World) -> None:
    """Whoever waits is refused at once, what is granted late is freed, and nothing keeps running."""
    gate = await world.gate()
    kept = [await world.granted(gate) for _ in range(3)]
    waiting = [gate.admit(world.ask()) for _ in range(5)]
    tasks = asyncio.all_tasks()
    await gate.close()
    refused = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(answer) for answer in refused} == {StoreUnavailable}
    with pytest.raises(StoreUnavailable, match="shutting down"):
        await gate.admit(world.ask())
    assert await reap(world.client) >= len(kept)
    assert await world.leases() == 0
    assert not any((await world.in_flight()).values())
    assert await world.client.exists(FIRST.beats) == 0
    assert asyncio.all_tasks() <= tasks
    await gate.close()


async def test_a_working_gate_logs_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Its log is for what an operator must know."""
    caplog.set_level(logging.DEBUG, logger="penstock.gate")
    gate = await world.gate()
    await asyncio.gather(*(world.exchange(gate) for _ in range(50)))
    await world.client.script_flush()
    await asyncio.gather(*(world.exchange(gate, plan=plan_of("d1")) for _ in range(50)))
    await world.settles_down(gate)
    await gate.close()
    assert [one for one in caplog.records if one.name == "penstock.gate"] == []


async def test_a_gate_that_does_not_reach_its_store_says_so_and_may_try_again(world: World) -> None:
    """`start` can be repeated until it succeeds."""
    gate = await world.gate(start=False)
    client, gate._client = gate._client, topology.client("unix:///nowhere/at/all")
    with pytest.raises(StoreUnavailable):
        await gate.start()
    await gate._client.aclose()
    gate._client = client
    await gate.start()
    assert isinstance(await world.exchange(gate), Grant)
