"""Gates over real servers: how the tests make them, what they ask, and what the store then holds."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import hiredis
import msgpack
import redis.asyncio

from config.quotas import Budget, Limits
from ratelimit.asks import Ask, Denied, Grant, Nobody, Settlement
from ratelimit.degraded import Rule, rule_of
from ratelimit.gate import Gate
from ratelimit.limits import (
    Candidate,
    Plan,
    ScopeState,
    key_of,
    pack_limits,
)
from ratelimit.reckoning import TOLD, Sum, ask, reckon
from ratelimit.troubles import StoreUnavailable
from ratelimit.upkeep import read_scope, seed
from store import topology
from store.cells import FIRST
from store.lane import Lane
from tests.conftest import RedisServer
from tests.ratelimit.cell import ask_of, entry_of, truth_of
from tests.store.peers import FakeRedis

Answer = Grant | Denied | Nobody | StoreUnavailable
KEY, TEAM, ORG = "key:o/t/k", "team:o/t", "org:o"
SCOPES = (KEY, TEAM, ORG)
DEPLOYMENTS = ("d1", "d2")


def plan_of(*deployments: str, tenant: str = "o/t", weight: int = 1) -> Plan:
    """Return a plan over some deployments at one nano-USD per token."""
    return Plan(
        SCOPES,
        tuple(
            Candidate(name, "m", 0, 1000, 1000, 1000, 4096, "p")
            for name in deployments or DEPLOYMENTS
        ),
        msgpack.packb(entry_of("", outcome="reaped")),
        tenant=tenant,
        weight=weight,
    )


class World:
    """One store, its limits, and gates to it."""

    def __init__(self, url: str, **limits: Limits) -> None:
        self.url = url
        self.client = topology.client(url)
        self.folder = Path(tempfile.mkdtemp(prefix="pst-"))
        self.journal = self.folder / "journal"
        self.plan = plan_of()
        self.limits = dict.fromkeys(
            (*SCOPES, "model:m", "deployment:d1", "deployment:d2"), Limits()
        )
        self.budgets: dict[str, tuple[Budget, ...]] = {}
        self.seedings: list[list[str]] = []
        self.made = 0
        self.settled: list[int] = []
        self.gates: list[Gate] = []
        self.lanes: list[Lane] = []
        self.limits.update(
            {{"key": KEY, "team": TEAM, "org": ORG}.get(k, k): v for k, v in limits.items()}
        )

    # Gates.

    async def gate(
        self,
        replica: str = "r/0",
        *,
        admit_url: str = "",
        settle_url: str = "",
        start: bool = True,
        **options: Any,
    ) -> Gate:
        """Make a gate, its lanes perhaps over a peer of the test."""
        lanes = [
            Lane(topology.target(admit_url or self.url)),
            Lane(topology.target(settle_url or self.url)),
        ]
        for lane in lanes:
            await lane.start(timeout_s=3)
        self.lanes += lanes
        options = {"journal_dir": self.journal, "seed": self.seed} | options
        gate = Gate(*lanes, self.client, replica=replica, **options)
        self.gates.append(gate)
        if start:
            await gate.start()
        return gate

    async def kill(self, gate: Gate) -> None:
        """End a gate as a kill does: what it has written is there, its locks are free, and nobody says anything."""
        gate._settling._journal.close()
        gate._settling.close()
        gate._admission.close()
        gate._life.leave()
        if gate._tick is not None:
            gate._tick.cancel()
        chores = list(gate._chores)
        for chore in chores:
            chore.cancel()
        await asyncio.gather(*chores, return_exceptions=True)

    async def close(self) -> None:
        """End everything in the order in which a worker does."""
        for gate in self.gates:
            await gate.close()
        for lane in self.lanes:
            await lane.close()
        with contextlib.suppress(redis.exceptions.RedisError, OSError):
            await self.client.aclose()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def seed(self, keys: list[str]) -> None:
        """Write the limits that the store has lost."""
        self.seedings.append(keys)
        known = {
            key_of(scope): pack_limits(
                1,
                limits,
                self.budgets.get(scope, ()),
                weight=1 if scope.startswith("deployment") else 0,
            )
            for scope, limits in self.limits.items()
        }
        await seed(self.client, [(key, known[key]) for key in keys if key in known], 1)

    def journals(self) -> list[Path]:
        """Return the files of settlements that the store has not got."""
        return sorted(self.journal.glob("*.journal"))

    def rule(self, scope: str) -> Rule | None:
        """Return what a scope declares for when the store is away."""
        limits = self.limits.get(scope)
        return None if limits is None else rule_of(limits, self.budgets.get(scope, ()))

    async def reckon(self, *sums: Sum) -> bool:
        """Do as the control does: say what was spent; when an installation begins, nobody holds anything."""

        async def nobody_holds() -> bool:
            return not sums

        async def found() -> tuple[Sum, ...]:
            return sums

        return await reckon(self.client, nobody_holds=nobody_holds, sums=found)

    # Asks.

    def ask(self, **wish: Any) -> Ask:
        """Return the next attempt's ask."""
        self.made += 1
        plain = {"cap": 90, "assumed": 90, "n": 1, "tie": self.made, "user": "u"} | wish
        return ask_of(plain.pop("plan", self.plan), f"q{self.made}.1", 10, **plain)

    def settlement(
        self, ask: Ask, grant: Grant, cost: int | None = None, **changes: Any
    ) -> Settlement:
        """Return the truth about a grant: a cost of its own for each, so that sums show what is missing."""
        cost = int(ask.attempt_id[1:-2]) if cost is None else cost
        entry = msgpack.packb(entry_of(ask.attempt_id, input=10, output=20, cost=cost))
        plain = {"input_tokens": 10, "output_tokens": 20, "cost_nusd": cost, "entry": entry}
        plain["candidate"] = grant.candidate
        return truth_of(ask.plan, grant.boot, ask.attempt_id, **plain | changes)

    async def granted(self, gate: Gate, **wish: Any) -> tuple[Ask, Grant]:
        """Ask, and require a grant."""
        ask = self.ask(**wish)
        grant = await gate.admit(ask)
        assert isinstance(grant, Grant), grant
        return ask, grant

    def settle(self, gate: Gate, ask: Ask, grant: Grant, **changes: Any) -> None:
        """Settle, and remember what must be in the books."""
        settlement = self.settlement(ask, grant, **changes)
        self.settled.append(settlement.row[4])
        gate.settle(settlement)

    async def exchange(self, gate: Gate, *, cost: int | None = None, **wish: Any) -> Answer:
        """Ask and, when granted, settle."""
        ask = self.ask(**wish)
        try:
            answer = await gate.admit(ask)
        except StoreUnavailable as refused:
            return refused
        if isinstance(answer, Grant):
            self.settle(gate, ask, answer, cost=cost)
        return answer

    # What the store holds.

    async def scope(self, scope: str = KEY) -> ScopeState:
        """Return a scope's state."""
        found = await read_scope(self.client, scope)
        assert found is not None
        return found

    async def in_flight(self) -> dict[str, int]:
        """Return how much is in flight everywhere."""
        return {scope: (await self.scope(scope)).in_flight for scope in self.limits}

    async def leases(self) -> int:
        """Return how many leases there are, of all boots."""
        keys = await self.client.keys("{c0}:l:*")
        return sum([await self.client.hlen(key) for key in keys])

    async def totals(self) -> tuple[int, int]:
        """Return how many entries were booked, and their cost."""
        found = await self.client.hgetall(FIRST.totals)
        return int(found.get(b"entries", 0)), int(found.get(b"cost_nusd", 0))

    async def told(self) -> None:
        """Wait until every replica has said what it holds."""

        async def is_told() -> bool:
            return (await ask(self.client))[1] >= TOLD

        await until(is_told)

    async def settles_only(self, gate: Gate, within_s: float = 5.0) -> None:
        """Wait until nothing of a gate is unsettled, whatever others hold."""
        assert await gate.drain(within_s)

    async def settles_down(self, gate: Gate, within_s: float = 5.0) -> None:
        """Wait until nothing is unsettled, nothing held and nothing in flight."""
        assert await gate.drain(within_s)
        await until(self._is_quiet, within_s)

    async def _is_quiet(self) -> bool:
        return not await self.leases() and not any((await self.in_flight()).values())

    async def assert_books(self) -> None:
        """Require exactly what was settled, once each."""
        assert await self.totals() == (len(self.settled), sum(self.settled))


