"""
The scripts on a real server, driven one by one with a clock that the test owns, and what they leave there, decoded.

Commands are made by `ratelimit.asks`, as the gate makes them; everything speaks in the values of `oracle`.
"""

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgpack
import redis

from config import quotas
from ratelimit import asks, commands, limits
from ratelimit.asks import Boot, boot_of
from ratelimit.limits import key_of, scope_of
from store import scripts
from store.cells import FIRST
from tests.ratelimit import oracle

LIFE = 10 * oracle.SECOND


def entry_of(attempt_id: str, **places: Any) -> tuple[Any, ...]:
    """Return a ledger entry (a tuple in the ledger's order) of an attempt."""
    request, _, nth = attempt_id.rpartition(".")
    entry: list[Any] = [attempt_id, request, int(nth or 0), 0, "o", "t", "o/t/k", "", "app", "line"]
    entry += ["asked", "", "", "", *([0] * 7), 0, "v1", 0, 0, "ok", 200, "provider", "load", 0]
    entry += ["openai.chat", "r/0", 7]
    for place, value in places.items():
        entry[PLACES[place]] = value
    return tuple(entry)


PLACES = {"input": 14, "output": 17, "cost": 21, "outcome": 25}


def ask_of(plan: limits.Plan, attempt_id: str, tokens: int, **wish: Any) -> asks.Ask:
    """Return the first ask of a call for so many tokens, of nobody in particular."""
    plain = {"input": tokens, "bound": tokens, "cap": 0, "assumed": 0, "n": 0, "first": True}
    return asks.Ask(plan, attempt_id, **plain | {"excluded": (), "tie": 0, "user": ""} | wish)


def truth_of(
    plan: limits.Plan,
    boot: Boot,
    attempt_id: str,
    *,
    input_tokens: int,
    output_tokens: int = 0,
    cost_nusd: int = 0,
    entry: bytes = b"",
    **more: Any,
) -> asks.Settlement:
    """Return the settlement of an attempt that went well; its `entry` says the same, unless the test gives another one."""
    plain = {"candidate": 0, "health": 1, "ttft_us": 1000, "cool_us": 0, "streamed": False}
    return asks.Settlement(
        plan,
        boot,
        attempt_id,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cost_nusd=cost_nusd,
        entry=entry
        or msgpack.packb(
            entry_of(attempt_id, input=input_tokens, output=output_tokens, cost=cost_nusd),
            use_bin_type=False,
        ),
        **plain | more,
    )


