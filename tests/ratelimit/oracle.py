"""
The rules of admission and settlement, said the naive way: plain objects, exact numbers, the calendar of `datetime`.

This is what the scripts are held against. It shares no code with them, and no product code ever calls it.
What a single scope keeps is in `oracle_scope`; here is what a cell does with all of them.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from tests.ratelimit.oracle_scope import (
    BUDGET,
    CONCURRENCY,
    COOLING,
    DRAINED,
    DUE,
    EPOCH,
    EPOCH_US,
    FEASIBLE,
    FULL,
    HOUR,
    MINUTE,
    MODEL,
    NO_REQUESTS,
    NO_TOKENS,
    OFFLINE,
    OWN,
    POOR,
    PROVIDER,
    RATES,
    REQUESTS,
    SECOND,
    THROTTLED,
    TOKENS,
    TOO_LARGE,
    TRIED,
    TRIED_OUT,
    UNSUITABLE,
    WINDOWS,
    Budget,
    Health,
    Kind,
    Limits,
    Money,
    Rate,
    State,
    moment,
    period_end,
    price,
    remaining,
)

# How a life ended: the process is known to be dead, or fell silent; less than that, minus when it was reaped.
DEAD, SILENT = -1, -2
_NOTHING: Mapping[tuple[str, int], int] = MappingProxyType({})

# The one door: what a scope keeps is asked for here, too.
__all__ = [
    "BUDGET",
    "CONCURRENCY",
    "DEAD",
    "EPOCH",
    "EPOCH_US",
    "HOUR",
    "MINUTE",
    "RATES",
    "REQUESTS",
    "SECOND",
    "SILENT",
    "TOKENS",
    "TOO_LARGE",
    "WINDOWS",
    "Ask",
    "Boot",
    "Budget",
    "Candidate",
    "Health",
    "Kind",
    "Lease",
    "Limits",
    "Money",
    "Plan",
    "Settlement",
    "State",
    "Store",
    "moment",
]


@dataclass(frozen=True)
class Candidate:
    """One deployment that could serve a plan; prices per thousand tokens."""

    deployment: str
    model: str
    tier: int
    input: int
    output: int
    input_estimate: int
    most: int
    provider: str
    request: int
    limited_provider: bool = False

    @property
    def scopes(self) -> tuple[str, ...]:
        """The deployment, the model, and the provider where it is limited, as scopes."""
        provider = (f"provider:{self.provider}",) if self.limited_provider else ()
        return f"deployment:{self.deployment}", f"model:{self.model}", *provider


@dataclass(frozen=True)
class Plan:
    """Who asks and who could serve; `entry` is what the reaper completes, `users` the organizations that limit their users."""

    scopes: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    entry: tuple[Any, ...]
    users: tuple[str, ...] = ()

    def user_scopes(self, user: str) -> tuple[str, ...]:
        """Return the scopes of a user."""
        return tuple(f"user:{one}#{user}" for one in self.users) if user else ()


@dataclass(frozen=True)
class Ask:
    """One attempt's wishes; `excluded` counts from 1, `tiers` stand in place of the plan's (255: not this one); `fees` are one per candidate."""

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
    tiers: tuple[int, ...] = ()
    fees: tuple[int, ...] = ()

    def tier(self, i: int) -> int:
        """Return the tier of a candidate (from 0) for this ask."""
        return self.tiers[i] if self.tiers else self.plan.candidates[i].tier

    def fee(self, c: Candidate) -> int:
        """Return what a call at a candidate may cost beside its tokens."""
        return self.fees[self.plan.candidates.index(c)] if self.fees else 0

    kind: int = 1
    level: int = 2
    favoured: int = 0


@dataclass(frozen=True)
class Settlement:
    """The truth about one attempt; `candidate` counts from 1, `entry` is None for a void."""

    plan: Plan
    attempt_id: str
    candidate: int
    input: int
    output: int
    cost: int
    health: int
    ttft: int
    cool: int
    entry: tuple[Any, ...] | None
    user: str = ""
    kind: int = 1
    left: tuple[int, int, int, int] | None = None


@dataclass
class Lease:
    """What an attempt holds, and where; `held` is (scope, kind, period, amount)."""

    plan: Plan
    candidate: int
    at: int
    debit: int
    held: list[tuple[str, int, int, int]]
    input: int
    cap: int
    user: str
    fee: int = 0

    @property
    def served_by(self) -> Candidate:
        """The chosen candidate."""
        return self.plan.candidates[self.candidate - 1]

    @property
    def scopes(self) -> tuple[str, ...]:
        """Everything that it counts at."""
        users = self.plan.user_scopes(self.user)
        return (*self.plan.scopes, *users, *self.served_by.scopes)


@dataclass
class Grave:
    """
    What the reaper charged for an attempt, in case it settles after all.

    `stays` is what it still reserves of strict budgets, as `Lease.held`.
    """

    lease: Lease
    settled: bool
    input: int
    output: int
    cost: int
    stays: list[tuple[str, int, int, int]] = field(default_factory=list)


def _entry_for(lease: Lease, attempt: str, now: int) -> list[Any]:
    """Return the entry that a plan carries for those who cannot ask the replica; tokens and cost are zero."""
    c = lease.served_by
    request, _, nth = attempt.rpartition(".")
    entry = list(lease.plan.entry)
    entry[:4] = attempt, request, int(nth), lease.at + EPOCH_US
    entry[7] = lease.user
    entry[11:14] = c.model, c.deployment, c.provider
    entry[14] = entry[17] = entry[21] = 0
    entry[24] = max(now - lease.at, 0)
    return entry


@dataclass
class Boot:
    """What the store knows of one life of a replica."""

    leases: dict[str, Lease] = field(default_factory=dict)
    graves: dict[str, Grave] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    seen: int | None = None
    bar: int | None = None


class Refused(Exception):
    """One of the caller's own limits says no."""

    def __init__(self, what: int, scope: int, limit: int, wait: int, which: int) -> None:
        self.row = (what, scope, limit, wait)
        self.which = which


