"""
The gate over a store that fails: slow, gone, full, in error, cut off in the middle of a word.

Two laws stand behind all of it. An ask is answered in time, and nothing that was granted without an answer stays held.
A settlement that was handed over is booked exactly once, by this process or by the next.
"""

import asyncio
import os
import random
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from config.quotas import Limits
from ratelimit.asks import Grant
from ratelimit.commands import BATCH, settle_command
from ratelimit.gate import WATCH_S, Gate
from ratelimit.journal import Journal
from ratelimit.settling import LONGEST_PAUSE_S
from ratelimit.troubles import StoreUnavailable
from ratelimit.upkeep import reap
from store.cells import FIRST
from tests.conftest import RedisServer
from tests.patience import within
from tests.ratelimit.gates import KEY, Meddler, World, until
from tests.store.peers import Pipe

WorldAt = Callable[..., tuple[World, RedisServer]]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the gate said in the log."""
    return [one.getMessage() for one in caplog.records if one.name == "penstock.gate"]


async def refused_in_time(world: World, gate: Gate, timeout_s: float, count: int = 5) -> None:
    """Require that asks made now are refused, and when it was promised."""
    async with within(timeout_s + 0.3):
        asks = [gate.admit(world.ask()) for _ in range(count)]
        answers = await asyncio.gather(*asks, return_exceptions=True)
    assert {type(answer) for answer in answers} == {StoreUnavailable}


# Slow...


@pytest.mark.parametrize("turn", range(5))
async def test_a_store_that_stands_still_leaves_no_lease_behind(
    world_at: WorldAt, turn: int
) -> None:
    """Asks are refused in time; what the store grants when it wakes up is given back, in whatever order it reads its sockets."""
    world, server = world_at()
    gate = await world.gate(timeout_s=0.1)
    await until(lambda: granted_again(world, gate))
    await world.settles_down(gate)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for _ in range(1 + turn % 2):
            await refused_in_time(world, gate, 0.1)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await until(lambda: granted_again(world, gate))
    await world.settles_down(gate)
    await world.assert_books()


async def granted_again(world: World, gate: Gate) -> bool:
    return isinstance(await world.exchange(gate), Grant)


async def test_settlements_survive_a_store_that_stands_still(world_at: WorldAt) -> None:
    """They are sent again on a new connection; the copy that the server finds in the old one is SEEN."""
    world, server = world_at()
    gate = await world.gate(timeout_s=0.1)
    pairs = [await world.granted(gate) for _ in range(10)]
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for pair in pairs:
            world.settle(gate, *pair)
            await asyncio.sleep(0.05)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await world.settles_down(gate)
    await world.assert_books()
    assert gate.stats.journalled >= 1
    assert world.journals() == []


async def test_an_answer_that_comes_too_late_is_given_back(world: World, pipe: Pipe) -> None:
    """The store has granted, only its answer is held up: the lane is dropped, and every lease freed."""
    gate = await world.gate(admit_url=pipe.url, timeout_s=0.1)
    await until(lambda: granted_again(world, gate))
    await world.settles_down(gate)
    pipe.hold()
    asks = [gate.admit(world.ask()) for _ in range(5)]
    await asyncio.sleep(0.05)
    assert await world.leases() == 5
    answers = await asyncio.gather(*asks, return_exceptions=True)
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    pipe.release()
    await until(lambda: granted_again(world, gate))
    await world.settles_down(gate)
    await world.assert_books()


async def test_asks_that_wait_behind_a_stalled_call_keep_their_own_time(
    world: World, pipe: Pipe
) -> None:
    """Nobody waits longer than its own patience; once the first has waited in vain, the others need not."""
    gate = await world.gate(admit_url=pipe.url, timeout_s=0.3)
    await world.exchange(gate)
    pipe.hold()

    async def one(after: float) -> float:
        await asyncio.sleep(after)
        begun = monotonic()
        with pytest.raises(StoreUnavailable, match="the store does not answer"):
            await gate.admit(world.ask())
        return monotonic() - begun

    first, *waits = await asyncio.gather(*(one(n / 20) for n in range(8)))
    assert 0.25 < first < 0.6
    assert max(waits) < first
    assert waits[-1] < 0.1
    pipe.release()
    await until(lambda: granted_again(world, gate))
    await world.settles_down(gate)


async def test_a_slow_store_does_not_stretch_the_patience_of_those_who_queue(
    world: World, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches that take most of the timeout each: whoever stands in the third is refused when its own time is over."""
    gate = await world.gate(admit_url=pipe.url, timeout_s=0.3)
    await world.exchange(gate)
    await world.settles_down(gate)
    pipe.hold()
    now = monotonic()
    with monkeypatch.context() as clock:
        for module in ("gate", "admission"):
            clock.setattr(f"ratelimit.{module}.monotonic", lambda: now)
        asks = [gate.admit(world.ask()) for _ in range(2 * BATCH + 10)]
        now += 0.2
        pipe.release(once=True)
        await asyncio.wait(asks[:BATCH])
        now += 0.09
        await asyncio.sleep(2 * WATCH_S)
        assert not any(ask.done() for ask in asks[BATCH:])
        now += 0.02
        await asyncio.wait(asks)
    kinds = Counter(type(ask.exception() or ask.result()) for ask in asks)
    assert kinds == {Grant: BATCH, StoreUnavailable: BATCH + 10}
    pipe.release()
    await until(lambda: granted_again(world, gate))
    assert await gate.drain(5)
    await until(lambda: has_leases(world, BATCH))


