"""
The scripts on a real server, driven one by one with a clock that the test owns, and what they leave there, decoded.

Commands are made by `ratelimit.asks`, as the gate makes them; everything speaks in the values of `oracle`.
"""

from collections.abc import Iterable
from typing import Any

import msgpack
import redis

from ratelimit import asks, limits
from ratelimit.asks import BEATS, LEDGER, TOTALS, Boot, boot_of
from store import scripts
from tests.ratelimit import oracle

LIFE = 10 * oracle.SECOND


def key_of(scope: str) -> str:
    """Return the key of a scope's hash."""
    kind, _, name = scope.partition(":")
    return limits.deployment_key(name) if kind == "deployment" else limits.scope_key(scope)


def scope_of(key: str) -> str:
    """Return the scope of a hash."""
    _, kind, name = key.split(":", 2)
    return f"deployment:{name}" if kind == "d" else name


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
        )

    def seed(self, scope: str, row: oracle.Limits) -> None:
        """Write limits as the product packs them."""
        packed = msgpack.packb(
            (
                row.version,
                row.rpm,
                row.tpm,
                row.concurrency,
                row.budgets,
                row.weight,
                row.drained,
            )
        )
        self.run("seed", [key_of(scope)], [row.version, packed])

    def beat(self, name: str, now: int, *, fresh: bool) -> str:
        """Say that a replica lives."""
        return self.run("beat", [BEATS], [now, name, LIFE, 1 if fresh else 0]).decode()

    def fence(self, now: int) -> set[str]:
        """End the lives that were not renewed."""
        return {member.decode() for member in self.run("fence", [BEATS], [now])}

    def progress(self, name: str, reports: list[tuple[str, int]]) -> int:
        """Report what streams gave."""
        boot = boot_of(name)
        return self.run("progress", [boot.leases, boot.parts], [x for r in reports for x in r])

    def reap(self, name: str, attempts: list[str], now: int) -> str | int:
        """Reap some attempts of a boot."""
        boot = boot_of(name)
        keys = {
            key: None
            for packed in self.client.hvals(boot.leases)
            for lease in [_unpack_all(packed)]
            for key in [*lease[1][0], *(c[0] for c in lease[1][1]), *(c[1] for c in lease[1][1])]
        }
        answer = self.run(
            "reap",
            [BEATS, boot.leases, boot.graves, boot.parts, LEDGER, TOTALS, *keys],
            [now, name, *attempts],
        )
        return answer.decode() if isinstance(answer, bytes) else int(answer)

    def admit(
        self, name: str, batch: list[oracle.Ask], number: int, now: int, *, again: bool
    ) -> str | list[list[Any]]:
        """Admit a batch; unknown scopes are named as scopes."""
        command = asks.admit_command(
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
        command = asks.settle_command(self.shas["settle"], boot, number, settlements, now=str(now))
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
        return [tuple(msgpack.unpackb(fields[b"e"])) for _, fields in self.client.xrange(LEDGER)]

    def totals(self) -> dict[str, int]:
        """Return the sums that settle and reap keep."""
        return {k.decode(): int(v) for k, v in self.client.hgetall(TOTALS).items()}

    def decoded(self) -> dict[str, Any]:
        """Return everything that is there, in plain values."""
        world: dict[str, Any] = {"ledger": self.ledger(), "totals": self.totals()}
        for raw in self.client.keys("*"):
            key = raw.decode()
            _, kind, *rest = key.split(":", 2)
            if kind in {"s", "d"}:
                limits_, state = self.client.hmget(key, "l", "s")
                world[scope_of(key)] = (
                    msgpack.unpackb(limits_),
                    None if state is None else msgpack.unpackb(state),
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


def expected(store: oracle.Store) -> dict[str, Any]:
    """Return what `Cell.decoded` must find when the store is as the oracle says."""
    world: dict[str, Any] = {
        "ledger": store.ledger,
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
    for scope, row in store.limits.items():
        packed = [
            row.version,
            row.rpm,
            row.tpm,
            row.concurrency,
            [list(budget) for budget in row.budgets],
            row.weight,
            row.drained,
        ]
        state = store.states.get(scope)
        world[scope] = (packed, None if state is None else _state(state))
    for name, boot in store.boots.items():
        if boot.leases:
            world[f"leases {name}"] = {
                attempt: [
                    lease.candidate,
                    lease.at,
                    lease.debit,
                    _held(lease.plan, lease.held),
                    lease.input,
                    lease.cap,
                    lease.user,
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
                    _held(grave.lease.plan, grave.lease.held),
                    grave.lease.candidate,
                    grave.lease.at,
                    grave.lease.user,
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


def _held(plan: oracle.Plan, held: list[tuple[str, int, int, int]]) -> list[int]:
    return [
        number
        for scope, kind, period, amount in held
        for number in (plan.scopes.index(scope) + 1, kind, period, amount)
    ]


def _state(state: oracle.State) -> list[Any]:
    money = [x for m in state.money.values() for x in (m.period, m.spent, m.held)]
    return [
        state.requests_empty_at,
        state.tokens_empty_at,
        state.in_flight,
        *money,
        state.latency,
        state.latency_at,
        state.failures,
        state.cooling_until,
        state.throttled_until,
    ]
