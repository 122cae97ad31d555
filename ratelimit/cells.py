"""
The gates of one replica where tenants are spread over several cells: one for each, and each alone.

What an ask or a settlement is about lies in one cell, which its plan names; here it is only handed on.
A gate has its own lanes, beats, leases and journal, so that a cell that is ill is the matter of those who live there.
Where there is one cell, its gate stands in the place of this.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import fields

from ratelimit.asks import Ask, Boot, Denied, Grant, Nobody, Settlement
from ratelimit.gate import Gate
from ratelimit.troubles import GateStats
from store.cells import Cell

__all__ = ["Gates"]


class Gates:
    """The gates by the numbers of their cells; to its callers it is a `Gate`."""

    def __init__(self, gates: Sequence[Gate]) -> None:
        self._gates = tuple(gates)
        self._unstarted = set(self._gates)

    @property
    def boot(self) -> Boot:
        """The life in the first cell, under which this process is known."""
        return self._gates[0].boot

    @property
    def idle(self) -> bool:
        """Whether no ask is under way and nothing waits to be settled."""
        return all(gate.idle for gate in self._gates)

    @property
    def waiting(self) -> int:
        """Return how many asks wait for a place."""
        return sum(gate.waiting for gate in self._gates)

    @property
    def degraded(self) -> bool:
        """Whether asks of some cell are judged here, because it does not answer."""
        return any(gate.degraded for gate in self._gates)

    @property
    def learning(self) -> bool:
        """Whether some cell does not know what was spent."""
        return any(gate.learning for gate in self._gates)

    @property
    def unsettled(self) -> int:
        """Return how many settlements were not confirmed."""
        return sum(gate.unsettled for gate in self._gates)

    @property
    def stats(self) -> GateStats:
        """What all of them have counted."""
        names = [field.name for field in fields(GateStats)]
        return GateStats(
            **{name: sum(getattr(gate.stats, name) for gate in self._gates) for name in names}
        )

    def admit(self, ask: Ask) -> "asyncio.Future[Grant | Denied | Nobody]":
        """Ask for a lease, as `Gate.admit`."""
        return self._gates[ask.plan.cell.number].admit(ask)

    def wait(self, ask: Ask, answer: Nobody, until: float) -> Awaitable[Grant | Denied | Nobody]:
        """Wait for a place, as `Gate.wait`."""
        return self._gates[ask.plan.cell.number].wait(ask, answer, until)

    def abandon(self, ask: Ask) -> None:
        """Give up an ask, as `Gate.abandon`."""
        self._gates[ask.plan.cell.number].abandon(ask)

    def settle(self, settlement: Settlement) -> None:
        """Hand over the truth about an attempt, as `Gate.settle`."""
        self._gates[settlement.plan.cell.number].settle(settlement)

    async def start(self) -> None:
        """Start all that were not started yet. Raises `StoreUnavailable`; it may then be called again."""
        for gate in self._gates:
            if gate in self._unstarted:
                await gate.start()
                self._unstarted.discard(gate)

    async def drain(self, timeout_s: float) -> bool:
        """Wait until every settlement is confirmed, as `Gate.drain`."""
        done = await asyncio.gather(*(gate.drain(timeout_s) for gate in self._gates))
        return all(done)

    async def confirmed(self, cell: Cell, within_s: float) -> None:
        """Wait for what was settled so far in a cell, as `Gate.confirmed`."""
        await self._gates[cell.number].confirmed(cell, within_s)

    async def close(self) -> None:
        """Give up every boot, as `Gate.close`."""
        await asyncio.gather(*(gate.close() for gate in self._gates))
