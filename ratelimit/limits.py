"""
Limits as the scripts read them: one packed record per scope, and the plan of an ask.

A scope's key is `{c0}:s:<scope>`, a deployment's `{c0}:d:<id>`; `{c0}` is the cell, so that one script touches one slot.
The layout of a record stands in `lua/scope.lua`, that of a plan in `lua/admit.lua`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

from config.models import Budget, Config, Limits

CELL = "{c0}"
KINDS = {"day": 1, "week": 2, "month": 3}
PERIODS = {number: word for word, number in KINDS.items()}
# What a model may give when nobody knows its ceiling: the largest output cap of mainstream models.
MOST_OUTPUT = 131_072

_pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=False).pack


def scope_key(scope: str) -> str:
    """Return the key of a key, team, organization or model scope, as in `key:acme/support/helpdesk`."""
    return f"{CELL}:s:{scope}"


def deployment_key(deployment: str) -> str:
    """Return the key of a deployment's hash."""
    return f"{CELL}:d:{deployment}"


def pack_limits(
    version: int,
    limits: Limits,
    budgets: tuple[Budget, ...] = (),
    *,
    weight: int = 1,
    drained: bool = False,
) -> bytes:
    """Return the packed record of a scope's limits, stamped with the configuration's version."""
    return _pack(
        (
            version,
            limits.rpm or 0,
            limits.tpm or 0,
            limits.concurrency or 0,
            [(KINDS[b.per], b.limit_nusd, 1 if b.mode == "strict" else 0) for b in budgets],
            weight,
            1 if drained else 0,
        )
    )


def records(config: Config, version: int) -> Iterator[tuple[str, bytes]]:
    """Yield the key and the packed limits of every scope and deployment that a configuration names."""
    for name, organization in config.organizations.items():
        yield (
            scope_key(f"org:{name}"),
            pack_limits(version, organization.limits, organization.budgets),
        )
        for team_name, team in organization.teams.items():
            team_id = f"{name}/{team_name}"
            yield scope_key(f"team:{team_id}"), pack_limits(version, team.limits, team.budgets)
            for key_name, key in team.keys.items():
                yield (
                    scope_key(f"key:{team_id}/{key_name}"),
                    pack_limits(version, key.limits, key.budgets),
                )
    for name, model in config.models.items():
        yield scope_key(f"model:{name}"), pack_limits(version, model.limits)
    for placed in config.deployments.values():
        yield (
            deployment_key(placed.id),
            pack_limits(
                version,
                placed.deployment.limits,
                weight=placed.deployment.weight,
                drained=placed.deployment.drained,
            ),
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    One deployment that could serve an ask.

    `input` and `output` are the dearest rates that may apply, in nano-USD per thousand tokens, `input_estimate` the usual one;
    `request` is nano-USD per attempt, `most` the output tokens that the model can give at most.
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


class Plan:
    """
    Everything of an ask that does not change from call to call: made once per caller, model and kind of call.

    `scopes` are names such as `team:acme/support`, outermost last; `entry` is the packed ledger entry that a reaper completes.
    """

    __slots__ = ("candidates", "keys", "packed", "scopes")

    def __init__(
        self, scopes: tuple[str, ...], candidates: tuple[Candidate, ...], entry: bytes
    ) -> None:
        if not candidates:
            raise ValueError("a plan needs at least one candidate")
        self.scopes = scopes
        self.candidates = candidates
        scope_keys = [scope_key(scope) for scope in scopes]
        rows: list[tuple[Any, ...]] = [
            (
                deployment_key(c.deployment),
                scope_key(f"model:{c.model}"),
                c.tier,
                c.input,
                c.output,
                c.input_estimate,
                c.most,
                c.provider,
                c.request,
            )
            for c in candidates
        ]
        self.keys = tuple(
            dict.fromkeys([*scope_keys, *(row[0] for row in rows), *(row[1] for row in rows)])
        )
        self.packed: bytes = _pack((scope_keys, rows, entry))


@dataclass(frozen=True, slots=True)
class ScopeState:
    """What a scope holds right now, for people and for tests; times in us since 2024-01-01."""

    version: int
    rpm: int
    tpm: int
    concurrency: int
    in_flight: int
    budgets: dict[str, "BudgetState"]
    requests_tat_us: float
    tokens_tat_us: float
    latency_us: float
    failures: int
    cooling_until_us: float
    throttled_until_us: float


@dataclass(frozen=True, slots=True)
class BudgetState:
    """One budget in its current period."""

    amount_nusd: int
    strict: bool
    period: int
    spent_nusd: int
    held_nusd: int


def decode_scope(limits: bytes, state: bytes | None) -> ScopeState:
    """Decode the two packed fields of a scope's hash."""
    l_ = msgpack.unpackb(limits, raw=True)
    s = msgpack.unpackb(state, raw=True) if state else [0] * 17
    return ScopeState(
        version=l_[0],
        rpm=l_[1],
        tpm=l_[2],
        concurrency=l_[3],
        in_flight=int(s[2]),
        budgets={
            PERIODS[kind]: BudgetState(
                amount_nusd=int(amount),
                strict=strict == 1,
                period=int(s[3 * kind]),
                spent_nusd=int(s[3 * kind + 1]),
                held_nusd=int(s[3 * kind + 2]),
            )
            for kind, amount, strict in l_[4]
        },
        requests_tat_us=s[0],
        tokens_tat_us=s[1],
        latency_us=s[12],
        failures=int(s[14]),
        cooling_until_us=s[15],
        throttled_until_us=s[16],
    )
