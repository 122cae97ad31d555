"""
What is asked of the gate and what it answers: values only, which `ratelimit/commands.py` writes into the calls of scripts.

What the words and the numbers of an answer mean stands in the headers of `lua/admit.lua` and `lua/settle.lua`.
"""

import asyncio
import os
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from ratelimit.limits import PERIODS, RATES, Plan
from store.cells import FIRST, Cell

# What a call is, as `routing/lua/breaker.lua` judges each apart.
WHOLE, STREAM, TOOLS = 1, 2, 3
# A batch that has come to its end: hours of work at once, which no rate of tokens is asked for.
BATCHED = 4

GRANTED, UNKNOWN, NOBODY = 1, 2, 3

DENIED_WORDS = {1: "requests", 2: "tokens", 3: "concurrency", 4: "budget", 5: "too_large"}
WHY_WORDS = {1: "only", 2: "order", 3: "load", 4: "least_bad", 5: "probe", 6: "affinity"}
LOST_WORDS = {
    "0": "feasible",
    "1": "drained",
    "2": "cooling",
    "3": "concurrency",
    "4": "requests",
    "5": "tokens",
    "6": "model_limit",
    "7": "budget",
    "8": "tried",
    "9": "throttled",
    "a": "own_budget",
    "b": "provider_limit",
    "c": "others_wait",
    "d": "unsuitable",
    "e": "half_open",
    "f": "offline",
}

# The tier of a candidate that an ask leaves out.
UNSUITABLE = 255

LOST_DIGITS = {word: digit for digit, word in LOST_WORDS.items()}


@dataclass(frozen=True, slots=True)
class Boot:
    """One life of a replica in a cell, and the keys that hang on it."""

    cell: Cell
    member: str
    leases: str
    bar: str
    seen: str
    graves: str
    parts: str


def boot_of(member: str, cell: Cell = FIRST) -> Boot:
    """Return the keys of a `replica.boot`."""
    return Boot(
        cell=cell,
        member=member,
        leases=f"{cell.tag}:l:{member}",
        bar=f"{cell.tag}:b:{member}",
        seen=f"{cell.tag}:q:{member}",
        graves=f"{cell.tag}:z:{member}",
        parts=f"{cell.tag}:p:{member}",
    )


def calls_of(replica: str, cell: Cell = FIRST) -> str:
    """Return the channel on which the store calls the asks of a replica whose turn has come."""
    return f"{cell.tag}:w:{replica}"


class Ask(msgspec.Struct, eq=False):
    """
    What an attempt asks for; tokens as estimated, `cap` and `assumed` in output tokens per choice.

    `fees` are what a call costs at most beside its tokens, in nano-USD for each candidate; empty where nothing does.
    `level` is 1 premium, 2 normal, 3 economy; an ask that `may_wait` gets a ticket when every place is taken.
    `kind` is what the call is (`WHOLE`, `STREAM`, `TOOLS`); `favoured` is the candidate, counted from 1, that is preferred where
    load allows it, 0 for none.

    `excluded` are candidates counted from 1, as the script does.

    `tiers` ranks the candidates for this ask alone, one byte each: the lowest tier that can serve wins, `UNSUITABLE` is out;
    empty, the plan's own tiers hold.
    """

    plan: Plan
    attempt_id: str
    input: int
    bound: int
    cap: int
    assumed: int
    n: int
    first: bool
    excluded: tuple[int, ...]
    tie: int
    user: str
    level: int = 2
    may_wait: bool = False
    tiers: bytes = b""
    fees: tuple[int, ...] = ()
    kind: int = WHOLE
    favoured: int = 0
    # Its sender's...
    answer: "asyncio.Future[Grant | Denied | Nobody]" = cast("Any", None)
    boot: Boot = cast("Any", None)
    deadline: float = 0.0
    reseeds: int = 0
    taken: Any = None
    """What a grant without the store took from this replica's shares."""
    again: bool = False
    """Whether a sending of it may have been granted without an answer."""
    void_to: int = 0
    """Sendings below this number may still be granted, though somebody else has answered the ask."""

    @property
    def scopes(self) -> tuple[str, ...]:
        """The caller's scopes: the plan's, then the user's."""
        plan = self.plan
        if not plan.users or not self.user:
            return plan.scopes
        return (*plan.scopes, *plan.user_scopes(self.user))


