"""
The rules of admission and settlement, said the naive way: plain objects, exact numbers, the calendar of `datetime`.

This is what the scripts are held against. It shares no code with them, and no product code ever calls it.

Times are microseconds since 2024-01-01 UTC, money is nano-USD.
A rate limit of N per window is a bucket that leaks N per window evenly and holds its burst; what is kept of it is the moment at which it will have run empty.
What is poured in is rounded up to a sixteenth of a microsecond.
"""

import math
from bisect import bisect_right
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

MINUTE = 60_000_000
SECOND = 1_000_000
HOUR = 60 * MINUTE
WINDOWS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": 24 * HOUR}
RATES = ("rps", "rpm", "rph", "rpd", "tpm", "tpd", "itpm", "itpd", "otpm", "otpd")
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
EPOCH_US = int(EPOCH.timestamp()) * SECOND

REQUESTS, TOKENS, CONCURRENCY, BUDGET, TOO_LARGE = 1, 2, 3, 4, 5
FEASIBLE, DRAINED, COOLING, FULL, NO_REQUESTS, NO_TOKENS, MODEL, POOR, TRIED, THROTTLED = range(10)
OWN, PROVIDER, UNSUITABLE, TRIED_OUT, OFFLINE = "a", "b", "d", "e", "f"
# What is half-open, and nobody tries it out yet.
DUE = "p"


def calendar(now: int, zone: str) -> dict[int, int]:
    """Return the numbers of the day (1), the week (2), the month (3), the quarter (4) and all time (5) that hold a moment."""
    date = (EPOCH + timedelta(microseconds=now)).astimezone(ZoneInfo(zone)).date()
    days = (date - EPOCH.date()).days
    return {
        1: days + 1,
        2: days // 7 + 1,
        3: date.year * 12 + date.month,
        4: date.year * 4 + (date.month + 2) // 3,
        5: 1,
    }


def period_end(now: int, zone: str, kind: int) -> int:
    """Return the first moment of the next period, 0 when there is none: by looking."""
    if kind == 5:
        return 0
    period = calendar(now, zone)[kind]
    low, high = now, now + 95 * 24 * HOUR
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if calendar(middle, zone)[kind] == period else (low, middle)
    return high


def price(tokens: int, per_thousand: int) -> int:
    """Cost of tokens, rounded up to whole nano-USD."""
    return math.ceil(Fraction(tokens * per_thousand, 1000))


class Budget(NamedTuple):
    """One budget; until `until` its amount is `raised`."""

    kind: int
    amount: int
    strict: int
    raised: int = 0
    until: int = 0
    zone: str = "UTC"
    alerts: tuple[int, ...] = ()

    def at(self, now: int) -> int:
        """Return the amount that holds at a moment."""
        return self.raised if now < self.until else self.amount


