"""The keeper of the board: it puts up what the store says of deployments, budgets and lessons."""

from collections.abc import Container
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

import console.board
from config.loader import load_text
from config.models import Config
from console.board import Keeper, pressure_of, ttft_of
from ratelimit.limits import BudgetState, ScopeState, records
from ratelimit.upkeep import seed
from routing import board
from routing.lessons import ALL, LESSONS, Learned, Lessons
from store.cells import FIRST

CONFIG = """
providers: {p: {protocol: openai, base_url: http://h}}
models: {m: {deployments: [{provider: p}]}}
organizations:
  acme:
    time_zone: Pacific/Auckland
    teams:
      t:
        budget: {usd: 1, per: total}
        keys: {k: {key: "sha256:%s", budget: {usd: 9, per: day}}}
""" % ("0" * 64)
NOW_US = 90_000_000_000_000
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def state(latency_us: float = 0.0, *, drained: bool = False, age_us: int = 0) -> ScopeState:
    plain: dict[str, Any] = dict.fromkeys(ScopeState.__slots__, 0)
    plain |= {"rates": {}, "budgets": {}, "weight": 1, "drained": drained}
    return ScopeState(**plain | {"latency_us": latency_us, "latency_at_us": NOW_US - age_us})


def budget(spent: float, amount: int = 1_000_000, **said: int) -> BudgetState:
    """Return a budget of the day of `NOON`."""
    days = (NOON.date() - datetime(2024, 1, 1, tzinfo=UTC).date()).days
    plain = {"period": days + 1, "spent_nusd": int(spent * amount), "held_nusd": 0}
    return BudgetState(amount_nusd=amount, strict=False, **plain | said)


def test_a_model_begins_as_soon_as_its_quickest_deployment() -> None:
    """One that is drained, or of which nothing is known, or nothing any more, says nothing."""
    found = ttft_of(
        [
            ("a", state(300.0)),
            ("a", state(200.0)),
            ("a", state(100.0, drained=True)),
            ("b", state()),
            ("c", None),
            ("d", state(900.0, age_us=31_000_000)),
            ("e", state(900.0, age_us=29_000_000)),
        ],
        NOW_US,
    )
    assert found == {"a": 200.0, "e": 900.0}


@given(st.floats(0, 2), st.floats(0, 2))
def test_the_more_is_spent_the_higher_the_pressure(one: float, other: float) -> None:
    """From 0, as long as it is in step with its period, to 1 when it is spent."""
    low, high = sorted((one, other))
    pressures = [pressure_of(budget(spent), "day", "UTC", NOON) for spent in (low, high)]
    assert 0 <= pressures[0] <= pressures[1] <= 1
    assert pressure_of(budget(0.5), "day", "UTC", NOON) == 0.0
    assert pressure_of(budget(1.0), "day", "UTC", NOON) == 1.0
    assert pressure_of(budget(0.75), "day", "UTC", NOON) == pytest.approx(0.5)


def test_a_budget_counts_in_its_own_period_and_amount() -> None:
    """What was spent yesterday is no pressure, what is reserved is, and a raise relieves it; a total is felt from its half on."""
    assert pressure_of(budget(0.9, period=1), "day", "UTC", NOON) == 0.0
    assert pressure_of(budget(0.5, held_nusd=250_000), "day", "UTC", NOON) == pytest.approx(0.5)
    raised = budget(0.9, raised_nusd=2_000_000, raised_until_us=1 << 52)
    assert pressure_of(raised, "day", "UTC", NOON) == 0.0
    assert pressure_of(budget(0.5, period=1), "total", "UTC", NOON) == 0.0
    assert pressure_of(budget(0.75, period=1), "total", "UTC", NOON) == pytest.approx(0.5)


async def test_the_board_says_what_the_store_holds(redis_client: Redis) -> None:
    """Budgets that are spent, lessons that were sent; and nothing before there is a configuration."""
    config: Config = load_text(CONFIG, source="f", environ={}).config
    running: list[tuple[Config, int]] = []
    keeper = Keeper({FIRST: redis_client}, lambda: running[0] if running else None)
    assert await keeper.publish(NOON) == 0
    running.append((config, 3))
    await seed(redis_client, records(config, 3), 3)
    lessons = Lessons()
    lessons.note("m", "chat", defect=1.0, tokens=10, after_first_us=100)
    await lessons.send(redis_client, NOON.timestamp())
    # Of a model that was configured once, long ago and of late.
    for at, kind in (("1", "chat"), ("", "coding")):
        lessons.note("gone", kind, defect=0.0, tokens=10, after_first_us=100)
        await lessons.send(redis_client, NOON.timestamp(), now=at)
    version = await keeper.publish(NOON)
    raw: Any = await redis_client.get(board.BOARD)
    facts, _ = board.decode(raw)
    assert facts.version == version == await keeper.publish(NOON + timedelta(seconds=1))
    assert facts.lessons.keys() == {"m"}
    assert facts.lessons["m"][ALL].defects == pytest.approx(1.0, rel=1e-3)
    kept = {name async for name, _ in redis_client.hscan_iter(LESSONS)}
    assert kept == {b"m\0chat", b"m\0", b"gone\0coding", b"gone\0"}
    assert facts.pressures == {}


async def test_what_cannot_be_put_up_yet_is_not_looked_for(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until a version holds nothing takes its place, so that it is only renewed; then what was learned meanwhile is on the next."""
    config: Config = load_text(CONFIG, source="f", environ={}).config
    await seed(redis_client, records(config, 3), 3)
    keeper = Keeper({FIRST: redis_client}, lambda: (config, 3))
    at_s = [1000.0]
    monkeypatch.setattr(console.board, "monotonic", lambda: at_s[0])
    read: list[float] = []
    read_lessons = console.board.read_lessons

    async def noted(store: Redis, models: Container[str]) -> Learned:
        read.append(at_s[0])
        return await read_lessons(store, models)

    monkeypatch.setattr(console.board, "read_lessons", noted)
    first = await keeper.publish(NOON)
    lessons = Lessons()
    lessons.note("m", "chat", defect=0.0, tokens=10, after_first_us=100)
    await lessons.send(redis_client, NOON.timestamp())
    await redis_client.pexpire(board.BOARD, 5000)
    at_s[0] += 0.9
    assert await keeper.publish(NOON) == first
    assert await redis_client.pttl(board.BOARD) > 5000
    assert read == [1000.0]
    at_s[0] += 0.1
    # By the store's clock no second has passed.
    await redis_client.delete(board.BOARD)
    assert await keeper.publish(NOON) == first + 1
    raw: Any = await redis_client.get(board.BOARD)
    assert board.decode(raw)[0].lessons.keys() == {"m"}
    assert len(read) == 2