class Cell:
    """One cell, through plain EVALSHA."""

    def __init__(self, client: "redis.Redis[bytes]") -> None:
        self.client = client
        self.shas = {
            name: client.script_load(scripts.load("ratelimit", name).text)
            for name in ("admit", "settle", "progress", "beat", "fence", "reap", "seed")
        }
        self._plans: dict[oracle.Plan, limits.Plan] = {}

    def run(self, name: str, keys: list[str], args: Iterable[Any]) -> Any:
        """Run one of the cold scripts."""
        return self.client.evalsha(self.shas[name], len(keys), *keys, *args)

    def plan(self, plan: oracle.Plan) -> limits.Plan:
        """Return a plan as the product has it, made once."""
        if plan not in self._plans:
            self._plans[plan] = limits.Plan(
                plan.scopes,
                tuple(limits.Candidate(**vars(one)) for one in plan.candidates),
                msgpack.packb(plan.entry),
                plan.users,
            )
        return self._plans[plan]

    def ask(self, ask: oracle.Ask) -> asks.Ask:
        """Return an ask as the product has it."""
        return asks.Ask(
            self.plan(ask.plan),
            ask.attempt_id,
            input=ask.input,
            bound=ask.bound,
            cap=ask.cap,
            assumed=ask.assumed,
            n=ask.n,
            first=ask.first,
            excluded=ask.excluded,
            tie=ask.tie,
            user=ask.user,
            tiers=bytes(ask.tiers),
            fees=ask.fees,
            kind=ask.kind,
            level=ask.level,
            favoured=ask.favoured,
        )

    def seed(self, scope: str, row: oracle.Limits) -> None:
        """Write limits as the product packs them."""
        self.run("seed", [key_of(scope)], [row.version, packed(scope, row)])

    def beat(self, name: str, now: int, *, fresh: bool) -> str:
        """Say that a replica lives."""
        return self.run("beat", [FIRST.beats], [now, name, LIFE, 1 if fresh else 0]).decode()

    def fence(self, now: int) -> set[str]:
        """End the lives that were not renewed."""
        return {member.decode() for member in self.run("fence", [FIRST.beats], [now])[::2]}

    def progress(self, name: str, reports: list[tuple[str, int]]) -> int:
        """Report what streams gave."""
        boot = boot_of(name)
        return self.run("progress", [boot.leases, boot.parts], [x for r in reports for x in r])

    def reap(self, name: str, attempts: list[str], now: int, last: int | None = None) -> str | int:
        """Reap some attempts of a boot, the last ones unless `last` says otherwise."""
        boot = boot_of(name)
        if last is None:
            last = int(self.client.zscore(FIRST.beats, name) or oracle.DEAD)
        keys = dict.fromkeys(
            key for packed in self.client.hvals(boot.leases) for key in _lease_keys(packed)
        )
        for packed in self.client.hvals(boot.graves):
            *_, stays = msgpack.unpackb(packed)
            if isinstance(stays, list):
                keys |= dict.fromkeys(key for at in (0, 1) for key in stays[at::5] if key)
        answer = self.run(
            "reap",
            [
                FIRST.beats,
                boot.leases,
                boot.graves,
                boot.parts,
                boot.seen,
                FIRST.ledger,
                FIRST.totals,
                *keys,
                FIRST.events,
            ],
            [now, name, last, *attempts],
        )
        return answer.decode() if isinstance(answer, bytes) else int(answer)

    def admit(
        self, name: str, batch: list[oracle.Ask], number: int, now: int, *, again: bool
    ) -> str | list[list[Any]]:
        """Admit a batch; unknown scopes are named as scopes."""
        command = commands.admit_command(
            self.shas["admit"],
            boot_of(name),
            [self.ask(ask) for ask in batch],
            number=number,
            again=again,
            now=str(now),
        )
        answer = self.client.execute_command(*command)
        if isinstance(answer, bytes):
            return answer.decode()
        rows = [msgpack.unpackb(packed) for packed in answer]
        return [
            [2, *(scope_of(key) for key in row[1:])] if row[0] == asks.UNKNOWN else row
            for row in rows
        ]

    def settle(
        self, name: str, number: int, batch: list[oracle.Settlement], void_to: int, now: int
    ) -> str | int:
        """Settle a batch."""
        boot = boot_of(name)
        settlements = [self.settlement(boot, one) for one in batch]
        if settlements:
            settlements[-1].void_to = void_to
        command = commands.settle_command(
            self.shas["settle"], boot, number, settlements, now=str(now)
        )
        answer = self.client.execute_command(*command)
        return answer.decode() if isinstance(answer, bytes) else int(answer)

    def settlement(self, boot: Boot, one: oracle.Settlement) -> asks.Settlement:
        """Return a settlement as the product has it."""
        return asks.Settlement(
            self.plan(one.plan),
            boot,
            one.attempt_id,
            candidate=one.candidate - 1,
            input_tokens=one.input,
            output_tokens=one.output,
            cost_nusd=one.cost,
            health=one.health,
            ttft_us=one.ttft,
            cool_us=one.cool,
            streamed=True,
            entry=msgpack.packb(one.entry) if one.entry is not None else b"",
            void=one.entry is None,
            user=one.user,
            kind=one.kind,
            left=one.left,
        )

    # What is there.

    def dump(self) -> dict[str, Any]:
        """Return every key with its type and content, undecoded: nothing may differ where nothing happened."""
        found: dict[str, Any] = {}
        for key in sorted(self.client.keys()):
            kind = self.client.type(key).decode()
            read = {
                "string": self.client.get,
                "hash": self.client.hgetall,
                "zset": lambda k: self.client.zrange(k, 0, -1, withscores=True),
                "stream": self.client.xrange,
            }[kind]
            found[key.decode()] = (kind, read(key))
        return found

    def ledger(self) -> list[tuple[Any, ...]]:
        """Return the entries of the stream."""
        return [
            tuple(msgpack.unpackb(fields[b"e"])) for _, fields in self.client.xrange(FIRST.ledger)
        ]

    def events(self) -> list[tuple[Any, ...]]:
        """Return the events of budgets, oldest first."""
        found = [msgpack.unpackb(fields[b"e"]) for _, fields in self.client.xrange(FIRST.events)]
        return [(scope_of(key), *rest) for key, *rest in found]

    def totals(self) -> dict[str, int]:
        """Return the sums that settle and reap keep."""
        return {k.decode(): int(v) for k, v in self.client.hgetall(FIRST.totals).items()}

    def decoded(self) -> dict[str, Any]:
        """Return everything that is there, in plain values."""
        world: dict[str, Any] = {"ledger": self.ledger(), "totals": self.totals()}
        world["events"] = self.events()
        for raw in self.client.keys("*"):
            key = raw.decode()
            _, kind, *rest = key.split(":", 2)
            if kind in {"s", "d"}:
                limits_, state, health = self.client.hmget(key, "l2", "s2", "h")
                world[scope_of(key)] = (
                    limits_,
                    None if state is None else found(key, state, health),
                )
            elif kind == "l":
                world[f"leases {rest[0]}"] = {
                    attempt.decode(): _unpack_all(packed)[0]
                    for attempt, packed in self.client.hgetall(key).items()
                }
            elif kind == "z":
                world[f"graves {rest[0]}"] = {
                    attempt.decode(): msgpack.unpackb(packed)
                    for attempt, packed in self.client.hgetall(key).items()
                }
            elif kind == "p":
                world[f"parts {rest[0]}"] = {
                    attempt.decode(): int(n) for attempt, n in self.client.hgetall(key).items()
                }
            elif kind in {"b", "q"}:
                world[f"{kind} {rest[0]}"] = int(self.client.get(key))
            elif kind == "r":
                world["beats"] = {
                    member.decode(): int(score)
                    for member, score in self.client.zrange(key, 0, -1, withscores=True)
                }
        return world


