"""One URL, read once: lane and redis-py mean the same server by it, and no text shows the password."""

import asyncio
import contextlib
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.exceptions import RedisError

from store import topology
from store.topology import client, target
from tests.conftest import RedisServer
from tests.store.peers import FakeRedis


@pytest.mark.parametrize(
    "url", ["redis://h:7000/3", "redis://:p%2Fw@h/0", "unix://u:p@/run/r.sock?db=4", "rediss://h"]
)
def test_redis_py_reads_the_same(url: str) -> None:
    """Both ways to the store go to the same place as the same user."""
    where = target(url)
    theirs = client(url).connection_pool.connection_kwargs
    assert theirs.get("password") == where.password
    assert theirs.get("username") == where.username
    assert theirs.get("db", 0) == where.db
    host = theirs.get("path") or theirs["host"]
    assert (host, theirs.get("port", 0 if "path" in theirs else 6379)) == where.nodes[0]


async def test_the_client_waits_for_a_free_connection(redis_url: str) -> None:
    """More callers than connections are a queue, not an error."""
    ours = client(redis_url, connections=2)
    try:
        answers = await asyncio.gather(*(ours.blpop(["nothing"], timeout=0.02) for _ in range(6)))
        assert answers == [None] * 6
    finally:
        await ours.aclose()


async def test_the_client_comes_back_by_itself(make_redis: Any) -> None:
    """A server that was restarted is used again without a word."""
    server: RedisServer = make_redis()
    ours = topology.client(server.url)
    try:
        await ours.set("here", "1")
        server.kill()
        with pytest.raises((RedisError, OSError)):
            await ours.get("here")
        server.start()
        assert await ours.get("here") is None
    finally:
        await ours.aclose()


async def test_a_caller_that_loses_patience_spoils_no_answer() -> None:
    """A call that was cancelled half way takes its connection with it: the next answer belongs to the next call."""
    late = asyncio.Event()

    async def answer(command: list[bytes]) -> bytes:
        if command[:2] == [b"GET", b"slow"]:
            await late.wait()
            return b"$4\r\nslow\r\n"
        return b"$4\r\nfast\r\n" if command[0] == b"GET" else b"+OK\r\n"

    server = FakeRedis(answer)
    await server.start()
    ours = redis.asyncio.Redis(
        connection_pool=client(server.url, connections=1).connection_pool, protocol=2
    )
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await ours.get("slow")
        late.set()
        assert await ours.get("fast") == b"fast"
    finally:
        await ours.aclose()
        await ours.connection_pool.aclose()
        await server.close()
