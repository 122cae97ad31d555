"""
What this worker learns of models and tells the others, and what it knows from the board.

Beside serving, the board is read (`routing.board`) and followed from the moment on from which it holds, and every two seconds what was
seen of answers is sent (`routing.lessons`). Only calls that a policy scored are looked at, once, when they end.

Failure stance: while the store does not answer, the last board holds for ten seconds; what could not be sent is dropped.
"""

import asyncio
import logging
import re
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Final

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from proxy.attempts import Ended
from proxy.wire.meter import Usage
from routing import board
from routing.classify import classify
from routing.lessons import Lessons
from routing.scoring import NO_FACTS, Facts

if TYPE_CHECKING:
    from proxy.relay import Attempt

__all__ = ["LOOKED_AT", "Learner", "defect_of", "defect_seen"]

READ_EVERY_S: Final = 0.4
SEND_EVERY_S: Final = 2.0
STALE_S: Final = 10.0
LOOKED_AT: Final = 1024
"""Bytes of an answer's end that are looked at."""
SPOILT: Final = frozenset({"upstream_lost", "bad_answer", "idle_timed_out"})
"""Outcomes that are a defect of the answer; all other failures are a matter of health."""

log = logging.getLogger("penstock.edge")

# How an answer ended, in the words of any vendor.
_END = re.compile(
    rb'"(?:finish_reason|stop_reason|finishReason|done_reason|stopReason)"\s*:\s*"'
    rb"(?:(length|max_tokens|MAX_TOKENS|model_context_window_exceeded)"
    rb'|(content_filter|refusal|SAFETY|RECITATION|PROHIBITED_CONTENT|content_filtered|guardrail_intervened))"'
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

    async def run(self, client: Redis) -> None:
        """Read the board, change to it when it holds, and send lessons, for as long as it is let."""
        read_at = monotonic()
        send_at = read_at + SEND_EVERY_S
        while True:
            next_at = read_at if self._coming is None else min(read_at, self._holds_at)
            await asyncio.sleep(max(next_at - monotonic(), 0.0))
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
        try:
            await self.lessons.send(client, time_ns() / 1e9)
        except (RedisError, OSError):
            log.debug("lessons were dropped", exc_info=True)

    def note(self, attempt: "Attempt", ended: Ended, usage: Usage, end: bytes, now: float) -> None:
        """Learn from an attempt that has ended; `end` is the end of the vendor's answer, or all of it."""
        exchange = attempt.exchange
        choice = exchange.choice
        if choice is None or not choice.costs:
            return
        outcome = ended.outcome
        if outcome == "ok":
            defect = defect_seen(attempt, end)
        elif outcome in SPOILT:
            defect = 1.0
        else:
            return
        after_first_us = 0
        if attempt.meter is not None and attempt.reads > 1 and outcome == "ok":
            after_first_us = int((now - attempt.first_at) * 1_000_000)
        task, model = choice.call.task, attempt.place.model
        self.lessons.note(
            model,
            task,
            defect=defect,
            tokens=usage.output_tokens if outcome == "ok" else 0,
            after_first_us=after_first_us,
        )
        if outcome == "ok":
            self.lessons.remember(
                exchange.request_id,
                exchange.offer.caller.key,
                model,
                task,
                body=exchange.fingerprint,
                at_s=now,
            )


def defect_seen(attempt: "Attempt", end: bytes) -> float:
    """Return what is wrong with the answer that an attempt got, from 0 to 1; `end` is its end, or all of it."""
    seen = attempt.exchange.seen
    return defect_of(
        end,
        # A model is not to blame for a cap that its caller, a budget or a policy has set.
        capped=seen.output_cap is not None or attempt.cap > 0,
        json=b'"response_format"' in seen.frame and b'"json' in seen.frame,
    )


def defect_of(end: bytes, *, capped: bool, json: bool) -> float:
    """
    Return what is wrong with an answer that came to its end, from 0 to 1.

    `capped`: somebody had set the cap at which it may have been cut; `json`: it is to be JSON.
    """
    tail = end[-LOOKED_AT:]
    found = _END.search(tail)
    if found is not None:
        cut = found.group(1) is not None or found.group(3) is not None
        if not cut:
            return 1.0
        if not capped:
            return 0.5
    if end.startswith(b"{") and (json or b'"tool_calls"' in end):
        return _invalid(end, json=json and found is None)
    return 0.0


def _invalid(body: bytes, *, json: bool) -> float:
    """Return 1 when a whole answer holds JSON that is none: in its text, where that is to be JSON, or in a call of a tool."""
    try:
        document = orjson.loads(body)
        for choice in document["choices"]:
            message = choice["message"]
            if json and message.get("content"):
                orjson.loads(message["content"])
            for call in message.get("tool_calls") or ():
                orjson.loads(call["function"]["arguments"] or "{}")
    except orjson.JSONDecodeError:
        return 1.0
    except (AttributeError, KeyError, TypeError):
        # Another protocol's, or a vendor's own way; nothing is known of it.
        return 0.0
    return 0.0