def _unpack_all(packed: bytes) -> list[Any]:
    # The plan carries a packed entry, which travels as a string.
    unpacker = msgpack.Unpacker(unicode_errors="surrogateescape")
    unpacker.feed(packed)
    return list(unpacker)


def found(key: str, state: bytes, told: bytes | None = None) -> oracle.State:
    """Read a packed state by its layout, as `ratelimit/lua/scope.lua` documents it."""
    values = msgpack.unpackb(state)
    shape, in_flight, *rest = values
    health = rest[:5] if key.startswith(limits.deployment_key("")) else []
    rest = rest[len(health) :]
    names = [name for code, name in enumerate(oracle.RATES) if shape >> code & 1]
    tats, money = rest[: len(names)], rest[len(names) :]
    rows = [money[at : at + 6] for at in range(0, len(money), 6)]
    kinds = [kind for kind in range(1, 6) if shape >> (9 + kind) & 1]
    assert [row[0] for row in rows[: len(kinds)]] == kinds, "money lies in the order of its kinds"
    return oracle.State(
        {name: Fraction(tat) for name, tat in zip(names, tats, strict=True)},
        in_flight,
        {row[0]: oracle.Money(*row[1:]) for row in rows},
        *(health or [0] * 5),
        told and found_health(told),
    )


def found_health(told: bytes) -> oracle.Health:
    """Read what is told of a deployment's health by its layout, as `routing/lua/breaker.lua` documents it."""
    probe, kind, good, requests, requests_until, tokens, tokens_until, offline, *rows = (
        msgpack.unpackb(told)
    )
    left = {"requests": (requests, requests_until), "tokens": (tokens, tokens_until)}
    return oracle.Health(
        (probe, kind, good),
        {what: row for what, row in left.items() if row[1]},
        offline,
        {rows[at]: oracle.Kind(*rows[at + 1 : at + 9]) for at in range(0, len(rows), 9)},
    )


