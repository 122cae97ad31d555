"""Dividing limits over cells, on a real store: what all cells together grant, one whole bucket would have granted."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Self

import msgpack
import pytest
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from config.quotas import Burst, Limits
from ratelimit import rebalancing
from ratelimit.asks import GRANTED, Ask, boot_of
from ratelimit.commands import admit_command, settle_command
from ratelimit.limits import (
    Candidate,
    Declared,
    Plan,
    decode_scope,
    key_of,
    pack_limits,
    pack_share,
)
from ratelimit.rebalancing import BATCH, Division, Overtaken, divide
from ratelimit.shares import floors
from ratelimit.upkeep import read_scope, run, seed
from store import scripts
from store.cells import Cell, cell
from tests.ratelimit.cell import ask_of, entry_of, truth_of

MINUTE = 60_000_000
VENDOR = "deployment:d"


def declared(version: int = 1, **limits: Any) -> Declared:
    """Return a deployment with limits to divide."""
    return Declared(VENDOR, Limits(**limits), (), weight=1 + version % 2)


@dataclass
class Whole:
    """The naive reference: the limits of the vendor, kept as one; nothing here knows of cells."""

    limit: int
    burst: int
    places: int
    content: Fraction = Fraction(0)
    at: int = 0
    running: int = 0

    def __post_init__(self) -> None:
        self.content = Fraction(self.burst)

    def now(self, at: int) -> None:
        """Refill."""
        gained = Fraction((at - self.at) * self.limit, MINUTE)
        self.content, self.at = min(self.content + gained, Fraction(self.burst)), at

    def use(self, tokens: int) -> None:
        """Take, or give back."""
        self.content = min(self.content - tokens, Fraction(self.burst))


@dataclass
class Tenants:
    """Callers in some cells, one after another, with a clock that the test owns."""

    client: "redis.asyncio.Redis"
    scope: Declared
    count: int
    now: int = 1000 * MINUTE
    made: int = 0
    settled: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cells = [cell(number) for number in range(self.count)]
        self.stores: dict[Cell, Any] = dict.fromkeys(self.cells, self.client)
        self.boots = [boot_of("r/0.a", each) for each in self.cells]
        self.settled = [0] * self.count
        self.plans = [
            Plan(
                (),
                (Candidate("d", "m", 0, 0, 0, 0, 10**6, "p"),),
                msgpack.packb(entry_of("")),
                cell=each,
            )
            for each in self.cells
        ]

    async def begin(self) -> None:
        """Let a replica live in every cell, and have what an edge needs there."""
        await self.client.flushall()
        self.shas = {
            name: await self.client.script_load(scripts.load("ratelimit", name).text)
            for name in ("admit", "settle")
        }
        for each in self.cells:
            await run(self.client, "beat", [each.beats], [self.now, "r/0.a", 10**15, 1])
            await seed(self.client, [(key_of("model:m", each), pack_limits(1, Limits()))], 1)
            await self.seed(each)

    async def seed(self, each: Cell) -> None:
        """Do as an edge does that finds the limits missing: it knows of no share."""
        least = pack_share(0, self.scope, floors(self.scope.limits, self.count))
        await seed(self.client, [(key_of(VENDOR, each), least)], 9)

    async def divide(self, version: int = 1, scope: Declared | None = None) -> Division:
        """Divide, at the test's time."""
        return await divide(self.stores, [scope or self.scope], version, now=str(self.now))

    async def ask(self, at: int, tokens: int) -> Ask | None:
        """Ask in a cell; return what was granted."""
        self.made += 1
        ask = ask_of(self.plans[at], f"q{self.made}.1", tokens)
        command = admit_command(
            self.shas["admit"], self.boots[at], [ask], number=self.made, now=str(self.now)
        )
        (answer,) = await self.client.execute_command(*command)
        return ask if msgpack.unpackb(answer)[0] == GRANTED else None

    async def settle(self, at: int, ask: Ask, tokens: int) -> None:
        """Say what an attempt really used."""
        self.settled[at] += 1
        truth = truth_of(self.plans[at], self.boots[at], ask.attempt_id, input_tokens=tokens)
        command = settle_command(
            self.shas["settle"], self.boots[at], self.settled[at], [truth], now=str(self.now)
        )
        await self.client.execute_command(*command)

    async def shares(self) -> list[dict[str, int]]:
        """Return the shares, all seen at one instant."""
        return [amounts_of(*one) for one in await self.raw()]

    async def raw(self) -> list[tuple[bytes, bytes | None]]:
        """Return limits and state of each cell, all of one instant."""
        async with self.client.pipeline(transaction=True) as together:
            for each in self.cells:
                together.hmget(key_of(VENDOR, each), ["l2", "s2"])
            return [tuple(one) for one in await together.execute()]

    async def contents(self) -> list[Fraction]:
        """Return how many tokens each bucket holds; less than none is what it owes."""
        found = []
        for limits, state in await self.raw():
            rate = decode_scope(limits, state).rates["tpm"]
            free = Fraction(rate.depth_us) - max(Fraction(rate.tat_us) - self.now, Fraction(0))
            found.append(free * rate.limit / MINUTE)
        return found


