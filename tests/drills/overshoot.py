"""
`python -m tests.drills.overshoot`: eight clients of the scripts do their worst to strict budgets and hard limits, a million times.

Each client is a process with a connection, a boot and a generator of its own, and asks in batches of up to 64 by the plans that the edge makes of a
configuration: dear and cheap deployments, caps that are not said, tiny or huge, many choices, retries with candidates excluded, users that nobody knows.
It sends batches again, lets copies come late, settles twice, gives up, uses all that it reserved or next to nothing, and now and then
dies with everything that it holds, or is taken for dead and settles late, as the store believes even years later; the reaper of the product frees that. Strict budgets that are used up are raised while it goes on.

The laws: at every look, spent + held <= amount for every strict budget, and in flight <= concurrency, at every scope; the grants of a scope with a
limit of N requests per window never exceed N in hand and N per window regained, over any interval; the ledger is what the clients know that they used.

A look is one transaction, so no state is seen by halves; between looks the store itself counts: a budget that had ever been exceeded
would be found exceeded, for what is spent is never given back, and nothing is settled for more than it held.

The under-grant of a limit of requests is the share of what was asked of it and refused though it had room, by an exact bucket that is filled with
what was granted; that of a budget is what is left of it when nothing more is given.
"""

import argparse
import asyncio
import itertools
import json
import multiprocessing
import random
import sys
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import redis
import redis.asyncio

from config.keys import KeySecrets
from config.loader import load_text
from config.models import Config
from governance.identity import Caller
from loadtests.drills import report
from proxy.live import Live, Offer
from proxy.observe import Metrics
from proxy.wire.endpoints import ENDPOINTS
from ratelimit import asks, commands, limits, upkeep
from store import scripts
from store.cells import FIRST
from tests.drills.server import FIELDS, scripts_of, server
from tests.ratelimit.cell import PLACES, ask_of, truth_of
from tests.ratelimit.oracle import DEAD, SILENT

CLIENTS = 8
LIFE_US = 10_000_000
BEAT_S = 1.0
LOOK_S = 0.1
BATCH = 64
EPOCH_S = 1_704_067_200
# A moment of the store's clock, which began in 2024.
LONG_AGO_US = 1000
CHAT = next(one for one in ENDPOINTS if one.route == "/v1/chat/completions")
SECRETS = KeySecrets(["the-key-secret-of-the-drill-0123456789"])
# Keys by what limits them; `strict` ones are raised while the drill goes on.
TIGHT_RPM = 600
STRICT_USD = 0.02
# How many of the asks are by keys with nothing but the organization's limits above them.
FREE_SHARE = 0.7
# How many grants a client keeps open at most: all together come near the provider's limit.
MOST_OPEN = 180
ALL_USD = 1000