def packed(scope: str, row: oracle.Limits) -> bytes:
    """Return limits as the product packs them."""
    return limits.pack_limits(
        row.version,
        quotas.Limits(
            **{rate.name: rate.limit for rate in row.rates},
            concurrency=row.concurrency or None,
            burst=quotas.Burst(**dict(row.burst)),
        ),
        tuple(
            quotas.Budget(
                usd=Decimal(one.amount) / 10**9,
                per=limits.PERIODS[one.kind],
                mode="strict" if one.strict else "soft",
                time_zone=one.zone,
                alerts_at=one.alerts,
                raised=_raise(one),
            )
            for one in (oracle.Budget(*money) for money in row.budgets)
        ),
        weight=row.weight if scope.startswith("deployment:") else 0,
        drained=bool(row.drained),
    )


def _raise(one: oracle.Budget) -> quotas.Raise | None:
    if not one.until:
        return None
    until = oracle.EPOCH + timedelta(microseconds=one.until)
    return quotas.Raise(usd=Decimal(one.raised) / 10**9, until=until.isoformat())


def _lease_keys(packed: bytes) -> list[str]:
    head, plan = _unpack_all(packed)
    keys = [*plan[0], *(key for c in plan[1] for key in (c[0], c[1], c[9]) if key)]
    for prefix, default in zip(plan[3][::2], plan[3][1::2], strict=True) if plan[3:] else ():
        keys += [prefix + head[6], default]
    return keys


def expected(store: oracle.Store) -> dict[str, Any]:
    """Return what `Cell.decoded` must find when the store is as the oracle says."""
    world: dict[str, Any] = {
        "ledger": store.ledger,
        "events": store.events,
        "totals": {
            "entries": len(store.ledger),
            "input_tokens": sum(entry[PLACES["input"]] for entry in store.ledger),
            "output_tokens": sum(entry[PLACES["output"]] for entry in store.ledger),
            "cost_nusd": sum(entry[PLACES["cost"]] for entry in store.ledger),
        }
        if store.ledger
        else {},
    }
    if store.beats:
        world["beats"] = store.beats
    for scope in {*store.limits, *store.states}:
        row = store.limits.get(scope)
        world[scope] = (row and packed(scope, row), store.states.get(scope))
    for name, boot in store.boots.items():
        if boot.leases:
            world[f"leases {name}"] = {
                attempt: [
                    lease.candidate,
                    lease.at,
                    lease.debit,
                    _held(lease),
                    lease.input,
                    lease.cap,
                    lease.user,
                    lease.fee,
                ]
                for attempt, lease in boot.leases.items()
            }
        if boot.graves:
            world[f"graves {name}"] = {
                attempt: [
                    1 if grave.settled else 0,
                    grave.input,
                    grave.output,
                    grave.cost,
                    _held(grave.lease),
                    grave.lease.candidate,
                    grave.lease.at,
                    grave.lease.user,
                    *([_stays(grave)] if grave.stays else []),
                ]
                for attempt, grave in boot.graves.items()
            }
        if boot.parts:
            world[f"parts {name}"] = boot.parts
        if boot.bar is not None:
            world[f"b {name}"] = boot.bar
        if boot.seen is not None:
            world[f"q {name}"] = boot.seen
    return world


def _stays(grave: oracle.Grave) -> list[str | int]:
    commons = {scope: f"users:{scope[5:].partition('#')[0]}" for scope, *_ in grave.stays}
    return [
        field
        for scope, *rest in grave.stays
        for field in (
            key_of(scope),
            key_of(commons[scope]) if scope.startswith("user:") else "",
            *rest,
        )
    ]


def _held(lease: oracle.Lease) -> list[int]:
    mine = (*lease.plan.scopes, *lease.plan.user_scopes(lease.user))
    numbers = {scope: number for number, scope in enumerate(mine, 1)}
    numbers |= {scope: -number for number, scope in enumerate(lease.served_by.scopes, 1)}
    return [
        number
        for scope, kind, period, amount in lease.held
        for number in (numbers[scope], kind, period, amount)
    ]
