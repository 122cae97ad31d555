"""
The reckoner: what the control does so that a store that may have forgotten learns what was spent.

Four times a second it asks the store whether it knows.
If not, it waits until every replica has said what it holds, reads the ledger, and says for each budget what was spent in
its running period; that opens the strict budgets again.
Where no edge can hold anything there is nobody to wait for: in an installation that begins, or whose own store does.

Failure stance: whatever cannot be read keeps the strict budgets closed.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from redis.asyncio import Redis

from config.models import Config
from console.metrics import Fleet
from governance.periods import period_of
from governance.spent import is_blank, spent_since
from ratelimit.limits import KINDS, declared, key_of, records
from ratelimit.reckoning import Sum, reckon
from ratelimit.upkeep import seed
from store.cells import FIRST, Cell
from store.clock import EPOCH_US
from store.sql import LedgerUnreachable

LOOK_EVERY_S = 0.25

_log = logging.getLogger("penstock.control")


class Reckoner:
    """
    Keeps the memory of what was spent in one cell of a store.

    `running` gives the configuration that runs and its version, None before there is one;
    `alone` says that the store is this installation's own, so that nobody but `fleet` can hold anything in it.
    """

    def __init__(
        self,
        store: Redis,
        ledger: Path,
        fleet: Fleet,
        running: Callable[[], tuple[Config, int] | None],
        *,
        alone: bool,
        cell: Cell = FIRST,
    ) -> None:
        self._store = store
        self._cell = cell
        self._ledger = ledger
        self._fleet = fleet
        self._running = running
        self._alone = alone
        self.opened = 0

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        told = False
        while True:
            try:
                if self._running() is not None and await reckon(
                    self._store,
                    nobody_holds=self._nobody_holds,
                    sums=self._sums,
                    cell=self._cell,
                ):
                    self.opened += 1
                    _log.info("the store knows what was spent; strict budgets are open")
                told = False
            except LedgerUnreachable as error:
                if not told:
                    _log.warning("strict budgets stay closed: %s", error)
                    told = True
            await asyncio.sleep(LOOK_EVERY_S)

    async def _nobody_holds(self) -> bool:
        """Tell whether no edge can hold anything: none runs here, and there are no others, or nothing was ever spent."""
        await self._fleet.refresh()
        if self._fleet.answering:
            return False
        return self._alone or await asyncio.to_thread(is_blank, self._ledger)

    async def _sums(self) -> Sequence[Sum]:
        """Seed what has a budget, and return what was spent under each in its running period."""
        running = self._running()
        assert running is not None
        config, version = running
        await seed(self._store, records(config, version, self._cell), version)
        return await asyncio.to_thread(
            lambda: list(sums_of(config, self._ledger, datetime.now(UTC), self._cell))
        )


def sums_of(config: Config, ledger: Path, now: datetime, cell: Cell = FIRST) -> Iterator[Sum]:
    """Yield what was spent under every budget of a cell in the period that holds a moment. Raises `LedgerUnreachable`."""
    if is_blank(ledger):
        return
    read: dict[int, dict[str, int]] = {}
    for scope in declared(config, cell):
        kind, _, name = scope.name.partition(":")
        # What holds for users without an entry of their own holds for each of them.
        shared = kind == "users"
        for budget in scope.budgets:
            begin_us, end_us = period_of(budget.per, budget.time_zone or scope.time_zone, now)
            if begin_us not in read:
                read[begin_us] = spent_since(ledger, begin_us)
            found = read[begin_us]
            prefix = f"user:{name}#"
            for one in (
                [each for each in found if each.startswith(prefix)] if shared else [scope.name]
            ):
                if one in found:
                    yield Sum(
                        key_of(one, cell),
                        key_of(scope.name, cell) if shared else "",
                        KINDS[budget.per],
                        end_us - EPOCH_US,
                        found[one],
                    )
