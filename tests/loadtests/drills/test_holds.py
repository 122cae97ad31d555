"""Laws of reading what is held, against what the scripts have really written."""

import msgpack
from redis.asyncio import Redis

from loadtests.drills.holds import held_in, lease_keys, read_holds


def state(in_flight: int = 0, *held: int, rates: int = 0, deployment: bool = False) -> bytes:
    """Pack a scope's state as the scripts do, with a tat for each rate and a row for each budget."""
    shape = 2**rates - 1
    rows = [each for kind, of in enumerate(held, 1) for each in (kind, 9, 5, of, 50, 4)]
    health = [7] * 5 if deployment else []
    return bytes(msgpack.packb([shape, in_flight, *health, *[8.5] * rates, *rows]))


def test_a_state_holds_calls_and_money():
    """In flight, and what all budgets hold; a scope without a state holds nothing."""
    assert held_in(None) == (0, 0)
    assert held_in(state()) == (0, 0)
    assert held_in(state(3, 10, 20, 30)) == (3, 60)
    assert held_in(state(3, 10, rates=2)) == (3, 10)
    assert held_in(state(3, 10, rates=1, deployment=True), deployment=True) == (3, 10)


async def test_only_what_is_held_is_told(redis_client: Redis):
    """Leases by replica, calls and money by scope, entries that wait; empty when there is none of it."""
    assert (await read_holds(redis_client)).is_empty()
    await redis_client.hset("{c0}:s:team:o/t", "s2", state(1, 7))
    await redis_client.hset("{c0}:s:org:o", mapping={"l2": b"x", "s2": state()})
    await redis_client.hset("{c0}:d:m/p", "s2", state(2, deployment=True))
    await redis_client.hset("{c0}:l:host/3.abc", "r.1", "lease")
    await redis_client.xadd("{c0}:led", {"e": "x"})
    found = await read_holds(redis_client)
    assert found.in_flight == {"s:team:o/t": 1, "d:m/p": 2}
    assert found.held_nusd == {"s:team:o/t": 7}
    assert found.leases == {"host/3.abc": 1}
    assert found.waiting == 1
    assert not found.is_empty()
    assert await lease_keys(redis_client, "/3.") == ["{c0}:l:host/3.abc"]
    assert await lease_keys(redis_client, "/1.") == []
