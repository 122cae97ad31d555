"""What the control does in all cells: limits reach each of them, are read back as one, and nobody moves while anything runs."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgpack
import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from config import live
from config.cells import cells_of, division_of
from config.loader import load_text
from config.models import Config
from console import stores
from console.reckoner import sums_of
from console.stores import (
    CannotMove,
    as_one,
    in_each,
    move,
    put_limits,
    scope_states,
    shares_of,
)
from governance.reconcile import verify
from ratelimit.limits import ScopeState, key_of
from ratelimit.lives import SILENT
from ratelimit.reckoning import TOLD, ask
from ratelimit.upkeep import read_scope, run
from store import clock
from store.cells import FIRST, Cell, cell
from store.clock import EPOCH_US

Ledger = Any  # the fixture of this folder's conftest
TWO = (cell(0), cell(1))
TEXT = """\
store: {cells: CELLS}
providers: {p: {protocol: openai, base_url: http://h, limits: {rpm: 40}}}
models:
  m: {deployments: [{provider: p, limits: {concurrency: 10, tpm: 1000}}]}
organizations:
  here: {HEREbudget: {usd: 5, per: total, mode: strict}}
  there: {THEREbudget: {usd: 5, per: total, mode: strict}, limits: {rpm: 7}}
"""


async def held(stores: dict[Cell, Redis], scope: str) -> ScopeState | None:
    """Return what a scope holds now, in all cells together."""
    (found,) = await scope_states(stores, [scope])
    return as_one(stores, scope, found, await clock.now_us(stores[FIRST]) - EPOCH_US)


def config(cells: int = 2, here: str = "cell: 0, ", there: str = "cell: 1, ") -> Config:
    """Return two organizations over cells."""
    text = TEXT.replace("CELLS", str(cells)).replace("THERE", there).replace("HERE", here)
    return load_text(text, source="test", environ={}).config


@pytest.fixture
def both(redis_client: Redis) -> dict[Cell, Redis]:
    """Hand out two cells on one server."""
    return dict.fromkeys(TWO, redis_client)


class Away:
    """A store that does not answer."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def away(*_: Any, **__: Any) -> Any:
            raise RedisConnectionError("away")

        return away


async def test_each_cell_gets_its_tenants_and_its_shares(both: dict[Cell, Redis]) -> None:
    """What callers are limited by lies in one cell, what they use in all; together it is as declared."""
    written = await put_limits(both, config(), 3)
    assert written > 0
    redis = both[FIRST]
    assert await redis.exists(key_of("org:here", TWO[0]), key_of("org:there", TWO[1])) == 2
    assert await redis.exists(key_of("org:here", TWO[1]), key_of("org:there", TWO[0])) == 0
    for scope, shares in (("deployment:m/p", (500, 500)), ("provider:p", None)):
        for number, each in enumerate(TWO):
            found = await read_scope(redis, scope, each)
            assert found is not None
            assert found.version == 3
            if shares:
                assert (found.limit("tpm"), found.concurrency) == (shares[number], 5)
    together = await held(both, "deployment:m/p")
    assert together is not None
    assert (together.limit("tpm"), together.concurrency) == (1000, 10)
    assert together.rates["tpm"].remaining("tpm", 2**50) == 1000
    states, theirs = await scope_states(both, ["deployment:m/p", "org:there"])
    share = {"tpm": 500, "concurrency": 5}
    assert shares_of(both, "deployment:m/p", states) == [
        {"cell": name, "limits": share, "in_flight": 0} for name in ("c0", "c1")
    ]
    assert shares_of(both, "org:there", theirs) == []
    there = await held(both, "org:there")
    assert there is not None
    assert there.limit("rpm") == 7
    assert await held(both, "org:nobody") is None


async def test_what_is_held_in_all_cells_is_told_as_one(both: dict[Cell, Redis]) -> None:
    """What is in flight and what the buckets hold is added up; of health the worst is told."""
    await put_limits(both, config(), 1)
    redis = both[FIRST]
    seconds, _ = await redis.time()
    ahead = (seconds + 3600) * 1_000_000 - EPOCH_US
    for number, each in enumerate(TWO):
        raw: Any = await redis.hget(key_of("deployment:m/p", each), "l2")
        shape = msgpack.unpackb(raw, raw=True)[1]
        # One bucket is empty, and an hour behind; the other is full.
        state = [shape, 2 + number, 0, 0, number, 0, 0, ahead if number else 0]
        await redis.hset(key_of("deployment:m/p", each), "s2", msgpack.packb(state))
    found = await held(both, "deployment:m/p")
    assert found is not None
    assert (found.in_flight, found.failures) == (5, 1)
    now = seconds * 1_000_000 - EPOCH_US
    assert found.rates["tpm"].remaining("tpm", now) == 0, "what one owes, the other has not"


async def test_a_cell_that_is_away_keeps_nobody_from_the_others(both: dict[Cell, Redis]) -> None:
    """What can be written is written; that something could not is raised."""
    away: Any = Away()
    with pytest.raises(RedisError):
        await put_limits({TWO[0]: both[FIRST], TWO[1]: away}, config(), 1)
    assert await both[FIRST].exists(key_of("org:here", TWO[0]))
    asked: list[Cell] = []

    async def ask(each: Cell, store: Redis) -> None:
        if store is away:
            await store.ping()
        asked.append(each)

    with pytest.raises(RedisConnectionError):
        await in_each({TWO[0]: away, TWO[1]: both[FIRST]}, ask)
    assert asked == [TWO[1]]


# Moving...


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look more often than in life."""
    monkeypatch.setattr(stores, "_LOOK_EVERY_S", 0.01)
    return iter([None])


@pytest.fixture
def connect(redis_url: str) -> Callable[[Cell], Redis]:
    """Make clients, as the control does."""
    return lambda _: Redis.from_url(redis_url)


async def test_who_does_not_move_waits_for_nothing(
    tmp_path: Path, connect: Callable[[Cell], Redis]
) -> None:
    """Nobody is asked anything."""
    never: Any = None
    assert not await move(division_of(config()), division_of(config()), tmp_path / "l.db", never)


async def test_nobody_moves_under_an_edge_that_lives(
    soon: None, redis_client: Redis, tmp_path: Path, connect: Callable[[Cell], Redis]
) -> None:
    """It is said who lives, and nothing was changed."""
    await run(redis_client, "beat", [TWO[1].beats], ["", "host/3.ab", 10**12, 1])
    await redis_client.hset(FIRST.epoch, "known", "x")
    with pytest.raises(
        CannotMove, match=r"organizations\.there\.cell: 1 -> 0: .* host/3 lives; stop"
    ):
        await move(
            division_of(config()),
            division_of(config(there="cell: 0, ")),
            tmp_path / "l.db",
            connect,
            within_s=0.05,
        )
    assert await redis_client.exists(FIRST.epoch)


async def test_what_was_spent_goes_with_who_moves(
    soon: None, ledger: Ledger, connect: Callable[[Cell], Redis]
) -> None:
    """What waits in any stream is entered first; then no cell knows what was spent, until the ledger tells it."""
    redis = ledger.redis
    await ledger.append("r.1", TWO[1], organization="there", cost_nusd=321)
    for each in TWO:
        await redis.hset(each.epoch, "known", "x")
    # A replica that fell silent holds nothing.
    await redis.zadd(TWO[1].beats, {"host/0.ab": 1})
    after = config(1, here="", there="")
    assert await move(division_of(config()), division_of(after), ledger.path, connect)
    assert await redis.zscore(TWO[1].beats, "host/0.ab") < SILENT
    for each in TWO:
        assert (await ask(redis, each))[1] == TOLD, (
            "nobody holds anything, and what was spent is asked for"
        )
    assert await redis.xlen(TWO[1].ledger) == 0
    sums = {one.key: one.spent_nusd for one in sums_of(after, ledger.path, datetime.now(UTC))}
    assert sums == {key_of("org:there"): 321}


async def test_books_of_two_cells_are_one(ledger: Ledger) -> None:
    """Each cell has a book of its own; what lacks in one is not made up for by the other."""
    redis = ledger.redis
    both = dict.fromkeys(TWO, redis)
    await ledger.append("a.1", TWO[0], cost_nusd=5)
    await ledger.append("b.1", TWO[1], cost_nusd=5)
    await ledger.append("b.2", TWO[1], cost_nusd=5)
    await ledger.drain(TWO[1])
    found = await verify(both, ledger.path)
    assert found.is_equal()
    assert (found.counters.entries, found.database.entries, found.stream.entries) == (3, 2, 1)
    assert found.earlier.entries == 0
    await redis.hincrby(TWO[0].totals, "cost_nusd", 1)
    await redis.hincrby(TWO[1].totals, "cost_nusd", -1)
    found = await verify(both, ledger.path)
    assert found.difference.cost_nusd == 0
    assert not found.is_equal()
    assert found.unequal == ("c0", "c1")
    only = await verify({FIRST: redis}, ledger.path)
    assert only.earlier.entries == 2, "without its cell a book counts as a former one"


async def test_commands_learn_how_many_cells_there_are(redis_client: Redis) -> None:
    """From the store itself; one, where nobody said it."""
    assert await live.noted_cells(redis_client) == (FIRST,)
    await live.note_cells(redis_client, 2)
    assert await live.noted_cells(redis_client) == TWO
    assert cells_of(config()) == TWO