class Grant:
    """
    Admitted: a lease at one candidate.

    `candidate` counts from 0; `cap` is the output cap to write into the request, 0 to leave it alone;
    `at_us` is the store's clock in us since 2024-01-01; `limits` is (limit, remaining, reset in us) of requests, then of tokens;
    `latency_us` is how long its first byte takes, as all replicas see it, 0 when not known;
    `degraded` says by which share it was granted when the store did not answer, and is empty otherwise.
    """

    __slots__ = (
        *("at_us", "boot", "candidate", "cap", "degraded", "latency_us", "limits", "lost", "why"),
    )

    def __init__(self, row: list[Any], boot: Boot, degraded: str = "") -> None:
        self.candidate: int = row[1] - 1
        self.cap: int = row[2]
        self.at_us: int = row[3]
        self.limits: tuple[int, ...] = row[4]
        self.why: str = WHY_WORDS[row[5]]
        self.lost: str = row[6]
        self.latency_us: float = row[7]
        self.boot = boot
        self.degraded = degraded


@dataclass(frozen=True, slots=True)
class Denied:
    """
    Refused by one of the caller's limits, which stays as it was.

    `what` is requests, tokens, concurrency, budget or too_large; `scope` names the limit that binds; `limit` is its size (nano-USD for a budget);
    `retry_us` is when it frees, 0 when that cannot be told; `period` is the budget's, `rate` the limit's name (`rpm`).
    """

    what: str
    scope: str
    limit: int
    retry_us: int
    at_us: int
    limits: tuple[int, ...]
    period: str = ""
    degraded: str = ""
    rate: str = ""


@dataclass(frozen=True, slots=True)
class Nobody:
    """
    No candidate can serve it now: one word for each, and when the first one frees (0: unknown).

    `queued`: it has a ticket, which is good while it is asked again.
    """

    retry_us: int
    lost: tuple[str, ...]
    at_us: int
    limits: tuple[int, ...]
    degraded: str = ""
    queued: bool = False


class Settlement:
    """
    The truth about an attempt; money in nano-USD, `entry` a packed ledger entry.

    `void` gives the lease back without an entry; `void_to` also gives up every sending of `admit` below that number.
    `user` and `kind` are the ask's.
    `left` is (requests, for how long in us, tokens, for how long) as the vendor said that it still lets pass, -1 where it did not.
    """

    __slots__ = ("attempt_id", "boot", "plan", "row", "user", "void_to")

    def __init__(
        self,
        plan: Plan,
        boot: Boot,
        attempt_id: str,
        *,
        candidate: int,
        input_tokens: int,
        output_tokens: int,
        cost_nusd: int,
        health: int,
        ttft_us: int,
        cool_us: int,
        streamed: bool,
        entry: bytes,
        user: str = "",
        void: bool = False,
        void_to: int = 0,
        kind: int = WHOLE,
        left: tuple[int, int, int, int] | None = None,
    ) -> None:
        self.plan = plan
        self.user = user
        self.boot = boot
        self.attempt_id = attempt_id
        self.void_to = void_to
        self.row = (
            attempt_id,
            candidate + 1,
            input_tokens,
            output_tokens,
            cost_nusd,
            health,
            ttft_us,
            cool_us,
            1 if void else 0,
            1 if streamed else 0,
            entry,
            user,
            kind,
            left or 0,
        )


def voided(
    plan: Plan,
    boot: Boot,
    attempt_id: str,
    user: str = "",
    void_to: int = 0,
    *,
    streamed: bool = False,
) -> Settlement:
    """Return what gives a lease back as if it had never been; `streamed` when its progress was reported."""
    return Settlement(
        plan,
        boot,
        attempt_id,
        candidate=0,
        input_tokens=0,
        output_tokens=0,
        cost_nusd=0,
        health=0,
        ttft_us=0,
        cool_us=0,
        streamed=streamed,
        entry=b"",
        user=user,
        void=True,
        void_to=void_to,
    )


def denied(ask: Ask, row: list[Any]) -> Denied:
    """Read a refusal."""
    what, which = DENIED_WORDS[row[1]], row[7]
    return Denied(
        what=what,
        scope=ask.scopes[row[2] - 1],
        limit=row[3],
        retry_us=row[4],
        at_us=row[5],
        limits=row[6],
        period=PERIODS[which] if what == "budget" else "",
        rate=RATES[which - 1] if which and what != "budget" else "",
    )


def replica_name(worker: int) -> str:
    """Return the name of an edge worker on this host, as it stands in Redis and in the ledger."""
    return f"{os.uname().nodename}/{worker}"
