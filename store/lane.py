"""
The lane: one connection that carries the hot path's script calls.

It does nothing else: no pool, no lock, no task per call.
Everything that is not admit or settle goes through redis-py.

Where a URL names Sentinels or a cluster, the lane goes to the primary, and to the next one after a failover: it leaves a
server that says that it is no primary any more, and asks the Sentinels every two seconds, since a primary that is cut
off from them does not know that there is another.

Failure stance: a lane that loses its connection fails every call that is under way with `LaneLost` and reconnects by itself.
A failed call may have been carried out; only the caller knows whether it may be repeated.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import hiredis

from store.chores import Chore, Chores
from store.finder import Finder, NoPrimary
from store.target import Address, Target
from store.wire import Callback, LaneLost, Wire, Word

__all__ = ["Lane", "LaneLost"]

LOOK_EVERY_S = 2.0
"""How often it is made sure that a primary which answers is still the one."""

_SHORTEST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.2

_log = logging.getLogger("penstock.store")


class Lane:
    """
    A connection to one Redis for EVALSHA calls, kept alive.

    `call` is synchronous and its callback gets the decoded answer, a `hiredis.ReplyError`, or `LaneLost`.
    """

    def __init__(self, target: Target, *, on_connect: Callable[[], None] | None = None) -> None:
        self._target = target
        self._finder = Finder(target)
        self._at: Address | None = None
        self._wire: Wire | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._down = asyncio.Event()
        self._on_connect = on_connect
        self._lives = 0

    @property
    def lives(self) -> int:
        """Return how many connections there have been: another number, and the store may have forgotten."""
        return self._lives

    @property
    def connected(self) -> bool:
        """Whether a call made now would be sent."""
        return self._wire is not None

    @property
    def buffered(self) -> int:
        """Return how many bytes wait to be sent."""
        wire = self._wire
        if wire is None or wire.transport is None:
            return 0
        return wire.transport.get_write_buffer_size()

    async def start(self, *, timeout_s: float = 5.0) -> None:
        """Connect, and stay connected until `close`. Raises `LaneLost` when the first try fails."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._connect()
        except (OSError, TimeoutError, hiredis.HiredisError) as error:
            raise LaneLost(f"cannot reach the store at {self._target}: {error}") from error
        # Whatever fails in it, it is begun anew: without it the hot path has no store.
        keeper = Chores((Chore("lane", self._keep),))
        self._keeper = asyncio.get_running_loop().create_task(keeper.run())

    async def close(self) -> None:
        """Close the connection and stop reconnecting."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        wire, self._wire = self._wire, None
        if wire is not None and wire.transport is not None:
            wire.transport.close()

    def call(self, callback: Callback, *command: Word) -> None:
        """Send one command. Raises `LaneLost` when there is no connection; nothing was sent then."""
        wire = self._wire
        if wire is None:
            raise LaneLost("no connection to the store")
        wire.call(callback, *command)

    def drop(self) -> None:
        """Abandon a connection that does not answer; the calls under way fail, a new one is made."""
        if self._wire is not None:
            self._wire.abort()

    async def ask(self, *command: Word) -> Any:
        """Send one command that is not of the hot path, and return its answer; a refusal is raised."""
        if self._wire is None:
            raise LaneLost("no connection to the store")
        return await self._wire.ask(*command)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause = _SHORTEST_PAUSE_S
        while True:
            begun = loop.time()
            await self._lose()
            if loop.time() - begun > _LONGEST_PAUSE_S:
                pause = _SHORTEST_PAUSE_S
            elif self._finder.elsewhere:
                # Turned away as soon as it was there: who is the primary is not settled yet.
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
            while self._wire is None:
                try:
                    async with asyncio.timeout(5.0):
                        await self._connect()
                except (OSError, TimeoutError, hiredis.HiredisError):
                    await asyncio.sleep(pause)
                    # Callers wait for about a second: a store that is back has to be found sooner.
                    pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _lose(self) -> None:
        """Wait until the connection is lost; leave it when another server has become the primary."""
        if not self._finder.may_be_deceived():
            await self._down.wait()
            return
        while not self._down.is_set():
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._down.wait()
            except TimeoutError:
                await self._look()

    async def _look(self) -> None:
        try:
            primary = await self._finder.primary()
        except NoPrimary:
            # Nobody knows better.
            return
        if primary != self._at:
            self.drop()

    async def _connect(self) -> None:
        address = await self._finder.primary()
        wire = await Wire.open(
            self._target,
            address,
            self._target.greeting(),
            lost=self._lost,
            elsewhere=self._finder.elsewhere,
            ask_role=self._finder.must_ask_role(),
        )
        if self._at not in {None, address}:
            _log.warning("the store is at %s now, and was at %s", address, self._at)
        self._wire = wire
        self._at = address
        self._lives += 1
        self._down.clear()
        if self._on_connect is not None:
            self._on_connect()

    def _lost(self, wire: Wire) -> None:
        if self._wire is wire:
            self._wire = None
            self._down.set()