async def has_leases(world: World, count: int) -> bool:
    return await world.leases() == count


# Cut off...


async def test_an_ask_survives_a_cut_at_any_byte_of_its_answer(world: World, pipe: Pipe) -> None:
    """It was carried out and the answer is lost: asked again, it gets the lease that it has."""
    gate = await world.gate(admit_url=pipe.url)
    await world.exchange(gate)
    for cut in range(0, 60, 3):
        pipe.cut_down_after = cut
        answers = await asyncio.gather(*(world.exchange(gate) for _ in range(3)))
        assert {type(answer) for answer in answers} == {Grant}
    pipe.cut_down_after = None
    await world.settles_down(gate)
    await world.assert_books()
    assert pipe.connections > 10


async def test_an_ask_survives_a_cut_at_any_byte_of_its_command(world: World, pipe: Pipe) -> None:
    """It never reached the server whole: asked again, it is granted as if for the first time."""
    gate = await world.gate(admit_url=pipe.url)
    await world.exchange(gate)
    for cut in range(0, 1000, 67):
        pipe.cut_up_after = cut
        answers = await asyncio.gather(*(world.exchange(gate) for _ in range(3)))
        assert {type(answer) for answer in answers} == {Grant}
    pipe.cut_up_after = None
    await world.settles_down(gate)
    await world.assert_books()


async def test_a_settlement_survives_a_cut_at_any_byte(world: World, pipe: Pipe) -> None:
    """Whether it was carried out or not, it is booked once."""
    gate = await world.gate(settle_url=pipe.url)
    for cut in range(0, 1200, 67):
        pairs = [await world.granted(gate) for _ in range(2)]
        if cut < 8:
            pipe.cut_down_after = cut
        else:
            pipe.cut_up_after = cut
        for pair in pairs:
            world.settle(gate, *pair)
        await world.settles_down(gate)
    await world.assert_books()


async def test_a_sending_that_arrives_after_it_was_given_up_takes_nothing(
    world: World, pipe: Pipe
) -> None:
    """The network delivers a command whose asks were refused long ago, and given back before they were granted."""
    gate = await world.gate(admit_url=pipe.url, timeout_s=0.1)
    await until(lambda: granted_again(world, gate))
    await world.settles_down(gate)
    pipe.delay()
    await refused_in_time(world, gate, 0.1)
    await until(lambda: granted_again(world, gate))
    await world.settles_down(gate)
    before = gate.stats.admit_asks
    pipe.deliver()
    await asyncio.sleep(0.05)
    await world.exchange(gate)
    await world.settles_down(gate)
    assert gate.stats.admit_asks == before + 1
    await world.assert_books()


async def test_a_sending_that_arrives_after_it_was_repeated_takes_nothing(
    world: World, pipe: Pipe
) -> None:
    """The asks were sent again on another connection, granted and settled; then the first copy comes."""
    gate = await world.gate(admit_url=pipe.url)
    await world.exchange(gate)
    pipe.delay()
    asking = [asyncio.ensure_future(world.exchange(gate)) for _ in range(4)]
    await asyncio.sleep(0.02)
    pipe.lose_clients()
    answers = await asyncio.gather(*asking)
    assert {type(answer) for answer in answers} == {Grant}
    await world.settles_down(gate)
    pipe.deliver()
    await asyncio.sleep(0.05)
    await world.settles_down(gate)
    await world.assert_books()


