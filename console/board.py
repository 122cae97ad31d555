"""
The board's keeper: what the control's leader reads of deployments, budgets and lessons, and puts up (`routing.board`).

Budgets are read in turns, so that ten thousand keys with budgets are no burden: a spent budget is felt within some seconds, long before it
matters, since what must not be overspent is held by `admit` itself. Deployments and lessons are read where another version may be put up,
once a second; and lessons, of which there may be ten thousand, are worked out beside the loop that everything else runs on.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from config.cells import cell_of, tenant_of
from config.models import Config
from console.quotas import period_ids
from governance.periods import period_of
from ratelimit.limits import PERIODS, BudgetState, ScopeState, declared
from ratelimit.upkeep import read_scopes
from routing import board
from routing.lessons import forget, read_lessons
from store.cells import FIRST, Cell
from store.clock import EPOCH_US

__all__ = ["Keeper", "pressure_of", "ttft_of"]

PUBLISH_EVERY_S = 0.5
SCOPES_AT_ONCE = 500
"""Scopes with budgets that are read each time."""
FORGOTTEN_US = 30_000_000
"""How long a latency is believed, as in `routing/lua/choose.lua`."""
EVEN = 0.5
"""A budget without an end is felt from this share of it on."""


class _Watched(NamedTuple):
    """
    What of a configuration is looked at.

    Deployments with their models, and scopes with budgets: the cell in which each lies, and its zones by period.
    """

    number: int
    deployments: tuple[tuple[str, str], ...]
    scopes: tuple[tuple[tuple[Cell, str], Mapping[str, str]], ...]


class Keeper:
    """
    Keeps the board, which lies in the first cell; what it says is read in all of them, `stores`.

    `running` gives the configuration that runs and its version, None before there is one.
    """

    def __init__(
        self,
        stores: Mapping[Cell, Redis],
        running: Callable[[], tuple[Config, int] | None],
    ) -> None:
        self._stores = stores
        self._store = stores[FIRST]
        self._running = running
        self._watched = _Watched(-1, (), ())
        self._pressures: dict[str, float] = {}
        self._turn = 0
        # What is up, and when it holds, by our clock: until then no other takes its place.
        self._content, self._version = b"", 0
        self._holds_at = 0.0

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
        await self._press(at)
        began = monotonic()
        if began >= self._holds_at:
            self._content = await self._seen(at)
            began = monotonic()
        version = await board.publish(self._store, self._content)
        if version != self._version:
            self._version, self._holds_at = version, began + board.AHEAD_US / 1_000_000
        return version

    async def _seen(self, at: datetime) -> bytes:
        """Return what is to be put up now."""
        deployments = self._watched.deployments
        places = [(cell, f"deployment:{one}") for cell in self._stores for one, _ in deployments]
        models = [model for _ in self._stores for _, model in deployments]
        states = await self._read(places)
        ttft_us = ttft_of(
            zip(models, states, strict=True), int(at.timestamp() * 1_000_000) - EPOCH_US
        )
        lessons, over = await read_lessons(self._store, set(models))
        await forget(self._store, over)
        live = board.Live(ttft_us, self._pressures)
        return await asyncio.to_thread(board.encode, lessons, live)

    async def _press(self, at: datetime) -> None:
        """Read the next of the scopes with budgets."""
        scopes = self._watched.scopes
        some = scopes[self._turn : self._turn + SCOPES_AT_ONCE]
        self._turn = 0 if self._turn + SCOPES_AT_ONCE >= len(scopes) else self._turn + len(some)
        states = await self._read([place for place, _ in some])
        for ((_, scope), zones), state in zip(some, states, strict=True):
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

    async def _read(self, places: Sequence[tuple[Cell, str]]) -> list[ScopeState | None]:
        """Read scopes, each where it lies; of a cell that is away, but for the first, nothing is known."""
        found: dict[tuple[Cell, str], ScopeState | None] = {}
        for cell in dict.fromkeys(cell for cell, _ in places):
            here = [place for place in places if place[0] is cell]
            try:
                names = [scope for _, scope in here]
                states = await read_scopes(self._stores[cell], names, cell)
            except (RedisError, OSError):
                if cell is FIRST:
                    raise
                continue
            found |= zip(here, states, strict=True)
        return [found.get(place) for place in places]


def _watched(config: Config, number: int) -> _Watched:
    scopes = []
    for scope in declared(config):
        if scope.budgets and not scope.name.startswith(("deployment:", "model:", "provider:")):
            zones: dict[str, str] = {
                one.per: one.time_zone or scope.time_zone for one in scope.budgets
            }
            scopes.append(((cell_of(config, tenant_of(scope.name)), scope.name), zones))
    return _Watched(
        number,
        tuple((placed.id, placed.model) for placed in config.deployments.values()),
        tuple(scopes),
    )


def ttft_of(states: Iterable[tuple[str, ScopeState | None]], now_us: float) -> dict[str, float]:
    """
    Return the first byte of each model in us: that of its quickest deployment which is not drained, where one is known.

    What is older than half a minute is forgotten, or a model that was slow once would never be asked again by those who are in a hurry.
    `now_us` is in us since 2024-01-01.
    """
    found: dict[str, float] = {}
    for model, state in states:
        if state is None or state.drained or state.latency_us <= 0:
            continue
        if now_us - state.latency_at_us > FORGOTTEN_US:
            continue
        found[model] = min(found.get(model, state.latency_us), state.latency_us)
    return found


def pressure_of(budget: BudgetState, period: str, zone: str, at: datetime) -> float:
    """
    Return the pressure on a budget, from 0 (spent no faster than its period passes) to 1 (spent).

    It is how much of what should be left for the rest of the period is gone; a budget without an end is felt from its half on.
    """
    at_us = int(at.timestamp() * 1_000_000)
    raised = at_us - EPOCH_US < budget.raised_until_us
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
