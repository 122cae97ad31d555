"""Laws of the lease: one holder at a time, and a leader that cannot renew stops in time."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from store import topology
from store.election import Lease, lead

KEY = "{c0}:lead:drain"


def chore(redis: Redis, ttl_ms: int = 300) -> Lease:
    """Make a candidate's lease."""
    return Lease(redis, "drain", ttl_ms=ttl_ms)


class Noted(Lease):
    """A lease that notes that it was renewed."""

    def __init__(self, redis: Redis, ttl_ms: int) -> None:
        super().__init__(redis, "drain", ttl_ms=ttl_ms)
        self.renewed = asyncio.Event()

    async def renew(self) -> bool:
        """Renew it, and note it."""
        still_ours = await super().renew()
        if still_ours:
            self.renewed.set()
        return still_ours


class Work:
    """A chore that notes when it begins and ends."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.changes: list[bool] = []

    async def __call__(self) -> None:
        self.begun.set()
        self.ended.clear()
        try:
            await asyncio.sleep(60)
        finally:
            self.begun.clear()
            self.ended.set()


async def stop(task: "asyncio.Future[None]") -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_holds_it_at_a_time(redis_client: Redis) -> None:
    """A second candidate is refused until the first gives it back."""
    first, second = chore(redis_client, 60_000), chore(redis_client, 60_000)
    assert await first.acquire()
    assert not await second.acquire()
    assert first.is_held(asyncio.get_running_loop().time())
    await first.release()
    assert not first.is_held(asyncio.get_running_loop().time())
    assert await second.acquire()


async def test_only_the_holder_renews_and_releases(redis_client: Redis) -> None:
    """Another's renewal and release change nothing."""
    first, second = chore(redis_client, 60_000), chore(redis_client, 90_000)
    await first.acquire()
    assert not await second.renew()
    await second.release()
    assert await redis_client.pttl(KEY) <= 60_000
    assert await first.renew()
    assert await redis_client.exists(KEY)


async def test_a_lease_ends_by_itself(redis_client: Redis) -> None:
    """Whoever dies with the lease frees it after its time; it was considered ours for less."""
    first, second = chore(redis_client, 100), chore(redis_client)
    begun = asyncio.get_running_loop().time()
    assert await first.acquire()
    assert first.stop_at() < begun + 0.1
    async with asyncio.timeout(20):
        for _ in range(1000):
            if await second.acquire():
                break
            await asyncio.sleep(0.01)
    assert not first.is_held(asyncio.get_running_loop().time())
    assert not await first.renew()


async def test_the_next_takes_over_when_the_leader_ends(redis_client: Redis) -> None:
    """A leader that is cancelled ends its work, gives the lease back, and another leads."""
    one, two = Work(), Work()
    lease = Noted(redis_client, ttl_ms=3000)
    first = asyncio.ensure_future(lead(lease, one, on_change=one.changes.append))
    async with asyncio.timeout(10):
        await one.begun.wait()
        second = asyncio.ensure_future(lead(chore(redis_client), two))
        await lease.renewed.wait()
        assert one.begun.is_set()
        assert not two.begun.is_set()
        await stop(first)
        assert one.ended.is_set()
        assert one.changes == [True, False]
        await two.begun.wait()
        await stop(second)
    assert not await redis_client.exists(KEY)


async def test_a_leader_that_lost_its_lease_stops_and_stands_again(redis_client: Redis) -> None:
    """Someone else's token in the key ends the work; when the key is free, it begins anew."""
    work = Work()
    leader = asyncio.ensure_future(lead(chore(redis_client), work))
    async with asyncio.timeout(20):
        await work.begun.wait()
        await redis_client.set(KEY, b"another")
        await work.ended.wait()
        assert await redis_client.get(KEY) == b"another"
        await redis_client.delete(KEY)
        await work.begun.wait()
        await stop(leader)


async def test_a_leader_without_a_store_stops_in_time(make_redis: Callable[..., Any]) -> None:
    """When Redis is gone the work ends before another could lead, and begins again with it."""
    server = make_redis()
    client = topology.client(server.url)
    work = Work()
    leader = asyncio.ensure_future(lead(chore(client), work))
    async with asyncio.timeout(10):
        await work.begun.wait()
        server.kill()
        await work.ended.wait()
        server.start()
        await work.begun.wait()
        await stop(leader)
    await client.aclose()


async def test_what_the_work_raises_is_raised_and_frees_the_lease(redis_client: Redis) -> None:
    """An error ends the leadership at once, and so does a return."""

    async def fail() -> None:
        raise ValueError("broken")

    async def finish() -> None:
        pass

    async with asyncio.timeout(20):
        with pytest.raises(ValueError, match="broken"):
            await lead(chore(redis_client, 60_000), fail)
        await lead(chore(redis_client, 60_000), finish)
    assert not await redis_client.exists(KEY)