def configuration() -> Config:
    """Return the configuration: strict budgets and hard limits at every kind of scope, three models."""
    price = {"input": 1, "output": 5}
    teams = {
        "free": {"keys": {f"k{n}": {"key": key_of("free", n)} for n in range(4)}},
        "strict": {
            "budget": {"usd": 4 * STRICT_USD, "per": "day", "mode": "strict"},
            "keys": {
                f"k{n}": {
                    "key": key_of("strict", n),
                    "budget": {"usd": STRICT_USD * (n + 1), "per": "month", "mode": "strict"},
                }
                for n in range(4)
            },
        },
        "hard": {
            "keys": {
                "slow": {"key": key_of("hard", 0), "limits": {"rpm": TIGHT_RPM}},
                "brief": {"key": key_of("hard", 3), "limits": {"rps": 20}},
                "hourly": {
                    "key": key_of("hard", 4),
                    "limits": {"rph": 100_000, "burst": {"rph": 500}},
                    "application": "batch",
                },
                "few": {"key": key_of("hard", 1), "limits": {"concurrency": 20}},
                "both": {
                    "key": key_of("hard", 2),
                    "limits": {"rpm": 2 * TIGHT_RPM, "concurrency": 100},
                    "budget": {"usd": STRICT_USD, "per": "week", "mode": "strict"},
                },
            }
        },
    }
    document = {
        "providers": {
            "p": {
                "protocol": "openai",
                "base_url": "http://127.0.0.1:1",
                "limits": {"concurrency": 1400},
            }
        },
        "models": {
            "cheap": {"price": price, "max_output": 4096, "deployments": [{"provider": "p"}]},
            "mixed": {
                "price": price,
                "max_output": 1024,
                "limits": {"concurrency": 400},
                "deployments": [
                    {"provider": "p", "id": "m1", "limits": {"concurrency": 60}},
                    {"provider": "p", "id": "m2", "price": {"input": 10, "output": 60}},
                    {"provider": "p", "id": "m3", "limits": {"rpm": 60_000}},
                ],
            },
            "dear": {
                "price": {"input": 50, "output": 200},
                "max_output": 2048,
                "deployments": [{"provider": "p", "name": "d"}],
            },
        },
        "organizations": {
            "o": {
                "limits": {"concurrency": 1500},
                "budget": {"usd": ALL_USD, "per": "total", "mode": "strict"},
                "users": {
                    "u1": {"limits": {"concurrency": 30}},
                    "default": {"limits": {"rpm": 30_000}},
                },
                "applications": {"batch": {"limits": {"concurrency": 40}}},
                "teams": teams,
            }
        },
    }
    return load_text(json.dumps(document), source="drill", environ={}).config


def key_of(team: str, number: int) -> str:
    """Return a caller's key."""
    return f"sk-drill-{team}-{number}-0123456789"


def offers_of(config: Config) -> dict[str, list[Offer]]:
    """Return what the edge makes for each caller and model, by caller."""
    live = Live(
        config,
        1,
        Metrics(),
        at=datetime.now(UTC),
        replica="drill/0",
        trust={},
        secrets=SECRETS,
    )
    found: dict[str, list[Offer]] = {}
    for team, numbers in (("free", 4), ("strict", 4), ("hard", 5)):
        for number in range(numbers):
            caller = live.callers.find(key_of(team, number))
            assert isinstance(caller, Caller)
            found[caller.key] = [
                live.offer(caller, model, CHAT, stream=False, input_bound=100)
                for model in config.models
            ]
    return found