def amounts_of(limits: bytes, state: bytes | None) -> dict[str, int]:
    """Return the share that a record says."""
    found = decode_scope(limits, state)
    said = {name: rate.limit for name, rate in found.rates.items()}
    return said | {"concurrency": found.concurrency}


def sums(shares: list[dict[str, int]]) -> dict[str, int]:
    """Add the shares of all cells up."""
    return {name: sum(one[name] for one in shares) for name in shares[0]}


STEPS = st.one_of(
    st.tuples(st.just("wait"), st.integers(0, 40_000_000)),
    *[st.tuples(st.just("ask"), st.integers(0, 3), st.integers(1, 60), st.integers(1, 6))] * 3,
    st.tuples(st.just("settle"), st.integers(0, 7), st.integers(0, 90)),
    *[st.tuples(st.just("divide"))] * 2,
    st.tuples(st.just("divide without"), st.integers(0, 3)),
    st.tuples(st.just("publish")),
)


@given(
    count=st.integers(2, 4),
    whole=st.tuples(
        st.integers(40, 400),
        st.one_of(st.none(), st.integers(20, 600)),
        st.sampled_from([4, 12, 5000]),
    ),
    steps=st.lists(STEPS, min_size=10, max_size=60),
)
def test_cells_never_grant_what_one_whole_bucket_would_not(
    redis_url: str, count: int, whole: tuple[int, int | None, int], steps: list[Any]
) -> None:
    """
    Over any timeline of asks, settlements and divisions.

    At every instant the shares are within the quota, what runs is within the places, and the buckets hold no more together
    than one that was never divided. What a cell owes, because calls used more than they had reserved, is paid there: the
    others cannot know of it.
    """
    asyncio.run(_timeline(redis_url, count, whole, steps))


async def _timeline(
    url: str, count: int, declared_: tuple[int, int | None, int], steps: list[Any]
) -> None:
    limit, burst, places = declared_
    async with redis.asyncio.Redis.from_url(url) as client:
        scope = declared(tpm=limit, concurrency=places, burst=Burst(tpm=burst))
        tenants = Tenants(client, scope, count)
        whole = Whole(limit, burst or limit, places, at=tenants.now)
        running: list[tuple[int, Ask, int]] = []
        await tenants.begin()
        version = 1
        # Of sixteenths of a microsecond, which is far less than a token.
        rounding = Fraction(1, 100)
        for kind, *how in steps:
            if kind == "wait":
                tenants.now += how[0]
            elif kind == "ask":
                at, tokens = how[0] % count, how[1]
                whole.now(tenants.now)
                for _ in range(how[2]):
                    asked = await tenants.ask(at, tokens)
                    if asked is None:
                        break
                    whole.use(tokens)
                    whole.running += 1
                    running.append((at, asked, tokens))
                    owed = sum(-each for each in await tenants.contents() if each < 0)
                    assert whole.content >= -owed - rounding, "more was granted than there was"
            elif kind == "settle" and running:
                at, asked, tokens = running.pop(how[0] % len(running))
                await tenants.settle(at, asked, how[1])
                whole.now(tenants.now)
                whole.use(how[1] - tokens)
                whole.running -= 1
            elif kind == "divide":
                await tenants.divide(version)
            elif kind == "divide without":
                at = tenants.cells[how[0] % count]
                tenants.stores[at] = Away()
                assert (await tenants.divide(version)).silent == (at,)
                tenants.stores[at] = client
            elif kind == "publish":
                version += 1
            whole.now(tenants.now)
            together = sums(await tenants.shares())
            assert together["tpm"] <= limit
            assert together["concurrency"] <= places
            assert whole.running <= places
            assert sum(await tenants.contents()) <= whole.content + rounding