async def test_what_was_granted_under_a_boot_that_ended_is_given_back(
    world: World, pipe: Pipe
) -> None:
    """The answer is lost, and meanwhile the replica was taken for dead: it asks again under its new boot, and frees the old leases."""
    gate = await world.gate(admit_url=pipe.url)
    await world.exchange(gate)
    await world.settles_down(gate)
    pipe.cut_down_after, pipe.shut = 0, True
    asking = [asyncio.ensure_future(world.exchange(gate)) for _ in range(4)]
    await until(lambda: not gate._admission._lane.connected)
    assert await world.leases() == 4
    await world.client.zadd(FIRST.beats, {gate.boot.member: -1})
    pipe.shut = False
    assert {type(answer) for answer in await asyncio.gather(*asking)} == {Grant}
    await world.settles_down(gate)
    await world.assert_books()


async def test_callers_that_leave_while_the_lane_is_away_leave_no_lease(
    world: World, pipe: Pipe
) -> None:
    """The command may have been carried out before the cut: whoever is gone when the lane is back gives it up."""
    gate = await world.gate(admit_url=pipe.url)
    await world.exchange(gate)
    for cut in (0, 5, 60):
        pipe.cut_down_after, pipe.shut = cut, True
        callers = [asyncio.ensure_future(world.exchange(gate)) for _ in range(6)]
        await until(lambda: not gate._admission._lane.connected)
        for caller in callers[::2]:
            caller.cancel()
        pipe.shut = False
        await asyncio.gather(*callers, return_exceptions=True)
        await world.settles_down(gate)
    await world.assert_books()


# In error...


@pytest.mark.parametrize("refusal", ["OOM command not allowed", "READONLY You can't", "ERR odd"])
async def test_a_store_that_refuses_to_write_refuses_asks(
    world: World, meddler: Meddler, caplog: pytest.LogCaptureFixture, refusal: str
) -> None:
    """503 at once, one line in the log, nothing in the journal: a refusal has taken nothing."""
    gate = await world.gate(admit_url=meddler.url)
    await world.exchange(gate)
    meddler.refusal = f"-{refusal} secret-canary\r\n".encode()
    for _ in range(4):
        await refused_in_time(world, gate, 0.1)
    meddler.refusal = b""
    await until(lambda: granted_again(world, gate))
    await world.settles_down(gate)
    await world.assert_books()
    assert gate.stats.journalled == 0
    code = refusal.split(maxsplit=1)[0]
    failed, degraded, *_, back, well = told(caplog)
    assert failed == f"the store fails at admission: {code}"
    assert degraded == (
        f"degraded: the store fails ({code}); rates are held at 1 / 1 on each replica, strict budgets closed"
    )
    # A replica is left for a new connection, which may be to the new primary.
    assert told(caplog)[2:-2] in ([], ["the store fails at admission: no connection"])
    assert back.startswith("the store is back for admission after")
    assert well.startswith("no longer degraded after")


