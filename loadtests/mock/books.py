"""
What the mock vendor served, by its own count: the other side of every comparison to the token.

Totals are kept always and cost a few additions per call.
The list of single calls is bounded, and says how many fell out at its far end.
What counts as sent is what was handed to the socket: a caller that leaves may not have read the last of it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

SERVED_KEPT = 100_000
REQUESTS_KEPT = 256
COMPLAINTS_KEPT = 256


@dataclass(slots=True)
class Totals:
    """
    Sums since the start or the last reset.

    `calls` is complete calls that were answered or are being answered, and equals `in_flight` plus the sum of `outcomes`.
    Tokens count when a call ends: what was written of it by then; images, characters and audio when all of it was.
    `stalled` is connections that cannot be written to now, because their client does not read.
    """

    calls: int = 0
    in_flight: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    images: int = 0
    characters: int = 0
    audio_ms: int = 0
    bytes: int = 0
    connections: int = 0
    connections_open: int = 0
    stalled: int = 0
    complaints: int = 0
    served_dropped: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """
    One call, after its end.

    `outcome` is `ok`, the kind of failure that was asked for (`refused`, `hung`, `cut`, `reset`, `garbage`, `stream_error`), or `client_left`.
    `bytes` is the answer on the wire with its head; times are unix microseconds.
    `user` is what the body says of its user: a mark by which a call is found again in other books.
    """

    id: str
    model: str
    path: str
    stream: bool
    prompt_tokens: int
    completion_tokens: int
    bytes: int
    outcome: str
    started_us: int
    ended_us: int
    user: str = ""


class Books:
    """The books of one mock vendor."""

    __slots__ = ("_waiters", "complaints", "detailed", "outcomes", "requests", "served", "totals")

    def __init__(self, *, detailed: bool = True) -> None:
        self.detailed = detailed
        self._waiters: list[tuple[Callable[[Books], bool], asyncio.Future[None]]] = []
        self.reset()

    def reset(self) -> None:
        """Begin anew; what is open and in flight stays counted, since it is still to end."""
        before = getattr(self, "totals", Totals())
        self.totals = Totals(
            calls=before.in_flight,
            in_flight=before.in_flight,
            connections_open=before.connections_open,
            stalled=before.stalled,
        )
        self.outcomes: dict[str, int] = {}
        self.served: deque[Served] = deque(maxlen=SERVED_KEPT)
        self.requests: deque[dict[str, Any]] = deque(maxlen=REQUESTS_KEPT)
        self.complaints: deque[str] = deque(maxlen=COMPLAINTS_KEPT)

    def begin(self) -> None:
        """Count a call in."""
        self.totals.calls += 1
        self.totals.in_flight += 1
        if self._waiters:
            self._wake()

    def end(self, prompt_tokens: int, completion_tokens: int, size: int, outcome: str) -> None:
        """Count a call out."""
        totals = self.totals
        totals.in_flight -= 1
        totals.prompt_tokens += prompt_tokens
        totals.completion_tokens += completion_tokens
        totals.bytes += size
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def count_units(self, images: int, characters: int, audio_ms: int) -> None:
        """Count what a whole answer used that is no token."""
        totals = self.totals
        totals.images += images
        totals.characters += characters
        totals.audio_ms += audio_ms

    def keep(self, served: Served) -> None:
        """Keep the detail of a call that was counted out."""
        if len(self.served) == SERVED_KEPT:
            self.totals.served_dropped += 1
        self.served.append(served)

    def complain(self, words: str) -> None:
        """Write down something that no well-made client does."""
        self.totals.complaints += 1
        self.complaints.append(words)
        self.stir()

    def stir(self) -> None:
        """Let those who wait for the books look again."""
        if self._waiters:
            self._wake()

    def _wake(self) -> None:
        for predicate, future in self._waiters:
            if not future.done() and predicate(self):
                future.set_result(None)

    async def until(self, predicate: Callable[["Books"], bool], timeout_s: float = 10.0) -> None:
        """
        Wait until the books satisfy a predicate.

        Raises `TimeoutError` with the books as they then stand.
        """
        if predicate(self):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (predicate, future)
        self._waiters.append(waiter)
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            raise TimeoutError(f"the books did not come to that: {self.as_dict()}") from None
        finally:
            self._waiters.remove(waiter)

    def as_dict(self) -> dict[str, Any]:
        """Give everything but the requests, in the shape of `GET /__mock/books`."""
        return {
            "totals": asdict(self.totals) | {"outcomes": dict(self.outcomes)},
            "served": [asdict(one) for one in self.served],
            "complaints": list(self.complaints),
        }
