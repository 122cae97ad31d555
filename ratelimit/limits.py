"""
Limits as the scripts read them: one packed record per scope, and the plan of an ask.

A scope's key is `{c0}:s:<scope>`, a deployment's `{c0}:d:<id>`; `{c0}` is the cell (`store.cells`), so that one script touches one slot.
The layout of a record stands in `lua/scope.lua`, that of a plan in `lua/admit.lua`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import msgpack

from config.cells import cell_of, is_shared, tenant_of
from config.models import Config
from config.quotas import NANO, Budget, Limits
from config.scalars import moment_of
from config.tenants import DEFAULT_MEMBER, Member
from ratelimit.shares import amounts, floors
from ratelimit.zones import FIRST as ZERO
from ratelimit.zones import packed_zone
from store.cells import FIRST, Cell

KINDS = MappingProxyType({"day": 1, "week": 2, "month": 3, "quarter": 4, "total": 5})
PERIODS = MappingProxyType({number: word for word, number in KINDS.items()})
# The codes of `lua/gcra.lua`, from 1.
RATES = ("rps", "rpm", "rph", "rpd", "tpm", "tpd", "itpm", "itpd", "otpm", "otpd")
WHATS = MappingProxyType({"r": 1, "t": 2, "it": 3, "ot": 4})
WINDOWS_US = MappingProxyType({"s": 10**6, "m": 6 * 10**7, "h": 36 * 10**8, "d": 864 * 10**8})
WINDOW_WORDS = MappingProxyType({"s": "second", "m": "minute", "h": "hour", "d": "day"})
# What a model may give when nobody knows its ceiling: the largest output cap of mainstream models.
MOST_OUTPUT = 131_072

_pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=False).pack


def scope_key(scope: str, cell: Cell = FIRST) -> str:
    """Return the key of any scope but a deployment, as in `key:acme/support/helpdesk`."""
    return f"{cell.tag}:s:{scope}"


def deployment_key(deployment: str, cell: Cell = FIRST) -> str:
    """Return the key of a deployment's hash."""
    return f"{cell.tag}:d:{deployment}"


def key_of(scope: str, cell: Cell = FIRST) -> str:
    """Return the key of any scope, `deployment:<id>` among them."""
    kind, _, name = scope.partition(":")
    return deployment_key(name, cell) if kind == "deployment" else scope_key(scope, cell)


def scope_of(key: str) -> str:
    """Return the scope whose key it is."""
    _, kind, name = key.split(":", 2)
    return f"deployment:{name}" if kind == "d" else name


