"""
Deadlines of upstream conversations, kept by one coarse wheel instead of a timer per request.

A timer of the event loop costs about a microsecond to arm and to cancel, twice per request and
once more per chunk for the idle deadline.
The wheel looks at everything in flight ten times a second instead, which costs each conversation
about 0.05 us per tick and the hot path nothing but a set insertion.
A deadline therefore fires up to two ticks late, and never early.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from proxy.upstream.errors import (
    FirstByteTimedOut,
    IdleTimedOut,
    Phase,
    TotalTimedOut,
    UpstreamError,
)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """
    How long a provider may take, in seconds; made once per provider.

    `first_byte_s` runs from the start of the request to the first byte of the answer's body,
    `idle_s` between two reads of the body, `total_s` over the whole conversation.
    """

    first_byte_s: float = 60.0
    idle_s: float = 60.0
    total_s: float = 600.0


class Conversation(Protocol):
    """What the wheel reads of a conversation, and the one thing that it does to it."""

    reads: int
    seen: int
    since: float
    until: float
    paused: bool
    timeouts: Timeouts

    def phase(self) -> Phase:
        """Say how far the conversation got."""

    def fail(self, error: UpstreamError) -> None:
        """Close the connection at once and tell the listener why."""


class Wheel:
    """
    Looks at all conversations in flight every `tick_s` seconds, and sleeps when there are none.

    `now` is the clock of the last tick: good to one tick while anything is in flight.
    """

    __slots__ = ("_loop", "_tick_s", "_timer", "awake", "clock", "in_flight", "now")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tick_s: float = 0.1,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._loop = loop
        self._tick_s = tick_s
        self._timer: asyncio.TimerHandle | None = None
        self.clock = loop.time if clock is None else clock
        self.now = self.clock()
        self.in_flight: set[Conversation] = set()
        self.awake = False

    def wake(self) -> None:
        """Start ticking; called with the first conversation after a silence."""
        self.awake = True
        self.now = self.clock()
        self._timer = self._loop.call_later(self._tick_s, self._turn)

    def close(self) -> None:
        """Stop ticking; a later conversation would wake the wheel again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.awake = False

    def tick(self) -> None:
        """Compare everything in flight with the clock; fail what is overdue."""
        self.now = now = self.clock()
        overdue: list[tuple[Conversation, type[UpstreamError], str]] = []
        for talk in self.in_flight:
            if talk.paused:
                # The caller reads slowly: the provider's silence is of our making.
                talk.since = now
            elif talk.reads != talk.seen:
                talk.seen = talk.reads
                talk.since = now
            elif talk.reads:
                if now - talk.since >= talk.timeouts.idle_s:
                    overdue.append((talk, IdleTimedOut, "the provider fell silent"))
                    continue
            elif now - talk.since >= talk.timeouts.first_byte_s:
                overdue.append((talk, FirstByteTimedOut, "the provider sent nothing in time"))
                continue
            if now >= talk.until:
                overdue.append((talk, TotalTimedOut, "the answer took too long as a whole"))
        for talk, kind, message in overdue:
            # Does nothing to one that an earlier listener of this list has ended meanwhile.
            talk.fail(kind(message, phase=talk.phase()))

    def _turn(self) -> None:
        try:
            self.tick()
        finally:
            if self.in_flight:
                self._timer = self._loop.call_later(self._tick_s, self._turn)
            else:
                self._timer = None
                self.awake = False


FOREVER = math.inf