class Away:
    """A store that does not answer."""

    def register_script(self, _: str) -> Any:
        """Fail."""
        raise redis.exceptions.ConnectionError("away")


@contextlib.asynccontextmanager
async def begun(
    redis_client: "redis.asyncio.Redis", count: int, **limits: Any
) -> AsyncIterator[Tenants]:
    """Give cells in which nothing was divided yet."""
    tenants = Tenants(redis_client, declared(**limits), count)
    await tenants.begin()
    yield tenants


async def test_an_installation_begins_with_even_shares_and_full_buckets(
    redis_client: "redis.asyncio.Redis",
) -> None:
    """Where nothing is there yet, all of the quota is there from the first second."""
    tenants = Tenants(redis_client, declared(tpm=1000, rpm=10, concurrency=7), 4)
    await redis_client.flushall()
    assert await tenants.divide() == Division((), 4)
    assert sums(await tenants.shares()) == {"tpm": 1000, "rpm": 10, "concurrency": 7}
    assert sum(await tenants.contents()) == 1000
    assert await tenants.divide() == Division((), 0), "what is right is not written again"


async def test_shares_follow_who_uses_them(redis_client: "redis.asyncio.Redis") -> None:
    """One busy cell of two gets seven eighths, and comes down to a half when both are busy."""
    async with begun(redis_client, 2, tpm=8000) as tenants:
        for _ in range(30):
            while await tenants.ask(0, 50):
                pass
            tenants.now += 1_000_000
            await tenants.divide()
        assert [one["tpm"] for one in await tenants.shares()] == [7000, 1000]
        for _ in range(60):
            for at in (0, 1):
                while await tenants.ask(at, 50):
                    pass
            tenants.now += 1_000_000
            await tenants.divide()
        assert max(abs(one["tpm"] - 4000) for one in await tenants.shares()) <= 100


async def test_a_share_that_grows_brings_nothing_and_one_that_shrinks_keeps_only_what_it_holds(
    redis_client: "redis.asyncio.Redis",
) -> None:
    """Contents are absolute: the first cell is empty and stays so, the second keeps what its smaller bucket holds."""
    async with begun(redis_client, 2, tpm=8000) as tenants:
        await tenants.divide()
        tenants.now += MINUTE
        while await tenants.ask(0, 1000):
            pass
        await tenants.divide()
        contents = [
            decode_scope(limits, state).rates["tpm"].remaining("tpm", tenants.now)
            for limits, state in await tenants.raw()
        ]
        assert [one["tpm"] for one in await tenants.shares()] == [4750, 3250]
        assert contents == [0, 3250]


async def test_a_cell_that_was_emptied_begins_with_the_floor(
    redis_client: "redis.asyncio.Redis",
) -> None:
    """What an edge writes there is safe whatever the others have; the next division makes it more."""
    async with begun(redis_client, 2, tpm=8000, concurrency=8) as tenants:
        await tenants.divide()
        await redis_client.delete(key_of(VENDOR, tenants.cells[1]), tenants.cells[1].shares)
        await tenants.seed(tenants.cells[1])
        assert [one["tpm"] for one in await tenants.shares()] == [4000, 1000]
        assert [one["concurrency"] for one in await tenants.shares()] == [4, 1]
        await tenants.divide()
        assert [one["tpm"] for one in await tenants.shares()] == [4000, 4000]
        await tenants.seed(tenants.cells[1])
        assert [one["tpm"] for one in await tenants.shares()] == [4000, 4000], "nobody steps back"