@pytest.mark.parametrize("refusal", ["LOADING the dataset", "BUSY running a script", "TRYAGAIN"])
async def test_a_store_that_is_busy_is_asked_again(
    world: World, meddler: Meddler, refusal: str
) -> None:
    """What passes by itself within an ask's time costs it nothing but time."""
    gate = await world.gate(admit_url=meddler.url, timeout_s=0.5)
    await world.exchange(gate)
    meddler.refusal = f"-{refusal}\r\n".encode()
    asking = asyncio.ensure_future(world.exchange(gate))
    await until(lambda: meddler.refused >= 3)
    meddler.refusal = b""
    assert isinstance(await asking, Grant)
    meddler.refusal = f"-{refusal}\r\n".encode()
    await refused_in_time(world, gate, 0.5)
    meddler.refusal = b""
    await until(lambda: granted_again(world, gate))
    await world.settles_down(gate)


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM"),
        ("MISCONF Redis is configured to save RDB snapshots", "MISCONF"),
        ("READONLY You can't write against a read only replica.", "READONLY"),
        ("ERR user_script:77: secret-canary script: f00", "ERR at user_script:77"),
        ("NOSCRIPT No matching script.", "NOSCRIPT"),
    ],
)
async def test_a_settlement_that_is_refused_waits_longer_each_time(
    world: World, meddler: Meddler, caplog: pytest.LogCaptureFixture, refusal: str, words: str
) -> None:
    """It neither spins nor is forgotten: pauses that double, a line in the log, a copy on disk; booked once when it can be."""
    gate = await world.gate(settle_url=meddler.url)
    pairs = [await world.granted(gate) for _ in range(3)]
    meddler.refusal = f"-{refusal}\r\n".encode()
    begun = monotonic()
    for pair in pairs:
        world.settle(gate, *pair)
    await until(lambda: meddler.refused >= 5, 30)
    # Pauses of 40, 80 and 160 ms at least.
    assert monotonic() - begun > 0.28
    assert gate.unsettled == 3
    assert len(world.journals()) == 1
    lines = told(caplog)
    assert lines[0] == f"the store fails at settlement: {words}"
    assert lines[1:] in ([], ["the store fails at settlement: no connection"])
    meddler.refusal = b""
    await world.settles_down(gate, LONGEST_PAUSE_S + 2)
    await world.assert_books()
    assert told(caplog)[-1].startswith("the store is back for settlement after")
    assert world.journals() == []


async def test_admission_goes_on_while_settlements_are_refused(
    world: World, meddler: Meddler
) -> None:
    """They have a connection each; what cannot be settled yet only holds what it holds."""
    gate = await world.gate(settle_url=meddler.url)
    meddler.refusal = b"-MISCONF full\r\n"
    answers = [await world.exchange(gate) for _ in range(10)]
    assert {type(answer) for answer in answers} == {Grant}
    assert await world.leases() == 10
    meddler.refusal = b""
    await world.settles_down(gate)
    await world.assert_books()


async def test_a_store_without_memory_recovers(world_at: WorldAt) -> None:
    """The real thing: `maxmemory` is reached, asks are refused, and when there is room again nothing is missing."""
    world, _ = world_at()
    gate = await world.gate()
    pairs = [await world.granted(gate) for _ in range(5)]
    await world.client.config_set("maxmemory", 1)
    for pair in pairs:
        world.settle(gate, *pair)
    await refused_in_time(world, gate, 0.1)
    await world.client.config_set("maxmemory", 0)
    await until(lambda: granted_again(world, gate))
    await world.settles_down(gate)
    await world.assert_books()


