"""
The scripts against the oracle: whatever happens in whatever order, the answers and the state are the same.

A timeline is drawn at random: several callers, limits and budgets at every level, time that runs, stands still,
steps back and crosses the ends of days, weeks and months, replicas that die and come back, a store that is flushed.
After every step everything that the server holds is decoded and compared, and the books are added up.

`PENSTOCK_HYPOTHESIS=deep` runs many more of them.
"""

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests.ratelimit import oracle
from tests.ratelimit.cell import LIFE, Cell, entry_of, expected

# Who calls, and which organizations limit their users.
CALLERS = (
    (("key:o/a/1", "application:o#web", "team:o/a", "business_line:o#retail", "org:o"), ("o",)),
    (("key:o/a/2", "team:o/a", "org:o"), ()),
    (("key:o/e/b/3", "team:o/e/b", "org:o/e", "org:o"), ("o/e", "o")),
)
USERS = ["", "ü", "ann", "u" * 40]
CALLER_SCOPES = sorted({scope for scopes, _ in CALLERS for scope in scopes})
# Of the users one has limits of his own.
USER_SCOPES = ["user:o#ann", "users:o", "users:o/e"]
SERVING_SCOPES = [
    *("deployment:d1", "deployment:d2", "deployment:d3", "deployment:d4"),
    *("model:m1", "model:m2", "provider:p"),
]
SCOPES = CALLER_SCOPES + USER_SCOPES + SERVING_SCOPES
REPLICAS = ("r/0", "r/1")


# Around the ends of a day, a week, a month, a quarter, a year and a leap day, and of summer time.
BEGINNINGS = [
    oracle.moment(2024, 12, 31, 23, 59, 50),
    oracle.moment(2025, 3, 2, 23, 59, 55),
    oracle.moment(2028, 2, 29, 23, 59, 58),
    oracle.moment(2026, 6, 17, 12, 0, 0),
    oracle.moment(2026, 8, 31, 0, 0, 1),
    oracle.moment(2026, 6, 30, 21, 59, 55),
    oracle.moment(2026, 3, 29, 0, 59, 57),
    oracle.moment(2026, 10, 24, 21, 59, 58),
]
STEPS = [
    *(0, 0, 1, 400_000, 400_000, oracle.SECOND, oracle.SECOND, 5 * oracle.SECOND),
    *(11 * oracle.SECOND, 31 * oracle.SECOND, 61 * oracle.SECOND, oracle.HOUR),
    *(24 * oracle.HOUR, 8 * 24 * oracle.HOUR, 35 * 24 * oracle.HOUR),
    *(-1, -oracle.SECOND, -70 * oracle.SECOND, -2 * oracle.HOUR, -25 * oracle.HOUR),
    -40 * 24 * oracle.HOUR,
]


