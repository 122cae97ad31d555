"""
What the store says is held: leases, calls in flight, budgets' reservations, entries that wait.

Read from the outside, with a decoder of its own: a packed state per scope and one hash of leases per replica, as `ratelimit/lua/scope.lua` documents them.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import msgpack
from redis.asyncio import Redis

CELL = "{c0}"
LEASES = f"{CELL}:l:"
STREAM = f"{CELL}:led"
# Of a scope's state: which limits it was written under, and calls in flight.
_SHAPE, _IN_FLIGHT = 0, 1
# A bit for each rate; then so many values of a deployment's health, a value for each rate, and rows of
# so many values for each budget, of which one is what it holds.
_RATES = 0x3FF
_HEALTH, _MONEY, _HELD = 5, 6, 3


@dataclass(slots=True)
class Holds:
    """What is held at one moment, by scope or by replica; only what is not zero stands in it."""

    leases: dict[str, int] = field(default_factory=dict)
    in_flight: dict[str, int] = field(default_factory=dict)
    held_nusd: dict[str, int] = field(default_factory=dict)
    waiting: int = 0

    def is_empty(self) -> bool:
        """Tell whether nothing is held and nothing waits."""
        return not (self.leases or self.in_flight or self.held_nusd or self.waiting)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def held_in(state: bytes | None, *, deployment: bool = False) -> tuple[int, int]:
    """Return calls in flight and nano-USD held of a scope's packed state."""
    if not state:
        return 0, 0
    values = msgpack.unpackb(state, raw=True)
    rates = (int(values[_SHAPE]) & _RATES).bit_count()
    money = values[_IN_FLIGHT + 1 + (_HEALTH if deployment else 0) + rates :]
    return int(values[_IN_FLIGHT]), int(sum(money[_HELD::_MONEY]))


async def ask(client: Redis, *command: str | bytes) -> Any:
    """Send one command as it is. Raises what redis-py raises."""
    return await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def read_holds(client: Redis) -> Holds:
    """Read what is held. Raises what redis-py raises."""
    found = Holds()
    async for name in client.scan_iter(match=f"{LEASES}*", count=1000):
        count = await ask(client, "HLEN", name)
        if count:
            found.leases[name.decode().removeprefix(LEASES)] = int(count)
    for kind in ("s", "d"):
        async for name in client.scan_iter(match=f"{CELL}:{kind}:*", count=1000):
            state = await ask(client, "HGET", name, "s2")
            in_flight, held = held_in(state, deployment=kind == "d")
            scope = name.decode().removeprefix(f"{CELL}:")
            if in_flight:
                found.in_flight[scope] = in_flight
            if held:
                found.held_nusd[scope] = held
    found.waiting = int(await ask(client, "XLEN", STREAM))
    return found


async def lease_keys(client: Redis, replica_ends: str) -> list[str]:
    """Return the keys of leases of every boot of a replica (`/3.` for worker 3)."""
    return [
        name.decode()
        async for name in client.scan_iter(match=f"{LEASES}*{replica_ends}*", count=1000)
    ]
