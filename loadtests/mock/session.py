"""A realtime session on a connection of the mock vendor: its responses are calls of the books, one after another."""

import asyncio
from collections import deque
from typing import Any

import msgspec

from loadtests.mock import realtime
from loadtests.mock.behaviour import Behaviour
from loadtests.mock.vendor import Vendor


class Session:
    """A realtime session on a connection: its responses are calls of the books, one after another."""

    def __init__(self, vendor: Vendor, transport: asyncio.Transport, behaviour: Behaviour) -> None:
        self._vendor = vendor
        self._transport = transport
        self._talk = realtime.Talk(behaviour, vendor.next_id())
        self._frames = realtime.Frames()
        self._coming: deque[dict[str, Any]] = deque()
        self._said = 0
        self._timer: asyncio.TimerHandle | None = None
        self._answering = False
        transport.write(realtime.written(self._talk.greeting()))

    def feed(self, data: bytes) -> None:
        """Take what the client sent."""
        try:
            for opcode, payload in self._frames.feed(data):
                if realtime.is_close(opcode):
                    self._transport.write(realtime.closing(1000))
                    self._transport.close()
                elif realtime.is_ping(opcode):
                    self._transport.write(realtime.pong(payload))
                else:
                    self._hear(msgspec.json.decode(payload))
        except (ValueError, msgspec.MsgspecError) as mistake:
            self._vendor.books.complain(f"malformed frame: {mistake}")
            self._transport.close()

    def left(self) -> None:
        """Write down that the client has gone, in the middle of a response or not."""
        if self._timer is not None:
            self._timer.cancel()
        self._end("client_left")

    def _hear(self, event: Any) -> None:
        for said in self._talk.answer(event):
            self._transport.write(realtime.written(said))
            if said["type"] == "response.created" and not self._answering:
                self._answering = True
                self._said = 0
                self._coming.extend(self._talk.deltas())
                self._vendor.books.begin()
                self._vendor.books.stir()
                self._go_on()

    def _go_on(self) -> None:
        behaviour = self._talk.behaviour
        while self._coming:
            if behaviour.cut is not None and self._said >= behaviour.cut:
                self._end("cut")
                self._transport.abort()
                return
            self._transport.write(realtime.written(self._coming.popleft()))
            self._said += 1
            if behaviour.interval_ms:
                delay = behaviour.interval_ms / 1000
                self._timer = self._vendor.loop.call_later(delay, self._go_on)
                return
        self._transport.write(realtime.written(self._talk.done()))
        self._end("ok")

    def _end(self, outcome: str) -> None:
        if self._answering:
            self._answering = False
            self._coming.clear()
            prompt = self._talk.behaviour.prompt or 0
            self._vendor.books.end(prompt, self._said, 0, outcome)
            self._vendor.books.stir()
