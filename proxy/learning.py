"""
What this worker learns of models and tells the others, and what it knows from the board.

Beside serving, the board is read (`routing.board`) and followed from the moment on from which it holds, and every two seconds what was
seen of answers is sent (`routing.lessons`). Only calls that a policy scored are looked at, once, when they end; under load a sample of them.
Whether the form of a stream will be judged is said when it begins (`Learner.keeps`), so that it is kept for that, and no other is.

Failure stance: while the store does not answer, the last board holds for ten seconds; what could not be sent is dropped.
"""

import asyncio
import logging
import re
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from proxy.attempts import Ended
from proxy.validity import MOST_BYTES, asks_form, looks_malformed
from proxy.wire.meter import Usage
from routing import board
from routing.classify import classify
from routing.lessons import Lessons
from routing.scoring import NO_FACTS, Facts

if TYPE_CHECKING:
    from proxy.exchange import Exchange
    from proxy.relay import Attempt

__all__ = ["LOOKED_AT", "Learner", "defect_of", "defect_seen"]

READ_EVERY_S: Final = 0.4
SEND_EVERY_S: Final = 2.0
SHORTEST_S: Final = 0.001
"""A loop's timers know milliseconds: one that is due in less fires at once, and would be set again dozens of times."""
STALE_S: Final = 10.0
LOOKED_AT: Final = 1024
"""Bytes of an answer's end that are looked at."""
MOST_KEPT: Final = 64
"""Streams that are kept at once for their form to be judged."""
ENOUGH_READ: Final = 4 << 20
"""Bytes that are read to judge the form of streams, between two sendings: some 25 ms of work."""
SPOILT: Final = frozenset({"upstream_lost", "bad_answer", "idle_timed_out"})
"""Outcomes that are a defect of the answer; all other failures are a matter of health."""

log = logging.getLogger("penstock.edge")

# How an answer ended, in the words of any vendor.
_END = re.compile(
    rb'"(?:finish_reason|stop_reason|finishReason|done_reason|stopReason)"\s*:\s*"'
    rb"(?:(length|max_tokens|MAX_TOKENS|model_context_window_exceeded)"
    rb"|(content_filter|refusal|SAFETY|RECITATION|PROHIBITED_CONTENT|BLOCKLIST|SPII|content_filtered|guardrail_intervened"
    rb'|MALFORMED_FUNCTION_CALL|UNEXPECTED_TOOL_CALL|malformed_tool_use|malformed_model_output))"'
    rb'|"status"\s*:\s*"(incomplete)"|"refusal"\s*:\s*"()'
)


