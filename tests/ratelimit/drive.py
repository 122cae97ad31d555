"""One replica driven by hand at one cell of a real store, on the test's own clock; and plans and limits to drive it with."""

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from typing import Any

from ratelimit.asks import boot_of
from store.cells import FIRST
from tests.ratelimit import oracle
from tests.ratelimit.cell import Cell, entry_of
from tests.ratelimit.oracle import (
    Limits,
    moment,
)

NOW = moment(2026, 6, 17, 12)
DAY, WEEK, MONTH, TOTAL = 1, 2, 3, 5
KEY, TEAM, ORG = "key:o/t/k", "team:o/t", "org:o"
FREE = Limits()


def candidate(name: str = "d1", **changes: Any) -> oracle.Candidate:
    """Return a deployment at 1000 nano-USD per thousand tokens: a token costs one."""
    plain = oracle.Candidate(name, "m", 0, 1000, 1000, 1000, 4096, "p", 0)
    return replace(plain, **changes)


def plan_of(*candidates: oracle.Candidate) -> oracle.Plan:
    return oracle.Plan(
        (KEY, TEAM, ORG), candidates or (candidate(),), entry_of("", outcome="reaped")
    )


class Drive:
    """One replica at one cell: asks in, rows out."""

    def __init__(
        self, cell: Cell, plan: oracle.Plan | None = None, boot: str = "r/0.1", **limits: Limits
    ) -> None:
        self.cell = cell
        self.plan = plan or plan_of()
        self.boot = boot
        self.sendings = self.batches = self.made = 0
        named = {"key": KEY, "team": TEAM, "org": ORG, "model": "model:m", "model2": "model:m2"}
        self.limits = defaultdict(lambda: FREE)
        for name, row in limits.items():
            self.limits[named.get(name, f"deployment:{name}")] = row
        self.seed()
        cell.beat(self.boot, NOW, fresh=True)

    def seed(self) -> None:
        for scope in (*self.plan.scopes, *(s for c in self.plan.candidates for s in c.scopes)):
            self.cell.seed(scope, self.limits[scope])

    def ask(self, **wish: Any) -> oracle.Ask:
        self.made += 1
        plain = {"input": 10, "cap": 0, "assumed": 90, "n": 1, "first": True, "excluded": ()}
        plain |= {"plan": self.plan, "attempt_id": f"q{self.made}.1", "tie": 0, "user": "u"} | wish
        return oracle.Ask(bound=plain.pop("bound", plain["input"]), **plain)

    def send(self, *asks: oracle.Ask, now: int = NOW, again: bool = False) -> list[list[Any]]:
        self.sendings += 1
        answer = self.cell.admit(self.boot, list(asks), self.sendings, now, again=again)
        assert isinstance(answer, list), answer
        return answer

    def admit(self, now: int = NOW, **wish: Any) -> list[Any]:
        return self.send(self.ask(**wish), now=now)[0]

    def truth(self, ask: oracle.Ask, candidate: int = 1, **changes: Any) -> oracle.Settlement:
        plain = {"input": 10, "output": 5, "cost": 15, "health": 1, "ttft": 1000, "cool": 0}
        plain |= changes
        if "entry" not in plain:
            numbers = {name: plain[name] for name in ("input", "output", "cost")}
            plain["entry"] = entry_of(ask.attempt_id, **numbers)
        return oracle.Settlement(
            plan=ask.plan, attempt_id=ask.attempt_id, candidate=candidate, **plain
        )

    def void(self, ask: oracle.Ask) -> oracle.Settlement:
        return self.truth(ask, input=0, output=0, cost=0, health=0, entry=None)

    def settle(self, *truths: oracle.Settlement, now: int = NOW, void_to: int = 0) -> str | int:
        self.batches += 1
        return self.cell.settle(self.boot, self.batches, list(truths), void_to, now)

    def die(self, now: int = NOW, how: int = oracle.DEAD) -> int:
        """End this boot's life and reap it; 0 is silence. Returns how many leases that freed."""
        self.cell.client.zadd(FIRST.beats, {self.boot: how})
        assert self.cell.fence(now) == {self.boot}
        attempts = [one.decode() for one in self.cell.client.hkeys(boot_of(self.boot).leases)]
        reaped = self.cell.reap(self.boot, attempts, now)
        assert isinstance(reaped, int)
        return reaped

    # What is there.

    def state(self, scope: str) -> oracle.State:
        found = self.cell.decoded()[scope][1]
        assert found is not None
        return found

    def in_flight(self, scope: str) -> int:
        return self.state(scope).in_flight

    def bucket(self, scope: str, rate: str) -> Fraction:
        """Return how far ahead of NOW a bucket is."""
        return self.state(scope).empty_at[rate] - NOW

    def money(self, scope: str, kind: int) -> tuple[int, int]:
        """Return what is spent and what is held."""
        money = self.state(scope).money[kind]
        return money.spent, money.held


def strict(amount: int, kind: int = DAY) -> Limits:
    return Limits(budgets=((kind, amount, 1),))


def soft(amount: int, kind: int = DAY) -> Limits:
    return Limits(budgets=((kind, amount, 0),))
