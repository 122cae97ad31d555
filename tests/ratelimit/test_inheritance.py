"""What a process had granted alone and had open when it was killed: whoever replays its journal has it reaped, once."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ratelimit.asks import Ask, Boot, Grant
from ratelimit.commands import settle_command
from ratelimit.gate import Gate
from ratelimit.inheritance import inherit, inherit_all
from ratelimit.journal import Journal
from ratelimit.lives import DEAD
from ratelimit.upkeep import reap
from store.cells import FIRST
from tests.conftest import RedisServer
from tests.ratelimit.gates import World, until

WorldAt = Callable[..., tuple[World, RedisServer]]


async def alone(world: World, gate: Gate, count: int) -> list[tuple[Ask, Grant]]:
    """Ask some times at once, and require what the gate grants without the store."""
    asks = [world.ask() for _ in range(count)]
    answers = await asyncio.gather(*(gate.admit(ask) for ask in asks))
    assert all(isinstance(answer, Grant) and answer.degraded for answer in answers)
    return list(zip(asks, answers, strict=True))


DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


async def test_a_crash_in_an_outage_loses_no_call_that_was_open(world_at: WorldAt) -> None:
    """What was granted here and not settled is reaped like everything that dies with a process; what was settled is not."""
    world, server = world_at(*DURABLE)
    gate = await world.gate(timeout_s=0.25, rule=world.rule)
    await world.exchange(gate)
    await world.settles_down(gate)
    server.kill()
    pairs = await alone(world, gate, 7)
    await until(lambda: bool(world.journals()))
    for ask, answer in pairs[:3]:
        world.settle(gate, ask, answer)
    await until(lambda: gate.stats.journalled == 3)
    await world.kill(gate)
    server.start()
    for replica in ("r/1", "r/2"):
        # Whoever comes second finds nothing more to do.
        await world.gate(replica, timeout_s=0.25, rule=world.rule)
        await reap(world.client)
        assert await world.totals() == (4 + 4, sum(world.settled) + 4 * 10)
        assert await world.leases() == 0
        assert not any((await world.in_flight()).values())
    assert world.journals() == []


async def test_what_was_replayed_by_halves_is_booked_once(world_at: WorldAt) -> None:
    """An heir that died before it could delete the journal has asserted what it read: reaped or not, it is known."""
    world, server = world_at(*DURABLE)
    gate = await world.gate(timeout_s=0.25, rule=world.rule)
    await world.exchange(gate)
    server.kill()
    assert len(await alone(world, gate, 3)) == 3
    await until(lambda: bool(world.journals()))
    await world.kill(gate)
    [journal] = world.journals()
    written = journal.read_bytes()
    server.start()
    for number in range(1, 4):
        journal.write_bytes(written)
        await world.gate(f"r/{number}", timeout_s=0.25, rule=world.rule)
        if number > 1:
            await reap(world.client)
    assert await world.totals() == (1 + 3, sum(world.settled) + 3 * 10)
    assert await world.leases() == 0


async def test_an_heir_is_told_to_be_dead_by_whoever_finishes(
    world_at: WorldAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though everything was asserted before the store failed: what is reserved for it would stay for ever."""
    world, server = world_at(*DURABLE)
    gate = await world.gate(timeout_s=0.25, rule=world.rule)
    await world.exchange(gate)
    await world.settles_down(gate)
    server.kill()
    await alone(world, gate, 3)
    await until(lambda: bool(world.journals()))
    await world.kill(gate)
    server.start()
    really = Redis.zadd

    async def in_vain(*_: Any, **__: Any) -> None:
        raise RedisError("the store is busy")

    monkeypatch.setattr(Redis, "zadd", in_vain)
    with pytest.raises(RedisError, match="busy"):
        await inherit(world.client, world.journal)
    assert await world.leases() == 3
    monkeypatch.setattr(Redis, "zadd", really)
    await inherit(world.client, world.journal)
    assert await world.client.zscore(FIRST.beats, f"{gate.boot.member}~") == DEAD
    await reap(world.client)
    assert await world.leases() == 0


async def test_what_was_streamed_without_the_store_is_charged(
    world_at: WorldAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of the last beat that failed before the kill; of those that the store had granted, too."""
    monkeypatch.setattr("ratelimit.gate.BEAT_S", 0.05)
    world, server = world_at(*DURABLE)
    streams: list[tuple[Boot, str, int]] = []
    gate = await world.gate(timeout_s=0.25, rule=world.rule, streams=lambda: streams)
    before = await world.granted(gate)
    server.kill()
    pairs = [before, *await alone(world, gate, 2)]
    streams += [(gate.boot, ask.attempt_id, 20) for ask, _ in pairs]
    await until(lambda: any(b"STREAMED" in path.read_bytes() for path in world.journals()))
    await world.kill(gate)
    server.start()
    await world.gate("r/1", timeout_s=0.25, rule=world.rule)
    await reap(world.client)
    assert await world.totals() == (3, 3 * (10 + 20))


async def test_who_witnesses_a_death_in_an_outage_tells_of_it_when_the_store_is_back(
    world_at: WorldAt,
) -> None:
    """What was granted without the store is booked then, and nothing stays held."""
    world, server = world_at(*DURABLE)
    gate = await world.gate(timeout_s=0.25, rule=world.rule)
    await world.exchange(gate)
    await world.settles_down(gate)
    server.kill()
    await alone(world, gate, 3)
    await until(lambda: bool(world.journals()))
    await world.kill(gate)
    await inherit_all(server.url, world.journal, 1, hurried=lambda: True)
    assert world.journals()
    telling = asyncio.ensure_future(
        inherit_all(server.url, world.journal, 1, hurried=lambda: False)
    )
    server.start()
    await telling
    await reap(world.client)
    assert await world.totals() == (1 + 3, sum(world.settled) + 3 * 10)
    assert await world.leases() == 0
    assert list(world.journal.iterdir()) == []


async def test_streams_are_noted_at_the_pace_of_beats(
    world_at: WorldAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the store is tried meanwhile: an outage may last for hours."""
    world, server = world_at(*DURABLE)
    streams: list[tuple[Boot, str, int]] = []
    gate = await world.gate(timeout_s=0.25, rule=world.rule, streams=lambda: streams)
    monkeypatch.setattr("ratelimit.gate.PROBE_S", 0.01)
    server.kill()
    ((ask, _),) = await alone(world, gate, 1)
    streams.append((gate.boot, ask.attempt_id, 20))
    # From here on no other beat is due than those that look for the store.
    monkeypatch.setattr("ratelimit.gate.BEAT_S", 3600)
    errors = gate.stats.store_errors
    await until(lambda: gate.stats.store_errors > errors + 2, 30)
    [journal] = world.journals()
    assert journal.read_bytes().count(b"STREAMED") <= 1


async def test_a_journal_is_replayed_in_the_order_of_its_numbers(world: World) -> None:
    """A batch that a store had forgotten is written behind later ones, behind which no store would take it."""
    gate = await world.gate()
    pairs = [await world.granted(gate) for _ in range(2)]
    journal = Journal(world.journal, "r_9")
    sha = gate._settling._script.sha
    for number, pair in ((2, pairs[1]), (1, pairs[0])):
        journal.append(settle_command(sha, gate.boot, number, [world.settlement(*pair)]))
    journal.close()
    await world.gate("r/1")
    assert await world.totals() == (2, 1 + 2)
    assert await world.leases() == 0
