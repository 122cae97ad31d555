"""The gates of several cells: each serves its tenants alone, and together they keep to what a vendor grants."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import msgpack
import pytest
import redis.asyncio

from config.cells import cells_of
from config.loader import load_text
from config.models import Config
from loadtests.drills.company import Cluster
from ratelimit.asks import Ask, Denied, Grant, Nobody, Settlement
from ratelimit.cells import Gates
from ratelimit.degraded import rules
from ratelimit.gate import Gate
from ratelimit.limits import Candidate, Plan, missing, records
from ratelimit.rebalancing import divide, divided_in
from ratelimit.reckoning import reckon
from ratelimit.troubles import StoreUnavailable
from ratelimit.upkeep import read_scope, seed
from store import topology
from store.cells import FIRST, Cell
from store.lane import Lane
from tests.conftest import RedisServer
from tests.ratelimit.cell import ask_of, entry_of, truth_of
from tests.ratelimit.gates import until

VENDOR = "deployment:m/p"
Answer = Grant | Denied | Nobody | StoreUnavailable


def configured(cells: int, limits: str, organization: str = "") -> Config:
    """Return a configuration with one organization in each cell, and one deployment for all of them."""
    tenants = "\n".join(f"  o{number}: {{cell: {number}{organization}}}" for number in range(cells))
    text = f"""\
