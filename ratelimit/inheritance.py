"""
What dead processes of this machine leave, and whoever finds it takes over: the next edge that starts, or a witness.

Settlements in a journal are sent.
What was granted while the store was away, and was open at the end, is booked: nobody but the dead knew of these calls.
They get the leases that they would have had, under a boot of their own, and the word that its process is dead: so the reaper
frees and charges them like all others whose replica died.
Then the store is told who is dead.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Final

import hiredis
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from ratelimit.asks import Boot, boot_of
from ratelimit.commands import BATCH, asserted_by, asserting_only, numbered, settled_by
from ratelimit.journal import GRANTED, KNOWN, STREAMED, Command, Orphan, journal_of, orphans
from ratelimit.lives import DEAD, members_of, tell_of_the_dead
from ratelimit.troubles import words
from ratelimit.upkeep import run
from store import scripts, topology
from store.cells import FIRST, Cell, cell

# The reaper may come between the word that a boot lives and what is asserted under it.
_TRIES: Final = 3
_ANSWERS_WITHIN_S: Final = 5.0
_PAUSE_S: Final = 1.0
_GIVES_UP_AFTER_S: Final = 86_400.0

log = logging.getLogger("penstock.gate")


async def inherit(client: Redis, directory: Path, cell: Cell = FIRST) -> int:
    """
    Take over what dead processes have left in the directory of a cell's journals.

    What cannot be read is said in the log and left there. Returns how many batches were sent; raises what redis-py raises.
    """
    sent = 0
    for orphan in orphans(directory):
        done = False
        try:
            sent += await _replay(client, orphan, cell)
            done = True
        except (OutOfMemoryError, ReadOnlyError):
            # It passes: whoever asked tries again.
            raise
        except (ResponseError, ValueError, LookupError, TypeError) as error:
            log.error("the journal %s cannot be replayed: %s", orphan.path.name, words(error))
        finally:
            if done:
                orphan.remove()
            else:
                orphan.leave()
    async with asyncio.timeout(_ANSWERS_WITHIN_S):
        await tell_of_the_dead(client, directory, cell)
    return sent


async def inherit_all(url: str, journal: Path, cells: int, *, hurried: Callable[[], bool]) -> None:
    """
    Take over in every cell, and try again until the store has answered, for a day.

    `hurried` asks whether there is no time for another try. Raises `store.topology.BadStoreUrl`.
    """
    give_up_at = monotonic() + _GIVES_UP_AFTER_S

    async def in_one(where: Cell) -> None:
        async with contextlib.aclosing(topology.client(url, cell=where)) as client:
            while True:
                try:
                    await inherit(client, journal_of(journal, where), where)
                except (RedisError, OSError, hiredis.HiredisError) as error:
                    log.warning("the store cannot be told who is dead: %s", words(error))
                else:
                    return
                if hurried() or monotonic() > give_up_at:
                    return
                await asyncio.sleep(_PAUSE_S)

    await asyncio.gather(*(in_one(cell(number)) for number in range(cells)))


class _Left:
    """What a dead process has left: commands that settle, and attempts that are open for all that it has written."""

    def __init__(self) -> None:
        self.settling: list[Command] = []
        self.streamed: dict[Any, Any] = {}
        self._granted: dict[str, Command] = {}
        self._known: set[Any] = set()

    def take(self, record: Command) -> None:
        """Take the next record of its journal."""
        word, rest = record[0], record[1:]
        if word == GRANTED:
            self._granted |= dict.fromkeys(asserted_by(rest), rest)
        elif word == KNOWN:
            self._known.update(rest)
        elif word == STREAMED:
            self.streamed |= dict(zip(rest[::2], rest[1::2], strict=True))
        else:
            self.settling.append(record)
            self._known.update(settled_by(record))

    @property
    def open(self) -> dict[str, Command]:
        """The attempts that nobody else knows of, each with the command that asserts it."""
        return {name: one for name, one in self._granted.items() if name not in self._known}


async def _replay(client: Redis, orphan: Orphan, cell: Cell) -> int:
    """Send an orphan's commands, and book what it had open. Returns how many were sent."""
    script = scripts.load("ratelimit", "settle")
    left = _Left()
    try:
        for record in orphan.records():
            left.take(record)
    finally:
        # What stands before something odd is whole. A store takes no number behind a higher one, and what it had forgotten
        # was written behind what came later.
        for command in sorted(left.settling, key=numbered):
            # Another version of the script may have made it; its arguments are the same.
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                await client.eval(script.text, int(command[2]), *command[3:])
    former = [boot_of(one, cell) for one in members_of(orphan.path)]
    async with asyncio.timeout(_ANSWERS_WITHIN_S):
        await book_open(client, left.open, left.streamed, former, cell)
    return len(left.settling)


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
            await _assert(client, heir, asserting_only(command, unknown))
            booked += len(unknown)
        # Also where somebody has asserted who could not say this any more: nobody else would.
        await _report(client, heir, [(name, streamed[name]) for name in names if name in streamed])
        await client.zadd(cell.beats, {heir.member: DEAD}, xx=True)
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


async def _assert(client: Redis, heir: Boot, command: Command) -> None:
    """Assert leases under a boot that lives for no longer than that takes."""
    script = scripts.load("ratelimit", "assert")
    beats = heir.cell.beats
    for _ in range(_TRIES):
        await run(client, "beat", [beats], ["", heir.member, 0, 1])
        answer = await client.eval(script.text, int(command[2]), *command[3:])
        if answer != b"FENCED":
            return
    raise ResponseError("a boot that has just begun is fenced")


async def _report(client: Redis, boot: Boot, parts: Iterable[tuple[str, int]]) -> None:
    """Say what streams under a boot had given."""
    flat = [each for row in parts for each in row]
    for start in range(0, len(flat), 2 * BATCH):
        await run(client, "progress", [boot.leases, boot.parts], flat[start : start + 2 * BATCH])