@dataclass
class Client:
    """What a client found; `granted_us` and `refused_us` are the moments of both by rate-limited scope."""

    granted: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    did: Counter[str] = field(default_factory=Counter)
    settled: int = 0
    cost_nusd: int = 0
    late: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of what was settled after a silence, by attempt: 1, or 0 when it was never sent; what it cost."""
    granted_us: dict[str, array] = field(default_factory=dict)  # type: ignore[type-arg]
    refused_us: dict[str, array] = field(default_factory=dict)  # type: ignore[type-arg]
    bound_by: set[str] = field(default_factory=set)
    """The scopes whose budgets refused the last asks of `use_up`."""
    wrong: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Held:
    """A grant that is not settled yet; `candidate` counts from 0, `cap` is what was enforced, 0 for nothing."""

    ask: asks.Ask
    candidate: int
    cap: int


class Ended(NamedTuple):
    """
    A life that ended: what it is to settle, or to be said of it, and when; `batch` is the last number of its settlements.

    `is_old` when the store was made to believe that it has been silent for years.
    """

    boot: asks.Boot
    batch: int
    open: list[Held]
    at: float
    is_dead: bool
    is_old: bool = False


class Rogue:
    """
    One client that does what it likes, within what a vendor could bill.

    A `mortal` one dies now and then, which becomes known sooner or later, or falls silent, is reaped, and settles late.
    """

    def __init__(self, path: str, number: int, seed: int, *, mortal: bool) -> None:
        self._mortal = mortal
        self.found = Client()
        self._rng = random.Random(f"{seed}/{number}")
        self._client = redis.Redis(unix_socket_path=path)
        self._shas = {
            name: self._client.script_load(scripts.load("ratelimit", name).text)
            for name in ("admit", "settle", "beat")
        }
        config = configuration()
        self._offers = list(offers_of(config).values())
        self._free = [one for one in self._offers if "/free/" in one[0].caller.key]
        self._rated = set(rates_of(config))
        self._number = number
        self._lives = itertools.count(1)
        self._ids = itertools.count()
        self._open: list[Held] = []
        self._late: list[tuple[Any, ...]] = []
        self._ended: list[Ended] = []
        self._boot = self._born()

    def _born(self) -> asks.Boot:
        self._sent = 0
        self._batch = 0
        self._beat_at = 0.0
        self._dies_at = time.monotonic() + self._rng.uniform(4, 20)
        boot = asks.boot_of(f"rogue/{self._number}.{next(self._lives)}")
        self._beat(boot, fresh=True)
        return boot

    def _beat(self, boot: asks.Boot, *, fresh: bool) -> bool:
        now = time.monotonic()
        if now < self._beat_at:
            return True
        self._beat_at = now + BEAT_S
        args = ["", boot.member, LIFE_US, 1 if fresh else 0]
        return self._client.evalsha(self._shas["beat"], 1, FIRST.beats, *args) == b"OK"

    def run(self, target: int) -> Client:
        """Go on until so many were granted, and settle what is left."""
        while self.found.granted < target:
            if not self._beat(self._boot, fresh=False):
                self._end("fenced", is_dead=False)
            self._ask()
            if self._late and self._rng.random() < 0.3:
                self._client.execute_command(*self._late.pop())
                self.found.did["copy came late"] += 1
            while len(self._open) > self._rng.randint(0, MOST_OPEN):
                self._settle(self._rng.randint(1, BATCH))
            now = time.monotonic()
            if self._mortal and now > self._dies_at:
                is_dead = self._rng.random() < 0.5
                self._end("died" if is_dead else "fell silent", is_dead=is_dead)
            if self._ended and now > self._ended[0].at:
                self._hear_of(self._ended.pop(0))
        while self._open:
            self._settle(BATCH)
        while self._ended:
            self._hear_of(self._ended.pop(0))
        self._client.zadd(FIRST.beats, {self._boot.member: DEAD}, xx=True)
        return self.found

    def use_up(self) -> Client:
        """Ask by the keys with strict budgets, by the cheapest asks, until nothing more is given; settle all at its most."""
        for offers in self._offers:
            # The rest has the organization's budget alone, which is too large to use up.
            if "strict" not in offers[0].caller.team and "both" not in offers[0].caller.key:
                continue
            refused = 0
            while refused < 20:
                self._beat(self._boot, fresh=False)
                before = self.found.granted
                wishes = [self._small(offers[0]) for _ in range(8)]
                self._sent += 1
                command = commands.admit_command(
                    self._shas["admit"], self._boot, wishes, number=self._sent
                )
                for ask, packed in zip(wishes, self._client.execute_command(*command), strict=True):
                    row = msgpack.unpackb(packed)
                    self._take(ask, row, gives_up=False)
                    if refused > 10 and row[:2] == [0, 4]:
                        self.found.bound_by.add(asks.denied(ask, row).scope)
                refused = refused + 1 if self.found.granted == before else 0
                if self._open:
                    mine, self._open = self._open, []
                    self._send([self._truth(one, most=True) for one in mine])
        # It holds nothing, and is freed by nobody.
        self._client.zrem(FIRST.beats, self._boot.member)
        return self.found

    def _small(self, offer: Offer) -> asks.Ask:
        attempt_id = f"d{self._number}x{next(self._ids)}.1"
        return ask_of(offer.plan, attempt_id, 20, cap=4096, assumed=64, n=1)

    def _end(self, how: str, *, is_dead: bool) -> None:
        """Leave everything as it is, and go on under another boot; the reaper finds it."""
        self.found.did[how] += 1
        if how != "fenced":
            # A life that ends now, and not when ten seconds without a beat have passed.
            self._client.zadd(FIRST.beats, {self._boot.member: 0}, xx=True)
        at = time.monotonic() + self._rng.uniform(0, 4)
        self._ended.append(Ended(self._boot, self._batch, self._open, at, is_dead))
        self._open = []
        self._late = []
        self._boot = self._born()

    def _hear_of(self, one: Ended) -> None:
        """Say that a process is dead; or settle, late, what was open when it fell silent."""
        if one.is_dead:
            self._client.zadd(FIRST.beats, {one.boot.member: DEAD}, xx=True)
            return
        found, batch = self.found, one.batch
        if not one.is_old and self._rng.random() < 0.7:
            self._grow_old(one)
            return
        for start in range(0, len(one.open), BATCH):
            settlements = []
            for held in one.open[start : start + BATCH]:
                settled, nusd = found.settled, found.cost_nusd
                settlements.append(self._truth(held, boot=one.boot))
                found.late[held.ask.attempt_id] = found.settled - settled, found.cost_nusd - nusd
            batch += 1
            self._send(settlements, one.boot, batch)

    def _grow_old(self, one: Ended) -> None:
        """Let a silence that the reaper knows of have begun years ago, and last on."""
        since = self._client.zscore(FIRST.beats, one.boot.member)
        if since is not None and since < SILENT:
            self._client.zadd(FIRST.beats, {one.boot.member: -LONG_AGO_US}, xx=True)
            self.found.did["silent for years"] += 1
        at = time.monotonic() + self._rng.uniform(1, 4)
        self._ended.append(one._replace(at=at, is_old=True))

    def _wish(self) -> asks.Ask:
        rng = self._rng
        offer = rng.choice(rng.choice(self._free if rng.random() < FREE_SHARE else self._offers))
        size = rng.choice((0, 1, 20, 100))
        return ask_of(
            offer.plan,
            f"d{self._number}x{next(self._ids)}.1",
            size,
            bound=size + rng.choice((0, 0, 50)),
            cap=rng.choice((0, 0, 1, 16, 300, 4000, 10**9)),
            assumed=rng.choice((1, 64, 1024)),
            n=rng.choice((0, 1, 1, 1, 2, 5)),
            first=rng.random() < 0.9,
            excluded=rng.choice(((), (), (), (1,))),
            tie=rng.randint(0, 10**6),
            user=rng.choice(("", "unknown", f"u{rng.randint(0, 50)}")),
        )

    def _ask(self) -> None:
        wishes = [self._wish() for _ in range(self._rng.randint(1, BATCH))]
        self._sent += 1
        command = commands.admit_command(self._shas["admit"], self._boot, wishes, number=self._sent)
        if self._rng.random() < 0.1:
            # The connection is lost: the first copy comes before, after or never.
            when = self._rng.random()
            if when < 0.4:
                self._client.execute_command(*command)
            elif when < 0.8:
                self._late.append(command)
            self._sent += 1
            command = commands.admit_command(
                self._shas["admit"], self._boot, wishes, number=self._sent, again=True
            )
            self.found.did["asked again"] += 1
        answer = self._client.execute_command(*command)
        if isinstance(answer, bytes):
            self.found.answers[answer.decode()] += 1
            if answer == b"FENCED":
                self._end("fenced", is_dead=False)
            return
        gives_up = self._rng.random() < 0.02
        for ask, packed in zip(wishes, answer, strict=True):
            self._take(ask, msgpack.unpackb(packed), gives_up=gives_up)
        if gives_up:
            self.found.did["gave up"] += 1
            voids = [asks.voided(ask.plan, self._boot, ask.attempt_id) for ask in wishes]
            voids[-1].void_to = self._sent + 1
            self._send(voids)

    def _take(self, ask: asks.Ask, row: list[Any], *, gives_up: bool) -> None:
        found = self.found
        if row[0] != asks.GRANTED:
            word = asks.DENIED_WORDS[row[1]] if row[0] == 0 else f"answer {row[0]}"
            found.answers[word] += 1
            if word == "requests":
                said = asks.denied(ask, row)
                found.refused_us.setdefault(said.scope, array("q")).append(said.at_us)
            return
        found.answers["granted"] += 1
        found.granted += 1
        candidate = ask.plan.candidates[row[1] - 1]
        for scope in (*ask.plan.scopes, f"deployment:{candidate.deployment}"):
            # A retry asks no second request of the caller's own limits.
            if scope in self._rated and (ask.first or scope.startswith("deployment")):
                found.granted_us.setdefault(scope, array("q")).append(row[3])
        if not gives_up:
            self._open.append(Held(ask, row[1] - 1, row[2]))

    def _settle(self, count: int) -> None:
        """Settle some grants, in any order, for up to all that they hold."""
        self._rng.shuffle(self._open)
        mine, self._open = self._open[:count], self._open[count:]
        self._send([self._truth(one) for one in mine])

    def _truth(
        self, one: Held, *, most: bool = False, boot: asks.Boot | None = None
    ) -> asks.Settlement:
        rng, ask, boot = self._rng, one.ask, boot or self._boot
        candidate = ask.plan.candidates[one.candidate]
        if not most and rng.random() < 0.03:
            self.found.did["void"] += 1
            return asks.voided(ask.plan, boot, ask.attempt_id)
        # No vendor gives more than the cap that stands in the request, or than the model can.
        ceiling = min(one.cap or ask.cap or candidate.most, candidate.most) * ask.n
        output = rng.choice((ceiling, ceiling, rng.randint(0, ceiling), 0))
        used = rng.choice((ask.bound, ask.bound, ask.input))
        if most:
            output, used = ceiling, ask.bound
        cost = (
            -(-used * candidate.input // 1000) - (-output * candidate.output // 1000)
        ) + candidate.request
        self.found.settled += 1
        self.found.cost_nusd += cost
        return truth_of(
            ask.plan,
            boot,
            ask.attempt_id,
            candidate=one.candidate,
            input_tokens=used,
            output_tokens=output,
            cost_nusd=cost,
        )

    def _send(
        self, settlements: list[asks.Settlement], boot: asks.Boot | None = None, number: int = 0
    ) -> None:
        if boot is None:
            self._batch += 1
            boot, number = self._boot, self._batch
        command = commands.settle_command(self._shas["settle"], boot, number, settlements)
        self._client.execute_command(*command)
        if self._rng.random() < 0.05:
            self.found.did["settled again"] += 1
            if self._client.execute_command(*command) != b"SEEN":
                self.found.wrong.append(f"batch {number} of {boot.member} was applied twice")


class Rate(NamedTuple):
    """A limit of requests: how many per window, how long that is, and how many may be taken at once."""

    limit: int
    window_us: int
    burst: int


WINDOWS_US = {"rps": 10**6, "rpm": 60 * 10**6, "rph": 3600 * 10**6}


def rates_of(config: Config) -> dict[str, Rate]:
    """Return the limit of requests of every scope that has one."""
    found = {}
    scoped = [(f"key:{placed.id}", placed.key.limits) for placed in config.placed_keys()]
    scoped += [
        (f"deployment:{one.id}", one.deployment.limits) for one in config.deployments.values()
    ]
    for scope, section in scoped:
        for name, window_us in WINDOWS_US.items():
            limit = getattr(section, name)
            if limit:
                found[scope] = Rate(limit, window_us, getattr(section.burst, name) or limit)
    return found


def most_above(granted_us: list[int], rate: Rate) -> float:
    """
    Return by how many requests the grants exceed a limit over the worst interval; below 0 when they never do.

    Over an interval a bucket gives its burst and what it regains in that time at most, whatever it held before.
    """
    worst, lowest = float("-inf"), float("inf")
    for at, moment in enumerate(sorted(granted_us)):
        regained = rate.limit * moment / rate.window_us
        lowest = min(lowest, at - regained)
        worst = max(worst, at + 1 - regained - lowest)
    return worst - rate.burst


def refused_in_vain(granted_us: list[int], refused_us: list[int], rate: Rate) -> int:
    """
    Return how many requests were refused though the limit had room for them.

    An exact bucket is filled with what was granted; of what happened in one microsecond, the grants came first.
    """
    used, last, vain = 0, 0, 0
    events = sorted([(at, 0) for at in granted_us] + [(at, 1) for at in refused_us])
    for at, is_refused in events:
        used, last = max(0, used - rate.limit * (at - last)), at
        if not is_refused:
            used += rate.window_us
        elif used + rate.window_us <= rate.burst * rate.window_us:
            vain += 1
    return vain


@dataclass
class Findings:
    """What was found; `broken` are the laws that do not hold, in words."""

    granted: int = 0
    asked: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    did: Counter[str] = field(default_factory=Counter)
    settled: int = 0
    settled_late: int = 0
    looks: int = 0
    reaped: int = 0
    raised: int = 0
    overshoot_nusd: int = 0
    most_in_flight_over: int = 0
    requests_over: dict[str, float] = field(default_factory=dict)
    under_grant_percent: dict[str, float] = field(default_factory=dict)
    left_nusd: dict[str, int] = field(default_factory=dict)
    ledger: dict[str, int] = field(default_factory=dict)
    took_s: float = 0.0
    broken: list[str] = field(default_factory=list)


class Watch:
    """Looks at every scope in one call again and again, reaps, and raises strict budgets that are used up."""

    def __init__(self, path: str, found: Findings) -> None:
        self._async = redis.asyncio.Redis(unix_socket_path=path)
        self._found = found
        self._config = configuration()
        self._version = 1
        self.scopes: dict[str, limits.ScopeState] = {}
        self.booked: Counter[str] = Counter()
        self.booked_nusd: Counter[str] = Counter()
        self.reaped_nusd: Counter[str] = Counter()

    async def seed(self) -> None:
        """Write the limits of the running version."""
        await upkeep.seed(self._async, limits.records(self._config, self._version), self._version)

    async def look(self) -> None:
        """Read every scope at one instant, and hold it to the laws."""
        keys = [key for key, _ in limits.records(self._config, self._version)]
        async with self._async.pipeline(transaction=True) as pipe:
            for key in keys:
                pipe.hmget(key, list(FIELDS))
            rows = await pipe.execute()
        self._found.looks += 1
        for key, (packed, state) in zip(keys, rows, strict=True):
            scope = limits.scope_of(key)
            self.scopes[scope] = held = limits.decode_scope(packed, state)
            for budget in held.budgets.values():
                if budget.strict:
                    over = budget.spent_nusd + budget.held_nusd - budget.amount_nusd
                    self._found.overshoot_nusd = max(self._found.overshoot_nusd, over)
            if held.concurrency:
                over = held.in_flight - held.concurrency
                self._found.most_in_flight_over = max(self._found.most_in_flight_over, over)

    async def lives(self) -> int:
        """Return how many boots live, or have left something to be freed."""
        return int(await self._async.zcount(FIRST.beats, SILENT, "+inf"))

    async def drain(self) -> None:
        """Take what the ledger's stream holds, and add it up."""
        while rows := await self._async.xrange(FIRST.ledger, count=5000):
            for _, row in rows:
                entry = msgpack.unpackb(row[b"e"])
                kind = "corrected" if "+" in entry[0] else entry[PLACES["outcome"]]
                self.booked[kind] += 1
                self.booked_nusd[kind] += entry[PLACES["cost"]]
                if kind != "ok":
                    self.reaped_nusd[entry[0].partition("+")[0]] += entry[PLACES["cost"]]
            await self._async.xtrim(FIRST.ledger, minid=_after(rows[-1][0]), approximate=False)

    async def totals(self) -> tuple[int, int]:
        """Return how many entries were booked, and their cost."""
        found = await self._async.hgetall(FIRST.totals)
        return int(found.get(b"entries", 0)), int(found.get(b"cost_nusd", 0))

    async def reap(self) -> None:
        """Free what the dead held."""
        self._found.reaped += await upkeep.reap(self._async)

    async def raise_budgets(self) -> None:
        """Double the strict budgets that are used up, as operators do."""
        changed = False
        organization: Any = self._config.organizations["o"]
        places: list[tuple[str, Any]] = [("org:o", organization)]
        for name, team in organization.teams.items():
            places.append((f"team:o/{name}", team))
            places += [(f"key:o/{name}/{key}", each) for key, each in team.keys.items()]
        for scope, place in places:
            for budget in self.scopes[scope].budgets.values():
                if budget.strict and budget.spent_nusd > 0.9 * budget.amount_nusd:
                    (old,) = place.budgets
                    # Frozen for everybody else; this one is the drill's own.
                    object.__setattr__(
                        place, "budgets", (old.model_copy(update={"usd": old.usd * 2}),)
                    )
                    changed = True
                    self._found.raised += 1
        if changed:
            self._version += 1
            await self.seed()

    async def close(self) -> None:
        """Hang up."""
        await self._async.aclose()


