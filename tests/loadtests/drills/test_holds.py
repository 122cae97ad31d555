"""Laws of reading what is held, against what the scripts have really written."""

import msgpack
from redis.asyncio import Redis

from loadtests.drills.holds import held_in, lease_keys, read_holds

NOTHING = [0] * 17


def state(**said: float) -> bytes:
    """Pack a scope's state as the scripts do."""
    at = {"in_flight": 2, "day": 5, "week": 8, "month": 11}
    values: list[float] = list(NOTHING)
    for name, value in said.items():
        values[at[name]] = value
    return bytes(msgpack.packb(values))


def test_a_state_holds_calls_and_money():
    """In flight, and what all three budgets hold; a scope without a state holds nothing."""
    assert held_in(None) == (0, 0)
    assert held_in(state()) == (0, 0)
    assert held_in(state(in_flight=3, day=10, week=20, month=30.0)) == (3, 60)


async def test_only_what_is_held_is_told(redis_client: Redis):
    """Leases by replica, calls and money by scope, entries that wait; empty when there is none of it."""
    assert (await read_holds(redis_client)).is_empty()
    await redis_client.hset("{c0}:s:team:o/t", "s", state(in_flight=1, day=7))
    await redis_client.hset("{c0}:s:org:o", mapping={"l": b"x", "s": state()})
    await redis_client.hset("{c0}:d:m/p", "s", state(in_flight=2))
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