class Learner:
    """What one worker has seen, and what it knows."""

    def __init__(self) -> None:
        self.facts: Facts = NO_FACTS
        self.lessons = Lessons()
        # Its weights are read when they are first wanted: now, and not while a caller waits.
        classify(b"{}", tokens=0)
        # The board as it was read last, when that was, and what it says, until it holds.
        self._raw = b""
        self._read_at = 0.0
        self._coming: Facts | None = None
        self._holds_at = 0.0
        # Streams that are kept, and what was read of such since lessons were sent.
        self.kept = 0
        self._read = 0

    async def run(self, client: Redis) -> None:
        """Read the board, change to it when it holds, and send lessons, for as long as it is let."""
        read_at = monotonic()
        send_at = read_at + SEND_EVERY_S
        while True:
            next_at = read_at if self._coming is None else min(read_at, self._holds_at)
            await asyncio.sleep(max(next_at - monotonic(), SHORTEST_S))
            self.follow()
            if monotonic() < read_at:
                continue
            read_at = monotonic() + READ_EVERY_S
            await self.read(client)
            if monotonic() >= send_at:
                send_at = monotonic() + SEND_EVERY_S
                await self.send(client)

    def follow(self) -> None:
        """Change to the facts that were read, if they hold by now."""
        if self._coming is not None and monotonic() >= self._holds_at:
            self.facts, self._coming = self._coming, None

    async def read(self, client: Redis) -> None:
        """Read the board; what is no board, or none at all, changes nothing until it is too old."""
        try:
            found = await board.read(client)
            if found is not None:
                self._read_at = monotonic()
                if found.raw != self._raw:
                    coming, from_us = board.decode(found.raw)
                    self._raw, self._coming = found.raw, coming
                    self._holds_at = self._read_at + (from_us - found.now_us) / 1e6
                self.follow()
                return
        except (RedisError, OSError):
            log.debug("the board cannot be read", exc_info=True)
        except ValueError:
            log.exception("the board cannot be understood")
        if self._raw and monotonic() - self._read_at > STALE_S:
            self.facts, self._raw, self._coming = board.stale(self.facts), b"", None

    async def send(self, client: Redis) -> None:
        """Send what was seen."""
        self._read = 0
        try:
            await self.lessons.send(client, time_ns() / 1e9)
        except (RedisError, OSError):
            log.debug("lessons were dropped", exc_info=True)

    def wants(self, exchange: "Exchange") -> bool:
        """Whether anything is learned from a call: a policy scored it, and it is in the sample."""
        return _is_scored(exchange) and self.lessons.wants(exchange.fingerprint)

    def keeps(self, attempt: "Attempt") -> bool | None:
        """
        Whether a stream that begins now is kept for its form to be judged; None where nobody is to judge it.

        One that is kept is let go with `let_go`. Beyond a bound none is kept, and then nobody knows of its form.
        """
        exchange = attempt.exchange
        led = exchange.offer.experiments[attempt.grant.candidate]
        if not (led or _is_scored(exchange)) or not asks_form(exchange):
            return None
        # One that is not in the sample now may be when it ends.
        if not (led or self.wants(exchange)):
            return False
        if self.kept >= MOST_KEPT or self.has_read_enough:
            return False
        self.kept += 1
        return True

    @property
    def has_read_enough(self) -> bool:
        """Whether no more streams are read until lessons are sent."""
        return self._read >= ENOUGH_READ

    def let_go(self, attempt: "Attempt", outcome: str) -> None:
        """
        Make room for another stream: one that was kept has ended, and is read if it came to its end and is not too long.

        Of one for which too many others were read meanwhile nobody knows, either.
        """
        self.kept -= 1
        meter = attempt.meter
        if self.has_read_enough:
            attempt.kept = False
        elif outcome == "ok" and meter is not None and meter.bytes <= MOST_BYTES:
            self._read += len(attempt.exchange.body) + meter.bytes

    def note(
        self, attempt: "Attempt", ended: Ended, usage: Usage, defect: float | None, now: float
    ) -> None:
        """Learn from an attempt of a call that is wanted; `defect` is as `defect_seen` says, if it came to its end."""
        exchange = attempt.exchange
        choice = exchange.choice
        assert choice is not None
        outcome = ended.outcome
        if outcome in SPOILT:
            # Where the form of answers is not known, how many broke off must not stand alone.
            defect = None if attempt.kept is False else 1.0
        elif outcome != "ok":
            return
        after_first_us = 0
        if attempt.meter is not None and attempt.reads > 1 and outcome == "ok":
            after_first_us = int((now - attempt.first_at) * 1_000_000)
        kind, model = choice.call.kind, attempt.place.model
        self.lessons.note(
            model,
            kind,
            defect=defect,
            tokens=usage.output_tokens if outcome == "ok" else 0,
            after_first_us=after_first_us,
        )
        if outcome == "ok":
            self.lessons.remember(
                exchange.request_id,
                exchange.offer.caller.key,
                model,
                kind,
                body=exchange.fingerprint,
                at_s=now,
            )


def _is_scored(exchange: "Exchange") -> bool:
    choice = exchange.choice
    return choice is not None and bool(choice.costs)


def defect_seen(attempt: "Attempt") -> float | None:
    """Return what is wrong with the answer that an attempt got, from 0 to 1; None where nobody knows, of a stream that was not kept."""
    meter = attempt.meter
    if attempt.kept is False:
        # Whatever is known of some of them: alone it would say that all are like these.
        return None
    end = attempt.tail if meter is None else meter.tail
    # A model is not to blame for a cap that its caller, a budget or a policy has set.
    capped = attempt.exchange.seen.output_cap is not None or attempt.cap > 0
    defect = defect_of(end, capped=capped)
    if defect is not None:
        return defect
    if meter is None:
        return float(looks_malformed(attempt, end))
    return float(attempt.kept is True and looks_malformed(attempt, meter.whole))


def defect_of(end: bytes, *, capped: bool) -> float | None:
    """
    Return what is wrong with how an answer ended, from 0 to 1; None when it ended as answers do.

    `capped`: somebody had set the cap at which it may have been cut.
    """
    found = _END.search(end[-LOOKED_AT:])
    if found is None:
        return None
    if found.group(1) is None and found.group(3) is None:
        return 1.0
    return 0.0 if capped else 0.5