async def test_a_smaller_quota_holds_at_once_and_an_older_version_changes_nothing(
    redis_client: "redis.asyncio.Redis",
) -> None:
    """A division is of one version; who still knows the one before writes nothing over it."""
    async with begun(redis_client, 2, tpm=8000) as tenants:
        await tenants.divide()
        await tenants.divide(2, declared(2, tpm=1000))
        assert [one["tpm"] for one in await tenants.shares()] == [500, 500]
        assert await tenants.divide(1) == Division((), 0)
        assert [one["tpm"] for one in await tenants.shares()] == [500, 500]
        found = await read_scope(redis_client, VENDOR, tenants.cells[1])
        assert found is not None
        assert (found.version, found.weight) == (2, 1)


async def test_a_silent_cell_keeps_its_share_and_stops_all_growth(
    redis_client: "redis.asyncio.Redis",
) -> None:
    """A new version is written where somebody answers; nothing is given away that the silent one may still have."""
    async with begun(redis_client, 3, tpm=9000) as tenants:
        await tenants.divide()
        tenants.stores[tenants.cells[2]] = Away()
        while await tenants.ask(0, 500):
            pass
        assert (await tenants.divide(2)).silent == (tenants.cells[2],)
        assert [one["tpm"] for one in await tenants.shares()] == [3000, 3000, 3000]
        found = [await read_scope(redis_client, VENDOR, each) for each in tenants.cells]
        assert [one.version for one in found if one is not None] == [2, 2, 1]
        # Of what is less than before, nobody has more than leaves the silent one its floor.
        await tenants.divide(3, declared(3, tpm=900))
        assert sum(one["tpm"] for one in (await tenants.shares())[:2]) <= 900 - 900 // 12


