"""
The retry machine: what to do after an attempt has ended, sans-io.

An exchange tries one deployment after another until one of them begins to answer.
Each attempt is admitted and settled on its own; what this file decides is only whether there is a next one.

    attempt ended as            before the first byte                        after it
    answered                    done                                         done
    refused 4xx (the caller's)  pass it on                                   -
    too long, against a policy  another model or vendor that may take it     -
    refused 408 429 5xx 401..5  next candidate                               -
    connect failed, timed out   next candidate                               end with a typed error
    lost, garbage               next candidate                               end with a typed error
    drained                     give up: the worker goes down                end with a typed error
    client left                 done                                         done

A pooled connection that had died idle is not the end of an attempt: the attempt itself goes on, on a fresh one.
A 401, 403, 404 or 405 of an upstream is about our credentials, names or addresses, never about the caller's request, so another candidate may do.
Second tries are of a budget (`proxy.retries`), but for what is no failure: a request that one refused and another may take.
A provider's `x-should-retry: false` is about asking that provider again: the others are asked all the same, and the caller hears it when all of them said so.
"""

from typing import Literal

from msgspec import Struct

from proxy.retries import RetryBudget
from proxy.wire.faults import Fault

Decision = Literal["done", "pass_on", "next", "give_up"]

# What a server answers that has no such endpoint.
ABSENT = frozenset({404, 405, 501})
# Statuses that are about the caller's own request: another deployment would say the same.
OF_THE_CALLER = frozenset({400, 406, 409, 410, 411, 412, 413, 414, 415, 416, 417, 422, 431})
THROTTLED = frozenset({429, 529})


class Ended(Struct, frozen=True, gc=False):
    """
    How an attempt ended: `status` is 0 when no answer came; `stale` when a pooled connection had died idle.

    `vain`: the provider said that to ask it again would be in vain (`x-should-retry: false`).
    `fault`: what it refused the request for, where another may take it.
    `absent`: it has not got what was asked for, which says nothing of how well it does what it has.
    """

    outcome: str
    status: int = 0
    stale: bool = False
    committed: bool = False
    vain: bool = False
    fault: Fault = ""
    absent: bool = False


def outcome_of(status: int) -> str:
    """Return the ledger's word for a refusal."""
    if status == 429:
        return "rate_limited"
    if status == 529:
        return "overloaded"
    return "upstream_refused"


def health_of(ended: Ended) -> int:
    """
    Return what an attempt teaches about its deployment: 0 nothing, 1 fine, 2 failed, 3 throttled, 4 nobody is there.

    What fails to connect, and what does not take our credentials, fails for calls of every kind.
    An answer that outran the total deadline says nothing: a caller that reads slowly brings that about as well.
    """
    outcome = ended.outcome
    if outcome == "ok":
        return 1
    if outcome in {"rate_limited", "overloaded"}:
        return 3
    if (
        outcome in {"client_left", "void", "internal", "drained", "hedged"}
        or ended.status in OF_THE_CALLER
    ):
        return 0
    if ended.absent or (outcome == "total_timed_out" and ended.committed):
        return 0
    if outcome == "connect_failed" or ended.status in {401, 403}:
        return 4
    return 2


class Attempts:
    """The attempts of one exchange: at most `most` of them, each candidate tried once."""

    __slots__ = ("_budget", "_candidates", "_most", "_ratio", "_vain", "made", "tried")

    def __init__(
        self, candidates: int, most: int, budget: RetryBudget | None = None, ratio: float = 1.0
    ) -> None:
        """`budget` is the edge's, `ratio` how many retries it allows per request; without one, all are made."""
        self._candidates = candidates
        self._most = most
        self._budget = budget
        self._ratio = ratio
        self._vain = 0
        self.made = 0
        self.tried: list[int] = []

    @property
    def all_in_vain(self) -> bool:
        """Whether every candidate was asked and said that to ask again would be in vain."""
        return self._vain >= self._candidates

    def begin(self, candidate: int) -> None:
        """Note that an attempt at this candidate (counted from 0) has been admitted."""
        self.made += 1
        self.tried.append(candidate)

    def leave_out(self, candidate: int) -> None:
        """Note that this candidate (counted from 0) cannot be asked at all."""
        self.tried.append(candidate)

    def decide(self, ended: Ended, now: float = 0.0) -> Decision:
        """Return what follows from the end of the latest attempt; `now` is in seconds."""
        self._vain += ended.vain
        if ended.outcome in {"ok", "client_left", "hedged"}:
            return "done"
        if ended.committed or ended.outcome in {"drained", "internal"}:
            return "give_up"
        is_left = self.made < self._most and len(set(self.tried)) < self._candidates
        if ended.status in OF_THE_CALLER:
            return "next" if ended.fault and is_left else "pass_on"
        if not is_left:
            return "give_up"
        if self._budget is not None and not self._budget.take(now, self._ratio):
            return "give_up"
        return "next"
