"""
Shadow traffic: copies of calls, sent to another model beside the answer that callers get.

A copy begins when the original has been answered. It belongs to nobody who called: it is admitted under the experiment's
own scope (`shadow:<name>`, with a budget and a concurrency of its own), at the level of economy and without waiting, and
the ledger books it under the experiment alone. Its answer is read to the end and thrown away.

It is the first to be dropped: when calls wait for a place, when the store does not answer, when this worker has enough
copies under way, when its request is too large, and when its model has no room. No copy is tried twice, and each is
dropped when the gateway goes down.
"""

import asyncio
import logging
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

from config.wishes import NO_WISHES, Wishes
from proxy.attempts import Attempts
from proxy.errors import GatewayError
from proxy.exchange import Exchange
from proxy.live import Live, Offer
from proxy.relay import Attempt
from proxy.trials import session_of, unit_of
from ratelimit.asks import Grant
from routing.experiments import Copying
from routing.scoring import ECONOMY, NoneFits

if TYPE_CHECKING:
    from proxy.app import Edge

log = logging.getLogger("penstock.edge")

MOST_COPIES: Final = 32
"""Copies that one worker has under way, whatever the experiments allow."""
MOST_BYTES: Final = 8 * 1024 * 1024
"""Bytes of requests that are kept for them, from before the original is answered."""


class _Nobody:
    """The client of a copy: nobody reads, and nobody is slow."""

    __slots__ = ("feeding",)
    transport = None
    writing_paused = False

    def __init__(self) -> None:
        self.feeding: Any = None


class Copy(Exchange):
    """A copy of a call, on its way to another model; it has no caller, and what it is told goes nowhere."""

    __slots__ = ()

    def __init__(self, original: Exchange, offer: Offer, tiers: bytes) -> None:
        super().__init__(original.edge, original.request, original.endpoint, original.model)
        # Whatever belongs to the caller stays behind.
        self.request = cast("Any", None)
        self.client = cast("Any", _Nobody())
        self.chunked = True
        self.close = False
        self.body = original.body
        # Under the same key a vendor would give its answer to the original once more.
        self.passed = b"".join(
            line
            for line in original.passed.splitlines(keepends=True)
            if not line.lower().startswith(b"idempotency-key:")
        )
        self.level = ECONOMY
        self.kind = original.kind
        self.seen = original.seen
        self.offer = offer
        self.attempts = Attempts(len(offer.places), 1)
        for place, tier in enumerate(tiers):
            if tier == 0xFF:
                self.attempts.leave_out(place)

    def write(self, data: bytes) -> None:
        """Count what would have been written."""
        self.bytes_out += len(data)

    def chunk(self, data: bytes) -> None:
        """Count what would have been sent."""
        self.bytes_out += len(data)

    async def go(self) -> str:
        """Ask its model, and read the answer to its end. Returns the word for what became of it."""
        self.started_at = self.read_at = monotonic()
        try:
            if self.offer.translates:
                self._translate(self.endpoint)
            answer = await self.admit()
        except GatewayError:
            return "refused"
        if not isinstance(answer, Grant):
            return "refused"
        self.attempts.begin(answer.candidate)
        place, way = self.offer.places[answer.candidate], self.offer.ways[answer.candidate]
        self.current = attempt = Attempt(self, answer, place, way, "shadow")
        try:
            ended = await attempt.run()
        finally:
            # As in `serve`: an attempt knows its exchange.
            self.current = None
        return "answered" if ended.outcome == "ok" else "failed"


class Shadows:
    """The copies of one worker: it owns their tasks, and bounds them."""

    def __init__(self, edge: "Edge") -> None:
        self._edge = edge
        self._tasks: set[asyncio.Task[None]] = set()
        self.held = 0
        self._became = {
            word: edge.metrics.counter("penstock_shadow_copies_total", word)
            for word in ("answered", "failed", "refused", "dropped")
        }

    @property
    def under_way(self) -> int:
        """How many copies are on their way."""
        return len(self._tasks)

    def copy_of(
        self, original: Exchange, copying: Copying, live: Live, wishes: Wishes
    ) -> Copy | None:
        """Return the copy of a call whose turn it is, None where it is not; nothing is sent yet."""
        seen = original.seen
        if wishes.routing != "full" or seen.tied is not None or self._edge.draining:
            return None
        by_session = copying.sticky == "session"
        headers = original.request.message.headers
        session = session_of(headers, original.body) if by_session else ""
        caller = original.offer.caller
        unit = unit_of(copying.sticky, caller, original.user, session, original.request_id)
        size = len(original.body)
        if not copying.takes(unit, size):
            return None
        if self.held + size > MOST_BYTES:
            self._count("dropped")
            return None
        try:
            offer = live.offer(
                live.shadow_callers[copying.name],
                seen.model,
                original.endpoint,
                stream=seen.stream,
                input_bound=seen.input_bound,
                arm=copying.arm,
                alone=True,
            )
            # Where the caller's data may go holds for its copy.
            regions = replace(NO_WISHES, regions=wishes.regions)
            fit = offer.choices.field.fit
            tiers = fit(regions, frozenset(), ECONOMY).tiers if wishes.regions else b""
        except (GatewayError, NoneFits):
            self._count("refused")
            return None
        self.held += size
        return Copy(original, offer, tiers)

    def forget(self, copy: Copy) -> None:
        """Let go of a copy whose original was not answered."""
        self.held -= len(copy.body)

    def begin(self, copy: Copy) -> None:
        """Send a copy on its way, now that the original was answered; or drop it."""
        edge = self._edge
        if (
            edge.draining
            or edge.gate.waiting
            or edge.gate.degraded
            or len(self._tasks) >= MOST_COPIES
        ):
            self._count("dropped")
            self.forget(copy)
            return
        task = edge.loop.create_task(self._go(copy))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go(self, copy: Copy) -> None:
        word, size = "dropped", len(copy.body)
        try:
            word = await copy.go()
        except Exception:
            word = "failed"
            log.exception("the copy %s failed", copy.request_id)
        finally:
            self.held -= size
            self._count(word)

    async def close(self) -> None:
        """Drop what is on its way, and wait until it is settled."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _count(self, word: str) -> None:
        self._became[word].value += 1
