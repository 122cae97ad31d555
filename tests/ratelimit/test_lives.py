"""Whether a silent process is dead: its lock says so, and what follows for what it reserved."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import redis.asyncio

from config.quotas import Budget
from ratelimit import gate as gate_module
from ratelimit import settling as settling_module
from ratelimit.asks import boot_of
from ratelimit.journal import Journal, orphans
from ratelimit.lives import DEAD, Life, tell_of_the_dead
from ratelimit.upkeep import reap
from store.cells import FIRST
from store.places import CHECKOUT
from tests.ratelimit.gates import KEY, World, until

MEMBER = "r/0.1"
STRICT = Budget(usd=1, per="day", mode="strict")


async def beats(client: redis.asyncio.Redis) -> dict[str, float]:
    """Return how every boot stands."""
    found = await client.zrange(FIRST.beats, 0, -1, withscores=True)
    return {member.decode(): score for member, score in found}


def alive(folder: Path) -> "subprocess.Popen[bytes]":
    """Start a process that lives, and says so."""
    code = (
        "import sys, time; from pathlib import Path; from ratelimit.lives import Life;"
        f" Life(Path(sys.argv[1]), 'r_0.1').begin({MEMBER!r}); print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], cwd=CHECKOUT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def replay(folder: Path) -> None:
    """Do as whoever replays journals."""
    for one in orphans(folder):
        one.remove()


async def test_whoever_holds_its_lock_lives(
    redis_client: redis.asyncio.Redis, tmp_path: Path
) -> None:
    """Given up, it is told of, with every boot that it had, and forgotten; what the store does not know stays so."""
    await redis_client.zadd(FIRST.beats, {MEMBER: 5, "r/0.2": 10**15, "r/1.1": 6})
    life = Life(tmp_path, "r_0.1")
    for member in (MEMBER, "r/0.2", "r/0.3"):
        life.begin(member)
    assert await tell_of_the_dead(redis_client, tmp_path) == 0
    life.leave()
    assert await tell_of_the_dead(redis_client, tmp_path) == 3
    assert await beats(redis_client) == {MEMBER: DEAD, "r/0.2": DEAD, "r/1.1": 6}
    assert await tell_of_the_dead(redis_client, tmp_path) == 0
    assert await tell_of_the_dead(redis_client, tmp_path / "nowhere") == 0


async def test_a_process_that_is_suspended_is_not_dead(
    redis_client: redis.asyncio.Redis, tmp_path: Path
) -> None:
    """Killed, it is: the kernel gives up its lock, and nothing else does."""
    await redis_client.zadd(FIRST.beats, {MEMBER: 0})
    with alive(tmp_path) as process:
        process.send_signal(signal.SIGSTOP)
        assert await tell_of_the_dead(redis_client, tmp_path) == 0
        process.kill()
        process.wait()
    assert await tell_of_the_dead(redis_client, tmp_path) == 1
    assert await beats(redis_client) == {MEMBER: DEAD}


async def test_who_has_something_to_settle_yet_is_left_alone(
    redis_client: redis.asyncio.Redis, tmp_path: Path
) -> None:
    """Somebody replays its journal first."""
    life, journal = Life(tmp_path, "r_0.1"), Journal(tmp_path, "r_0.1")
    life.begin(MEMBER)
    journal.append(("EVALSHA", "f" * 40, 0))
    journal.close()
    life.leave()
    assert await tell_of_the_dead(redis_client, tmp_path) == 0
    replay(tmp_path)
    assert await tell_of_the_dead(redis_client, tmp_path) == 1


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("elsewhere 0b2c", 0),
        ("elsewhere \udcff", 0),
        (f"{os.uname().nodename} of-an-earlier-start", 1),
        ("", 0),
    ],
    ids=[
        "another machine",
        "nonsense",
        "this machine, before it started anew",
        "killed before it wrote",
    ],
)
async def test_a_lock_of_another_machine_is_not_believed(
    redis_client: redis.asyncio.Redis, tmp_path: Path, where: str, told: int
) -> None:
    """In a directory that machines share, it may be held there and free here."""
    path = tmp_path / "r_0.1.life"
    path.write_bytes(os.fsencode(f"{where}\n{MEMBER}\n" if where else ""))
    assert await tell_of_the_dead(redis_client, tmp_path) == told
    assert path.exists() == where.startswith("elsewhere")


async def test_a_gate_that_ends_well_is_dead_at_once(world: World) -> None:
    """Nothing stays of what it reserved, and no file."""
    world.budgets[KEY] = (STRICT,)
    gate = await world.gate()
    await world.reckon()
    await world.granted(gate)
    assert [path.suffix for path in world.journal.iterdir()] == [".life"]
    await gate.close()
    assert list(world.journal.iterdir()) == []
    assert await reap(world.client) == 1
    assert await world.client.exists(FIRST.beats) == 0
    assert (await world.scope(KEY)).budgets["day"].held_nusd == 0


async def test_a_gate_that_could_not_write_its_life_down_ends_as_well(world: World) -> None:
    """That it is over it knows itself."""
    world.journal.write_text("no folder")
    gate = await world.gate()
    await gate.close()
    assert await beats(world.client) == {gate.boot.member: DEAD}


async def test_what_was_killed_is_told_of_by_the_next_that_starts(world: World) -> None:
    """What its strict budgets reserved stayed until then, also beyond the reaper."""
    world.budgets[KEY] = (STRICT,)
    gate = await world.gate()
    await world.reckon()
    ask, _ = await world.granted(gate)
    boot = gate.boot
    await world.client.zadd(FIRST.beats, {boot.member: 0})
    assert await reap(world.client) == 1
    scope = await world.scope(KEY)
    assert (scope.in_flight, scope.budgets["day"].held_nusd) == (0, ask.cap)
    # As the kernel does when a process is killed.
    gate._life.leave()
    await world.gate("r/1")
    assert await reap(world.client) == 0
    assert (await world.scope(KEY)).budgets["day"].held_nusd == 0
    assert (await beats(world.client)).keys() == {world.gates[1].boot.member}


async def test_a_life_that_has_settled_everything_is_told_to_be_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the replica itself, under its next one: then what is remembered of it may be forgotten, and not before."""
    monkeypatch.setattr(gate_module, "LINGERS_S", 0.0)
    monkeypatch.setattr(gate_module, "BEAT_S", 0.05)
    monkeypatch.setattr(settling_module, "KEEP_S", 0.1)
    world.budgets[KEY] = (STRICT,)
    gate = await world.gate()
    await world.reckon()
    pair = await world.granted(gate)
    boot = gate.boot
    await world.client.zadd(FIRST.beats, {boot.member: 0})
    assert await reap(world.client) == 1
    await until(lambda: gate.boot is not boot)
    reborn = gate.boot

    async def beaten_since(before: float) -> bool:
        return (await beats(world.client)).get(reborn.member, 0) > before

    for _ in range(2):
        await until(partial(beaten_since, (await beats(world.client)).get(reborn.member, 0)))
    assert (await beats(world.client))[boot.member] < DEAD
    world.settle(gate, *pair)

    async def is_told() -> bool:
        # What is confirmed later lets what was confirmed before grow old.
        await world.exchange(gate)
        return (await beats(world.client))[boot.member] == DEAD

    await until(is_told)
    assert await reap(world.client) == 0
    assert (await beats(world.client)).keys() == {reborn.member}
    assert 0 < await world.client.ttl(boot.graves) <= 7 * 86400
    assert (await world.scope(KEY)).budgets["day"].held_nusd == 0


async def test_a_replica_that_comes_back_settles_within_what_it_reserved(world: World) -> None:
    """Its attempts of before are corrected, and nothing more stays."""
    world.budgets[KEY] = (STRICT,)
    gate = await world.gate()
    await world.reckon()
    pair = await world.granted(gate)
    boot = gate.boot
    await world.client.zadd(FIRST.beats, {boot.member: 0})
    assert await reap(world.client) == 1
    await until(lambda: gate.boot is not boot)
    world.settle(gate, *pair)
    await world.settles_down(gate)
    budget = (await world.scope(KEY)).budgets["day"]
    assert (budget.spent_nusd, budget.held_nusd) == (world.settled[-1], 0)
    assert await world.client.hlen(boot_of(boot.member).graves) == 1
    await gate.close()
    assert (await beats(world.client))[boot.member] == DEAD
