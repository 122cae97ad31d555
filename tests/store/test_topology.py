"""One URL, read once: lane and redis-py mean the same server by it, and no text shows the password."""

import asyncio
import contextlib
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.exceptions import RedisError

from store import topology
from store.topology import BadStoreUrl, Target, client, target
from tests.conftest import RedisServer
from tests.store.peers import FakeRedis

PLAIN = Target(
    host="127.0.0.1",
    port=6379,
    path=None,
    db=0,
    tls=False,
    ca_file=None,
    username=None,
    password=None,
)


@pytest.mark.parametrize(
    ("url", "changes"),
    [
        ("redis://127.0.0.1", {}),
        ("redis://", {}),
        ("redis://cache.example:7000/3", {"host": "cache.example", "port": 7000, "db": 3}),
        ("redis://h/2?db=5", {"host": "h", "db": 5}),
        ("redis://[::1]:7000", {"host": "::1", "port": 7000}),
        ("redis://:p%2F%20w@h", {"host": "h", "password": "p/ w"}),
        ("redis://us%40er:pw@h", {"host": "h", "username": "us@er", "password": "pw"}),
        ("rediss://h", {"host": "h", "tls": True}),
        (
            "rediss://h/1?ssl_ca_certs=/a/b.pem",
            {"host": "h", "db": 1, "tls": True, "ca_file": "/a/b.pem"},
        ),
        ("unix:///run/r.sock", {"path": "/run/r.sock"}),
        ("unix:///a%20b/r.sock?db=4", {"path": "/a b/r.sock", "db": 4}),
        ("unix://u:p@/run/r.sock", {"path": "/run/r.sock", "username": "u", "password": "p"}),
    ],
)
def test_a_url_says_where_the_store_is(url: str, changes: dict[str, Any]) -> None:
    """Scheme, address, database, user and password, decoded."""
    wanted = {name: getattr(PLAIN, name) for name in Target.__slots__} | changes
    found = target(url)
    assert {name: getattr(found, name) for name in Target.__slots__} == wanted


@pytest.mark.parametrize(
    "url", ["redis://h:7000/3", "redis://:p%2Fw@h/0", "unix://u:p@/run/r.sock?db=4", "rediss://h"]
)
def test_redis_py_reads_the_same(url: str) -> None:
    """Both ways to the store go to the same place as the same user."""
    where = target(url)
    theirs = client(url).connection_pool.connection_kwargs
    assert theirs.get("path") == where.path
    assert theirs.get("password") == where.password
    assert theirs.get("username") == where.username
    assert theirs.get("db", 0) == where.db
    if where.path is None:
        assert (theirs["host"], theirs.get("port", 6379)) == (where.host, where.port)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:6379", "expected redis://, rediss:// or unix://"),
        ("http://h", "expected redis://, rediss:// or unix://, found http://"),
        ("", "found no scheme"),
        ("redis://h:port", "must be numbers"),
        ("redis://h:99999", "must be numbers"),
        ("redis://h/zero", "must be numbers"),
        ("redis://h/-1", "must be numbers"),
        ("redis://h/1/2", "must be numbers"),
        ("unix://", "absolute path"),
        ("unix://run/r.sock", "absolute path"),
        ("redis://h?dbs=1", "dbs"),
        ("redis://h?ssl_ca_certs=x", "rediss://"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(url: str, words: str) -> None:
    """The message says what was expected; for the lane and for redis-py alike."""
    for read in (target, client):
        with pytest.raises(BadStoreUrl, match=words):
            read(url)


def test_no_text_of_a_target_shows_the_password() -> None:
    """It goes into logs and errors."""
    where = target("redis://user:canary@h:7000")
    assert "canary" not in f"{where} {where!r}"
    assert str(where) == "h:7000"
    assert str(target("unix://:canary@/run/r.sock")) == "/run/r.sock"
    with pytest.raises(BadStoreUrl) as told:
        target("ftp://user:canary@h")
    assert "canary" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "commands"),
    [
        ("redis://h", [("PING",)]),
        ("redis://:p@h/2", [("AUTH", "p"), ("SELECT", "2"), ("PING",)]),
        ("redis://u:p@h", [("AUTH", "u", "p"), ("PING",)]),
    ],
)
def test_a_connection_begins_with_password_and_database(url: str, commands: list[Any]) -> None:
    """And ends its greeting with a PING, so that a server that is still loading is not taken for ready."""
    assert target(url).greeting() == commands


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
