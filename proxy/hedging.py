"""
A second attempt beside a first one that is late: whichever begins to speak first has the call, the other is cancelled.

Only where a model or route asks for it, only for streams, only before anything has gone out, once per call, and for a bounded share of
calls (Dean and Barroso, "The Tail at Scale", CACM 56(2), 2013).
Each attempt is admitted, settled and booked on its own: what the loser had cost until then is charged, with the outcome `hedged`.
"""

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from proxy.attempts import Ended
from proxy.errors import GatewayError
from proxy.relay import Attempt
from ratelimit.asks import Grant

if TYPE_CHECKING:
    from config.offers import Hedge
    from proxy.exchange import Exchange

__all__ = ["Race", "hedged"]


class Race:
    """The attempts of one call that run at the same time, each with the task that runs it."""

    __slots__ = ("attempts",)

    def __init__(self) -> None:
        self.attempts: dict[Attempt, asyncio.Task[Ended]] = {}

    def begin(self, attempt: Attempt) -> "asyncio.Task[Ended]":
        """Run an attempt beside the others; whoever made the race awaits it."""
        task = asyncio.ensure_future(attempt.run())
        self.attempts[attempt] = task
        return task

    def won(self, winner: Attempt) -> None:
        """End all others: the winner is about to speak to the caller."""
        for attempt, task in self.attempts.items():
            if attempt is not winner:
                attempt.lose()
                task.cancel()


def delay_s(rule: "Hedge", latency_us: float) -> float:
    """Return how late a first token must be; `latency_us` is what all replicas see there, 0 when nothing is known."""
    return max(rule.after_ms / 1000, rule.times * latency_us / 1e6)


async def hedged(exchange: "Exchange", first: Attempt, rule: "Hedge") -> tuple[Ended, Attempt]:
    """Run an attempt, and beside it another one where it is late. Returns how the last of them ended, and which it was."""
    edge = exchange.edge
    race = exchange.race = Race()
    edge.hedges.count(monotonic())
    task = race.begin(first)
    try:
        await asyncio.wait([task], timeout=delay_s(rule, first.grant.latency_us))
        if task.done() or first.first_at:
            return await task, first
        second = await _second(exchange, first, rule)
        if second is None:
            return await task, first
        _ = race.begin(second)
        return await _last(race)
    except BaseException:
        # The caller left, or we failed: nobody else ends what runs beside us.
        for task in race.attempts.values():
            task.cancel()
        await asyncio.gather(*race.attempts.values(), return_exceptions=True)
        raise


async def _second(exchange: "Exchange", first: Attempt, rule: "Hedge") -> Attempt | None:
    """Admit a second attempt at another deployment; None where there is no budget or no place for it, or no need any more."""
    edge = exchange.edge
    if len(set(exchange.attempts.tried)) >= len(exchange.offer.places):
        return None
    if not edge.hedges.take(monotonic(), rule.max_share):
        return None
    try:
        answer = await exchange.admit(may_wait=False)
    except GatewayError:
        return None
    if not isinstance(answer, Grant):
        return None
    exchange.attempts.begin(answer.candidate)
    offer = exchange.offer
    second = Attempt(
        exchange,
        answer,
        offer.places[answer.candidate],
        offer.ways[answer.candidate],
        "hedge",
    )
    if first.first_at or first.ended is not None:
        # It came while the second one was admitted: the lease is given back, nothing was sent.
        second.lose()
        return None
    return second


async def _last(race: Race) -> tuple[Ended, Attempt]:
    """Wait for the winner, or for both to fail."""
    by_task = {task: attempt for attempt, task in race.attempts.items()}
    pending: set[asyncio.Task[Ended]] = set(by_task)
    ended, attempt = Ended("internal"), next(iter(race.attempts))
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled() and task.result().outcome != "hedged":
                ended, attempt = task.result(), by_task[task]
    return ended, attempt
