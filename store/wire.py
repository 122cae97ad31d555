"""
The wire: one connection to one server, from its greeting to its loss.

It speaks RESP2 with `hiredis`. Answers come back in the order of the calls (Redis guarantees it), so a deque of
callbacks is all the bookkeeping there is.

Failure stance: whatever is under way when the connection is lost fails with `LaneLost`, and may have been carried out.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from store.target import Address, Target

__all__ = ["Callback", "LaneLost", "Wire", "Word"]

Callback = Callable[[Any], None]
Word = str | int | float | bytes | memoryview


class LaneLost(ConnectionError):
    """There is no connection, or it was lost while a call was under way."""


class Wire(asyncio.Protocol):
    """
    One connection.

    `left` is called when it is lost. `elsewhere` are the errors by which a server says that it is not, or no longer,
    the one to ask; such an answer ends the connection: its call was not carried out, and fails as the others do.
    """

    def __init__(
        self, lost: Callable[["Wire"], None] | None = None, elsewhere: tuple[str, ...] = ()
    ) -> None:
        self.waiting: deque[Callback] = deque()
        self.transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(notEnoughData=...)
        self._lost = lost
        self._elsewhere = elsewhere

    @classmethod
    async def open(
        cls,
        target: Target,
        address: Address,
        greeting: Sequence[tuple[str, ...]],
        *,
        lost: Callable[["Wire"], None] | None = None,
        elsewhere: tuple[str, ...] = (),
        ask_role: bool = False,
    ) -> "Wire":
        """
        Connect to an address and exchange the greeting; with `ask_role`, only with a primary.

        Raises OSError (`LaneLost` among them) and what the server refuses the greeting with.
        """
        loop = asyncio.get_running_loop()

        def make() -> Wire:
            return cls(lost, elsewhere)

        if address.port:
            _, wire = await loop.create_connection(make, *address, ssl=target.tls_context())
        else:
            _, wire = await loop.create_unix_connection(make, address.host)
        try:
            for command in greeting:
                await wire.ask(*command)
            if ask_role and (await wire.ask("ROLE"))[0] != b"master":
                raise LaneLost(f"{address} is no primary")
        except BaseException:
            wire.abort()
            raise
        if wire.transport is None:
            raise LaneLost("the store closed the connection")
        return wire

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
                if answer.__class__ is hiredis.ReplyError and self._is_elsewhere(answer):
                    self.abort()
                    return
                waiting.popleft()(answer)
                answer = reader.gets()
        except hiredis.ProtocolError:
            self.abort()
            return
        if answer is not ...:
            # Nobody asked for it.
            self.abort()

    def _is_elsewhere(self, refusal: hiredis.ReplyError) -> bool:
        return str(refusal).partition(" ")[0] in self._elsewhere

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

    async def ask(self, *command: Word) -> Any:
        """Send one command and return its answer; a refusal is raised."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answered(answer: Any) -> None:
            if not done.done():
                done.set_result(answer)

        self.call(answered, *command)
        answer = await done
        if isinstance(answer, Exception):
            raise answer
        return answer

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whatever was under way."""
        self.transport = None
        if self._lost is not None:
            self._lost(self)
        while self.waiting:
            self.waiting.popleft()(LaneLost("the store closed the connection"))