class Store:
    """The cell: scopes, replicas, books."""

    def __init__(self) -> None:
        self.flush()

    def flush(self) -> None:
        """Lose everything, as FLUSHALL does."""
        self.limits: dict[str, Limits] = {}
        self.states: dict[str, State] = {}
        self.boots: dict[str, Boot] = {}
        self.beats: dict[str, int] = {}
        self.ledger: list[tuple[Any, ...]] = []
        self.events: list[tuple[Any, ...]] = []
        self.touched: set[str] = set()

    def seed(self, scope: str, limits: Limits) -> None:
        """Write limits, unless newer ones are there."""
        if scope not in self.limits or self.limits[scope].version <= limits.version:
            self.limits[scope] = limits

    def limits_of(self, scope: str) -> Limits | None:
        """Return what holds at a scope: of a user without limits of his own, or with old ones, what holds for all."""
        own = self.limits.get(scope)
        if not scope.startswith("user:"):
            return own
        common = self.limits.get("users:" + scope[5:].partition("#")[0])
        if common is None:
            return None
        if own is not None and own.version >= common.version:
            return own
        return common

    def boot(self, name: str) -> Boot:
        """Return what is known of a boot."""
        return self.boots.setdefault(name, Boot())

    # Life of replicas.

    def beat(self, name: str, now: int, life: int, *, fresh: bool) -> str:
        """Say that a replica lives."""
        if not fresh and self.beats.get(name, -1) < 0:
            return "FENCED"
        self.beats[name] = now + life
        return "OK"

    def fence(self, now: int) -> set[str]:
        """
        End the lives that were not renewed; whoever claims more than a minute is cut to it.

        Gives those of whom something is to be freed: the dead, and the silent until they were reaped.
        """
        for name, until in self.beats.items():
            self.beats[name] = SILENT if 0 <= until <= now else min(until, now + MINUTE)
        return {name for name, until in self.beats.items() if until in {DEAD, SILENT}}

    def progress(self, name: str, reports: list[tuple[str, int]]) -> int:
        """Note what streams gave so far."""
        boot = self.boot(name)
        live = [(attempt, tokens) for attempt, tokens in reports if attempt in boot.leases]
        boot.parts.update(live)
        return len(live)

    # Admission.

    def admit(
        self, name: str, asks: list[Ask], number: int, now: int, *, again: bool
    ) -> str | list[list[Any]]:
        """Admit a batch, one ask after the other."""
        if self.beats.get(name, -1) < 0:
            return "FENCED"
        boot = self.boot(name)
        if number < (boot.bar or 0):
            return "LATE"
        if again:
            boot.bar = number
        stored = dict(boot.leases) if again else {}
        for plan in {ask.plan for ask in asks}:
            self._repair({*plan.scopes, *(s for c in plan.candidates for s in c.scopes)}, now)
        answers: list[list[Any]] = []
        for ask in asks:
            if ask.attempt_id in stored:
                lease = stored[ask.attempt_id]
                answers.append([1, lease.candidate, lease.cap, lease.at, [0] * 6, 3, "", 0])
            else:
                answers.append(self._admit_one(boot, ask, now))
        self._write_health(now)
        return answers

    def _repair(self, scopes: set[str], now: int) -> None:
        """Bring up to date what the clock has stepped back from, whatever the answers will be."""
        for scope in scopes:
            limits = self.limits_of(scope)
            if (
                scope in self.states
                and limits
                and self.states[scope].stepped_back_from(now, limits)
            ):
                self.states[scope] = self.states[scope].at(now, limits)

    def _admit_one(self, boot: Boot, ask: Ask, now: int) -> list[Any]:
        plan = ask.plan
        unknown = [scope for scope in plan.scopes if scope not in self.limits]
        for candidate in plan.candidates:
            unknown += [scope for scope in candidate.scopes if scope not in self.limits]
        if unknown:
            return [2, *unknown]
        users = plan.user_scopes(ask.user)
        self._repair(set(users), now)
        unknown = [f"users:{one}" for one in plan.users if f"users:{one}" not in self.limits]
        if unknown and users:
            return [2, *unknown]
        self.mine = (*plan.scopes, *users)
        world = {
            scope: self.states.get(scope, State()).at(now, self._limits(scope))
            for scope in {*self.mine, *(s for c in plan.candidates for s in c.scopes)}
        }
        try:
            self._check_caller(world, ask, now)
            return self._serve(world, boot, ask, now)
        except Refused as refused:
            return [0, *refused.row, now, self._tightest(world, now), refused.which]

    def _limits(self, scope: str) -> Limits:
        found = self.limits_of(scope)
        assert found is not None
        return found

    @staticmethod
    def _wants(ask: Ask) -> dict[str, int]:
        """Return how much an ask wants of what limits count."""
        output = (ask.cap or ask.assumed) * ask.n
        return {"r": 1, "t": ask.input + output, "it": ask.input, "ot": output}

    def _wait(
        self, world: dict[str, State], scope: str, wants: dict[str, int], now: int
    ) -> tuple[int, Rate | None]:
        """How long until what is wanted fits into every bucket, and the bucket that takes longest."""
        worst, which = Fraction(0), None
        for rate in self._limits(scope).rates:
            amount = wants[rate.counts]
            # What is larger than a bucket waits for an empty one; what wants nothing waits for nothing.
            full_in = world[scope].empty_at[rate.name] - now + rate.pours(min(amount, rate.burst))
            if amount and full_in - rate.depth > worst:
                worst, which = full_in - rate.depth, rate
        return math.ceil(worst), which

    def _is_full(self, world: dict[str, State], scope: str) -> bool:
        most = self._limits(scope).concurrency
        return bool(most) and world[scope].in_flight >= most

    def _check_caller(self, world: dict[str, State], ask: Ask, now: int) -> None:
        """Raise the first budget or absurdity, or else the limit that frees last."""
        waits = []
        wants = self._wants(ask)
        if not ask.first:
            wants["r"] = 0
        for number, scope in enumerate(self.mine, 1):
            limits = self._limits(scope)
            bounded = [rate for rate in limits.rates if rate.counts in {"t", "it"}]
            least = min(bounded, key=lambda rate: rate.burst, default=None)
            if least and ask.input > least.burst:
                code = RATES.index(least.name) + 1
                raise Refused(TOO_LARGE, number, least.burst, 0, code)
            wait, rate = self._wait(world, scope, wants, now)
            if rate:
                what = REQUESTS if rate.counts == "r" else TOKENS
                waits.append((wait, what, number, rate.limit, RATES.index(rate.name) + 1))
            if self._is_full(world, scope):
                waits.append((-1, CONCURRENCY, number, limits.concurrency, 0))
            for budget in limits.money:
                if self._room(world, scope, budget, now) <= 0:
                    raise self._spent(number, budget, now)
        timed = [one for one in waits if one[0] > 0]
        full = [one for one in waits if one[0] < 0]
        if timed:
            # Of equal waits the first one binds.
            wait, what, number, limit, code = max(timed, key=lambda one: one[0])
            # Nor does it help to come back before one of the vendors can serve it.
            wait = max(wait, self._soonest(world, ask, now))
            raise Refused(what, number, limit, wait, code)
        if full:
            _, what, number, limit, code = full[0]
            raise Refused(what, number, limit, 0, code)

    def _soonest(self, world: dict[str, State], ask: Ask, now: int) -> int:
        """Return how long until the rates of one of the candidates have room."""
        waits = [
            max(
                world[c.scopes[0]].throttled(now),
                *(self._wait(world, scope, self._wants(ask), now)[0] for scope in c.scopes),
            )
            for number, c in enumerate(ask.plan.candidates, 1)
            if number not in ask.excluded
            and not self.limits[c.scopes[0]].drained
            and 255 not in ask.tiers[number - 1 : number]
        ]
        return min(waits, default=0)

    @staticmethod
    def _spent(number: int, budget: Budget, now: int) -> Refused:
        ends = period_end(now, budget.zone, budget.kind)
        wait = ends - now if ends else 0
        return Refused(BUDGET, number, budget.at(now), wait, budget.kind)

    @staticmethod
    def _room(world: dict[str, State], scope: str, budget: Budget, now: int) -> int:
        money = world[scope].money[budget.kind]
        return budget.at(now) - money.spent - money.held

    def _strict(self, world: dict[str, State], now: int) -> list[tuple[int, int, Budget]]:
        """Return (room, scope number, budget) of every strict budget of the caller's."""
        return [
            (self._room(world, scope, budget, now), number, budget)
            for number, scope in enumerate(self.mine, 1)
            for budget in self._limits(scope).money
            if budget.strict
        ]

    def _own_rooms(self, world: dict[str, State], c: Candidate, now: int) -> tuple[list[int], bool]:
        """Return the rooms of a candidate's own strict budgets, and whether any of its budgets is spent."""
        rooms = [
            (self._room(world, scope, budget, now), budget.strict)
            for scope in c.scopes
            for budget in self._limits(scope).money
        ]
        return [room for room, strict in rooms if strict], any(room <= 0 for room, _ in rooms)

    def _cap_and_hold(self, c: Candidate, ask: Ask, room: int | None) -> tuple[int, int, bool]:
        """Return the cap to enforce, what it costs at most, and whether that is affordable."""
        fixed = price(ask.bound, c.input) + c.request + ask.fee(c)
        if room is None:
            return 0, fixed, True
        want = min(ask.cap or c.most, c.most) if ask.n else 0

        def hold(cap: int) -> int:
            return fixed + price(cap * ask.n, c.output)

        # The largest cap whose hold fits.
        cap = bisect_right(range(want + 1), room, key=hold) - 1
        return cap, hold(max(cap, 0)), cap >= min(want, 256)

    def _serve(self, world: dict[str, State], boot: Boot, ask: Ask, now: int) -> list[Any]:
        plan = ask.plan
        strict = self._strict(world, now)
        room = min((one[0] for one in strict), default=None)
        words: list[int | str] = []
        waits: list[int] = []
        for number, c in enumerate(plan.candidates, 1):
            word, wait = self._judge(world, ask, number, c, room=room, now=now)
            words.append(word)
            waits.append(wait)
        feasible = [i for i, word in enumerate(words) if word == FEASIBLE]
        due = [i for i, word in enumerate(words) if word == DUE]
        failing = [i for i, word in enumerate(words) if word in {COOLING, TRIED_OUT, OFFLINE}]
        words = [TRIED_OUT if word == DUE else word for word in words]
        lowest = min((ask.tier(i) for i in feasible), default=None)
        probe = min(due, key=ask.tier, default=None)
        if probe is not None and lowest is not None:
            # For premium, and for who has failed once, it is tried out only where nobody else is left.
            overdue = max(waits[i] for i in due) >= 10 * SECOND
            spared = (ask.level == 1 or not ask.first) and not overdue
            if spared or ask.tier(probe) > lowest:
                probe = None
        if probe is not None:
            chosen, why = probe, 5
            words[chosen] = FEASIBLE
        elif lowest is not None:
            peers = [i for i in feasible if ask.tier(i) == lowest]
            chosen, is_favoured = self._least_loaded(world, ask, peers, now)
            why = 1 if len(words) == 1 else 2 if len(peers) == 1 else 3
            why = 6 if is_favoured else why
        elif failing and ask.first:
            chosen, why = min(failing, key=lambda i: waits[i]), 4
            words[chosen] = FEASIBLE
        else:
            blocked = [word for word in words if word not in {TRIED, DRAINED, UNSUITABLE}]
            if blocked and set(blocked) == {POOR}:
                _, number, budget = next(one for one in strict if one[0] == room)
                raise self._spent(number, budget, now)
            soonest = min((wait for wait in waits if wait), default=0)
            return [
                3,
                soonest,
                "".join(map(str, words)),
                now,
                self._tightest(world, now),
                # Nobody waits for a place here.
                0,
            ]
        latency = world[plan.candidates[chosen].scopes[0]].faded_latency(now) or 0
        self._tell_health(world[plan.candidates[chosen].scopes[0]], ask, now, probes=why == 5)
        cap = self._take(world, boot, ask, chosen, room=room, now=now)
        limits = self._tightest(world, now)
        return [1, chosen + 1, cap, now, limits, why, "".join(map(str, words)), latency]

    def _write_health(self, now: int) -> None:
        """Forget what there is no more to tell, where something was told."""
        for state in self.states.values():
            if state.health is not None and state.health.is_written:
                state.health = state.health.pruned(now)

    def _tell_health(self, state: State, ask: Ask, now: int, *, probes: bool) -> None:
        """Claim the trial of a half-open deployment, and take of what its vendor said is left."""
        health = state.health
        if health is None:
            return
        if probes:
            state.told().probe = ask.attempt_id, ask.kind, now + MINUTE
        for what, (left, until) in health.left.items():
            if remaining(until, now, HOUR):
                amount = 1 if what == "requests" else self._wants(ask)["t"]
                state.told().left[what] = left - amount, until

    def _judge(
        self,
        world: dict[str, State],
        ask: Ask,
        number: int,
        c: Candidate,
        *,
        room: int | None,
        now: int,
    ) -> tuple[int | str, int]:
        """Say why a candidate cannot serve, and when that passes."""
        if number in ask.excluded:
            return TRIED, 0
        if ask.tiers and ask.tiers[number - 1] == 255:
            return UNSUITABLE, 0
        deployment, model, *provider = c.scopes
        limits, state = self.limits[deployment], world[deployment]
        if limits.drained:
            return DRAINED, 0
        if wait := state.throttled(now) or state.unpaid(self._wants(ask)["t"], now):
            return THROTTLED, wait
        if self._is_full(world, deployment):
            return FULL, 0
        waits = [self._wait(world, scope, self._wants(ask), now) for scope in c.scopes]
        wait = max(wait for wait, _ in waits)
        if binding := waits[0][1]:
            return (NO_REQUESTS if binding.counts == "r" else NO_TOKENS), wait
        if waits[1][0] or self._is_full(world, model):
            return MODEL, wait
        if provider and (waits[2][0] or self._is_full(world, provider[0])):
            return PROVIDER, wait
        rooms, spent = self._own_rooms(world, c, now)
        if spent:
            return OWN, 0
        own = min(rooms, default=None)
        is_own = own is not None and (room is None or own < room)
        _, _, affordable = self._cap_and_hold(c, ask, own if is_own else room)
        if not affordable:
            return OWN if is_own else POOR, 0
        return state.standing(ask.kind, now)

    def _least_loaded(
        self, world: dict[str, State], ask: Ask, peers: list[int], now: int
    ) -> tuple[int, bool]:
        """Return the peer with the shortest expected wait, of equals the first after `tie`; or the favoured one."""
        plan, tie = ask.plan, ask.tie
        faded = {i: world[plan.candidates[i].scopes[0]].faded_latency(now) for i in peers}
        total, known = 0.0, 0
        for latency in faded.values():
            if latency is not None:
                total, known = total + latency, known + 1
        assumed = total / known if known else 1.0

        states = {i: world[plan.candidates[i].scopes[0]] for i in peers}
        weights = {i: self.limits[plan.candidates[i].scopes[0]].weight for i in peers}

        def slowness(i: int) -> float:
            latency = faded[i]
            penalty, _ = states[i].burden(ask.kind, now)
            return (assumed if latency is None else latency) + penalty

        def cost(i: int) -> float:
            _, share = states[i].burden(ask.kind, now)
            return slowness(i) * (states[i].in_flight + 1) / (weights[i] * share)

        count = len(plan.candidates)
        best = min(peers, key=lambda i: (cost(i), (i - tie) % count))
        favoured = ask.favoured - 1
        if favoured not in peers or favoured == best:
            return best, False
        flying = sum(state.in_flight for state in states.values())
        most = 1.25 * (flying + 1) * weights[favoured] / sum(weights.values()) + 4
        holds = (
            states[favoured].burden(ask.kind, now)[1] == 1
            and slowness(favoured) <= 2 * slowness(best)
            and states[favoured].in_flight + 1 <= most
        )
        return (favoured, True) if holds else (best, False)

    def _take(
        self,
        world: dict[str, State],
        boot: Boot,
        ask: Ask,
        chosen: int,
        *,
        room: int | None,
        now: int,
    ) -> int:
        """Take everything, and write it down."""
        plan, c = ask.plan, ask.plan.candidates[chosen]
        rooms, _ = self._own_rooms(world, c, now)
        rooms += [] if room is None else [room]
        cap, hold, _ = self._cap_and_hold(c, ask, min(rooms, default=None))
        expected = min(ask.cap or ask.assumed, c.most) * ask.n
        estimate = price(ask.input, c.input_estimate) + price(expected, c.output)
        estimate += c.request + ask.fee(c)
        wants = self._wants(ask)
        held = []
        for scope in (*self.mine, *c.scopes):
            for kind, budget in self._limits(scope).kinds.items():
                money = world[scope].money[kind]
                amount = hold if budget.strict else estimate
                money.held += amount
                held.append((scope, kind, money.period, amount))
        for scope in (*self.mine, *c.scopes):
            state = world[scope]
            for rate in self._limits(scope).rates:
                amount = wants[rate.counts]
                if rate.counts != "r" or ask.first or scope in c.scopes:
                    state.empty_at[rate.name] += rate.pours(min(amount, rate.burst))
            state.in_flight += 1
            self.states[scope] = state
        boot.leases[ask.attempt_id] = Lease(
            plan, chosen + 1, now, wants["t"], held, ask.input, cap, ask.user, ask.fee(c)
        )
        return cap

    def _tightest(self, world: dict[str, State], now: int) -> list[int]:
        """Return limit, remaining and reset of the request limit and of the token limit with the least share left."""
        found = []
        for is_requests in (True, False):
            rows = []
            for scope in self.mine:
                for rate in self._limits(scope).rates:
                    if (rate.counts == "r") == is_requests:
                        reset = world[scope].empty_at[rate.name] - now
                        # A double: of two that are as full but for the last bit, the first is shown.
                        rows.append((float(reset / rate.depth), rate, reset))
            if rows:
                _, rate, reset = max(rows, key=lambda row: row[0])
                # As much as can still be poured in: requests one by one.
                free = max(rate.depth - reset, Fraction(0))
                unit = rate.pours(1) if is_requests else Fraction(rate.window, rate.limit)
                found += [rate.limit, min(math.floor(free / unit), rate.burst), math.floor(reset)]
            else:
                found += [0, 0, 0]
        return found

    # Settlement.

    def settle(
        self, name: str, number: int, batch: list[Settlement], void_to: int, now: int
    ) -> str | int:
        """Settle a batch, at most once."""
        boot = self.boot(name)
        if boot.seen is not None and boot.seen >= number:
            return "SEEN"
        self.touched = set()
        boot.seen = number
        if void_to:
            boot.bar = max(boot.bar or 0, void_to)
        for one in batch:
            self._settle_one(boot, one, now)
        self._write_health(now)
        return len(batch)

    def _settle_one(self, boot: Boot, one: Settlement, now: int) -> None:
        lease = boot.leases.pop(one.attempt_id, None)
        boot.parts.pop(one.attempt_id, None)
        c = one.plan.candidates[one.candidate - 1]
        admitted = now
        if lease is not None:
            c, admitted = lease.served_by, lease.at
            self._free(lease, now)
            self._correct(lease.scopes, self._taken(lease), (one.input, one.output), now)
            self._charge(lease.held, one.cost, now)
        elif (grave := boot.graves.get(one.attempt_id)) is not None:
            if not grave.settled:
                grave.settled = True
                more = (one.input - grave.input, one.output - grave.output)
                self._correct(grave.lease.scopes, (0, 0), more, now)
                self._charge(grave.lease.held, one.cost - grave.cost, now)
                self._let_go(grave, now)
                if one.entry is None:
                    # It was never sent: what was charged for it is taken back.
                    entry = _entry_for(grave.lease, one.attempt_id, now)
                    entry[25], entry[27] = "void", "none"
                else:
                    entry = list(one.entry)
                entry[0] += "+settle"
                entry[14] -= grave.input
                entry[17] -= grave.output
                entry[21] -= grave.cost
                self.ledger.append(tuple(entry))
            return
        elif one.entry is None:
            return
        else:
            scopes = (*one.plan.scopes, *one.plan.user_scopes(one.user), *c.scopes)
            self._correct(scopes, (0, 0), (one.input, one.output), now)
            for scope in scopes:
                limits = self.limits_of(scope)
                for kind in limits.kinds if limits else ():
                    self.states[scope].money[kind].spent += one.cost
                    self._tell(scope, kind, now)
        if c.scopes[0] in self.limits:
            state = self.states[c.scopes[0]]
            if one.health:
                state.learn(now, one, admitted)
            else:
                state.unclaim(one.attempt_id)
            if one.left:
                state.note(now, one.left)
        if one.entry is not None:
            self.ledger.append(one.entry)

    @staticmethod
    def _taken(lease: Lease) -> tuple[int, int]:
        return lease.input, lease.debit - lease.input

    def _touch(self, scope: str, now: int) -> State | None:
        """Return a scope to change, brought up to date once per call."""
        limits = self.limits_of(scope)
        if limits is None:
            return None
        if scope not in self.touched:
            self.touched.add(scope)
            self.states[scope] = self.states.get(scope, State()).at(now, limits)
        return self.states[scope]

    def _free(
        self, lease: Lease, now: int, stays: Mapping[tuple[str, int], int] = _NOTHING
    ) -> None:
        """Give back what a lease counts for and holds, but for what stays reserved."""
        for scope in lease.scopes:
            state = self._touch(scope, now)
            if state is not None:
                state.in_flight = max(state.in_flight - 1, 0)
        for scope, kind, period, amount in lease.held:
            state = self._touch(scope, now)
            if state is not None and kind in state.money and state.money[kind].period == period:
                freed = amount - stays.get((scope, kind), 0)
                state.money[kind].held = max(state.money[kind].held - freed, 0)

    def _stays(self, lease: Lease, cost: int, now: int) -> Iterator[tuple[str, int, int, int]]:
        """Yield what an attempt goes on to reserve of strict budgets when its replica may come back."""
        for scope, kind, period, amount in lease.held:
            state = self._touch(scope, now)
            if state is None or kind not in state.money or state.money[kind].period != period:
                continue
            budget = self._limits(scope).kinds.get(kind)
            if budget is not None and budget.strict and amount > cost:
                yield scope, kind, period, amount - cost

    def _let_go(self, grave: Grave, now: int) -> None:
        """Free what stays reserved for an attempt; a scope whose period has ended is left as it is."""
        for scope, kind, period, amount in grave.stays:
            limits = self.limits_of(scope)
            if limits is None:
                continue
            self._repair({scope}, now)
            money = self.states.get(scope, State()).at(now, limits).money.get(kind)
            if money is not None and money.period == period:
                state = self._touch(scope, now)
                assert state is not None
                state.money[kind].held = max(state.money[kind].held - amount, 0)
        grave.stays = []

    def _charge(self, held: list[tuple[str, int, int, int]], cost: int, now: int) -> None:
        """Charge the budgets that stood when it was admitted, in the periods of then."""
        for scope, kind, period, _ in held:
            state = self._touch(scope, now)
            if state is not None and kind in state.money and state.money[kind].period == period:
                state.money[kind].spent += cost
                self._tell(scope, kind, now)

    def _tell(self, scope: str, kind: int, now: int) -> None:
        """Tell of thresholds that are reached: each once for each amount, in a period."""
        money = self.states[scope].money[kind]
        told, level_told = money.told, money.level
        for budget in self._limits(scope).money:
            for percent in sorted(budget.alerts) if budget.kind == kind else ():
                amount = budget.at(now)
                level = -(-amount * percent // 100)
                if money.spent >= level and (percent > told or level > level_told):
                    self.events.append(
                        (
                            scope,
                            kind,
                            money.period,
                            percent,
                            amount,
                            money.spent,
                            budget.strict,
                            now,
                        )
                    )
                    money.told, money.level = max(money.told, percent), max(money.level, level)

    def _correct(
        self, scopes: tuple[str, ...], taken: tuple[int, int], used: tuple[int, int], now: int
    ) -> None:
        """Replace what was taken of input and output tokens by what was used."""
        for scope in scopes:
            state = self._touch(scope, now)
            if state is None:
                continue
            for rate in self._limits(scope).rates:
                if rate.counts == "r":
                    continue
                had, has = (
                    {"t": sum(both), "it": both[0], "ot": both[1]}[rate.counts]
                    for both in (taken, used)
                )
                if had != has:
                    empty_at = state.empty_at[rate.name]
                    empty_at += rate.pours(has) - rate.pours(min(had, rate.burst))
                    most = now + rate.depth + rate.debt
                    state.empty_at[rate.name] = min(max(empty_at, Fraction(now)), most)

    def reap(self, name: str, attempts: list[str], now: int) -> str | int:
        """
        Free what a boot holds whose life has ended, and charge its input estimate and what it had streamed.

        Until it is known to be dead, strict budgets go on to reserve what its attempts may still cost.
        """
        if self.beats.get(name, -1) >= 0:
            return "ALIVE"
        self.touched = set()
        boot = self.boot(name)
        ended = self.beats.get(name, DEAD)
        may_return = ended != DEAD
        reaped = 0
        for attempt in attempts:
            lease = boot.leases.pop(attempt, None)
            if lease is None:
                if not may_return and attempt in boot.graves:
                    self._let_go(boot.graves[attempt], now)
                continue
            reaped += 1
            c = lease.served_by
            reported = attempt in boot.parts
            output = boot.parts.pop(attempt, 0)
            cost = price(lease.input, c.input_estimate) + price(output, c.output)
            cost += c.request + (0 if reported else lease.fee)
            stays = list(self._stays(lease, cost, now)) if may_return else []
            self._free(lease, now, {(scope, kind): left for scope, kind, _, left in stays})
            state = self.states.get(c.scopes[0])
            if c.scopes[0] in self.limits and state:
                state.unclaim(attempt)
            self._correct(lease.scopes, self._taken(lease), (lease.input, output), now)
            self._charge(lease.held, cost, now)
            boot.graves[attempt] = Grave(
                lease=lease,
                settled=False,
                input=lease.input,
                output=output,
                cost=cost,
                stays=stays,
            )
            entry = _entry_for(lease, attempt, now)
            entry[14], entry[17], entry[21] = lease.input, output, cost
            self.ledger.append(tuple(entry))
        self._write_health(now)
        if not boot.leases:
            boot.parts.clear()
            if ended == SILENT:
                self.beats[name] = -now
            elif not may_return:
                self.beats.pop(name, None)
        return reaped