store: {{cells: {cells}}}
providers: {{p: {{protocol: openai, base_url: http://h}}}}
models: {{m: {{deployments: [{{provider: p, limits: {limits}}}]}}}}
organizations:
{tenants}
"""
    return load_text(text, source="test", environ={}).config


class Installation:
    """Replicas of a gateway over some cells, each at the URL that is given for it."""

    def __init__(self, config: Config, urls: Sequence[str]) -> None:
        self.config = config
        self.folder = Path(tempfile.mkdtemp(prefix="pst-"))
        self.urls = dict(zip(cells_of(config), urls, strict=True))
        self.stores: Mapping[Cell, redis.asyncio.Redis] = {
            cell: topology.client(url, cell=cell) for cell, url in self.urls.items()
        }
        self.plans = [
            Plan(
                (f"org:o{cell.number}",),
                (Candidate("m/p", "m", 0, 0, 0, 0, 4096, "p"),),
                msgpack.packb(entry_of("")),
                cell=cell,
            )
            for cell in self.stores
        ]
        self.running = self.most = 0
        self.made = 0
        self._closing: list[Callable[[], Awaitable[Any]]] = []

    async def replica(self, name: str = "r/0", timeout_s: float = 1.0) -> Gates:
        """Start one, as an edge does."""
        gates = []
        for cell, url in self.urls.items():
            lanes = Lane(topology.target(url, cell)), Lane(topology.target(url, cell))
            for lane in lanes:
                await lane.start(timeout_s=3)
                self._closing.append(lane.close)
            gates.append(
                Gate(
                    *lanes,
                    self.stores[cell],
                    replica=name,
                    journal_dir=self.folder / str(cell),
                    seed=self._seeder(cell),
                    rule=rules(self.config).get,
                    timeout_s=timeout_s,
                    cell=cell,
                    where=str(cell),
                )
            )
        made = Gates(gates)
        self._closing.append(made.close)
        await made.start()
        return made

    def _seeder(self, cell: Cell) -> Callable[[list[str]], Awaitable[None]]:
        async def write(keys: list[str]) -> None:
            known = dict(records(self.config, 1, cell))
            await seed(self.stores[cell], missing(known, keys), 1)

        return write

    async def divide(self) -> tuple[Cell, ...]:
        """Do as the control does every second; return the cells that did not answer."""
        return (await divide(self.stores, divided_in(self.config), 1)).silent

    async def shares(self, name: str = "concurrency") -> list[int]:
        """Return the cells' shares of a limit."""
        found = [await read_scope(store, VENDOR, cell) for cell, store in self.stores.items()]
        return [
            0 if one is None else one.concurrency if name == "concurrency" else one.limit(name)
            for one in found
        ]

    async def open_budgets(self, cell: Cell) -> None:
        """Do as the control does when an installation begins."""

        async def nobody_holds() -> bool:
            return True

        async def nothing() -> tuple[()]:
            return ()

        await reckon(self.stores[cell], nobody_holds=nobody_holds, sums=nothing, cell=cell)

    def ask(self, cell: int) -> Ask:
        """Return the next ask of the tenant of a cell, for ten tokens."""
        self.made += 1
        return ask_of(self.plans[cell], f"q{self.made}.1", 10)

    async def call(self, gates: Gates, cell: int, *, seconds: float = 0.0) -> Answer:
        """Ask, be served for a while, and settle; count what runs at the vendor."""
        ask = self.ask(cell)
        try:
            answer = await gates.admit(ask)
        except StoreUnavailable as refused:
            return refused
        if isinstance(answer, Grant):
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(seconds)
            self.running -= 1
            gates.settle(self.settlement(ask, answer))
        return answer

    def settlement(self, ask: Ask, grant: Grant) -> Settlement:
        """Return the truth about a grant."""
        return truth_of(ask.plan, grant.boot, ask.attempt_id, input_tokens=10, cost_nusd=1)

    async def close(self) -> None:
        """End everything, the latest first."""
        for close in reversed(self._closing):
            await close()
        for store in self.stores.values():
            with contextlib.suppress(redis.exceptions.RedisError, OSError):
                await store.aclose()
        shutil.rmtree(self.folder, ignore_errors=True)


Install = Callable[..., Installation]


@pytest.fixture
async def install() -> AsyncIterator[Install]:
    """Make installations."""
    made: list[Installation] = []

    def make(config: Config, urls: Sequence[str]) -> Installation:
        made.append(Installation(config, urls))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.mark.parametrize("count", [2, 4])
async def test_a_vendor_s_quota_is_kept_over_cells(
    install: Install, redis_client: "redis.asyncio.Redis", redis_url: str, count: int
) -> None:
    """
    Two replicas, callers in every cell at once, and a division all the time.

    Never more runs than there are places, and no more tokens are granted than one bucket would give in the time.
    """
    ours = install(
        configured(count, "{concurrency: 9, tpm: 6000, burst: {tpm: 900}}"), [redis_url] * count
    )
    replicas = [await ours.replica(f"r/{n}") for n in range(2)]
    begun = monotonic()
    await ours.divide()
    granted = [0] * count
    done = False

    async def caller(number: int) -> None:
        while not done:
            # Callers of the first cells come often, those of the last are rare.
            cell = min(number % 5, count - 1) if number % 3 else 0
            answer = await ours.call(replicas[number % 2], cell, seconds=0.001 * (number % 4))
            granted[cell] += isinstance(answer, Grant)
            await asyncio.sleep(0.002 * (1 + cell))

    callers = [asyncio.ensure_future(caller(number)) for number in range(24)]
    try:
        for _ in range(25):
            assert await ours.divide() == ()
            assert sum(await ours.shares()) <= 9
            assert sum(await ours.shares("tpm")) <= 6000
        await until(lambda: sum(granted) >= 60, 10)
    finally:
        done = True
        await asyncio.gather(*callers)
    took = monotonic() - begun
    assert all(granted)
    assert ours.most <= 9
    assert sum(granted) * 10 <= 900 + 100 * took
    for replica in replicas:
        assert await replica.drain(5)
        assert (replica.idle, replica.unsettled, replica.waiting) == (True, 0, 0)
        assert replica.stats.settlements > 0


async def test_a_cell_that_is_ill_is_the_matter_of_those_who_live_there(
    install: Install, make_redis: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    """The other admits as before; the ill one goes on at the least share, and settles when it is back."""
    servers = [make_redis("--appendonly", "yes") for _ in range(2)]
    ours = install(configured(2, "{concurrency: 16}"), [server.url for server in servers])
    # A machine that is busy must not make the well cell look ill.
    gates = await ours.replica(timeout_s=2.0)
    await ours.divide()
    assert await ours.shares() == [8, 8]
    for cell in (0, 1):
        assert isinstance(await ours.call(gates, cell), Grant)
    assert await gates.drain(5)
    servers[1].kill()
    # The first that is not answered tells; then the least share, of sixteen over two cells, holds here.
    await until(lambda: _judged_here(ours, gates), 20)
    held = [(ask := ours.ask(1), await gates.admit(ask)) for _ in range(3)]
    assert [type(answer) for _, answer in held] == [Grant, Grant, Nobody]
    assert all(isinstance(one, Grant | Nobody) and one.degraded for _, one in held)
    well = await ours.call(gates, 0)
    assert isinstance(well, Grant)
    assert not well.degraded
    assert await ours.divide() == (tuple(ours.stores)[1],)
    assert (await read_scope(ours.stores[FIRST], VENDOR)).concurrency == 8  # type: ignore[union-attr]
    for ask, grant in held[:2]:
        assert isinstance(grant, Grant)
        gates.settle(ours.settlement(ask, grant))
    assert (gates.degraded, gates.unsettled > 0) == (True, True)
    assert any(one.getMessage().startswith("degraded in c1: ") for one in caplog.records)
    assert not any("degraded in c0" in one.getMessage() for one in caplog.records)
    servers[1].start()
    await until(lambda: not gates.degraded, 20)
    assert await gates.drain(10)
    totals: Any = await ours.stores[tuple(ours.stores)[1]].hgetall(tuple(ours.stores)[1].totals)
    assert int(totals[b"entries"]) >= 3, "what was granted without the store is in its books"


async def _judged_here(ours: Installation, gates: Gates) -> bool:
    answer = await ours.call(gates, 1)
    return isinstance(answer, Grant) and bool(answer.degraded)


async def test_strict_budgets_open_cell_by_cell(
    install: Install, redis_client: "redis.asyncio.Redis", redis_url: str
) -> None:
    """A cell that does not know what was spent closes those of its own tenants."""
    budget = ", budget: {usd: 1, per: day, mode: strict}"
    ours = install(configured(2, "{concurrency: 8}", budget), [redis_url] * 2)
    gates = await ours.replica(timeout_s=0.3)
    await ours.divide()
    assert gates.learning
    await ours.open_budgets(FIRST)
    await until(lambda: _grants(ours, gates, 0), 10)
    assert isinstance(await ours.call(gates, 1), StoreUnavailable)
    await ours.open_budgets(tuple(ours.stores)[1])
    await until(lambda: _grants(ours, gates, 1), 10)
    assert not gates.learning


async def _grants(ours: Installation, gates: Gates, cell: int) -> bool:
    return isinstance(await ours.call(gates, cell), Grant)


async def test_cells_lie_on_different_nodes_of_a_cluster(
    install: Install, cluster: Cluster
) -> None:
    """Each lane goes to the owner of its own cell's slot; one node more carries one cell more."""
    ours = install(configured(3, "{concurrency: 12}"), [cluster.url] * 3)
    gates = await ours.replica()
    await until(lambda: _divides(ours), 20)
    assert await ours.shares() == [4, 4, 4]
    for cell in range(3):
        assert isinstance(await ours.call(gates, cell), Grant)
    assert await gates.drain(5)
    seen = [
        {key.partition(b":")[0] for key in owner.ask("KEYS", "*")} for owner in cluster.owners()
    ]
    assert sorted(map(sorted, seen)) == [[b"{c0}"], [b"{c1}"], [b"{c2}"]]


async def _divides(ours: Installation) -> bool:
    return await ours.divide() == ()


async def test_an_ask_waits_and_is_given_up_in_its_own_cell(
    install: Install, redis_client: "redis.asyncio.Redis", redis_url: str
) -> None:
    """A place that comes free in one cell calls who waits there."""
    ours = install(configured(2, "{concurrency: 2}"), [redis_url] * 2)
    gates = await ours.replica()
    await ours.divide()
    first = ours.ask(1)
    grant = await gates.admit(first)
    assert isinstance(grant, Grant)
    second = ours.ask(1)
    second.may_wait = True
    answer = await gates.admit(second)
    assert isinstance(answer, Nobody)
    waiting = asyncio.ensure_future(gates.wait(second, answer, monotonic() + 20))
    await until(lambda: gates.waiting == 1)
    gates.settle(ours.settlement(first, grant))
    assert isinstance(await waiting, Grant)
    gates.abandon(second)
    assert await gates.drain(5)
    assert gates.boot.cell is FIRST