def scale_us(rate: str, limit: int) -> float:
    """Return how far one unit of a rate moves a bucket's tat, in us: of requests in sixteenths, rounded up."""
    window = WINDOWS_US[rate[-1]] * 16
    return -(-window // limit) / 16 if rate[0] == "r" else window / limit / 16


def depth_us(rate: str, limit: int, burst: int) -> float:
    """
    Return how far ahead of now a bucket's tat may be, in us: what taking all of its burst moves it.

    In sixteenths, rounded up as the scripts round: requests are taken one by one, tokens at once.
    """
    window = WINDOWS_US[rate[-1]] * 16
    if rate[0] == "r":
        return burst * -(-window // limit) / 16
    return -(-burst * window // limit) / 16


def pack_limits(
    version: int,
    limits: Limits,
    budgets: tuple[Budget, ...] = (),
    *,
    weight: int = 0,
    drained: bool = False,
    time_zone: str = "UTC",
    whole: Limits | None = None,
) -> bytes:
    """
    Return the packed record of a scope's limits, stamped with the configuration's version.

    `weight` is a deployment's and 0 for all other scopes; `time_zone` is that of budgets without their own.
    `whole` is what these limits are a share of: then a call that is larger than the bucket does not fit into a full one, as it
    would otherwise, since other cells may take as much at the same time.
    """
    shape = 0
    rates: list[float] = []
    for code, rate in enumerate(RATES, 1):
        limit = getattr(limits, rate)
        if limit is not None:
            burst = getattr(limits.burst, rate) or limit
            depth = depth_us(rate, limit, burst)
            most = burst if whole is None else getattr(whole.burst, rate) or getattr(whole, rate)
            rates += (WHATS[rate[:-2]], scale_us(rate, limit), depth, limit, most, code)
            shape += 1 << (code - 1)
    rows: list[Any] = []
    for budget in sorted(budgets, key=lambda one: (KINDS[one.per], one.mode == "soft")):
        kind, zone = KINDS[budget.per], budget.time_zone or time_zone
        shape |= 1 << (9 + kind)
        rows += (
            kind,
            budget.limit_nusd,
            1 if budget.mode == "strict" else 0,
            *_raised(budget, zone),
            packed_zone(zone),
            bytes(sorted(set(budget.alerts_at))),
        )
    return _pack(
        (
            version,
            shape,
            limits.concurrency or 0,
            weight,
            1 if drained else 0,
            6 + len(rates),
            *rates,
            *rows,
        )
    )


def _raised(budget: Budget, zone: str) -> tuple[int, int]:
    """Return what a budget is raised to, and until when; zeros when it is not."""
    if budget.raised is None:
        return 0, 0
    until = moment_of(budget.raised.until, zone) - ZERO
    return int(budget.raised.usd * NANO), until.days * WINDOWS_US["d"] + until.seconds * 10**6


class Declared(NamedTuple):
    """
    What a configuration says of one scope.

    `name` is `team:acme/support`, `deployment:<id>`, `shadow:<experiment>` and so on; `weight` is 0 but for deployments.
    `users:<organization>` is no scope itself: it says what holds for users without an entry of their own.
    """

    name: str
    limits: Limits
    budgets: tuple[Budget, ...]
    time_zone: str = "UTC"
    weight: int = 0
    drained: bool = False


def declared(config: Config, cell: Cell | None = None) -> Iterator[Declared]:
    """Yield every scope and deployment that a configuration names; those in one cell, where that is said."""
    # Ten thousand keys have few organizations.
    homes: dict[str, Cell] = {}
    for scope in _declared(config):
        if cell is None or is_shared(scope.name):
            yield scope
            continue
        tenant = tenant_of(scope.name)
        home = homes.get(tenant)
        if home is None:
            home = homes[tenant] = cell_of(config, tenant)
        if home is cell:
            yield scope


def _declared(config: Config) -> Iterator[Declared]:

    def scope(name: str, section: Any, time_zone: str = "UTC") -> Declared:
        return Declared(name, section.limits, section.budgets, time_zone)

    for place in config.placed_organizations():
        organization, zone = place.organization, place.time_zone
        yield scope(f"org:{place.id}", organization, zone)
        for team_name, team in organization.teams.items():
            yield scope(f"team:{place.id}/{team_name}", team, zone)
            for key_name, key in team.keys.items():
                yield scope(f"key:{place.id}/{team_name}/{key_name}", key, zone)
        # What users have in common comes last: whose record is older than it has none any more.
        for name, user in organization.users.items():
            if name != DEFAULT_MEMBER:
                yield scope(f"user:{place.id}#{name}", user, zone)
        if organization.users:
            common = organization.users.get(DEFAULT_MEMBER, Member())
            yield scope(f"users:{place.id}", common, zone)
    for name, member, zone in _members(config):
        yield scope(name, member, zone)
    for name, provider in config.providers.items():
        if is_limited(provider):
            yield scope(f"provider:{name}", provider)
    for name, model in config.models.items():
        yield scope(f"model:{name}", model)
    for name, experiment in config.experiments.items():
        shadow = experiment.shadow
        if shadow is not None:
            limits = Limits(concurrency=shadow.concurrency)
            yield Declared(f"shadow:{name}", limits, shadow.budgets)
    for placed in config.deployments.values():
        deployment = placed.deployment
        yield Declared(
            f"deployment:{placed.id}",
            deployment.limits,
            deployment.budgets,
            weight=deployment.weight,
            drained=deployment.drained,
        )


def _members(config: Config) -> Iterator[tuple[str, Member, str]]:
    """Yield the scopes of applications and business lines: those that are named, and those of keys that the default holds for."""
    seen = set()
    for place in config.placed_organizations():
        for kind in ("application", "business_line"):
            named: dict[str, Member] = getattr(place.organization, f"{kind}s")
            for name, member in named.items():
                if name != DEFAULT_MEMBER:
                    seen.add(f"{kind}:{place.id}#{name}")
                    yield f"{kind}:{place.id}#{name}", member, place.time_zone
    for placed in config.placed_keys():
        for place in placed.place.chain:
            for kind in ("application", "business_line"):
                named = getattr(place.organization, f"{kind}s")
                name = getattr(placed.key, kind)
                scope = f"{kind}:{place.id}#{name}"
                if name and DEFAULT_MEMBER in named and scope not in seen:
                    seen.add(scope)
                    yield scope, named[DEFAULT_MEMBER], place.time_zone


def is_divided(config: Config, scope: Declared) -> bool:
    """Tell whether a scope has limits that are divided over cells."""
    return config.store.cells > 1 and is_shared(scope.name) and bool(amounts(scope.limits))


def records(config: Config, version: int, cell: Cell = FIRST) -> Iterator[tuple[str, bytes]]:
    """
    Yield the key and the packed limits of every scope and deployment that a configuration names in a cell.

    Of what is divided over cells it is the least that any of them has, under version 0: to be written only where nothing is.
    """
    for scope in declared(config, cell):
        if is_divided(config, scope):
            least = floors(scope.limits, config.store.cells)
            yield key_of(scope.name, cell), pack_share(0, scope, least)
            continue
        yield (
            key_of(scope.name, cell),
            pack_limits(
                version,
                scope.limits,
                scope.budgets,
                weight=scope.weight,
                drained=scope.drained,
                time_zone=scope.time_zone,
            ),
        )


def pack_share(version: int, scope: Declared, share: Limits) -> bytes:
    """Return the packed record of a cell's share of a scope's limits."""
    return pack_limits(
        version, share, weight=scope.weight, drained=scope.drained, whole=scope.limits
    )


def missing(known: Mapping[str, bytes], keys: Iterable[str]) -> list[tuple[str, bytes]]:
    """
    Return the records, of those that are known, that a store lacks which has not got some keys.

    Where it has lost what holds for the users of an organization, it may have lost what holds for single ones as well.
    """
    wanted = set(keys)
    lost = [
        key.replace(":s:users:", ":s:user:", 1) + "#"
        for key in wanted
        if scope_of(key)[:6] == "users:"
    ]
    return [
        (key, packed)
        for key, packed in known.items()
        if key in wanted or any(key.startswith(each) for each in lost)
    ]


def is_limited(section: Any) -> bool:
    """Tell whether anything of a section that may have limits and budgets is limited."""
    return bool(section.budgets) or section.limits != Limits()


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    One deployment that could serve an ask.

    `input` and `output` are the dearest rates that may apply, in nano-USD per thousand tokens, `input_estimate` the usual one;
    `request` is nano-USD per attempt, `most` the output tokens that the model can give at most;
    `limited_provider` says that the provider's own limits are to be asked.
    """

    deployment: str
    model: str
    tier: int
    input: int
    output: int
    input_estimate: int
    most: int
    provider: str
    request: int = 0
    limited_provider: bool = False

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes of its own: the deployment, its model, and its provider where that is limited."""
        provider = (f"provider:{self.provider}",) if self.limited_provider else ()
        return f"deployment:{self.deployment}", f"model:{self.model}", *provider


class Plan:
    """
    Everything of an ask that does not change from call to call: made once per caller, model and kind of call.

    `scopes` are names such as `team:acme/support`, outermost last; `entry` is the packed ledger entry that a reaper completes;
    `users` are the organizations that limit their users, whose scopes are named call by call;
    `tenant` and `weight` are whose service counts where calls wait for a place, and for how much (`lua/queue.lua`);
    `cell` is where all of it lies.
    """

    __slots__ = ("candidates", "cell", "keys", "packed", "scopes", "users")

    def __init__(
        self,
        scopes: tuple[str, ...],
        candidates: tuple[Candidate, ...],
        entry: bytes,
        users: tuple[str, ...] = (),
        *,
        tenant: str = "",
        weight: int = 1,
        cell: Cell = FIRST,
    ) -> None:
        if not candidates:
            raise ValueError("a plan needs at least one candidate")
        self.scopes = scopes
        self.candidates = candidates
        self.cell = cell
        self.users = tuple(f"user:{organization}#" for organization in users)
        scope_keys = [scope_key(scope, cell) for scope in scopes]
        rows: list[tuple[Any, ...]] = [
            (
                deployment_key(c.deployment, cell),
                scope_key(f"model:{c.model}", cell),
                c.tier,
                c.input,
                c.output,
                c.input_estimate,
                c.most,
                c.provider,
                c.request,
                scope_key(f"provider:{c.provider}", cell) if c.limited_provider else "",
            )
            for c in candidates
        ]
        defaults = [scope_key(f"users:{organization}", cell) for organization in users]
        keys = [*scope_keys, *(key for row in rows for key in (row[0], row[1], row[9]) if key)]
        self.keys = tuple(dict.fromkeys([*keys, *defaults]))
        prefixes = [scope_key(prefix, cell) for prefix in self.users]
        of_users = [key for pair in zip(prefixes, defaults, strict=True) for key in pair]
        self.packed: bytes = _pack((scope_keys, rows, entry, of_users, tenant, weight))

    @classmethod
    def restored(
        cls, packed: bytes, keys: tuple[str, ...], users: tuple[str, ...], cell: Cell
    ) -> "Plan":
        """Return what settles an attempt that was admitted elsewhere: a plan's bytes and its keys, and nothing else of it."""
        plan = cls.__new__(cls)
        plan.scopes, plan.candidates = (), ()
        plan.packed, plan.keys, plan.users, plan.cell = packed, keys, users, cell
        return plan

    def user_scopes(self, user: str) -> list[str]:
        """Return the scopes of one user, innermost organization first."""
        return [prefix + user for prefix in self.users] if user else []


@dataclass(frozen=True, slots=True)
class RateState:
    """One rate of a scope: its limit, what its bucket holds at most, and when it is full again (us since 2024-01-01)."""

    limit: int
    burst: int
    depth_us: float
    tat_us: float

    def remaining(self, rate: str, now_us: float) -> int:
        """Return how much it gives at a moment, as `lua/gcra.lua` counts."""
        free = int((self.depth_us - max(self.tat_us - now_us, 0)) * 16)
        window = WINDOWS_US[rate[-1]] * 16
        if rate[0] == "r":
            return max(free // -(-window // self.limit), 0)
        return max(min(free * self.limit // window, self.burst), 0)


@dataclass(frozen=True, slots=True)
class ScopeState:
    """What a scope holds right now, for people and for tests; times in us since 2024-01-01."""

    version: int
    concurrency: int
    in_flight: int
    rates: dict[str, RateState]
    budgets: dict[str, "BudgetState"]
    weight: int
    drained: bool
    latency_us: float
    latency_at_us: float
    failures: int
    cooling_until_us: float
    throttled_until_us: float

    def limit(self, rate: str) -> int:
        """Return a rate's limit, 0 where there is none."""
        return self.rates[rate].limit if rate in self.rates else 0


@dataclass(frozen=True, slots=True)
class BudgetState:
    """
    One budget in its current period.

    `raised_nusd` holds until `raised_until_us`; `told_percent` is the highest threshold that was told in the period.
    """

    amount_nusd: int
    strict: bool
    period: int
    spent_nusd: int
    held_nusd: int
    raised_nusd: int = 0
    raised_until_us: int = 0
    told_percent: int = 0


def decode_scope(limits: bytes, state: bytes | None) -> ScopeState:
    """
    Decode the two packed fields of a scope's hash.

    Of two budgets for one period the strict one is told.
    """
    l_ = msgpack.unpackb(limits, raw=True)
    s = msgpack.unpackb(state, raw=True) if state else [0, 0, 0, 0, 0, 0, 0]
    version, _, concurrency, weight, drained, last = l_[:6]
    health = s[2:7] if weight else [0] * 5
    tats = _tats(s, 7 if weight else 2)
    rates = {
        RATES[code - 1]: RateState(limit, burst, depth, tats.get(code, 0))
        for _, _, depth, limit, burst, code in zip(*[iter(l_[6:last])] * 6, strict=True)
    }
    money = _money(s, 7 if weight else 2)
    budgets: dict[str, BudgetState] = {}
    for kind, amount, strict, raised, until, _, _ in zip(*[iter(l_[last:])] * 7, strict=True):
        period, spent, held, told, _ = money.get(kind, (0, 0, 0, 0, 0))
        budgets.setdefault(
            PERIODS[kind],
            BudgetState(
                amount_nusd=int(amount),
                strict=strict == 1,
                period=int(period),
                spent_nusd=int(spent),
                held_nusd=int(held),
                raised_nusd=int(raised),
                raised_until_us=int(until),
                told_percent=int(told),
            ),
        )
    return ScopeState(
        version=version,
        concurrency=concurrency,
        in_flight=int(s[1]),
        rates=rates,
        budgets=budgets,
        weight=weight,
        drained=drained == 1,
        latency_us=health[0],
        latency_at_us=health[1],
        failures=int(health[2]),
        cooling_until_us=health[3],
        throttled_until_us=health[4],
    )


def merged(states: Sequence[ScopeState], now_us: float) -> ScopeState:
    """Return what cells hold together of a scope that is divided over them, as if it were one."""
    first = max(states, key=lambda state: state.version)
    rates = {}
    for name in first.rates:
        parts = [state.rates[name] for state in states if name in state.rates]
        limit = sum(part.limit for part in parts)
        free = sum(
            (part.depth_us - max(part.tat_us - now_us, 0.0)) * part.limit / limit for part in parts
        )
        depth = sum(part.depth_us * part.limit / limit for part in parts)
        rates[name] = RateState(limit, parts[0].burst, depth, now_us + max(depth - free, 0.0))
    return replace(
        first,
        concurrency=sum(state.concurrency for state in states),
        in_flight=sum(state.in_flight for state in states),
        rates=rates,
        latency_us=max(state.latency_us for state in states),
        failures=max(state.failures for state in states),
        cooling_until_us=max(state.cooling_until_us for state in states),
        throttled_until_us=max(state.throttled_until_us for state in states),
    )


def _codes(state: list[Any]) -> list[int]:
    """Return the codes of the rates that a state was written under."""
    return [code for code in range(1, len(RATES) + 1) if int(state[0]) >> (code - 1) & 1]


def _tats(state: list[Any], at: int) -> dict[int, float]:
    return dict(zip(_codes(state), state[at:], strict=False))


def _money(state: list[Any], at: int) -> dict[int, tuple[Any, ...]]:
    rows = zip(*[iter(state[at + len(_codes(state)) :])] * 6, strict=False)
    return {row[0]: row[1:] for row in rows}