class Rate(NamedTuple):
    """One rate: its name, its limit per window, and what its bucket holds."""

    name: str
    limit: int
    burst: int

    @property
    def counts(self) -> str:
        """What it counts: r requests, t tokens, it input tokens, ot output tokens."""
        return self.name[:-2]

    @property
    def window(self) -> int:
        """Its window in us."""
        return WINDOWS[self.name[-1]]

    def pours(self, amount: int) -> Fraction:
        """Return how much later the bucket runs empty when an amount is poured in."""
        return Fraction(-(-amount * self.window * 16 // self.limit), 16)

    @property
    def depth(self) -> Fraction:
        """Return how long a full bucket takes to run empty."""
        return self.burst * self.pours(1) if self.counts == "r" else self.pours(self.burst)

    @property
    def debt(self) -> int:
        """Return how much longer it may take at most."""
        return max(HOUR, self.window)

    def is_far(self, empty_at: Fraction, now: int) -> bool:
        """Whether a bucket is fuller than any debt can make it, and not by a hair."""
        return empty_at > now + self.depth + self.debt + MINUTE


@dataclass(frozen=True)
class Limits:
    """What was configured for a scope; 0 is no limit. Budgets are (kind, amount, strict, ...), bursts (name, amount)."""

    version: int = 1
    rps: int = 0
    rpm: int = 0
    rph: int = 0
    rpd: int = 0
    tpm: int = 0
    tpd: int = 0
    itpm: int = 0
    itpd: int = 0
    otpm: int = 0
    otpd: int = 0
    burst: tuple[tuple[str, int], ...] = ()
    concurrency: int = 0
    budgets: tuple[tuple[Any, ...], ...] = ()
    weight: int = 1
    drained: int = 0

    @property
    def rates(self) -> list[Rate]:
        """The rates that are limited, in the order of their names' list."""
        found = [(name, getattr(self, name)) for name in RATES]
        return [
            Rate(name, limit, dict(self.burst).get(name, limit)) for name, limit in found if limit
        ]

    @property
    def money(self) -> list[Budget]:
        """The budgets, those of a kind together, the strict one first."""
        return sorted((Budget(*row) for row in self.budgets), key=lambda b: (b.kind, -b.strict))

    @property
    def kinds(self) -> dict[int, Budget]:
        """The first budget of each kind, in the order of kinds."""
        found: dict[int, Budget] = {}
        for one in self.money:
            found.setdefault(one.kind, one)
        return found


@dataclass
class Money:
    """One budget's period: its number, what was spent in it, what is held in it, and which thresholds were told."""

    period: int = 0
    spent: int = 0
    held: int = 0
    told: int = 0
    level: int = 0


@dataclass
class Kind:
    """What is known of calls of one kind at a deployment: fading counts, and its breaker."""

    fine: float = 0
    failed: float = 0
    at: int = 0
    streak: int = 0
    openings: int = 0
    opened: int = 0
    open_until: int = 0
    closed: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it is open or half-open."""
        return bool(self.openings) and not self.closed

    def returning(self, now: int) -> int:
        """How long until it has its whole weight again."""
        return _left(self.closed + 30 * SECOND, now, 30 * SECOND)

    def faded(self, now: int) -> "Kind":
        """Return it as it is now; a return that is complete is forgotten."""
        keep = math.exp(-max(now - self.at, 0) / (10 * SECOND))
        new = replace(self, fine=self.fine * keep, failed=self.failed * keep, at=now)
        if new.closed and not new.returning(now):
            new.openings = new.closed = 0
        return new

    def matters(self, now: int) -> bool:
        """Whether there is still something to tell."""
        return self.is_open or self.returning(now) > 0 or self.faded(now).failed > 0.1


@dataclass
class Health:
    """What there is to tell of a deployment; `left` is {requests or tokens: (how many, until when)}."""

    probe: tuple[str, int, int] = ("", 0, 0)
    left: dict[str, tuple[int, int]] = field(default_factory=dict)
    offline_until: int = 0
    kinds: dict[int, Kind] = field(default_factory=dict)
    is_written: bool = field(default=False, compare=False)

    def is_tried(self, now: int) -> bool:
        """Whether somebody tries it out."""
        return bool(self.probe[0]) and _left(self.probe[2], now, MINUTE) > 0

    def pruned(self, now: int) -> "Health | None":
        """Return what of it is still to be told, None when nothing is."""
        new = Health(
            self.probe if self.is_tried(now) else ("", 0, 0),
            {what: row for what, row in self.left.items() if _left(row[1], now, HOUR)},
            self.offline_until if _left(self.offline_until, now, HOUR) else 0,
            {kind: one for kind, one in sorted(self.kinds.items()) if one.matters(now)},
        )
        return None if new == Health() else new


def _left(moment: int, now: int, most: int) -> int:
    """How long it is until a moment; nothing when it lies further ahead than it can."""
    return moment - now if 0 < moment - now <= most else 0


@dataclass
class State:
    """What happens at a scope."""

    empty_at: dict[str, Fraction] = field(default_factory=dict)
    in_flight: int = 0
    money: dict[int, Money] = field(default_factory=dict)
    latency: float = 0
    latency_at: int = 0
    failures: int = 0
    cooling_until: int = 0
    throttled_until: int = 0
    health: Health | None = None

    def at(self, now: int, limits: Limits) -> "State":
        """Return a copy as it is at a moment under some limits: buckets leaked, periods turned."""
        new = deepcopy(self)
        new.empty_at = {}
        for rate in limits.rates:
            empty_at = self.empty_at.get(rate.name, Fraction(0))
            # Full, and leaking from now on, when the clock has stepped back from it.
            new.empty_at[rate.name] = (
                now + rate.depth if rate.is_far(empty_at, now) else max(empty_at, Fraction(now))
            )
        for kind, budget in limits.kinds.items():
            period = calendar(now, budget.zone)[kind]
            money = new.money.setdefault(kind, Money())
            if money.period < period:
                new.money[kind] = Money(period)
            elif money.period > period + 1:
                money.period, money.held = period, 0
        return new

    def stepped_back_from(self, now: int, limits: Limits) -> bool:
        """Whether it was written when the clock was far ahead of now."""
        return any(
            rate.is_far(self.empty_at.get(rate.name, Fraction(0)), now) for rate in limits.rates
        )

    def standing(self, kind: int, now: int) -> tuple[int | str, int]:
        """Say whether a call of a kind may go there (0), and else why not, and for how long."""
        if self.health is None:
            return FEASIBLE, 0
        if wait := _left(self.health.offline_until, now, HOUR):
            return OFFLINE, wait
        one = self.health.kinds.get(kind)
        if one is None or not one.is_open:
            return FEASIBLE, 0
        if wait := _left(one.open_until, now, 30 * SECOND):
            return COOLING, wait
        return (TRIED_OUT, 1) if self.health.is_tried(now) else (DUE, max(now - one.open_until, 0))

    def unpaid(self, tokens: int, now: int) -> int:
        """How long its vendor lets such a call not pass, by what it said is left."""
        waits = [0]
        for what, (left, until) in self.health.left.items() if self.health else ():
            if left < (1 if what == "requests" else tokens):
                waits.append(_left(until, now, HOUR))
        return max(waits)

    def burden(self, kind: int, now: int) -> tuple[float, float]:
        """Return by how much failures make it slower, and which part of its weight it has."""
        one = self.health.kinds.get(kind) if self.health else None
        if one is None:
            return 0, 1
        is_back = 1 - one.returning(now) / (30 * SECOND) if one.closed else 1
        now_ = one.faded(now)
        penalty = 5 * SECOND * now_.failed / (now_.fine + now_.failed + 4)
        return penalty, max(is_back, 0.1)

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

    def learn(self, now: int, one: "Settlement", admitted: int) -> None:
        """Learn how an attempt went: 1 fine, 2 failed, 3 throttled, 4 nobody is there."""
        tried = self.unclaim(one.attempt_id)
        if one.health == 1:
            self.failures = 0
            if one.ttft:
                self.observe(now, one.ttft)
            self._succeeded(now, one.kind, admitted)
        if one.health in {2, 4}:
            self.failures += 1
            for kind in [one.kind] if one.health == 2 else [1, 2, 3]:
                self._failed(now, kind, admitted, tried=tried)
        cool = max(one.cool, SECOND) if one.health == 3 else one.cool
        cool = min(cool, HOUR)
        if cool > self.throttled(now):
            self.throttled_until = now + cool

    def note(self, now: int, left: tuple[int, int, int, int]) -> None:
        """Take what its vendor said is left."""
        for what, said, lasts in (("requests", *left[:2]), ("tokens", *left[2:])):
            told = self.told()
            if said >= 0 and lasts > 0:
                known, until = told.left.get(what, (0, 0))
                least = min(said, known) if _left(until, now, HOUR) else said
                told.left[what] = least, now + min(lasts, HOUR)

    def told(self) -> Health:
        """Return its health, to be changed."""
        self.health = self.health or Health()
        self.health.is_written = True
        return self.health

    def unclaim(self, attempt: str) -> bool:
        """End an attempt's trying it out; tell whether it did."""
        if self.health is None or self.health.probe[0] != attempt:
            return False
        self.told().probe = "", 0, 0
        return True

    def _failed(self, now: int, kind: int, admitted: int, *, tried: bool) -> None:
        one = self.told().kinds.get(kind)
        if one is None or not one.matters(now):
            one = self.told().kinds[kind] = Kind(at=now)
        if one.is_open:
            if not tried:
                return
        else:
            one = self.told().kinds[kind] = one.faded(now)
            if admitted < one.closed <= now:
                return
            one.failed, one.streak = one.failed + 1, one.streak + 1
            count = one.fine + one.failed
            if not ((one.streak >= 3 or count >= 10) and one.failed >= count / 2):
                return
        pause = min(SECOND * 2 ** min(one.openings, 5), 30 * SECOND)
        self.told().kinds[kind] = Kind(0, 0, now, 0, one.openings + 1, now, now + pause, 0)
        self.cooling_until = now + pause

    def _succeeded(self, now: int, kind: int, admitted: int) -> None:
        one = self.health.kinds.get(kind) if self.health else None
        if one is None:
            return
        self.told()
        if not one.matters(now):
            return
        if one.is_open:
            if not admitted < one.opened <= now:
                one.fine, one.failed, one.streak, one.at, one.closed = 0, 0, 0, now, now
                self.cooling_until = 0
        else:
            one = self.told().kinds[kind] = one.faded(now)
            one.fine, one.streak = one.fine + 1, 0


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
            if _left(until, now, HOUR):
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

    def _free(self, lease: Lease, now: int) -> None:
        """Give back what a lease counts for and holds."""
        for scope in lease.scopes:
            state = self._touch(scope, now)
            if state is not None:
                state.in_flight = max(state.in_flight - 1, 0)
        for scope, kind, period, amount in lease.held:
            state = self._touch(scope, now)
            if state is not None and kind in state.money and state.money[kind].period == period:
                state.money[kind].held = max(state.money[kind].held - amount, 0)

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
            reported = attempt in boot.parts
            output = boot.parts.pop(attempt, 0)
            cost = price(lease.input, c.input_estimate) + price(output, c.output)
            cost += c.request + (0 if reported else lease.fee)
            self._free(lease, now)
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
            )
            entry = _entry_for(lease, attempt, now)
            entry[14], entry[17], entry[21] = lease.input, output, cost
            self.ledger.append(tuple(entry))
        self._write_health(now)
        if not boot.leases:
            self.beats.pop(name, None)
            boot.parts.clear()
        return reaped
