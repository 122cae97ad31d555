"""
The rules of admission and settlement, said the naive way: plain objects, exact numbers, the calendar of `datetime`.

This is what the scripts are held against. It shares no code with them, and no product code ever calls it.

Times are microseconds since 2024-01-01 UTC, money is nano-USD.
A rate limit of N per minute is a bucket of N that leaks evenly; what is kept of it is the moment at which it will have run empty.
"""

import math
from bisect import bisect_right
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

MINUTE = 60_000_000
SECOND = 1_000_000
HOUR = 60 * MINUTE
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
EPOCH_US = int(EPOCH.timestamp()) * SECOND

REQUESTS, TOKENS, CONCURRENCY, BUDGET, TOO_LARGE = 1, 2, 3, 4, 5
FEASIBLE, DRAINED, COOLING, FULL, NO_REQUESTS, NO_TOKENS, MODEL, POOR, TRIED, THROTTLED = range(10)


def calendar(now: int) -> dict[int, int]:
    """Return the numbers of the day (1), the week (2) and the month (3) that hold a moment."""
    date = (EPOCH + timedelta(microseconds=now)).date()
    days = (date - EPOCH.date()).days
    return {1: days + 1, 2: days // 7 + 1, 3: date.year * 12 + date.month}


def price(tokens: int, per_thousand: int) -> int:
    """Cost of tokens, rounded up to whole nano-USD."""
    return math.ceil(Fraction(tokens * per_thousand, 1000))


def is_far(empty_at: Fraction, now: int) -> bool:
    """Whether a bucket is fuller than any debt can make it: an hour beyond its minute, and not by a hair."""
    return empty_at > now + HOUR + 2 * MINUTE


@dataclass(frozen=True)
class Limits:
    """What was configured for a scope; 0 is no limit. Budgets are (kind, amount, strict)."""

    version: int = 1
    rpm: int = 0
    tpm: int = 0
    concurrency: int = 0
    budgets: tuple[tuple[int, int, int], ...] = ()
    weight: int = 1
    drained: int = 0


@dataclass
class Money:
    """One budget's period: its number, what was spent in it, what is held in it."""

    period: int = 0
    spent: int = 0
    held: int = 0


@dataclass
class State:
    """What happens at a scope."""

    requests_empty_at: Fraction = Fraction(0)
    tokens_empty_at: Fraction = Fraction(0)
    in_flight: int = 0
    money: dict[int, Money] = field(default_factory=lambda: {kind: Money() for kind in (1, 2, 3)})
    latency: float = 0
    latency_at: int = 0
    failures: int = 0
    cooling_until: int = 0
    throttled_until: int = 0

    def at(self, now: int) -> "State":
        """Return a copy as it is at a moment: buckets leaked, periods turned."""
        new = deepcopy(self)
        for name in ("requests_empty_at", "tokens_empty_at"):
            empty_at = getattr(self, name)
            # Full, and leaking from now on, when the clock has stepped back from it.
            setattr(new, name, now + MINUTE if is_far(empty_at, now) else max(empty_at, now))
        for kind, period in calendar(now).items():
            money = new.money[kind]
            if money.period < period:
                new.money[kind] = Money(period)
            elif money.period > period + 1:
                new.money[kind] = Money(period, money.spent)
        return new

    def stepped_back_from(self, now: int) -> bool:
        """Whether it was written when the clock was far ahead of now."""
        return is_far(self.requests_empty_at, now) or is_far(self.tokens_empty_at, now)

    def cooling(self, now: int) -> int:
        """How long it is left alone for failing."""
        wait = self.cooling_until - now
        return wait if 0 < wait <= 30 * SECOND else 0

    def throttled(self, now: int) -> int:
        """How long its vendor wants it left alone."""
        wait = self.throttled_until - now
        return wait if 0 < wait <= HOUR else 0

    def faded_latency(self, now: int) -> float | None:
        """Its first-byte time as it counts now; None when unknown or forgotten."""
        age = max(now - self.latency_at, 0)
        if not self.latency or age > 30 * SECOND:
            return None
        return self.latency * math.exp(-min(age, 10 * SECOND) / (10 * SECOND))

    def observe(self, now: int, sample: int) -> None:
        """Learn a first-byte time: a worse one at once, a better one slowly."""
        known = self.faded_latency(now)
        if known is None or sample > known:
            self.latency = sample
        else:
            keep = min(math.exp(-max(now - self.latency_at, 0) / (10 * SECOND)), 0.95)
            self.latency = known * keep + sample * (1 - keep)
        self.latency_at = now

    def learn(self, now: int, health: int, ttft: int, cool: int) -> None:
        """Learn how an attempt went: 1 fine, 2 failed, 3 throttled, 0 says nothing."""
        if health == 1:
            self.failures = 0
            if ttft:
                self.observe(now, ttft)
        if health == 2:
            self.observe(now, 5 * SECOND)
            if not self.cooling(now):
                self.failures += 1
                if self.failures >= 3:
                    pause = SECOND * 2 ** min(self.failures - 3, 5)
                    self.cooling_until = now + min(pause, 30 * SECOND)
        if health == 3:
            cool = max(cool, SECOND)
        cool = min(cool, HOUR)
        if cool > self.throttled(now):
            self.throttled_until = now + cool


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

    @property
    def scopes(self) -> tuple[str, str]:
        """The deployment and the model, as scopes."""
        return f"deployment:{self.deployment}", f"model:{self.model}"


@dataclass(frozen=True)
class Plan:
    """Who asks and who could serve; `entry` is what the reaper completes."""

    scopes: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    entry: tuple[Any, ...]


@dataclass(frozen=True)
class Ask:
    """One attempt's wishes; `excluded` counts from 1."""

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

    @property
    def served_by(self) -> Candidate:
        """The chosen candidate."""
        return self.plan.candidates[self.candidate - 1]

    def names(self, scope: str) -> bool:
        """Whether it counts as in flight there."""
        return scope in {*self.plan.scopes, *self.served_by.scopes}


@dataclass
class Grave:
    """What the reaper charged for an attempt, in case it settles after all."""

    lease: Lease
    settled: bool
    input: int
    output: int
    cost: int


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

    def __init__(self, what: int, scope: int, limit: int, wait: int = 0, kind: int = 0) -> None:
        self.row = (what, scope, limit, wait)
        self.kind = kind


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
        self.touched: set[str] = set()

    def seed(self, scope: str, limits: Limits) -> None:
        """Write limits, unless newer ones are there."""
        if scope not in self.limits or self.limits[scope].version <= limits.version:
            self.limits[scope] = limits

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
        """End the lives that were not renewed; whoever claims more than a minute is cut to it."""
        for name, until in self.beats.items():
            self.beats[name] = -1 if until <= now else min(until, now + MINUTE)
        return {name for name, until in self.beats.items() if until < 0}

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
            self._repair(plan, now)
        answers: list[list[Any]] = []
        for ask in asks:
            if ask.attempt_id in stored:
                lease = stored[ask.attempt_id]
                answers.append([1, lease.candidate, lease.cap, lease.at, [0] * 6, 3, ""])
            else:
                answers.append(self._admit_one(boot, ask, now))
        return answers

    def _repair(self, plan: Plan, now: int) -> None:
        """Bring up to date what the clock has stepped back from, whatever the answers will be."""
        for scope in {*plan.scopes, *(s for c in plan.candidates for s in c.scopes)}:
            if scope in self.states and self.states[scope].stepped_back_from(now):
                self.states[scope] = self.states[scope].at(now)

    def _admit_one(self, boot: Boot, ask: Ask, now: int) -> list[Any]:
        plan = ask.plan
        unknown = [scope for scope in plan.scopes if scope not in self.limits]
        for candidate in plan.candidates:
            unknown += [scope for scope in candidate.scopes if scope not in self.limits]
        if unknown:
            return [2, *unknown]
        world = {
            scope: self.states.get(scope, State()).at(now)
            for scope in {*plan.scopes, *(s for c in plan.candidates for s in c.scopes)}
        }
        try:
            self._check_caller(world, ask, now)
            return self._serve(world, boot, ask, now)
        except Refused as refused:
            limits = self._tightest(world, plan.scopes, now)
            kind = [refused.kind] if refused.kind else []
            return [0, *refused.row, now, limits, *kind]

    def _debit(self, ask: Ask) -> int:
        return ask.input + (ask.cap or ask.assumed) * ask.n

    def _wait(self, empty_at: Fraction, now: int, per_minute: int, amount: int) -> int:
        """How long until an amount fits into a bucket; what is larger waits for an empty one."""
        if not per_minute:
            return 0
        used = Fraction(empty_at - now) * per_minute / MINUTE
        too_much = used + min(amount, per_minute) - per_minute
        wait = too_much * MINUTE / per_minute
        return math.ceil(wait) if wait > Fraction(1, 2) else 0

    def _check_caller(self, world: dict[str, State], ask: Ask, now: int) -> None:
        """Raise the first budget or absurdity, or else the limit that frees last."""
        waits = []
        for number, scope in enumerate(ask.plan.scopes, 1):
            limits, state = self.limits[scope], world[scope]
            if ask.first:
                wait = self._wait(state.requests_empty_at, now, limits.rpm, 1)
                waits.append((wait, REQUESTS, number, limits.rpm))
            if limits.tpm and ask.input > limits.tpm:
                raise Refused(TOO_LARGE, number, limits.tpm)
            wait = self._wait(state.tokens_empty_at, now, limits.tpm, self._debit(ask))
            waits.append((wait, TOKENS, number, limits.tpm))
            if limits.concurrency and state.in_flight >= limits.concurrency:
                waits.append((-1, CONCURRENCY, number, limits.concurrency))
            for kind, amount, _ in limits.budgets:
                if self._room(world, scope, kind, amount) <= 0:
                    raise Refused(BUDGET, number, amount, kind=kind)
        timed = [one for one in waits if one[0] > 0]
        full = [one for one in waits if one[0] < 0]
        if timed:
            # Of equal waits the first one binds.
            wait, what, number, limit = max(timed, key=lambda one: one[0])
            raise Refused(what, number, limit, wait)
        if full:
            _, what, number, limit = full[0]
            raise Refused(what, number, limit)

    @staticmethod
    def _room(world: dict[str, State], scope: str, kind: int, amount: int) -> int:
        money = world[scope].money[kind]
        return amount - money.spent - money.held

    def _strict(self, world: dict[str, State], plan: Plan) -> list[tuple[int, int, int, int]]:
        """Return (room, scope number, amount, kind) of every strict budget."""
        return [
            (self._room(world, scope, kind, amount), number, amount, kind)
            for number, scope in enumerate(plan.scopes, 1)
            for kind, amount, strict in self.limits[scope].budgets
            if strict
        ]

    def _cap_and_hold(self, c: Candidate, ask: Ask, room: int | None) -> tuple[int, int, bool]:
        """Return the cap to enforce, what it costs at most, and whether that is affordable."""
        fixed = price(ask.bound, c.input) + c.request
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
        strict = self._strict(world, plan)
        room = min((one[0] for one in strict), default=None)
        words: list[int] = []
        waits: list[int] = []
        for number, c in enumerate(plan.candidates, 1):
            word, wait = self._judge(world, ask, number, c, room=room, now=now)
            words.append(word)
            waits.append(wait)
        feasible = [i for i, word in enumerate(words) if word == FEASIBLE]
        failing = [i for i, word in enumerate(words) if word == COOLING]
        if feasible:
            lowest = min(plan.candidates[i].tier for i in feasible)
            peers = [i for i in feasible if plan.candidates[i].tier == lowest]
            chosen = self._least_loaded(world, plan, peers, ask.tie, now)
            why = 1 if len(words) == 1 else 2 if len(peers) == 1 else 3
        elif failing:
            chosen, why = min(failing, key=lambda i: waits[i]), 4
            words[chosen] = FEASIBLE
        else:
            blocked = [word for word in words if word not in {TRIED, DRAINED}]
            if blocked and set(blocked) == {POOR}:
                _, number, amount, kind = next(one for one in strict if one[0] == room)
                raise Refused(BUDGET, number, amount, kind=kind)
            soonest = min((wait for wait in waits if wait), default=0)
            return [
                3,
                soonest,
                "".join(map(str, words)),
                now,
                self._tightest(world, plan.scopes, now),
            ]
        cap = self._take(world, boot, ask, chosen, room=room, now=now)
        limits = self._tightest(world, plan.scopes, now)
        return [1, chosen + 1, cap, now, limits, why, "".join(map(str, words))]

    def _judge(
        self,
        world: dict[str, State],
        ask: Ask,
        number: int,
        c: Candidate,
        *,
        room: int | None,
        now: int,
    ) -> tuple[int, int]:
        """Say why a candidate cannot serve, and when that passes."""
        if number in ask.excluded:
            return TRIED, 0
        deployment, model = c.scopes
        limits, state = self.limits[deployment], world[deployment]
        if limits.drained:
            return DRAINED, 0
        if wait := state.throttled(now):
            return THROTTLED, wait
        if limits.concurrency and state.in_flight >= limits.concurrency:
            return FULL, 0
        if wait := self._wait(state.requests_empty_at, now, limits.rpm, 1):
            return NO_REQUESTS, wait
        if wait := self._wait(state.tokens_empty_at, now, limits.tpm, self._debit(ask)):
            return NO_TOKENS, wait
        limits_m, state_m = self.limits[model], world[model]
        wait = self._wait(state_m.requests_empty_at, now, limits_m.rpm, 1) or self._wait(
            state_m.tokens_empty_at, now, limits_m.tpm, self._debit(ask)
        )
        if wait or (limits_m.concurrency and state_m.in_flight >= limits_m.concurrency):
            return MODEL, wait
        _, _, affordable = self._cap_and_hold(c, ask, room)
        if not affordable:
            return POOR, 0
        if wait := state.cooling(now):
            return COOLING, wait
        return FEASIBLE, 0

    def _least_loaded(
        self, world: dict[str, State], plan: Plan, peers: list[int], tie: int, now: int
    ) -> int:
        """Return the peer with the shortest expected wait; of equals the first after `tie`."""
        faded = {i: world[plan.candidates[i].scopes[0]].faded_latency(now) for i in peers}
        total, known = 0.0, 0
        for latency in faded.values():
            if latency is not None:
                total, known = total + latency, known + 1
        assumed = total / known if known else 1.0

        def cost(i: int) -> float:
            scope = plan.candidates[i].scopes[0]
            latency = faded[i]
            return (
                (assumed if latency is None else latency)
                * (world[scope].in_flight + 1)
                / self.limits[scope].weight
            )

        count = len(plan.candidates)
        return min(peers, key=lambda i: (cost(i), (i - tie) % count))

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
        cap, hold, _ = self._cap_and_hold(c, ask, room)
        expected = min(ask.cap or ask.assumed, c.most) * ask.n
        estimate = price(ask.input, c.input_estimate) + price(expected, c.output) + c.request
        debit = self._debit(ask)
        held = []
        for scope in plan.scopes:
            for kind, _, strict in self.limits[scope].budgets:
                money = world[scope].money[kind]
                amount = hold if strict else estimate
                money.held += amount
                held.append((scope, kind, money.period, amount))
        for scope in (*plan.scopes, *c.scopes):
            limits, state = self.limits[scope], world[scope]
            if limits.rpm and (ask.first or scope not in plan.scopes):
                state.requests_empty_at += Fraction(MINUTE, limits.rpm)
            if limits.tpm:
                state.tokens_empty_at += Fraction(min(debit, limits.tpm) * MINUTE, limits.tpm)
            state.in_flight += 1
            self.states[scope] = state
        boot.leases[ask.attempt_id] = Lease(
            plan, chosen + 1, now, debit, held, ask.input, cap, ask.user
        )
        return cap

    def _tightest(self, world: dict[str, State], scopes: tuple[str, ...], now: int) -> list[int]:
        """Return limit, remaining and reset of the request limit and of the token limit with the least share left."""
        found = []
        for word, limit in (("requests_empty_at", "rpm"), ("tokens_empty_at", "tpm")):
            rows = []
            for scope in scopes:
                per_minute = getattr(self.limits[scope], limit)
                if per_minute:
                    reset = getattr(world[scope], word) - now
                    # What lacks a millionth counts as whole.
                    left = math.floor(
                        per_minute - Fraction(reset) * per_minute / MINUTE + Fraction(1, 10**6)
                    )
                    rows.append((per_minute, max(left, 0), math.floor(reset)))
            found += min(rows, key=lambda row: Fraction(row[1], row[0]), default=(0, 0, 0))
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
            boot.bar = void_to
        for one in batch:
            self._settle_one(boot, one, now)
        return len(batch)

    def _settle_one(self, boot: Boot, one: Settlement, now: int) -> None:
        lease = boot.leases.pop(one.attempt_id, None)
        boot.parts.pop(one.attempt_id, None)
        c = one.plan.candidates[one.candidate - 1]
        used = one.input + one.output
        if lease is not None:
            c = lease.served_by
            self._free(lease, now)
            self._correct(one.plan, c, lease.debit, used, now)
            self._charge(lease.held, one.cost, now)
        elif (grave := boot.graves.get(one.attempt_id)) is not None:
            if not grave.settled:
                grave.settled = True
                more = one.input - grave.input + one.output - grave.output
                self._correct(one.plan, grave.lease.served_by, 0, more, now)
                self._charge(grave.lease.held, one.cost - grave.cost, now)
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
            self._correct(one.plan, c, 0, used, now)
            for scope in one.plan.scopes:
                if scope in self.limits:
                    for kind, _, _ in self.limits[scope].budgets:
                        self.states[scope].money[kind].spent += one.cost
        if c.scopes[0] in self.limits and one.health:
            self.states[c.scopes[0]].learn(now, one.health, one.ttft, one.cool)
        if one.entry is not None:
            self.ledger.append(one.entry)

    def _touch(self, scope: str, now: int) -> State | None:
        """Return a scope to change, brought up to date once per call."""
        if scope not in self.limits:
            return None
        if scope not in self.touched:
            self.touched.add(scope)
            self.states[scope] = self.states.get(scope, State()).at(now)
        return self.states[scope]

    def _free(self, lease: Lease, now: int) -> None:
        """Give back what a lease counts for and holds."""
        c = lease.served_by
        for scope in (*lease.plan.scopes, *c.scopes):
            state = self._touch(scope, now)
            if state is not None:
                state.in_flight = max(state.in_flight - 1, 0)
        for scope, kind, period, amount in lease.held:
            state = self._touch(scope, now)
            if state is not None and state.money[kind].period == period:
                state.money[kind].held = max(state.money[kind].held - amount, 0)

    def _charge(self, held: list[tuple[str, int, int, int]], cost: int, now: int) -> None:
        """Charge the budgets that stood when it was admitted, in the periods of then."""
        for scope, kind, period, _ in held:
            state = self._touch(scope, now)
            if state is not None and state.money[kind].period == period:
                state.money[kind].spent += cost

    def _correct(self, plan: Plan, c: Candidate, debit: int, used: int, now: int) -> None:
        """Replace the debit of tokens by what was used."""
        for scope in (*plan.scopes, *c.scopes):
            state = self._touch(scope, now)
            if state is not None and (tpm := self.limits[scope].tpm):
                state.tokens_empty_at += Fraction((used - min(debit, tpm)) * MINUTE, tpm)
                state.tokens_empty_at = min(
                    max(state.tokens_empty_at, Fraction(now)), Fraction(now + HOUR + MINUTE)
                )

    def reap(self, name: str, attempts: list[str], now: int) -> str | int:
        """Free what a dead boot holds, and charge its input estimate and what it had streamed."""
        if self.beats.get(name, -1) >= 0:
            return "ALIVE"
        self.touched = set()
        boot = self.boot(name)
        reaped = 0
        for attempt in attempts:
            lease = boot.leases.pop(attempt, None)
            if lease is None:
                continue
            reaped += 1
            c = lease.served_by
            output = boot.parts.pop(attempt, 0)
            cost = price(lease.input, c.input_estimate) + price(output, c.output) + c.request
            self._free(lease, now)
            self._correct(lease.plan, c, lease.debit, lease.input + output, now)
            self._charge(lease.held, cost, now)
            boot.graves[attempt] = Grave(
                lease=lease,
                settled=False,
                input=lease.input,
                output=output,
                cost=cost,
            )
            entry = _entry_for(lease, attempt, now)
            entry[14], entry[17], entry[21] = lease.input, output, cost
            self.ledger.append(tuple(entry))
        if not boot.leases:
            self.beats.pop(name, None)
            boot.parts.clear()
        return reaped
