"""
The lane: one connection that carries the hot path's script calls.

It speaks RESP with `hiredis` and does nothing else: no pool, no lock, no task per call.
Answers come back in the order of the calls (Redis guarantees it), so a deque of callbacks is all the bookkeeping there is.
Everything that is not admit or settle goes through redis-py, which also does the lane's authentication.

Failure stance: a lane that loses its connection fails every call that is under way with `LaneLost` and reconnects by itself.
A failed call may have been carried out; only the caller knows whether it may be repeated.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

from store.topology import Target

Callback = Callable[[Any], None]
Word = str | int | float | bytes | memoryview


class LaneLost(ConnectionError):
    """The lane has no connection, or lost it while a call was under way."""


class _Wire(asyncio.Protocol):
    """One life of the lane's connection."""

    def __init__(self, lost: Callable[["_Wire"], None]) -> None:
        self.waiting: deque[Callback] = deque()
        self.transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(notEnoughData=...)
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand each answer to the call that waits for it."""
        reader = self._reader
        waiting = self.waiting
        try:
            reader.feed(data)
            answer = reader.gets()
            while answer is not ... and waiting:
                waiting.popleft()(answer)
                answer = reader.gets()
        except hiredis.ProtocolError:
            self.abort()
            return
        if answer is not ...:
            # Nobody asked for it.
            self.abort()

    def abort(self) -> None:
        """Break a connection that is out of step with the server: no later answer could be trusted."""
        if self.transport is not None:
            self.transport.abort()

    def call(self, callback: Callback, *command: Word) -> None:
        """Send one command. Raises `LaneLost` when the connection is gone already."""
        if self.transport is None:
            raise LaneLost("the store closed the connection")
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub says a tuple of one
        self.waiting.append(callback)
        self.transport.write(packed)

    async def ask(self, *command: Word) -> None:
        """Send one command and wait until the server has agreed; its refusal is raised."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answered(answer: Any) -> None:
            if not done.done():
                done.set_result(answer)

        self.call(answered, *command)
        answer = await done
        if isinstance(answer, Exception):
            raise answer

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whatever was under way."""
        self.transport = None
        self._lost(self)
        while self.waiting:
            self.waiting.popleft()(LaneLost("the store closed the connection"))


class Lane:
    """
    A connection to one Redis for EVALSHA calls, kept alive.

    `call` is synchronous and its callback gets the decoded answer, a `hiredis.ReplyError`, or `LaneLost`.
    """

    def __init__(self, target: Target, *, on_connect: Callable[[], None] | None = None) -> None:
        self._target = target
        self._wire: _Wire | None = None
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
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

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

    async def _keep(self) -> None:
        pause = 0.02
        while True:
            await self._down.wait()
            try:
                async with asyncio.timeout(5.0):
                    await self._connect()
                pause = 0.02
            except (OSError, TimeoutError, hiredis.HiredisError):
                await asyncio.sleep(pause)
                # Callers wait for about a second: a store that is back has to be found sooner.
                pause = min(pause * 2, 0.2)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        target = self._target
        if target.path is not None:
            _, wire = await loop.create_unix_connection(lambda: _Wire(self._lost), target.path)
        else:
            context = None
            if target.tls:
                context = ssl.create_default_context(cafile=target.ca_file)
            _, wire = await loop.create_connection(
                lambda: _Wire(self._lost), target.host, target.port, ssl=context
            )
        try:
            for command in target.greeting():
                await wire.ask(*command)
        except BaseException:
            wire.abort()
            raise
        if wire.transport is None:
            raise LaneLost("the store closed the connection")
        self._wire = wire
        self._lives += 1
        self._down.clear()
        if self._on_connect is not None:
            self._on_connect()

    def _lost(self, wire: _Wire) -> None:
        if self._wire is wire:
            self._wire = None
            self._down.set()
