"""
What holds when the store does not answer: each limit does what it declares, on this replica alone.

| limit | what it does |
|---|---|
| strict budget | closes |
| rate | goes on at limit / live replicas, with an empty bucket at the beginning |
| concurrency | goes on at limit / live replicas; the remainder goes to the replicas that come first by name |
| soft budget | goes on until the outage has cost a twentieth of its amount, / live replicas; closes when it was spent before |
| a limit or soft budget that declares `closed` | closes |

"Live replicas" are those that the last answered beat saw; when that is not known, everything closes.
Limits of deployments, models and providers are held in the same way, so that no vendor's quota is exceeded;
where they are divided over cells, what is held in one that is away is the least share that a cell has (`ratelimit.shares`).

The rules are this file's own, not a copy of the scripts'.
Their law: over all replicas, what passes in an outage never exceeds the limit times the time since its beginning.
The bucket begins empty because the store's may be, and nobody can ask; so a rate is kept over the beginning of an outage too.
Calls that the store had admitted still count where they run: until they end, a limit of concurrency may be exceeded by what other replicas' shares allow.

Nothing here does I/O or reads a clock: times are monotonic microseconds, given by the caller.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import ceil, inf
from types import MappingProxyType
from typing import NamedTuple

from config.models import Config
from config.quotas import Budget, Limits
from ratelimit.asks import LOST_DIGITS, UNSUITABLE, Ask, Boot, Denied, Grant, Nobody
from ratelimit.limits import RATES, WINDOWS_US, Candidate, declared, is_divided
from ratelimit.shares import floors
from ratelimit.sight import Sight

# For how long before an outage a budget's being spent is remembered.
REMEMBER_US = 60_000_000
# Most scopes that are held at a time: callers may name users without end.
MOST_SCOPES = 100_000
# An outage may cost a soft budget one part in so many of its amount, over all replicas together.
SOFT_PARTS = 20
# What a rate's name begins with says what it counts.
COUNTED = MappingProxyType({"r": "requests", "t": "tokens", "it": "input", "ot": "output"})

_ONLY, _ORDER, _LOAD, _LEAST_BAD = 1, 2, 3, 4


class Rate(NamedTuple):
    """
    So much of something in a window, under its name (`rpm`): `requests`, `tokens`, `input`, `output`.

    `burst` is the most at once, and no more than the amount of one window: an outage lends nothing.
    """

    what: str
    amount: int
    window_us: int
    burst: int
    name: str


class Fund(NamedTuple):
    """A budget: nano-USD per period; `closed` when nothing of it may be spent unseen."""

    amount_nusd: int
    period: str
    strict: bool
    closed: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """What one scope declares, as this file reads it."""

    rates: tuple[Rate, ...] = ()
    concurrency: int = 0
    funds: tuple[Fund, ...] = ()
    closed: bool = False
    weight: int = 1
    drained: bool = False


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many replicas live, and how many of them come before this one by name."""

    count: int
    rank: int


@dataclass(frozen=True, slots=True)
class Closed:
    """What is asked for is closed until the store answers; `why` is for the caller."""

    why: str


Judgement = Grant | Denied | Nobody | Closed


def rules(config: Config) -> dict[str, Rule]:
    """Return what every scope of a configuration declares, by names such as `team:acme/support`."""
    return dict(_rules(config))


def _rules(config: Config) -> Iterator[tuple[str, Rule]]:
    default = config.store.when_down
    for scope in declared(config):
        limits = scope.limits
        if is_divided(config, scope):
            # Whatever a cell's share was: it had this at least, and has it still.
            limits = floors(limits, config.store.cells)
        yield (
            scope.name,
            rule_of(
                limits,
                scope.budgets,
                default=default,
                weight=scope.weight or 1,
                drained=scope.drained,
            ),
        )


