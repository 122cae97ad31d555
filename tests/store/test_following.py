"""redis-py over a primary that changes: it goes where the finder says, and asks again where it was turned away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from store import following as module
from store.finder import Finder, NoPrimary
from store.following import following
from store.target import Address, target
from tests.store.peers import FakeRedis, resp

Servers = Callable[..., Awaitable["Server"]]


class Server(FakeRedis):
    """A server on a port of its own that says its role, and its name when it is asked."""

    def __init__(self, name: str) -> None:
        super().__init__(self.say)
        self.name = name
        self.role = "master"
        self.at = Address("", 1)
        self.refusal = ""

    def say(self, command: list[bytes]) -> bytes:
        if command[0] == b"ROLE":
            return resp([self.role, 0, []])
        if self.refusal and command[0] == b"GET":
            return resp(Exception(self.refusal))
        return resp(self.name if command[0] == b"GET" else "OK")


@dataclass
class Named(Finder):
    """A finder that is told."""

    at: Address | None
    kind: str = "sentinel"
    asked_at: float = 0.0
    latest: Address | None = None
    asked: int = field(default=0)

    def __post_init__(self) -> None:
        self.target = target(
            "redis+sentinel://x/m" if self.kind == "sentinel" else "redis+cluster://x"
        )

    async def primary(self) -> Address:
        self.asked += 1
        self.latest = self.at
        self.asked_at = asyncio.get_running_loop().time()
        if self.at is None:
            raise NoPrimary("nobody")
        return self.at


@pytest.fixture
async def server() -> AsyncIterator[Servers]:
    """Make scripted servers."""
    made: list[Server] = []

    async def make(name: str) -> Server:
        made.append(Server(name))
        made[-1].at = Address("127.0.0.1", await made[-1].start_port())
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.fixture
async def client() -> AsyncIterator[Callable[[Named], redis.asyncio.Redis]]:
    """Make clients that follow, and close them."""
    made: list[redis.asyncio.Redis] = []

    def make(finder: Named) -> redis.asyncio.Redis:
        pool = redis.asyncio.BlockingConnectionPool(
            connection_class=following(Connection, finder),
            max_connections=2,
            protocol=2,
            retry=Retry(NoBackoff(), 3),
        )
        made.append(redis.asyncio.Redis.from_pool(pool))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()


@pytest.mark.parametrize(
    ("kind", "refusal"),
    [
        ("sentinel", "READONLY You can't write against a read only replica."),
        ("cluster", "MOVED 10282 127.0.0.1:1"),
        ("cluster", "CLUSTERDOWN The cluster is down"),
        ("cluster", "MASTERDOWN Link with MASTER is down"),
    ],
)
async def test_a_server_that_is_no_primary_any_more_is_left(
    server: Servers, client: Any, kind: str, refusal: str
) -> None:
    """The call goes to the next one, and whoever made it does not notice."""
    old, new = await server("old"), await server("new")
    finder = Named(old.at, kind)
    ours = client(finder)
    assert await ours.get("x") == b"old"
    finder.at, old.refusal = new.at, refusal
    assert await ours.get("x") == b"new"
    assert old.connections == new.connections == 1


async def test_a_call_that_is_refused_everywhere_fails(server: Servers, client: Any) -> None:
    """After some tries; nothing hangs."""
    one = await server("one")
    one.refusal = "READONLY x"
    with pytest.raises(RedisConnectionError, match="another server is the primary now"):
        await client(Named(one.at)).get("x")
    with pytest.raises(RedisConnectionError, match=r"^nobody$"):
        await client(Named(None)).get("x")


async def test_a_connection_to_a_former_primary_is_not_used_again(
    server: Servers, client: Any
) -> None:
    """It would answer, from what it knew: whoever finds another primary spares the others the way there."""
    old, new = await server("old"), await server("new")
    finder = Named(old.at)
    ours = client(finder)
    assert await ours.get("x") == b"old"
    finder.latest = finder.at = new.at
    assert await ours.get("x") == b"new"


async def test_a_primary_that_answers_is_doubted_now_and_then(
    server: Servers, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is cut off from its Sentinels does not know that there is another; if they know nothing, one goes on."""
    old, new = await server("old"), await server("new")
    finder = Named(old.at)
    ours = client(finder)
    assert await ours.get("x") == b"old"
    assert await ours.get("x") == b"old"
    assert finder.asked == 1
    monkeypatch.setattr(module, "LOOK_EVERY_S", -1.0)
    finder.at = None
    assert await ours.get("x") == b"old"
    finder.at = new.at
    assert await ours.get("x") == b"new"
    assert finder.asked > 2


async def test_a_replica_that_the_sentinels_name_is_not_used(server: Servers, client: Any) -> None:
    """Not yet promoted, or no longer a primary: its own word counts, on the connection that is used."""
    one = await server("one")
    one.role = "slave"
    with pytest.raises(RedisConnectionError, match="is no primary"):
        await client(Named(one.at)).get("x")
    assert [b"GET", b"x"] not in one.asked
    one.role = "master"
    assert await client(Named(one.at)).get("x") == b"one"
