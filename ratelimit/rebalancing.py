"""
Dividing limits over cells: what `ratelimit.shares` decides, carried out so that the shares never exceed what is divided.

One division:

1. A turn is taken in every cell, which says what it has and how much of it is in use (`lua/share.lua`).
   From then on nobody can write whose turn was before, so that two who divide at a time do no harm.
2. Shares that become smaller are written; each cell confirms it, and says what is in flight there.
3. Only then shares that become larger are written, and not beyond what is in flight elsewhere.

Failure stance: a cell that does not answer keeps its share, which nobody else knows; until it answers, no share grows anywhere.
Where a cell has replicas, what became smaller has to reach one before anything grows: a failover must not bring it back.
What a failover loses all the same is found, and taken back, at the next division.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from time import time_ns
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from config.models import Config
from config.quotas import Limits
from ratelimit.limits import Declared, declared, decode_scope, is_divided, key_of, pack_share
from ratelimit.shares import Part, amounts, first, floors, limits_of, then, wanted
from store import scripts
from store.cells import Cell

__all__ = ["Division", "Overtaken", "divide", "divided_in"]

BATCH = 128
WITHIN_S = 2.0
REPLICA_WITHIN_MS = 500
TRIES = 5
PAUSE_MS = 40


class Overtaken(Exception):
    """Others divide at the same time, again and again; what was written before stays true."""


class Division(NamedTuple):
    """What came of one: the cells that did not answer or confirm, and how many records were written."""

    silent: tuple[Cell, ...]
    written: int


def divided_in(config: Config) -> tuple[Declared, ...]:
    """Return the scopes of a configuration whose limits are divided; none where there is one cell."""
    return tuple(scope for scope in declared(config) if is_divided(config, scope))


async def divide(
    stores: Mapping[Cell, Redis],
    scopes: Sequence[Declared],
    version: int,
    *,
    tries: int = TRIES,
    now: str = "",
) -> Division:
    """
    Divide the limits of scopes over all cells, as version `version` of the configuration declares them.

    Whoever does it again soon gives way after few `tries`. Tests pass `now`. Raises `Overtaken`.
    """
    silent: dict[Cell, None] = {}
    written = 0
    for start in range(0, len(scopes), BATCH):
        turn = _Turn(stores, scopes[start : start + BATCH], version, now)
        for _ in range(tries):
            if await turn.make():
                break
            # Who came between has to end first; two that wait equally long would meet again.
            await asyncio.sleep(secrets.randbelow(PAUSE_MS) / 1000)
        else:
            raise Overtaken
        silent.update(turn.silent)
        written += turn.written
    return Division(tuple(silent), written)


class _Turn:
    """One turn over some scopes; `silent` are the cells that have not answered in it."""

    def __init__(
        self, stores: Mapping[Cell, Redis], scopes: Sequence[Declared], version: int, now: str
    ) -> None:
        self.silent: dict[Cell, None] = {}
        self.written = 0
        self._stores = stores
        self._scopes = scopes
        self._wholes = [amounts(scope.limits) for scope in scopes]
        self._leasts = [floors(scope.limits, len(stores)) for scope in scopes]
        self._version = version
        self._now = now
        # Later than all before, but for a clock that was set back; then those say how far they are.
        self._number = time_ns() // 1000
        self._token = secrets.token_hex(8)

    async def make(self) -> bool:
        """Divide; false when somebody else's turn came between, and all is to be done again."""
        self.silent = {}
        seen = await self._ask(dict.fromkeys(self._stores, ()))
        if seen is None:
            return False
        if any(part.version > self._version for parts in seen.values() for part in parts):
            # Whoever wrote that knows better what is to be divided.
            return True
        targets = [
            wanted(whole, [seen[cell][at] if cell in seen else None for cell in self._stores])
            for at, whole in enumerate(self._wholes)
        ]
        # What becomes smaller, and what is there for another version...
        lessened = {
            cell: [
                None if part.version < 0 else first(target[n], part)
                for target, part in zip(targets, seen[cell], strict=True)
            ]
            for n, cell in enumerate(self._stores)
            if cell in seen
        }
        seen = await self._write(seen, lessened)
        if seen is None or self.silent:
            return seen is not None
        # ... then what becomes larger: by now it is surely free.
        rows = [
            then(whole, target, [seen[cell][at] for cell in self._stores])
            for at, (whole, target) in enumerate(zip(self._wholes, targets, strict=True))
        ]
        grown = {cell: [row[n] for row in rows] for n, cell in enumerate(self._stores)}
        return await self._write(seen, grown) is not None

    async def _write(
        self,
        seen: dict[Cell, list[Part]],
        shares: Mapping[Cell, Sequence[Mapping[str, int] | None]],
    ) -> dict[Cell, list[Part]] | None:
        """Write the shares that differ from what was seen; return what is there then, as `_ask` does."""
        asked = {
            cell: [
                b""
                if new is None or (part.version == self._version and part.shares == new)
                else self._packed(scope, new)
                for scope, part, new in zip(self._scopes, seen[cell], mine, strict=True)
            ]
            for cell, mine in shares.items()
        }
        asked = {cell: rows for cell, rows in asked.items() if any(rows)}
        said = await self._ask(asked)
        if said is None:
            return None
        self.written += sum(sum(map(bool, asked[cell])) for cell in said)
        return seen | said

    def _packed(self, scope: Declared, shares: Mapping[str, int]) -> bytes:
        mine = limits_of(scope.limits, shares, len(self._stores))
        return pack_share(self._version, scope, mine)

    # Asking...

    async def _ask(self, asked: Mapping[Cell, Sequence[bytes]]) -> dict[Cell, list[Part]] | None:
        """Look, or write, in cells at once; return what each that answers has, None when our turn is over."""
        answers = await asyncio.gather(*(self._ask_one(*one) for one in asked.items()))
        found: dict[Cell, list[Part]] = {}
        in_the_way = 0
        for cell, answer in zip(asked, answers, strict=True):
            if answer is None:
                self.silent[cell] = None
            elif len(answer) == 1:
                in_the_way = max(in_the_way, answer[0])
            else:
                states = zip(self._leasts, answer[2::2], answer[3::2], strict=True)
                found[cell] = [
                    _part(least, answer[1], limits, state) for least, limits, state in states
                ]
        if in_the_way:
            self._number, self._token = in_the_way + 1, secrets.token_hex(8)
            return None
        return found

    async def _ask_one(self, cell: Cell, rows: Sequence[bytes]) -> list[Any] | None:
        """Ask one cell; None when it does not answer, or what was written there may be lost by a failover."""
        store = self._stores[cell]
        keys = [cell.shares, *(key_of(scope.name, cell) for scope in self._scopes)]
        args: list[Any] = [self._now, self._number, self._token, *rows]
        text = scripts.load("ratelimit", "share").text
        try:
            async with asyncio.timeout(WITHIN_S):
                if rows and await _has_replicas(store):
                    # One after the other on one connection: WAIT speaks of what was written on its own.
                    together: Any = store.pipeline(transaction=False)
                    async with together:
                        together.eval(text, len(keys), *keys, *args)
                        together.wait(1, REPLICA_WITHIN_MS)
                        answer, reached = await together.execute()
                    return answer if reached else None
                found: list[Any] = await store.register_script(text)(keys=keys, args=args)
                return found
        except (RedisError, OSError):
            return None


async def _has_replicas(store: Any) -> bool:
    """Tell whether a server has replicas that must know what is written."""
    try:
        return bool((await store.info("replication")).get("connected_slaves", 0))
    except ResponseError:
        # Nobody may ask, as with some managed stores; they answer for their failovers themselves.
        return False


def _part(least: Limits, now_us: int, limits: bytes, state: bytes) -> Part:
    """Read what a cell has of one scope; `least` are the limits of a cell that has no more than the floors."""
    if not limits:
        return Part({}, {}, 0)
    found = decode_scope(limits, state)
    shares = {name: rate.limit for name, rate in found.rates.items()}
    used = {}
    for name, rate in found.rates.items():
        # By what is left, not by how full it is: a share that has just grown is not pressed for it.
        enough = getattr(least.burst, name) or 1
        used[name] = max(0.0, 1 - rate.remaining(name, now_us) / enough)
    if found.concurrency:
        shares["concurrency"] = found.concurrency
        used["concurrency"] = found.in_flight / found.concurrency
    return Part(shares, used, found.in_flight, found.version)