@st.composite
def rates(draw: st.DrawFn) -> dict[str, Any]:
    """Draw some rates, some of them with a burst of their own, and perhaps a concurrency."""
    found: dict[str, Any] = {}
    bursts = {}
    for name in draw(st.lists(st.sampled_from(oracle.RATES), max_size=3, unique=True)):
        sizes = [1, 3, 7, 60, 601] if name.startswith("r") else [100, 777, 1000, 60_000]
        found[name] = draw(st.sampled_from(sizes))
        burst = draw(st.sampled_from([0, 0, 1, found[name] // 2 + 1, found[name] * 3]))
        if burst:
            bursts[name] = burst
    return found | {
        "burst": tuple(sorted(bursts.items())),
        "concurrency": draw(st.sampled_from([*[0] * 8, 1, 2, 4])),
    }


moments = [one + us for one in BEGINNINGS for us in (20 * oracle.SECOND, 2 * oracle.HOUR)]
budgets = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.sampled_from([1, 5_000, 300_000, 5_000_000, *[10**9] * 4]),
        st.integers(0, 1),
        st.sampled_from([7_000, 900_000, 2 * 10**9]),
        st.sampled_from([0, 0, 0, *moments]),
        st.sampled_from(["UTC", "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]),
        st.sampled_from([(), (50, 80, 100), (100,), (1, 7, 150)]),
    ),
    max_size=2,
    unique_by=lambda budget: (budget[0], budget[2]),
).map(tuple)


@st.composite
def configured(draw: st.DrawFn, scope: str, version: int = 1) -> oracle.Limits:
    """Draw the limits of a scope; most are free, so that something is granted."""
    rest: dict[str, Any] = {}
    if scope.startswith("deployment"):
        rest["weight"] = draw(st.sampled_from([1, 1, 1, 2, 5]))
        rest["drained"] = draw(st.sampled_from([0, 0, 0, 0, 1]))
    if draw(st.sampled_from([0, 0, 1])):
        rest |= draw(rates())
    if draw(st.sampled_from([0, 1] if scope in CALLER_SCOPES else [0, 0, 1])):
        rest["budgets"] = draw(budgets)
    return oracle.Limits(version=version, **rest)


@st.composite
def candidates(draw: st.DrawFn) -> tuple[oracle.Candidate, ...]:
    """Draw who could serve a plan: one to four deployments of two models, in tiers."""
    count = draw(st.integers(1, 4))
    prices = st.sampled_from([0, 1, 999, 20_000, 600_000])
    found = []
    for number in range(1, count + 1):
        dearest = draw(prices)
        found.append(
            oracle.Candidate(
                deployment=f"d{number}",
                model="m1" if number < 4 else "m2",
                tier=draw(st.sampled_from([0, 0, 1])) if number < 4 else 1,
                input=dearest,
                output=draw(prices),
                input_estimate=dearest // 2,
                most=draw(st.sampled_from([16, 256, 4096])),
                provider="p",
                request=draw(st.sampled_from([0, 0, 7])),
                limited_provider=draw(st.booleans()),
            )
        )
    return tuple(found)


@st.composite
def plans(draw: st.DrawFn) -> tuple[oracle.Plan, ...]:
    """Draw one plan per caller."""
    return tuple(
        oracle.Plan(scopes, draw(candidates()), entry_of("", outcome="reaped"), users)
        for scopes, users in CALLERS
    )


wishes = st.fixed_dictionaries(
    {
        "plan": st.integers(0, len(CALLERS) - 1),
        "input": st.sampled_from([0, 1, 40, 40, 150]),
        "slack": st.sampled_from([0, 0, 100]),
        "cap": st.sampled_from([0, 0, 1, 100, 300, 10_000]),
        "assumed": st.sampled_from([1, 64, 1024]),
        "n": st.sampled_from([0, 1, 1, 1, 2, 3]),
        "first": st.booleans(),
        "excluded": st.sampled_from([(), (), (), (1,), (1, 2), (3,)]),
        "tie": st.integers(-3, 2**40),
        "user": st.sampled_from(USERS),
        "tiers": st.just([])
        | st.lists(st.sampled_from([0, 0, 1, 254, 255]), min_size=4, max_size=4),
        "fees": st.just([]) | st.lists(st.integers(0, 4000), min_size=4, max_size=4),
        "kind": st.sampled_from([1, 1, 2, 3]),
        "level": st.sampled_from([1, 2, 2, 3]),
        "favoured": st.sampled_from([0, 0, 1, 2]),
    }
)
truths = st.fixed_dictionaries(
    {
        "which": st.integers(0, 20),
        "input": st.sampled_from([0, 1, 40, 5000]),
        "output": st.sampled_from([0, 1, 99, 9000]),
        "cost": st.sampled_from([0, 1, 4_999, 400_000, 10_000_000]),
        "health": st.sampled_from([0, 1, 1, *[2] * 6, 3, 4]),
        "left": st.sampled_from(
            [None, None, None, (0, 3_000_000, -1, 0), (2, 10**10, 150, 70_000), (-1, 0, 0, 1)]
        ),
        "ttft": st.sampled_from([0, 1000, 250_000, 8_000_000]),
        "cool": st.sampled_from([0, 0, 0, 2_000_000, 10**10]),
        "void": st.sampled_from([False, False, False, True]),
    }
)
replicas = st.integers(0, len(REPLICAS) - 1)

# What may happen, how often relative to the rest, and with what.
HAPPENINGS: dict[str, tuple[int, tuple[st.SearchStrategy[Any], ...]]] = {
    "admit": (10, (replicas, st.lists(wishes, min_size=1, max_size=4))),
    "admit again": (2, (replicas,)),
    "admit late": (2, (replicas,)),
    "give up": (1, (replicas,)),
    "settle": (
        10,
        (st.lists(truths, min_size=1, max_size=4, unique_by=lambda truth: truth["which"]),),
    ),
    "settle again": (2, ()),
    "settle what the store has lost": (2, (replicas, st.integers(0, 2), st.integers(1, 4), truths)),
    "progress": (
        3,
        (st.lists(st.tuples(st.integers(0, 20), st.integers(0, 500)), min_size=1, max_size=4),),
    ),
    "beat": (2, (replicas,)),
    "leave": (2, (replicas,)),
    "die": (1, (replicas,)),
    "reap": (3, (st.integers(1, 3),)),
    "wait": (8, (st.sampled_from(STEPS),)),
    "configure": (1, (st.sampled_from(SCOPES), st.data())),
    "flush": (1, ()),
}
happenings = st.sampled_from(
    [what for what, (often, _) in HAPPENINGS.items() for _ in range(often)]
).flatmap(lambda what: st.tuples(st.just(what), *HAPPENINGS[what][1]))


def same(ours: Any, theirs: Any) -> bool:
    """Compare decoded values; a latency went through exp() in two languages."""
    if isinstance(ours, oracle.Health) and isinstance(theirs, oracle.Health):
        return same({**vars(ours), "is_written": 0}, {**vars(theirs), "is_written": 0})
    if isinstance(ours, (oracle.State, oracle.Kind)) and isinstance(
        theirs, (oracle.State, oracle.Kind)
    ):
        return same(vars(ours), vars(theirs))
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(v, theirs[k]) for k, v in ours.items())
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, float) or isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-9)
    return bool(ours == theirs)