def _client(path: str, number: int, seed: int, target: int, results: Any, *, mortal: bool) -> None:
    try:
        results.put(Rogue(path, number, seed, mortal=mortal).run(target))
    except Exception as error:
        results.put(Client(wrong=[f"client {number} failed: {error!r}"]))


async def drill(
    path: str, *, admissions: int, seed: int, clients: int = CLIENTS, mortal: bool = True
) -> Findings:
    """Run the clients against a server, watching, until so many were granted in all."""
    found = Findings()
    watch = Watch(path, found)
    await watch.seed()
    context = multiprocessing.get_context("spawn")
    results: Any = context.SimpleQueue()
    share = -(-admissions // clients)
    processes = [
        context.Process(
            target=_client, args=(path, number, seed, share, results), kwargs={"mortal": mortal}
        )
        for number in range(clients)
    ]
    begun = time.monotonic()
    parts: list[Client] = []
    for process in processes:
        process.start()
    next_s = {"reap": 0.0, "raise": 0.0}
    while len(parts) < clients:
        await watch.look()
        now = time.monotonic()
        if now > next_s["reap"]:
            next_s["reap"] = now + 0.5
            await watch.reap()
            await watch.drain()
        if now > next_s["raise"]:
            next_s["raise"] = now + 2.0
            await watch.raise_budgets()
        while not results.empty():
            parts.append(results.get())
        await asyncio.sleep(LOOK_S)
    for process in processes:
        process.join()
    found.took_s = round(time.monotonic() - begun, 1)
    # What the dead held goes last.
    until = time.monotonic() + 2 * LIFE_US / 1e6
    while await watch.lives() and time.monotonic() < until:
        await watch.reap()
        await asyncio.sleep(LOOK_S)
    last = await asyncio.to_thread(Rogue(path, clients, seed, mortal=False).use_up)
    await watch.drain()
    await watch.look()
    judge(found, [*parts, last], watch, await watch.totals())
    await watch.close()
    return found


def judge(found: Findings, parts: list[Client], watch: Watch, totals: tuple[int, int]) -> None:
    """Add up what the clients found, and say in words which laws do not hold."""
    granted_us: dict[str, list[int]] = {}
    refused_us: dict[str, list[int]] = {}
    for part in parts:
        found.granted += part.granted
        found.answers += part.answers
        found.did += part.did
        found.settled += part.settled
        found.broken += part.wrong
        for scope, moments in part.granted_us.items():
            granted_us.setdefault(scope, []).extend(moments)
        for scope, moments in part.refused_us.items():
            refused_us.setdefault(scope, []).extend(moments)
    found.asked = sum(found.answers.values())
    for scope, rate in rates_of(configuration()).items():
        moments = granted_us.get(scope, [])
        if not moments:
            continue
        found.requests_over[scope] = round(most_above(moments, rate), 3)
        refused = refused_us.get(scope, [])
        if refused:
            vain = refused_in_vain(moments, refused, rate)
            asked = len(moments) + len(refused)
            found.under_grant_percent[scope] = round(100 * vain / asked, 4)
        # The store's clock counts in microseconds: half a request is no request.
        if found.requests_over[scope] > 0.5:
            found.broken.append(f"{scope}: {found.requests_over[scope]} requests too many")
    for scope, held in watch.scopes.items():
        for period, budget in held.budgets.items():
            if budget.strict:
                left = budget.amount_nusd - budget.spent_nusd
                share = round(100 * left / budget.amount_nusd, 4)
                if any(scope in part.bound_by for part in parts):
                    found.under_grant_percent[f"{scope} per {period}"] = share
                    found.left_nusd[f"{scope} per {period}"] = left
        if held.in_flight or any(budget.held_nusd for budget in held.budgets.values()):
            found.broken.append(f"{scope} still holds something: {held}")
    if found.overshoot_nusd > 0:
        found.broken.append(f"a strict budget was overshot by {found.overshoot_nusd} nano-USD")
    if found.most_in_flight_over > 0:
        found.broken.append(f"{found.most_in_flight_over} more in flight than allowed")
    found.ledger = dict(watch.booked)
    if (sum(watch.booked.values()), sum(watch.booked_nusd.values())) != totals:
        found.broken.append(f"the ledger {dict(watch.booked_nusd)} is not the totals {totals}")
    known = [found.settled, sum(part.cost_nusd for part in parts)]
    for name, (settled, nusd) in (row for part in parts for row in part.late.items()):
        if name in watch.reaped_nusd:
            # It was reaped: two entries, of which the second is the difference.
            found.settled_late += 1
            known = [known[0] - settled, known[1] - nusd]
            if watch.reaped_nusd[name] != nusd:
                found.broken.append(f"{name} is charged {watch.reaped_nusd[name]}, it cost {nusd}")
    if [watch.booked["ok"], watch.booked_nusd["ok"]] != known:
        found.broken.append(
            f"the ledger has {watch.booked['ok']} for {watch.booked_nusd['ok']}, the clients {tuple(known)}"
        )


def _after(number: bytes) -> str:
    """Return the stream id that follows."""
    ms, _, nth = number.decode().partition("-")
    return f"{ms}-{int(nth) + 1}"


def tell(found: Findings) -> str:
    """Render findings."""
    lines = [
        f"{found.granted:,} granted of {found.asked:,} asked in {found.took_s} s; {found.looks} looks, {found.reaped} reaped, {found.settled_late} of them settled late, {found.raised} budgets raised",
        f"answers: {dict(found.answers)}",
        f"done besides: {dict(found.did)}",
        f"overshoot of strict budgets: {max(found.overshoot_nusd, 0)} nano-USD; in flight above the limit: {max(found.most_in_flight_over, 0)}",
        f"requests above the limit over the worst interval (below 0: none): {found.requests_over}",
        f"not granted though asked for, in per cent: {found.under_grant_percent}",
        f"the ledger: {found.ledger}",
    ]
    lines += [f"broken: {words}" for words in found.broken]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the drill; gives 0, or 1 when a law is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills.overshoot", description=__doc__)
    parser.add_argument("--admissions", type=int, default=1_000_000, help="grants in all (1000000)")
    parser.add_argument("--seed", type=int, default=1, help="of the clients (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw results and machine")
    given = parser.parse_args(arguments)
    with server() as (client, version):
        path = client.connection_pool.connection_kwargs["path"]
        found = asyncio.run(drill(path, admissions=given.admissions, seed=given.seed))
    print(tell(found), flush=True)  # noqa: T201
    if given.json is not None:
        report.write(
            given.json,
            {
                "drill": "overshoot",
                "seed": given.seed,
                "clients": CLIENTS,
                "scripts": scripts_of(),
                "machine": report.machine(version),
                "found": {**vars(found)},
            },
        )
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