async def test_a_journal_that_cannot_be_written_stops_nothing(
    world: World, meddler: Meddler, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk is said; memory keeps what the disk does not take, and it is settled all the same."""
    world.journal.write_text("a file where the directory should be")
    gate = await world.gate(settle_url=meddler.url)
    pair = await world.granted(gate)
    meddler.refusal = b"-MISCONF full\r\n"
    world.settle(gate, *pair)
    await until(lambda: meddler.refused > 2)
    meddler.refusal = b""
    await world.settles_down(gate)
    await world.assert_books()
    assert "the store fails at the journal: FileExistsError: File exists" in told(caplog)


# Gone...


async def test_loss_and_return_are_each_said_once(
    world_at: WorldAt, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the number of asks and settlements meanwhile."""
    world, server = world_at()
    gate = await world.gate(timeout_s=0.1)
    pairs = [await world.granted(gate) for _ in range(20)]
    server.kill()
    for pair in pairs:
        world.settle(gate, *pair)
    for _ in range(3):
        await refused_in_time(world, gate, 0.1)
    server.start()
    await until(lambda: granted_again(world, gate))
    assert await gate.drain(5)
    lines = [line.partition(" after")[0] for line in told(caplog)]
    # Whether a beat, or seeding what the server has forgotten, meets it while it is away is chance.
    by_chance = re.compile("beat|dead|seeding")
    assert sorted(line for line in lines if not by_chance.search(line)) == [
        "degraded: the store did not answer in time; rates are held at 1 / 1 on each replica, strict budgets closed",
        "no longer degraded",
        "the store fails at admission: no connection",
        "the store fails at settlement: no connection",
        "the store is back for admission",
        "the store is back for settlement",
    ]


async def test_a_server_that_is_killed_under_load_loses_no_settlement(world_at: WorldAt) -> None:
    """SIGKILL and restart with the AOF, again and again: the totals are exactly what was settled, and nothing stays held."""
    world, server = world_at("--appendonly", "yes", "--appendfsync", "always")
    gates = [await world.gate(f"r/{n}", timeout_s=1.0) for n in range(2)]
    done = asyncio.Event()
    dice = random.Random(7)
    answers: Counter[type] = Counter()

    async def caller(gate: Gate) -> None:
        while not done.is_set():
            answers[type(await world.exchange(gate))] += 1
            await asyncio.sleep(0.001 * dice.randrange(5))

    async def more_granted(count: int) -> None:
        enough = answers[Grant] + count
        await until(lambda: answers[Grant] >= enough, within_s=60)

    callers = [asyncio.ensure_future(caller(gates[n % 2])) for n in range(24)]
    for _ in range(3):
        await more_granted(150 + dice.randrange(50))
        server.kill()
        await asyncio.sleep(0.05)
        server.start()
    await more_granted(150)
    done.set()
    await asyncio.gather(*callers)
    for gate in gates:
        await world.settles_down(gate, within_s=20)
    await world.assert_books()
    assert set(answers) <= {Grant, StoreUnavailable}
    assert answers[Grant] > 500
    assert sum(gate.stats.journalled for gate in gates) > 0
    assert world.journals() == []


async def test_what_is_unsettled_when_a_process_ends_is_settled_by_the_next(
    world_at: WorldAt,
) -> None:
    """The store is away, the process ends: its journal is replayed, once, by the first that finds it."""
    world, server = world_at("--appendonly", "yes", "--appendfsync", "always")
    gate = await world.gate(timeout_s=0.1)
    pairs = [await world.granted(gate) for _ in range(150)]
    for pair in pairs[:20]:
        world.settle(gate, *pair)
    assert await gate.drain(5)
    server.kill()
    for pair in pairs[20:]:
        world.settle(gate, *pair)
    assert not await gate.drain(0.1)
    await gate.close()
    assert gate.unsettled == 130
    server.start()
    # Two processes start at the same time, and find one orphan.
    first, second = await asyncio.gather(world.gate("r/0"), world.gate("r/1"))
    assert first.stats.replayed + second.stats.replayed == 3
    assert await world.leases() == 0
    await world.assert_books()
    assert not any((await world.in_flight()).values())
    assert world.journals() == []


async def test_a_journal_that_was_sent_before_it_was_orphaned_changes_nothing(
    world: World, meddler: Meddler
) -> None:
    """The batch had arrived, only its answer had not: replayed, it is SEEN."""
    gate = await world.gate(settle_url=meddler.url)
    pairs = [await world.granted(gate) for _ in range(3)]
    for pair in pairs[:2]:
        world.settle(gate, *pair)
    await gate.drain(5)
    # As if the process had died between the answer and the deletion.
    journal = Journal(world.journal, "r_0")
    journal.append(world_batch(gate, world, pairs[:2]))
    journal.close()
    following = await world.gate("r/1")
    assert following.stats.replayed == 1
    await world.assert_books()
    world.settle(gate, *pairs[2])
    await world.settles_down(gate)
    await world.assert_books()


def world_batch(gate: Gate, world: World, pairs: list[Any]) -> Any:
    settlements = [world.settlement(*pair) for pair in pairs]
    return settle_command(gate._settling._script.sha, gate.boot, 1, settlements)


async def test_a_journal_whose_tail_was_cut_is_replayed_up_to_it(world_at: WorldAt) -> None:
    """What stands whole is booked; the rest is charged by the reaper, like everything that dies with a process."""
    world, server = world_at("--appendonly", "yes", "--appendfsync", "always")
    gate = await world.gate(timeout_s=1.0)
    pairs = [await world.granted(gate) for _ in range(130)]
    server.kill()
    for pair in pairs:
        world.settle(gate, *pair)
    await gate.drain(0.05)
    await gate.close()
    [journal] = world.journals()
    os.truncate(journal, journal.stat().st_size - 7)
    server.start()
    following = await world.gate()
    assert following.stats.replayed == 2
    assert await world.totals() == (128, sum(world.settled[:128]))
    assert await world.leases() == 2
    assert world.journals() == []
    await world.client.zadd("{c0}:r", {gate.boot.member: 0})
    assert await reap(world.client) == 2


@pytest.mark.parametrize(
    "nonsense",
    [
        *(b"\xc1garbage", b"\x93\x01\x02\x03", b"\xa4text", b"\x92\xa4EVAL\xc0"),
        *(b"\x91\xa7EVALSHA", b"\x91\xa7GRANTED", b"\x94\xa7EVALSHA\x01\xc0\x02"),
    ],
)
async def test_a_journal_that_cannot_be_read_keeps_nobody_from_starting(
    world: World, caplog: pytest.LogCaptureFixture, nonsense: bytes
) -> None:
    """It is said and left where it is; the others are replayed."""
    world.journal.mkdir()
    odd = world.journal / "a.1.journal"
    odd.write_bytes(nonsense)
    gate = await world.gate()
    assert odd.exists()
    [line] = told(caplog)
    assert line.startswith("the journal a.1.journal cannot be replayed: ")
    assert isinstance(await world.exchange(gate), Grant)


async def test_a_journal_that_the_server_refuses_keeps_nobody_from_starting(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A command that no script takes stays for whoever can tell what it is."""
    journal = Journal(world.journal, "old")
    journal.append(("EVALSHA", "f" * 40, 1, "key", "not", "what", "settle", "takes"))
    journal.close()
    await world.gate()
    [line] = told(caplog)
    assert line.startswith("the journal old.1.journal cannot be replayed: ")
    assert len(world.journals()) == 1


async def test_journals_of_the_living_are_left_alone(world: World, meddler: Meddler) -> None:
    """A worker that starts beside one in trouble does not take its file."""
    gate = await world.gate(settle_url=meddler.url)
    pair = await world.granted(gate)
    meddler.refusal = b"-MISCONF full\r\n"
    world.settle(gate, *pair)
    await until(lambda: world.journal.exists() and bool(world.journals()))
    other = await world.gate("r/1")
    assert other.stats.replayed == 0
    meddler.refusal = b""
    await world.settles_down(gate)
    await world.assert_books()


async def test_the_gate_closes_in_time_while_the_store_is_away(world_at: WorldAt) -> None:
    """A shutdown does not wait for a store that does not come back; asks that wait are refused."""
    world, server = world_at()
    gate = await world.gate(timeout_s=5.0)
    pair = await world.granted(gate)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        waiting = [gate.admit(world.ask()) for _ in range(3)]
        world.settle(gate, *pair)
        await asyncio.sleep(0.05)
        async with within(2.5):
            await gate.close()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert len(world.journals()) == 1
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await world.client.zadd("{c0}:r", {gate.boot.member: 0})
    await until(lambda: nothing_held(world))
    following = await world.gate("r/0")
    assert following.stats.replayed == 1
    assert (await world.totals())[1] >= sum(world.settled)


async def nothing_held(world: World) -> bool:
    await reap(world.client)
    return not await world.leases() and not any((await world.in_flight()).values())


async def test_a_limit_holds_through_an_outage(world_at: WorldAt) -> None:
    """Ten places stay ten: what was granted without an answer is counted until it is given back, and then is free again."""
    world, server = world_at()
    world.limits[KEY] = Limits(concurrency=10)
    gate = await world.gate(timeout_s=0.1)
    held = [await world.granted(gate) for _ in range(4)]
    os.kill(server.pid, signal.SIGSTOP)
    try:
        await refused_in_time(world, gate, 0.1, count=9)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await until(lambda: free_places(world, gate, 6))
    for pair in held:
        world.settle(gate, *pair)
    await world.settles_down(gate)
    await world.assert_books()


async def free_places(world: World, gate: Gate, wanted: int) -> bool:
    asks = [world.ask() for _ in range(12)]
    answers = await asyncio.gather(*(gate.admit(ask) for ask in asks), return_exceptions=True)
    granted = [(ask, one) for ask, one in zip(asks, answers, strict=True) if isinstance(one, Grant)]
    assert len(granted) <= wanted
    for ask, _ in granted:
        gate.abandon(ask)
    await gate.drain(5)
    return len(granted) == wanted


def test_paths_of_this_test_are_short_enough_for_sockets(redis_server: RedisServer) -> None:
    """A unix socket's path may have about a hundred bytes; a longer one would fail for the wrong reason."""
    assert len(str(Path(redis_server.socket))) < 90