class Timeline:
    """One world told twice: to the server and to the oracle."""

    def __init__(
        self,
        cell: Cell,
        plans: tuple[oracle.Plan, ...],
        limits: dict[str, oracle.Limits],
        now: int,
    ) -> None:
        self.cell = cell
        self.store = oracle.Store()
        self.plans = plans
        self.limits = limits
        self.now = now
        self.version = 1
        self.attempts = 0
        self.sendings = 0
        self.lives = 0
        # Grants that nobody has settled yet: (boot, ask, candidate).
        self.open: list[tuple[str, oracle.Ask, int]] = []
        self.batches: Counter[str] = Counter()
        self.last_settled: tuple[str, int, list[oracle.Settlement], int] | None = None
        self.boots: dict[int, str] = {}
        self.last_asked: dict[int, tuple[str, list[oracle.Ask], int]] = {}
        cell.client.flushall()
        for scope in limits:
            self.seed(scope)
        for replica in range(len(REPLICAS)):
            self.be_born(replica)

    def both(self, ours: Any, theirs: Any) -> Any:
        """Require the same answer from both."""
        assert same(theirs, ours), f"the server says {ours}, the oracle {theirs}"
        return ours

    def check(self) -> None:
        """Require the same state of both, and books that add up."""
        found, wanted = self.cell.decoded(), expected(self.store)
        for key in {*found, *wanted}:
            assert same(wanted.get(key), found.get(key)), (
                f"{key}: the server has {found.get(key)}, the oracle {wanted.get(key)}"
            )
        leases = [lease for boot in self.store.boots.values() for lease in boot.leases.values()]
        for scope, state in self.store.states.items():
            assert state.in_flight == sum(scope in lease.scopes for lease in leases), scope

    def seed(self, scope: str) -> None:
        """Write a scope's limits."""
        self.cell.seed(scope, self.limits[scope])
        self.store.seed(scope, self.limits[scope])

    def be_born(self, replica: int) -> None:
        """Begin a new life of a replica."""
        self.lives += 1
        name = self.boots[replica] = f"{REPLICAS[replica]}.{self.lives}"
        self.both(
            self.cell.beat(name, self.now, fresh=True),
            self.store.beat(name, self.now, LIFE, fresh=True),
        )

    def happen(self, what: str, *args: Any) -> None:
        """Let one thing happen to both."""
        told = len(self.store.events)
        getattr(self, "do_" + what.replace(" ", "_"))(*args)
        if len(self.store.events) > told:
            event("told of a threshold")
        self.check()

    def do_wait(self, us: int) -> None:
        self.now = max(self.now + us, oracle.moment(2024, 3, 1))

    def do_configure(self, scope: str, data: st.DataObject) -> None:
        self.version += 1
        self.limits[scope] = data.draw(configured(scope, self.version))
        self.seed(scope)

    def do_flush(self) -> None:
        self.cell.client.flushall()
        self.cell.client.script_flush()
        self.cell.__init__(self.cell.client)  # type: ignore[misc]  # loads the scripts again
        self.store.flush()

    def do_beat(self, replica: int) -> None:
        name = self.boots[replica]
        answer = self.both(
            self.cell.beat(name, self.now, fresh=False),
            self.store.beat(name, self.now, LIFE, fresh=False),
        )
        if answer == "FENCED":
            event("a beat came too late")
            self.be_born(replica)

    def do_leave(self, replica: int) -> None:
        """Give a boot up (the end of its life is in the past) and come back under another."""
        name = self.boots[replica]
        if name in self.store.beats:
            self.cell.client.zadd("{c0}:r", {name: 0})
            self.store.beats[name] = 0
        self.be_born(replica)

    def do_die(self, replica: int) -> None:
        """Let it be known that a process is dead, before or after it was taken for it, and another one begin."""
        name = self.boots[replica]
        if name in self.store.beats:
            self.cell.client.zadd("{c0}:r", {name: oracle.DEAD})
            self.store.beats[name] = oracle.DEAD
        self.be_born(replica)

    def do_admit(self, replica: int, drawn: list[dict[str, Any]]) -> None:
        batch = []
        for wish in drawn:
            self.attempts += 1
            own = dict(wish)
            plan, slack = self.plans[own.pop("plan")], own.pop("slack")
            excluded = tuple(n for n in own.pop("excluded") if n <= len(plan.candidates))
            tiers = tuple(own.pop("tiers")[: len(plan.candidates)])
            fees = tuple(own.pop("fees")[: len(plan.candidates)])
            batch.append(
                oracle.Ask(
                    plan=plan,
                    attempt_id=f"q{self.attempts}.1",
                    bound=own["input"] + slack,
                    excluded=excluded,
                    tiers=tiers,
                    fees=fees,
                    **own,
                )
            )
        self.sendings += 1
        self.send(replica, self.boots[replica], batch, self.sendings, again=False)
        self.last_asked[replica] = (self.boots[replica], batch, self.sendings)

    def do_admit_again(self, replica: int) -> None:
        if replica in self.last_asked:
            boot, batch, _ = self.last_asked[replica]
            self.sendings += 1
            event("asked again")
            self.send(replica, boot, batch, self.sendings, again=True)
            self.last_asked[replica] = (boot, batch, self.sendings)

    def do_admit_late(self, replica: int) -> None:
        """Let the server come to a sending that was given up in the meantime."""
        if replica in self.last_asked:
            boot, batch, number = self.last_asked[replica]
            if (self.store.boot(boot).bar or 0) > number - 1:
                answer = self.send(replica, boot, batch, number - 1, again=False)
                assert isinstance(answer, str)

    def send(
        self, replica: int, boot: str, batch: list[oracle.Ask], number: int, *, again: bool
    ) -> Any:
        """Send a batch of asks, and do what the gate does with the answers."""
        answer = self.both(
            self.cell.admit(boot, batch, number, self.now, again=again),
            self.store.admit(boot, batch, number, self.now, again=again),
        )
        if answer == "FENCED":
            event("fenced")
            if boot == self.boots[replica]:
                self.be_born(replica)
        if isinstance(answer, str):
            return answer
        for ask, row in zip(batch, answer, strict=True):
            event(f"answer {row[0]}" + (f", what {row[1]}" if row[0] == 0 else ""))
            if row[0] == 1:
                event(f"why {row[5]}")
                if (boot, ask, row[1]) not in self.open:
                    self.open.append((boot, ask, row[1]))
            if row[0] == 2:
                for scope in dict.fromkeys(row[1:]):
                    if scope == "users:o":
                        self.seed("user:o#ann")
                    self.seed(scope)
        return answer

    def settlement(
        self, drawn: dict[str, Any], ask: oracle.Ask, candidate: int
    ) -> oracle.Settlement:
        entry = entry_of(
            ask.attempt_id, input=drawn["input"], output=drawn["output"], cost=drawn["cost"]
        )
        void = drawn["void"]
        return oracle.Settlement(
            plan=ask.plan,
            attempt_id=ask.attempt_id,
            candidate=candidate,
            input=0 if void else drawn["input"],
            output=0 if void else drawn["output"],
            cost=0 if void else drawn["cost"],
            health=0 if void else drawn["health"],
            ttft=drawn["ttft"],
            cool=drawn["cool"],
            entry=None if void else entry,
            user=ask.user,
            kind=ask.kind,
            left=drawn["left"],
        )

    def do_settle(self, drawn: list[dict[str, Any]]) -> None:
        """Settle some grants of the boot of the first one."""
        picked: list[tuple[tuple[str, oracle.Ask, int], dict[str, Any]]] = []
        for truth in drawn:
            if self.open:
                one = self.open[truth["which"] % len(self.open)]
                if all(one is not other for other, _ in picked) and (
                    not picked or picked[0][0][0] == one[0]
                ):
                    picked.append((one, truth))
        if picked:
            boot = picked[0][0][0]
            for one, _ in picked:
                self.open.remove(one)
            batch = [self.settlement(truth, one[1], one[2]) for one, truth in picked]
            if any(one.attempt_id in self.store.boot(boot).graves for one in batch):
                event("settled after the reaper")
            self.batches[boot] += 1
            self.settle(boot, self.batches[boot], batch, 0)

    def do_settle_what_the_store_has_lost(
        self, replica: int, plan: int, count: int, truth: dict[str, Any]
    ) -> None:
        """Settle attempts of which nothing is known, all with the same outcome at the same deployment."""
        boot = self.boots[replica]
        lost = []
        for _ in range(count):
            self.attempts += 1
            ask = oracle.Ask(
                self.plans[plan], f"q{self.attempts}.2", 0, 0, 0, 0, 0, True, (), 0, "ann"
            )
            lost.append(self.settlement(truth, ask, 1))
        self.batches[boot] += 1
        self.settle(boot, self.batches[boot], lost, 0)

    def settle(self, boot: str, number: int, batch: list[oracle.Settlement], void_to: int) -> None:
        self.both(
            self.cell.settle(boot, number, batch, void_to, self.now),
            self.store.settle(boot, number, batch, void_to, self.now),
        )
        self.last_settled = (boot, number, batch, void_to)

    def do_settle_again(self) -> None:
        if self.last_settled is not None:
            self.settle(*self.last_settled)

    def do_give_up(self, replica: int) -> None:
        """Nobody waits for the last sending any more: what it got is given back, what it may get is barred."""
        if replica in self.last_asked:
            boot, batch, number = self.last_asked[replica]
            granted = {ask.attempt_id for b, ask, _ in self.open if b == boot}
            void = {**VOID, "which": 0}
            voids = [self.settlement(void, ask, 1) for ask in batch]
            self.open = [
                one
                for one in self.open
                if not (one[0] == boot and one[1] in batch and one[1].attempt_id in granted)
            ]
            self.batches[boot] += 1
            self.settle(boot, self.batches[boot], voids, number + 1)

    def do_progress(self, drawn: list[tuple[int, int]]) -> None:
        for which, tokens in drawn:
            if self.open:
                boot, ask, _ = self.open[which % len(self.open)]
                self.both(
                    self.cell.progress(boot, [(ask.attempt_id, tokens)]),
                    self.store.progress(boot, [(ask.attempt_id, tokens)]),
                )

    def do_reap(self, at_once: int) -> None:
        dead = self.both(sorted(self.cell.fence(self.now)), sorted(self.store.fence(self.now)))
        for name in dead:
            while True:
                attempts = sorted(self.store.boot(name).leases)[:at_once]
                if attempts:
                    event("reaped")
                self.both(
                    self.cell.reap(name, attempts, self.now),
                    self.store.reap(name, attempts, self.now),
                )
                if not attempts:
                    break
            # What stays of those that it reaped before comes last.
            graves = sorted(self.store.boot(name).graves)
            self.both(
                self.cell.reap(name, graves, self.now), self.store.reap(name, graves, self.now)
            )


VOID = {"input": 0, "output": 0, "cost": 0, "health": 0, "ttft": 0, "cool": 0}
VOID |= {"left": None, "void": True}


@pytest.mark.timeout(600)
@given(
    plans=plans(),
    limits=st.fixed_dictionaries({scope: configured(scope) for scope in SCOPES}),
    now=st.sampled_from(BEGINNINGS),
    story=st.lists(happenings, min_size=15, max_size=50),
)
def test_the_scripts_do_what_the_rules_say(
    cell: Cell,
    plans: tuple[oracle.Plan, ...],
    limits: dict[str, oracle.Limits],
    now: int,
    story: list[tuple[Any, ...]],
) -> None:
    """The same answers and the same state at every step of any timeline."""
    timeline = Timeline(cell, plans, dict(limits), now)
    timeline.check()
    for what, *args in story:
        timeline.happen(what, *args)
