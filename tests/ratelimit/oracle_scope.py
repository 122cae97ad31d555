"""
What one scope keeps, said the naive way: its calendar, its rates, its budgets, what is known of its health.

Times are microseconds since 2024-01-01 UTC, money is nano-USD.
A rate limit of N per window is a bucket that leaks N per window evenly and holds its burst; what is kept of it is the moment at which it will have run empty.
What is poured in is rounded up to a sixteenth of a microsecond.
"""

import math
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from tests.ratelimit.oracle import Settlement

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


def moment(*date: int) -> int:
    """Return a moment in the cell's microseconds."""
    since = datetime(*date, tzinfo=UTC) - EPOCH
    return int(since.total_seconds() * SECOND)


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
        return remaining(self.closed + 30 * SECOND, now, 30 * SECOND)

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
        return bool(self.probe[0]) and remaining(self.probe[2], now, MINUTE) > 0

    def pruned(self, now: int) -> "Health | None":
        """Return what of it is still to be told, None when nothing is."""
        new = Health(
            self.probe if self.is_tried(now) else ("", 0, 0),
            {what: row for what, row in self.left.items() if remaining(row[1], now, HOUR)},
            self.offline_until if remaining(self.offline_until, now, HOUR) else 0,
            {kind: one for kind, one in sorted(self.kinds.items()) if one.matters(now)},
        )
        return None if new == Health() else new


def remaining(moment: int, now: int, most: int) -> int:
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
        if wait := remaining(self.health.offline_until, now, HOUR):
            return OFFLINE, wait
        one = self.health.kinds.get(kind)
        if one is None or not one.is_open:
            return FEASIBLE, 0
        if wait := remaining(one.open_until, now, 30 * SECOND):
            return COOLING, wait
        return (TRIED_OUT, 1) if self.health.is_tried(now) else (DUE, max(now - one.open_until, 0))

    def unpaid(self, tokens: int, now: int) -> int:
        """How long its vendor lets such a call not pass, by what it said is left."""
        waits = [0]
        for what, (left, until) in self.health.left.items() if self.health else ():
            if left < (1 if what == "requests" else tokens):
                waits.append(remaining(until, now, HOUR))
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
                least = min(said, known) if remaining(until, now, HOUR) else said
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