class Schedule:
    """Calls of several who divide at a time, carried out one by one in an order that the test draws."""

    def __init__(self, draw: random.Random, look: Callable[[], Awaitable[None]]) -> None:
        self._draw = draw
        self._look = look
        self._waiting: list[asyncio.Future[None]] = []
        self._done = asyncio.Event()

    async def turn(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make a call when its turn has come, and look at what came of it."""
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        await mine
        try:
            answer = await call()
            await self._look()
            return answer
        finally:
            self._done.set()

    async def drive(self, *work: Coroutine[Any, Any, None]) -> None:
        """Let all of them end, one call at a time."""
        tasks = [asyncio.ensure_future(one) for one in work]
        together = asyncio.gather(*tasks)
        while not together.done():
            # Whoever can go on without a call of the store does.
            for _ in range(20):
                await asyncio.sleep(0)
            if self._waiting:
                self._done.clear()
                self._waiting.pop(self._draw.randrange(len(self._waiting))).set_result(None)
                await self._done.wait()
        await together


class Turns:
    """A store whose scripts are called as a schedule has it."""

    def __init__(self, real: "redis.asyncio.Redis", schedule: Schedule) -> None:
        self._real = real
        self._schedule = schedule

    def register_script(self, text: str) -> Callable[..., Any]:
        """Return what runs a script when its turn has come."""
        script = self._real.register_script(text)

        async def called(keys: list[str], args: list[Any]) -> Any:
            return await self._schedule.turn(lambda: script(keys=keys, args=args))

        return called

    async def info(self, _: str) -> dict[str, int]:
        """Tell of no replica."""
        return {}


async def test_several_who_divide_at_a_time_never_give_too_much(
    redis_client: "redis.asyncio.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes between whom, and whatever is asked meanwhile: after every single call the shares are within the quota."""
    monkeypatch.setattr(rebalancing, "PAUSE_MS", 1)
    draw = random.Random(3)
    seen: set[tuple[int, ...]] = set()
    overtaken = 0
    async with begun(redis_client, 3, tpm=9000, concurrency=90) as tenants:
        await tenants.divide()

        async def look() -> None:
            shares = await tenants.shares()
            together = sums(shares)
            assert together["tpm"] <= 9000
            assert together["concurrency"] <= 90
            seen.add(tuple(one["tpm"] for one in shares))

        async def try_to_divide() -> None:
            nonlocal overtaken
            try:
                await tenants.divide()
            except Overtaken:
                overtaken += 1

        async def exhaust() -> None:
            at = draw.randrange(3)
            while await tenants.ask(at, 400):
                pass

        async def ask(schedule: Schedule) -> None:
            for _ in range(3):
                await schedule.turn(exhaust)

        for _ in range(60):
            tenants.now += draw.randrange(20_000_000)
            schedule = Schedule(draw, look)
            tenants.stores = dict.fromkeys(tenants.cells, Turns(redis_client, schedule))
            await schedule.drive(ask(schedule), *(try_to_divide() for _ in range(2)))
    assert len(seen) > 40, "they did divide"
    assert overtaken < 60, "and not only come between one another"


async def test_what_shrank_must_reach_a_replica_before_anything_grows(
    redis_client: "redis.asyncio.Redis",
) -> None:
    """A failover could bring it back: until then the share is given to nobody."""
    async with begun(redis_client, 2, tpm=8000) as tenants:
        await tenants.divide()
        tenants.now += MINUTE
        while await tenants.ask(0, 1000):
            pass
        lagging = Lagging(redis_client)
        tenants.stores = {tenants.cells[0]: redis_client, tenants.cells[1]: lagging}
        assert (await tenants.divide()).silent == (tenants.cells[1],)
        assert [one["tpm"] for one in await tenants.shares()] == [4000, 3250]
        lagging.reached = 1
        await tenants.divide()
        assert sums(await tenants.shares())["tpm"] == 8000


class Lagging:
    """A store with a replica that is late, and a pipeline to it."""

    def __init__(self, real: "redis.asyncio.Redis") -> None:
        self.reached = 0
        self.register_script = real.register_script
        self._real = real
        self._asked: list[tuple[Any, ...]] = []

    async def info(self, _: str) -> dict[str, int]:
        """Tell of the replica."""
        return {"connected_slaves": 1}

    def pipeline(self, *, transaction: bool) -> "Lagging":
        """Hand out itself."""
        assert not transaction
        self._asked = []
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is kept open."""

    def eval(self, *said: Any) -> None:
        """Queue a script."""
        self._asked.append(said)

    def wait(self, count: int, _: int) -> None:
        """Queue the question how many replicas have it."""
        assert count == 1

    async def execute(self) -> list[Any]:
        """Carry both out."""
        (said,) = self._asked
        return [await self._real.eval(*said), self.reached]


async def test_whoever_has_come_later_goes_first(redis_client: "redis.asyncio.Redis") -> None:
    """A turn that lies ahead, as by a clock that was set back since, is overtaken by the second try; the first gives way."""
    async with begun(redis_client, 2, tpm=8000) as tenants:
        ahead = 2**52
        await redis_client.hset(tenants.cells[1].shares, mapping={"number": ahead, "token": "x"})
        with pytest.raises(Overtaken):
            await divide(tenants.stores, [tenants.scope], 1, tries=1)
        assert [one["tpm"] for one in await tenants.shares()] == [1000, 1000]
        assert (await divide(tenants.stores, [tenants.scope], 1, tries=2)).written
        assert int(await redis_client.hget(tenants.cells[0].shares, "number")) == ahead + 1


async def test_more_scopes_than_one_call_takes_are_divided(
    redis_client: "redis.asyncio.Redis",
) -> None:
    """In parts, each in a turn of its own."""
    await redis_client.flushall()
    cells = [cell(0), cell(1)]
    many = [declared(rpm=10)._replace(name=f"deployment:{n}") for n in range(BATCH + 3)]
    assert await divide(dict.fromkeys(cells, redis_client), many, 1) == Division((), 2 * len(many))
    for one in (many[0], many[-1]):
        found = [await read_scope(redis_client, one.name, each) for each in cells]
        assert [each and each.limit("rpm") for each in found] == [5, 5]
