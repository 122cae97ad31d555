"""Upkeep through redis-py, over a real server and its own clock: seeding in portions, reading, reaping."""

import asyncio

import msgpack
import redis.asyncio

from config.quotas import Limits
from ratelimit.asks import boot_of
from ratelimit.commands import admit_command
from ratelimit.limits import pack_limits, scope_key
from ratelimit.lives import DEAD
from ratelimit.upkeep import read_scope, read_scopes, reap, run, seed
from store import scripts
from store.cells import FIRST
from tests.ratelimit.gates import World

MANY = 1000


async def test_seeding_writes_what_is_missing_or_older(redis_client: redis.asyncio.Redis) -> None:
    """In portions, as they are read, however many there are; what is newer is left, and counted out."""
    rows = [(scope_key(f"key:o/t/{n}"), pack_limits(2, Limits(rpm=n + 1))) for n in range(MANY)]
    assert await seed(redis_client, iter(rows), 2) == MANY
    assert await seed(redis_client, rows[:300], 1) == 0
    assert await seed(redis_client, rows[:300], 2) == 300
    assert await seed(redis_client, [], 3) == 0
    found = await read_scope(redis_client, "key:o/t/999")
    assert found is not None
    assert found.limit("rpm") == MANY
    assert await read_scope(redis_client, "key:o/t/unknown") is None
    names = [f"key:o/t/{n}" for n in range(MANY + 1)]
    *known, unknown = await read_scopes(redis_client, names)
    assert [each and each.limit("rpm") for each in known] == [n + 1 for n in range(MANY)]
    assert unknown is None


async def asked_one_field(client: redis.asyncio.Redis) -> int:
    """Return how often this server was asked for one field of a hash."""
    return int((await client.info("commandstats")).get("cmdstat_hget", {"calls": 0})["calls"])


async def test_only_of_users_is_it_asked_what_holds_for_all(
    redis_client: redis.asyncio.Redis,
) -> None:
    """Of those of their own organization, which is asked once; whoever is no user has the limits of nobody else."""
    limits = pack_limits(2, Limits(rpm=7))
    await seed(redis_client, [(scope_key("users:"), limits), (scope_key("users:o"), limits)], 2)
    names = ["key:o/t/k", "user:o#ann", "user:p#ann", "user:o#bob"]
    before = await asked_one_field(redis_client)
    found = await read_scopes(redis_client, names)
    assert [one and one.limit("rpm") for one in found] == [None, 7, None, 7]
    assert await asked_one_field(redis_client) - before == 2


async def test_a_deployment_is_read_by_its_id(world: World) -> None:
    """Its state lies under another key than those of callers and models."""
    gate = await world.gate()
    await world.granted(gate, excluded=(2,))
    assert (await world.scope("deployment:d1")).in_flight == 1
    assert (await world.scope("deployment:d2")).in_flight == 0


async def test_cold_scripts_survive_a_flush_of_scripts(redis_client: redis.asyncio.Redis) -> None:
    """They are loaded when the server has not got them."""
    for _ in range(2):
        await redis_client.script_flush()
        assert await run(redis_client, "beat", [FIRST.beats], ["", "r/0.1", 5_000_000, 1]) == b"OK"


async def die_with(world: World, member: str, attempts: int) -> None:
    """Leave a boot that is known to be dead with many leases, admitted by itself."""
    boot = boot_of(member)
    await world.seed(
        [scope_key(scope) for scope in world.limits if ":" in scope] + list(world.plan.keys)
    )
    await run(world.client, "beat", [FIRST.beats], ["", member, 60_000_000, 1])
    script = scripts.load("ratelimit", "admit")
    await world.client.script_load(script.text)
    for start in range(0, attempts, 50):
        asks = [world.ask() for _ in range(min(50, attempts - start))]
        answers = await world.client.execute_command(
            *admit_command(script.sha, boot, asks, number=start + 1)
        )
        assert all(msgpack.unpackb(answer)[0] == 1 for answer in answers)
    await world.client.zadd(FIRST.beats, {member: DEAD})


async def test_a_dead_replica_with_many_leases_is_freed_whole(world: World) -> None:
    """More than fit into one call, or into one page of a scan."""
    await die_with(world, "dead/0.1", MANY)
    assert await world.leases() == MANY
    assert await reap(world.client) == MANY
    assert await world.leases() == 0
    assert not any((await world.in_flight()).values())
    assert await world.totals() == (MANY, MANY * 10)
    assert await world.client.exists(FIRST.beats) == 0
    assert await reap(world.client) == 0


async def test_a_scan_that_finds_nothing_on_a_page_goes_on(world: World) -> None:
    """A table that was emptied may have pages without a single lease before those that are left."""
    await die_with(world, "dead/0.1", MANY)
    boot = boot_of("dead/0.1")
    order = [one async for one, _ in world.client.hscan_iter(boot.leases)]
    await world.client.hdel(boot.leases, *order[:-3])
    assert await reap(world.client) == 3
    assert await world.client.exists(FIRST.beats, boot.leases) == 0


async def test_several_reapers_take_each_lease_once(world: World) -> None:
    """They may run at the same time on several machines."""
    for n in range(3):
        await die_with(world, f"dead/{n}.1", 200)
    reaped = await asyncio.gather(*(reap(world.client) for _ in range(4)))
    assert sum(reaped) == 600
    assert await world.totals() == (600, 6000)
    assert not any((await world.in_flight()).values())


async def test_the_living_keep_what_they_hold(world: World) -> None:
    """Only whose beats have ended is reaped."""
    gate = await world.gate()
    pair = await world.granted(gate)
    await die_with(world, "dead/0.1", 10)
    assert await reap(world.client) == 10
    assert await world.leases() == 1
    world.settle(gate, *pair)
    await world.settles_down(gate)