async def until(
    holds: Callable[[], Awaitable[bool]] | Callable[[], bool], within_s: float = 20.0
) -> None:
    """Wait until something is true; raise when it does not become so."""
    async with asyncio.timeout(within_s):
        while True:
            found = holds()
            if found is True or (not isinstance(found, bool) and await found):
                return
            await asyncio.sleep(0.005)


class Meddler(FakeRedis):
    """Passes commands on to a real server, or answers in its place what `refusal` says."""

    def __init__(self, real: Path) -> None:
        super().__init__(self.pass_on)
        self.refusal = b""
        self.refused = 0
        self._real = real
        self._turn = asyncio.Lock()
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def pass_on(self, command: list[bytes]) -> bytes:
        """Answer one command."""
        if self.refusal and command[0] == b"EVALSHA":
            self.refused += 1
            return self.refusal
        async with self._turn:
            if self._connection is None:
                self._connection = await asyncio.open_unix_connection(self._real)
            reader, writer = self._connection
            writer.write(hiredis.pack_command(tuple(command)))
            whole, parser = b"", hiredis.Reader()
            while True:
                data = await reader.read(65536)
                whole += data
                parser.feed(data)
                if parser.gets() is not False or not data:
                    return whole

    async def close(self) -> None:
        """End both sides."""
        if self._connection is not None:
            self._connection[1].transport.abort()
        await super().close()


def log_of(server: RedisServer) -> Path:
    """Return the file to which a server appends what is written to it."""
    (found,) = server.folder.glob("appendonlydir/*.incr.aof")
    return found
