"""
An outage of the store, as one replica lives through it: when it begins, who answers meanwhile, when it is over.

It begins when an ask was not answered in time, or was refused in a way that does not pass by itself.
From then on asks are judged here at once (`ratelimit.degraded`), so that nobody waits for a store that is ill.
It is over at the first beat or admission that the store answers in time.
A store that answers beats and refuses admissions (out of memory, read-only) is tried with an ask now and then.
"""

import logging
from collections.abc import Callable, Iterable
from time import monotonic, time_ns
from typing import Final

from ratelimit.asks import Ask, Boot, Denied, Grant, Settlement
from ratelimit.degraded import Closed, Degraded, Replicas, Rule
from ratelimit.sight import Sight
from ratelimit.troubles import GateStats, StoreUnavailable
from store.clock import EPOCH_US

# Between two tries whether the store is well again.
PROBE_S: Final = 0.25

log = logging.getLogger("penstock.gate")


class Outage:
    """
    Whether there is one, and what runs here, whoever has admitted it.

    `rule` finds what a scope declares; `boot` gives the life under which asks are granted; `where` names the cell, if there are more.
    `granted` is told of what is granted here; `ended` counts the outages that are over.
    """

    def __init__(
        self,
        rule: Callable[[str], Rule | None],
        *,
        boot: Callable[[], Boot],
        timeout_s: float,
        stats: GateStats,
        where: str = "",
        granted: Callable[[Ask, Grant], None] = lambda _ask, _grant: None,
    ) -> None:
        self._sight = Sight()
        self._judge = Degraded(rule, self._sight)
        self._boot = boot
        self._timeout_s = timeout_s
        self._stats = stats
        self._where = f" in {where}" if where else ""
        self._note = granted
        self._live: dict[str, tuple[Ask, Grant]] = {}
        self._replicas: Replicas | None = None
        self._refused = False
        self._began_at = 0.0
        self._probe_at = 0.0
        self._granted_before = 0
        self.ended = 0

    @property
    def active(self) -> bool:
        """Whether asks are judged here."""
        return self._judge.active

    # Its beginning and its end.

    def begin(self, why: str, *, refused: bool, since: float) -> None:
        """
        Judge here from now on; `refused` when the store answers, but not what it should.

        `since` is when the first was asked that was not answered: since then nothing was admitted, and shares are regained.
        """
        if self.active:
            return
        self._refused = refused
        self._began_at = now = monotonic()
        self._probe_at = now + PROBE_S
        self._granted_before = self._stats.degraded_granted
        self._judge.enter(
            self._replicas,
            [(ask, grant.candidate) for ask, grant in self._live.values()],
            int(min(since, now) * 1_000_000),
        )
        shares = (
            "closed"
            if self._replicas is None
            else f"held at 1 / {self._replicas.count} on each replica"
        )
        log.warning("degraded%s: %s; rates are %s, strict budgets closed", self._where, why, shares)

    def over(self) -> None:
        """Leave judging to the store again."""
        if not self.active:
            return
        self._judge.leave()
        self.ended += 1
        log.warning(
            "no longer degraded%s after %.1f s; %d calls were granted here meanwhile",
            self._where,
            monotonic() - self._began_at,
            self._stats.degraded_granted - self._granted_before,
        )

    def beaten(self, replicas: Replicas, seconds: float) -> None:
        """Take a beat that the store has answered, and how long it took."""
        self._replicas = replicas
        if seconds < self._timeout_s:
            self.heard()

    def heard(self) -> None:
        """Take any answer in time: it ends an outage of silence, not one of refusals."""
        if not self._refused:
            self.over()

    def wants_probe(self) -> bool:
        """Whether the next ask should try the store, though an outage is under way."""
        if not self._refused:
            return False
        now = monotonic()
        if now < self._probe_at:
            return False
        self._probe_at = now + PROBE_S
        return True

    # Judging.

    def answer(self, ask: Ask) -> None:
        """Answer an ask in the store's place."""
        if ask.answer.done():
            return
        stats = self._stats
        judged = self._judge.judge(
            ask,
            self._boot(),
            now_us=int(monotonic() * 1_000_000),
            at_us=time_ns() // 1000 - EPOCH_US,
        )
        if isinstance(judged, Closed):
            stats.degraded_closed += 1
            stats.unavailable += 1
            ask.answer.set_exception(
                StoreUnavailable(f"the store does not answer, and {judged.why}", self._judge.share)
            )
            return
        if isinstance(judged, Grant):
            stats.degraded_granted += 1
            self._live[ask.attempt_id] = ask, judged
            self._note(ask, judged)
        else:
            stats.degraded_denied += 1
        ask.answer.set_result(judged)

    # What runs here.

    def held_under(self, boot: Boot) -> list[tuple[Ask, Grant]]:
        """Return what was granted under a boot and is not settled."""
        return [held for held in self._live.values() if held[1].boot is boot]

    def move(self, attempt_ids: Iterable[str], boot: Boot) -> None:
        """Let attempts live on under another boot, those that are not settled meanwhile."""
        for attempt_id in attempt_ids:
            found = self._live.get(attempt_id)
            if found is not None:
                found[1].boot = boot

    def is_strict(self, ask: Ask) -> bool:
        """Whether a strict budget stands over an ask."""
        return self._judge.is_strict(ask)

    def granted(self, ask: Ask, grant: Grant) -> None:
        """Note what the store has granted."""
        self._live[ask.attempt_id] = ask, grant

    def denied(self, denied: Denied) -> None:
        """Note what the store has refused."""
        self._judge.remember(denied, int(monotonic() * 1_000_000))

    def settled(self, settlement: Settlement) -> None:
        """Take the truth about an attempt."""
        (attempt_id, number, input_tokens, output_tokens, cost, health, ttft_us, cool_us) = (
            settlement.row[:8]
        )
        candidate = number - 1
        if health or cool_us:
            self._sight.learn(
                settlement.plan.candidates[candidate].deployment,
                int(monotonic() * 1_000_000),
                health,
                ttft_us,
                cool_us,
            )
        found = self._live.pop(attempt_id, None)
        if found is None:
            return
        ask, grant = found
        # A sending that was given up for this attempt must not grant it a second time.
        settlement.void_to = max(settlement.void_to, ask.void_to)
        if self.active:
            self._judge.release(
                ask,
                grant.candidate,
                input_tokens,
                input_tokens + output_tokens,
                cost,
            )
