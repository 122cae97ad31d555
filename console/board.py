"""
The board's keeper: what the control's leader reads of deployments, budgets and lessons, and puts up twice a second (`routing.board`).

Deployments are read each time; budgets in turns, so that ten thousand keys with budgets are no burden: a spent budget is felt within
some seconds, long before it matters, since what must not be overspent is held by `admit` itself.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from redis.asyncio import Redis

from config.models import Config
from console.quotas import period_ids
from governance.periods import period_of
from ratelimit.limits import PERIODS, BudgetState, ScopeState, declared, decode_scope, key_of
from ratelimit.upkeep import EPOCH_S
from routing import board
from routing.lessons import read_lessons
from store.cells import FIRST, Cell

__all__ = ["Keeper", "pressure_of", "ttft_of"]

PUBLISH_EVERY_S = 0.5
SCOPES_AT_ONCE = 500
"""Scopes with budgets that are read each time."""
EVEN = 0.5
"""A budget without an end is felt from this share of it on."""


class _Watched(NamedTuple):
    """What of a configuration is looked at: deployments with their models, and scopes with budgets, with their zones by period."""

    number: int
    deployments: tuple[tuple[str, str], ...]
    scopes: tuple[tuple[str, Mapping[str, str]], ...]


class Keeper:
    """Keeps the board. `running` gives the configuration that runs and its version, None before there is one."""

    def __init__(
        self,
        store: Redis,
        running: Callable[[], tuple[Config, int] | None],
        *,
        cell: Cell = FIRST,
    ) -> None:
        self._store = store
        self._running = running
        self._cell = cell
        self._watched = _Watched(-1, (), ())
        self._pressures: dict[str, float] = {}
        self._turn = 0

    async def run(self) -> None:
        """Put the board up again and again, until cancelled. Raises what redis-py raises."""
        while True:
            await self.publish(datetime.now(UTC))
            await asyncio.sleep(PUBLISH_EVERY_S)

    async def publish(self, at: datetime) -> int:
        """Look once, and put up what was seen; return the board's version, 0 where there is no configuration yet."""
        running = self._running()
        if running is None:
            return 0
        if running[1] != self._watched.number:
            self._watched = _watched(*running)
            self._pressures, self._turn = {}, 0
        watched = self._watched
        states = await self._read([f"deployment:{one}" for one, _ in watched.deployments])
        ttft_us = ttft_of(
            (model, state) for (_, model), state in zip(watched.deployments, states, strict=True)
        )
        await self._press(at)
        lessons = await read_lessons(self._store)
        live = board.Live(ttft_us, self._pressures)
        return await board.publish(self._store, board.encode(lessons, live))

    async def _press(self, at: datetime) -> None:
        """Read the next of the scopes with budgets."""
        scopes = self._watched.scopes
        some = scopes[self._turn : self._turn + SCOPES_AT_ONCE]
        self._turn = 0 if self._turn + SCOPES_AT_ONCE >= len(scopes) else self._turn + len(some)
        states = await self._read([scope for scope, _ in some])
        for (scope, zones), state in zip(some, states, strict=True):
            pressure = 0.0
            if state is not None:
                pressure = max(
                    (
                        pressure_of(budget, period, zones.get(period, "UTC"), at)
                        for period, budget in state.budgets.items()
                    ),
                    default=0.0,
                )
            self._pressures[scope] = pressure

    async def _read(self, scopes: Sequence[str]) -> list[ScopeState | None]:
        if not scopes:
            return []
        pipe: Any = self._store.pipeline(transaction=False)
        async with pipe:
            for scope in scopes:
                pipe.hmget(key_of(scope, self._cell), ["l2", "s2"])
            rows = await pipe.execute()
        return [None if limits is None else decode_scope(limits, state) for limits, state in rows]


def _watched(config: Config, number: int) -> _Watched:
    scopes = []
    for scope in declared(config):
        if scope.budgets and not scope.name.startswith(("deployment:", "model:", "provider:")):
            zones: dict[str, str] = {
                one.per: one.time_zone or scope.time_zone for one in scope.budgets
            }
            scopes.append((scope.name, zones))
    return _Watched(
        number,
        tuple((placed.id, placed.model) for placed in config.deployments.values()),
        tuple(scopes),
    )


def ttft_of(states: Iterable[tuple[str, ScopeState | None]]) -> dict[str, float]:
    """Return the first byte of each model in us: that of its quickest deployment which is not drained, where one is known."""
    found: dict[str, float] = {}
    for model, state in states:
        if state is None or state.drained or state.latency_us <= 0:
            continue
        found[model] = min(found.get(model, state.latency_us), state.latency_us)
    return found


def pressure_of(budget: BudgetState, period: str, zone: str, at: datetime) -> float:
    """
    Return the pressure on a budget, from 0 (spent no faster than its period passes) to 1 (spent).

    It is how much of what should be left for the rest of the period is gone; a budget without an end is felt from its half on.
    """
    at_us = int(at.timestamp() * 1_000_000)
    raised = at_us - EPOCH_S * 1_000_000 < budget.raised_until_us
    amount = budget.raised_nusd if raised else budget.amount_nusd
    if amount <= 0:
        return 1.0
    begun_us, ends_us = period_of(period, zone, at)
    # What was spent in a period that is over counts no more.
    if budget.period < period_ids(at, zone)[period]:
        return 0.0
    spent = (budget.spent_nusd + budget.held_nusd) / amount
    passed = EVEN if period == PERIODS[5] else (at_us - begun_us) / (ends_us - begun_us)
    if passed >= 1.0:
        return 1.0 if spent >= 1.0 else 0.0
    return min(max((spent - passed) / (1.0 - passed), 0.0), 1.0)
