"""
What a process had granted while the store was away, and had open when it died: booked by whoever replays its journal.

Nobody but the dead knew of these calls.
They get the leases that they would have had, under a boot of their own, and the word that its process is dead: so the reaper
frees and charges them like all others whose replica died.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from ratelimit.asks import BATCH, Boot, asserted_by, asserting_only, boot_of
from ratelimit.journal import Command
from ratelimit.lives import DEAD
from ratelimit.upkeep import run
from store import scripts
from store.cells import FIRST, Cell

# The reaper may come between the word that a boot lives and what is asserted under it.
_TRIES: Final = 3

log = logging.getLogger("penstock.gate")


async def book_open(
    client: Redis,
    granted: Mapping[str, Command],
    streamed: Mapping[str, int],
    former: Sequence[Boot],
    cell: Cell = FIRST,
) -> int:
    """
    Give leases to attempts, each given with the command that asserts it, unless the store knows of them.

    `streamed` is how many tokens they had given so far; `former` are the boots under which the dead process may have asserted them itself. Returns how many; raises what redis-py raises.
    """
    booked = 0
    for command in {id(one): one for one in granted.values()}.values():
        # As it stands in the arguments, behind the time.
        heir = boot_of(str(command[3 + int(command[2]) + 1]), cell)
        names = [name for name in asserted_by(command) if granted.get(name) is command]
        unknown = await _unknown(client, names, (heir, *former))
        if unknown:
            parts = [(name, streamed[name]) for name in unknown if name in streamed]
            await _assert(client, heir, asserting_only(command, unknown), parts)
            booked += len(unknown)
    # Those that the store had granted have their leases there, unless they were reaped already.
    for boot in former:
        await _report(client, boot, streamed.items())
    if booked:
        log.warning("%d calls that a dead process had granted without the store are reaped", booked)
    return booked


async def _unknown(client: Redis, names: list[str], boots: Iterable[Boot]) -> set[str]:
    """Return the attempts that have neither lease nor tombstone under any of some boots."""
    together: Any = client.pipeline(transaction=True)
    async with together:
        for boot in boots:
            together.hmget(boot.leases, names)
            together.hmget(boot.graves, names)
        found = await together.execute()
    return {name for name, *rows in zip(names, *found, strict=True) if not any(rows)}


async def _assert(
    client: Redis, heir: Boot, command: Command, parts: list[tuple[str, int]]
) -> None:
    """Assert leases under a boot that lives for no longer than that takes."""
    script = scripts.load("ratelimit", "assert")
    beats = heir.cell.beats
    for _ in range(_TRIES):
        await run(client, "beat", [beats], ["", heir.member, 0, 1])
        answer = await client.eval(script.text, int(command[2]), *command[3:])
        if answer != b"FENCED":
            await _report(client, heir, parts)
            await client.zadd(beats, {heir.member: DEAD}, xx=True)
            return
    raise ResponseError("a boot that has just begun is fenced")


async def _report(client: Redis, boot: Boot, parts: Iterable[tuple[str, int]]) -> None:
    """Say what streams under a boot had given."""
    flat = [each for row in parts for each in row]
    for start in range(0, len(flat), 2 * BATCH):
        await run(client, "progress", [boot.leases, boot.parts], flat[start : start + 2 * BATCH])