def rule_of(
    limits: Limits,
    budgets: tuple[Budget, ...] = (),
    *,
    default: str = "share",
    weight: int = 1,
    drained: bool = False,
) -> Rule:
    """Return what a scope declares; `default` is for those that do not say what they do."""
    rates = []
    for name in RATES:
        limit = getattr(limits, name)
        if limit is not None:
            burst = min(getattr(limits.burst, name) or limit, limit)
            rates.append(Rate(COUNTED[name[:-2]], limit, WINDOWS_US[name[-1]], burst, name))
    return Rule(
        rates=tuple(rates),
        concurrency=limits.concurrency or 0,
        funds=tuple(
            Fund(
                one.limit_nusd,
                one.per,
                strict=one.mode == "strict",
                closed=one.mode == "strict" or (one.when_store_is_down or default) == "closed",
            )
            for one in budgets
        ),
        closed=(limits.when_store_is_down or default) == "closed",
        weight=weight,
        drained=drained,
    )


class Taken(NamedTuple):
    """What a grant of an outage took from this replica's shares, to be replaced by the truth."""

    outage: int
    debit: int
    input: int
    estimate_nusd: int


class _State:
    """A scope in this outage: what its share still holds."""

    __slots__ = ("in_flight", "left_nusd", "places", "rule", "spans", "tats")

    def __init__(self, rule: Rule, replicas: Replicas, entered_us: int, in_flight: int) -> None:
        count, rank = replicas.count, replicas.rank
        self.rule = rule
        self.in_flight = in_flight
        self.places = rule.concurrency // count + (1 if rank < rule.concurrency % count else 0)
        # How long the share takes to regain one unit, and to fill: never less than one request's worth.
        self.spans: list[tuple[float, float]] = []
        self.tats: list[float] = []
        for rate in rule.rates:
            each = rate.window_us * count / rate.amount
            whole = rate.window_us * rate.burst / rate.amount
            full = max(whole, each) if rate.what == "requests" else whole
            self.spans.append((each, full))
            self.tats.append(entered_us + full)
        self.left_nusd = [fund.amount_nusd // SOFT_PARTS // count for fund in rule.funds]

    def wait_us(self, at: int, units: int, now_us: int) -> float:
        """Return how long until so many units of a rate have been regained, 0 when they are there."""
        if not units:
            return 0.0
        each, full = self.spans[at]
        need = units * each
        # Whoever asks for more than the share holds waits until all of it has been regained.
        level_since = max(self.tats[at], now_us - max(need - full, 0.0))
        return max(level_since + need - full - now_us, 0.0)

    def take(self, at: int, units: int, now_us: int) -> None:
        """Take units that are there."""
        each, full = self.spans[at]
        need = units * each
        self.tats[at] = max(self.tats[at], now_us - max(need - full, 0.0)) + need

    def remaining(self, at: int, now_us: int) -> int:
        """Return how many units of a rate are there."""
        each, full = self.spans[at]
        return max(int((full - max(self.tats[at] - now_us, 0.0)) / each + 1e-6), 0)


class _Place:
    """A candidate: its deployment, and the others of its scopes with the word for each that has no room."""

    __slots__ = ("candidate", "deployment", "states")

    def __init__(self, candidate: Candidate, states: list[_State]) -> None:
        self.candidate = candidate
        self.deployment = states[0]
        self.states = list(zip(states, ("", "model_limit", "provider_limit"), strict=False))


class Degraded:
    """
    The judge of one replica while the store is away.

    `rule` finds what a scope declares, None when it is not known; `sight` is what was seen of the deployments.
    """

    def __init__(self, rule: Callable[[str], Rule | None], sight: Sight) -> None:
        self._rule = rule
        self._sight = sight
        self._replicas: Replicas | None = None
        self._states: dict[str, _State] = {}
        self._running: dict[str, int] = {}
        self._spent: dict[tuple[str, str], int] = {}
        self._entered_us = 0
        self._outage = 0
        self.active = False

    @property
    def share(self) -> str:
        """What answers say of it: the share of each limit that holds here."""
        return "store" if self._replicas is None else f"store; share=1/{self._replicas.count}"

    # The outage.

    def remember(self, denied: Denied, now_us: int) -> None:
        """Note that the store has called a budget spent."""
        if denied.what == "budget":
            self._spent[denied.scope, denied.period] = now_us

    def enter(
        self, replicas: Replicas | None, live: Iterable[tuple[Ask, int]], now_us: int
    ) -> None:
        """Begin an outage; `live` are the attempts that run here, each an ask and its candidate (from 0)."""
        self.active = True
        self._outage += 1
        self._replicas = replicas
        self._entered_us = now_us
        self._states = {}
        running: dict[str, int] = {}
        for ask, candidate in live:
            for name in _scopes(ask, candidate):
                running[name] = running.get(name, 0) + 1
        self._running = running
        old = now_us - REMEMBER_US
        self._spent = {what: at for what, at in self._spent.items() if at > old}

    def leave(self) -> None:
        """End it: from now on the store judges again."""
        self.active = False
        self._states = {}
        self._running = {}
        self._spent = {}

    def _state(self, name: str) -> _State | None:
        found = self._states.get(name)
        if found is None and self._replicas is not None:
            rule = self._declared(name)
            if rule is not None and len(self._states) < MOST_SCOPES:
                found = self._states[name] = _State(
                    rule, self._replicas, self._entered_us, self._running.pop(name, 0)
                )
        return found

    # Judging.

    def is_strict(self, ask: Ask) -> bool:
        """Whether a strict budget stands over an ask."""
        names = {name for at in range(len(ask.plan.candidates)) for name in _scopes(ask, at)}
        found = (self._declared(name) for name in names)
        return any(fund.strict for rule in found if rule is not None for fund in rule.funds)

    def _declared(self, name: str) -> Rule | None:
        """Return what a scope declares; users without an entry of their own share one."""
        rule = self._rule(name)
        if rule is None and name.startswith("user:"):
            rule = self._rule("users:" + name[5:].partition("#")[0])
        return rule

    def judge(self, ask: Ask, boot: Boot, *, now_us: int, at_us: int) -> Judgement:
        """
        Answer an ask from this replica's shares; a grant is to be given back by `release`.

        `now_us` is monotonic, `at_us` the wall clock in us since 2024-01-01.
        """
        if self._replicas is None:
            return Closed("how many gateways share the limits is not known")
        scopes: list[_State] = []
        for name in ask.scopes:
            state = self._state(name)
            closed = self._closed(name, state)
            if closed is not None or state is None:
                return Closed(closed or "")
            scopes.append(state)
        debit = ask.input + (ask.cap or ask.assumed) * ask.n
        denied = self._denied(ask, scopes, debit, now_us, at_us)
        if denied is not None:
            return denied
        return self._choose(ask, scopes, debit, boot, now_us=now_us, at_us=at_us)

    def _closed(self, name: str, state: _State | None) -> str | None:
        """Return why a scope admits nothing while the store is away, None when it does."""
        words = name.replace(":", " ", 1)
        if state is None:
            return f"the limits of {words} are not known here"
        if state.rule.closed:
            return f"the limits of {words} are closed until it does"
        for fund, left in zip(state.rule.funds, state.left_nusd, strict=True):
            kind = "strict budget" if fund.strict else "budget"
            if fund.closed:
                return f"the {kind} of {words} is closed until it does"
            if left <= 0:
                return f"what the budget of {words} allows unseen is spent"
        return None

    def _denied(
        self, ask: Ask, scopes: list[_State], debit: int, now_us: int, at_us: int
    ) -> Denied | None:
        """Return the refusal of the caller's limit that frees last, None when all have room."""
        worst = -1.0
        binding = ("", "", 0, "", "")
        for name, state in zip(ask.scopes, scopes, strict=True):
            rule = state.rule
            for at, rate in enumerate(rule.rates):
                if rate.what in {"tokens", "input"} and ask.input > rate.burst:
                    wait, what = inf, "too_large"
                else:
                    units = _units(rate, ask.input, debit, first=ask.first)
                    wait = state.wait_us(at, units, now_us)
                    what = "requests" if rate.what == "requests" else "tokens"
                if wait > 0.5 and wait > worst:
                    worst, binding = wait, (what, name, rate.amount, "", rate.name)
            if rule.concurrency and state.in_flight >= state.places and worst < 0:
                worst, binding = 0.0, ("concurrency", name, rule.concurrency, "", "")
            for fund in rule.funds:
                if (name, fund.period) in self._spent:
                    worst, binding = inf, ("budget", name, fund.amount_nusd, fund.period, "")
        if worst < 0:
            return None
        what, scope, limit, period, rate_name = binding
        return Denied(
            what=what,
            scope=scope,
            limit=limit,
            retry_us=0 if worst == inf else ceil(worst),
            at_us=at_us,
            limits=_tightest(scopes, now_us),
            period=period,
            degraded=self.share,
            rate=rate_name,
        )

    def _choose(
        self,
        ask: Ask,
        scopes: list[_State],
        debit: int,
        boot: Boot,
        *,
        now_us: int,
        at_us: int,
    ) -> Grant | Nobody:
        """Take the best candidate of the lowest tier that has one, from what this replica has seen."""
        lost: list[str] = []
        waits: list[float] = []
        places: list[_Place | None] = []
        for number, candidate in enumerate(ask.plan.candidates, 1):
            states = [state for name in candidate.scopes if (state := self._state(name))]
            if len(states) < len(candidate.scopes):
                place, word, wait = None, "drained", 0.0
            else:
                place = _Place(candidate, states)
                word, wait = self._fitness(ask, number, place, debit, now_us)
            places.append(place)
            lost.append(word)
            waits.append(wait)
        fit = [at for at, word in enumerate(lost) if word == "feasible"]
        why = _ONLY if len(lost) == 1 else _ORDER
        if fit:
            tiers = ask.tiers or [candidate.tier for candidate in ask.plan.candidates]
            tier = min(tiers[at] for at in fit)
            fit = [at for at in fit if tiers[at] == tier]
            chosen = self._quickest(ask, fit)
            if len(fit) > 1:
                why = _LOAD
        else:
            failing = [at for at, word in enumerate(lost) if word == "cooling"]
            if not failing:
                soonest = min((wait for wait in waits if wait > 0), default=0.0)
                return Nobody(
                    ceil(soonest), tuple(lost), at_us, _tightest(scopes, now_us), self.share
                )
            chosen, why = min(failing, key=lambda at: waits[at]), _LEAST_BAD
            lost[chosen] = "feasible"
        place = places[chosen]
        assert place is not None
        candidate = place.candidate
        most = min(ask.cap or ask.assumed, candidate.most)
        estimate = candidate.request + ceil(
            (ask.input * candidate.input_estimate + most * ask.n * candidate.output) / 1000
        )
        if ask.fees:
            estimate += ask.fees[chosen]
        for state in scopes:
            _take(state, ask.input, debit, estimate, now_us, first=ask.first)
        for state, _ in place.states:
            _take(state, ask.input, debit, estimate, now_us, first=True)
        ask.taken = Taken(self._outage, debit, ask.input, estimate)
        digits = "".join(LOST_DIGITS[word] for word in lost)
        row = [1, chosen + 1, 0, at_us, _tightest(scopes, now_us), why, digits, 0]
        return Grant(row, boot, degraded=self.share)

    def _fitness(
        self, ask: Ask, number: int, place: _Place, debit: int, now_us: int
    ) -> tuple[str, float]:
        """Return the word for a candidate (`feasible`, or why not), and how long until it frees."""
        if number in ask.excluded:
            return "tried", 0.0
        if ask.tiers and ask.tiers[number - 1] == UNSUITABLE:
            return "unsuitable", 0.0
        if place.deployment.rule.drained or place.deployment.rule.closed:
            return "drained", 0.0
        name = place.candidate.deployment
        wait: float = self._sight.throttled_us(name, now_us)
        if wait > 0:
            return "throttled", wait
        for state, of_others in place.states:
            rule = state.rule
            if rule.closed or (rule.concurrency and state.in_flight >= state.places):
                return of_others or "concurrency", 0.0
            for at, rate in enumerate(rule.rates):
                units = _units(rate, ask.input, debit, first=True)
                wait = state.wait_us(at, units, now_us)
                if wait > 0.5:
                    word = "requests" if rate.what == "requests" else "tokens"
                    return of_others or word, wait
            for fund, left in zip(rule.funds, state.left_nusd, strict=True):
                if fund.closed or left <= 0:
                    return "own_budget", 0.0
        wait = self._sight.rests_us(name, now_us)
        return ("cooling" if wait > 0 else "feasible"), wait

    def _quickest(self, ask: Ask, fit: list[int]) -> int:
        """Return the candidate with the shortest expected wait; equals take turns."""
        candidates = ask.plan.candidates
        seen = [self._sight.latency_us(candidates[at].deployment) for at in fit]
        known = [latency for latency in seen if latency > 0]
        usual = sum(known) / len(known) if known else 1.0

        def expected(k: int) -> float:
            state = self._states[f"deployment:{candidates[fit[k]].deployment}"]
            return (seen[k] or usual) * (state.in_flight + 1) / state.rule.weight

        count = len(fit)
        start = ask.tie % count
        return fit[min(((start + k) % count for k in range(count)), key=expected)]

    # Giving back.

    def release(self, ask: Ask, candidate: int, input_tokens: int, tokens: int, cost: int) -> None:
        """Replace what a running attempt holds here by the truth; `tokens` are input and output."""
        taken = ask.taken
        ours = taken is not None and taken.outage == self._outage
        for name in _scopes(ask, candidate):
            state = self._states.get(name)
            if state is None:
                if self._running.get(name):
                    self._running[name] -= 1
                continue
            if state.in_flight > 0:
                state.in_flight -= 1
            if not ours or taken is None:
                continue
            for at, rate in enumerate(state.rule.rates):
                if rate.what != "requests":
                    held = _units(rate, taken.input, taken.debit, first=False)
                    used = _counted(rate, input_tokens, tokens)
                    state.tats[at] += (used - held) * state.spans[at][0]
            for at in range(len(state.left_nusd)):
                state.left_nusd[at] += taken.estimate_nusd - cost


def _scopes(ask: Ask, candidate: int) -> tuple[str, ...]:
    """Return every scope that an attempt counts in."""
    return (*ask.scopes, *ask.plan.candidates[candidate].scopes)


def _counted(rate: Rate, input_tokens: int, tokens: int) -> int:
    """Return what of an attempt a rate of tokens counts; `tokens` are input and output."""
    if rate.what == "tokens":
        return tokens
    return input_tokens if rate.what == "input" else tokens - input_tokens


def _units(rate: Rate, input_tokens: int, debit: int, *, first: bool) -> int:
    """Return how much of a rate an attempt takes; no debit is larger than the bucket itself."""
    if rate.what == "requests":
        return 1 if first else 0
    return min(_counted(rate, input_tokens, debit), rate.burst)


def _take(
    state: _State, input_tokens: int, debit: int, estimate: int, now_us: int, *, first: bool
) -> None:
    for at, rate in enumerate(state.rule.rates):
        units = _units(rate, input_tokens, debit, first=first)
        if units:
            state.take(at, units, now_us)
    state.in_flight += 1
    for at in range(len(state.left_nusd)):
        state.left_nusd[at] -= estimate


def _tightest(scopes: list[_State], now_us: int) -> tuple[int, ...]:
    """Return (limit, remaining, reset in us) of this replica's tightest share of requests, then of tokens."""
    found: dict[str, tuple[float, int, int, int]] = {}
    for state in scopes:
        for at, rate in enumerate(state.rule.rates):
            each, full = state.spans[at]
            share = int(full / each + 1e-6)
            remaining = state.remaining(at, now_us)
            part = remaining / share if share else 0.0
            what = "requests" if rate.what == "requests" else "tokens"
            if what not in found or part < found[what][0]:
                reset = max(int(state.tats[at] - now_us), 0)
                found[what] = (part, share, remaining, reset)
    none = (0.0, 0, 0, 0)
    return (*found.get("requests", none)[1:], *found.get("tokens", none)[1:])
