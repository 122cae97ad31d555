"""The reckoner: a store that has forgotten learns from the ledger what was spent, and opens no sooner."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from config.loader import load_text
from config.models import Config
from console import reckoner
from console.metrics import Fleet
from console.reckoner import Reckoner, sums_of
from governance.drain import LedgerWriter
from governance.ledger import encode, entry_of
from ratelimit.limits import KINDS, key_of
from ratelimit.reckoning import KNOWN, ask, reckon
from ratelimit.upkeep import read_scope
from store.cells import FIRST
from store.clock import EPOCH_US

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY_US = 86_400_000_000
NOW_US = int(NOW.timestamp()) * 1_000_000

CONFIG = """
providers: {p: {protocol: openai, base_url: http://h, budget: {usd: 900, per: total}}}
models: {m: {deployments: [{provider: p}]}}
organizations:
  acme:
    time_zone: Pacific/Auckland
    budget: [{usd: 100, per: month, mode: strict}, {usd: 9, per: day, time_zone: UTC}]
    users:
      ann: {budget: {usd: 5, per: month}}
      default: {budget: {usd: 3, per: week}}
    teams: {t: {keys: {k: {key: "sha256:%s"}}}}
""" % ("0" * 64)


@pytest.fixture
def config() -> Config:
    return load_text(CONFIG, source="f", environ={}).config


async def enter(redis: Redis, path: Path, *entries: dict[str, Any]) -> None:
    """Enter what was spent into a ledger."""
    for number, said in enumerate(entries):
        request = str(said["at_us"])
        base = {"attempt_id": f"{request}.{number}", "request_id": request, "outcome": "ok"}
        base |= {"provider": "p"}
        base |= {"organization": "acme", "team": "t", "key": "acme/t/k", "user": "bob"}
        await redis.xadd(FIRST.ledger, {"e": encode(entry_of(**base | said))})
    async with LedgerWriter(redis, path) as writer:
        while await writer.drain():
            pass


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


async def test_every_budget_gets_the_sum_of_its_running_period(
    redis_client: Redis, ledger: Path, config: Config
) -> None:
    """By the calendar of its own zone, or of its organization's; users share the limits of those without their own."""
    await enter(
        redis_client,
        ledger,
        {"at_us": NOW_US - 100 * DAY_US, "cost_nusd": 1000},
        {"at_us": NOW_US - 3 * DAY_US, "cost_nusd": 200, "user": "ann"},
        # Sunday's last hours here are Monday morning in Auckland.
        {"at_us": NOW_US - 3_600_000_000, "cost_nusd": 30},
        {"at_us": NOW_US, "cost_nusd": 4},
    )
    found = {
        (one.key, one.kind): (one.spent_nusd, one.default) for one in sums_of(config, ledger, NOW)
    }
    shared = key_of("users:acme")
    assert found == {
        (key_of("org:acme"), KINDS["month"]): (234, ""),
        (key_of("org:acme"), KINDS["day"]): (34, ""),
        (key_of("provider:p"), KINDS["total"]): (1234, ""),
        (key_of("user:acme#ann"), KINDS["month"]): (200, ""),
        (key_of("user:acme#bob"), KINDS["week"]): (34, shared),
    }
    ends = {one.ends_us for one in sums_of(config, ledger, NOW) if one.kind == KINDS["day"]}
    assert ends == {(NOW_US // DAY_US + 1) * DAY_US - EPOCH_US}


class Looks:
    """How often a reckoner has looked, and what it may be waited for."""

    def __init__(self) -> None:
        self._ended = 0
        self._next = asyncio.Condition()

    async def reckon(self, *said: Any, **more: Any) -> bool:
        """Do as the product does, and tell those who wait that it was done."""
        try:
            return await reckon(*said, **more)
        finally:
            async with self._next:
                self._ended += 1
                self._next.notify_all()

    async def more(self, count: int) -> None:
        """Wait until so many looks have begun and ended since."""
        wanted = self._ended + count + 1
        async with asyncio.timeout(20), self._next:
            await self._next.wait_for(lambda: self._ended >= wanted)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Count the looks of a reckoner, which come often."""
    counted = Looks()
    monkeypatch.setattr(reckoner, "reckon", counted.reckon)
    monkeypatch.setattr(reckoner, "LOOK_EVERY_S", 0.02)
    return counted


@pytest.fixture
async def role(
    redis_client: Redis, ledger: Path, *, config: Config, tmp_path: Path, looks: Looks, request: Any
) -> AsyncIterator[Reckoner]:
    """Run a reckoner; whether the store is its own is the parameter."""
    one = Reckoner(
        redis_client, ledger, Fleet(tmp_path / "run"), lambda: (config, 1), alone=request.param
    )
    running = asyncio.ensure_future(one.run())
    yield one
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def opened(role: Reckoner, times: int = 1) -> None:
    async with asyncio.timeout(20):
        while True:
            if role.opened >= times:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("role", [False], indirect=True)
async def test_an_installation_that_begins_is_open_at_once(
    role: Reckoner, redis_client: Redis
) -> None:
    """There is no ledger yet, and no edge runs."""
    await opened(role)
    assert (await ask(redis_client))[1] == KNOWN


@pytest.mark.parametrize("role", [True], indirect=True)
async def test_a_store_of_its_own_that_begins_anew_learns_from_the_ledger(
    role: Reckoner, redis_client: Redis, ledger: Path
) -> None:
    """Nobody can hold anything there, but much may have been spent."""
    await opened(role)
    await enter(
        redis_client, ledger, {"at_us": int(datetime.now(UTC).timestamp() * 1e6), "cost_nusd": 77}
    )
    await redis_client.flushall()
    await opened(role, 2)
    scope = await read_scope(redis_client, "org:acme")
    assert scope is not None
    assert scope.budgets["month"].spent_nusd == 77


@pytest.mark.parametrize("role", [False], indirect=True)
async def test_a_shared_store_stays_closed_until_all_have_told(
    role: Reckoner, redis_client: Redis, ledger: Path, looks: Looks
) -> None:
    """Who lived before a flush is not known: the reckoner waits until the last lease is over."""
    await opened(role)
    await enter(
        redis_client, ledger, {"at_us": int(datetime.now(UTC).timestamp() * 1e6), "cost_nusd": 5}
    )
    await redis_client.flushall()
    await looks.more(3)
    assert role.opened == 1
    assert (await ask(redis_client))[1] < KNOWN
    await redis_client.hset(FIRST.epoch, "since", 1)
    await opened(role, 2)


@pytest.mark.parametrize("role", [False], indirect=True)
async def test_a_ledger_that_cannot_be_read_keeps_closed(
    role: Reckoner,
    redis_client: Redis,
    ledger: Path,
    looks: Looks,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is said once, and tried again."""
    await opened(role)
    await asyncio.to_thread(ledger.write_text, "no database" * 200)
    await redis_client.flushall()
    await looks.more(3)
    assert role.opened == 1
    said = [one for one in caplog.records if "strict budgets stay closed" in one.getMessage()]
    assert len(said) == 1
