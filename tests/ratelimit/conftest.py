"""What the tests of the gate share: the scripts with a clock of the test's own, and gates over real servers."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest
import redis
import redis.asyncio
import uvloop

from tests.conftest import RedisServer
from tests.ratelimit.cell import Cell
from tests.ratelimit.gates import Meddler, World

WATCHED = {
    "test_admission.py",
    "test_failover.py",
    "test_gate.py",
    "test_outages.py",
    "test_settling.py",
}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests of the gate on both loops; those that wait for servers to fail, on the product's."""
    if item.path.name in {"test_failover.py", "test_outages.py"}:
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def nothing_left_running(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Require that asyncio has nothing to complain of: no task forgotten, no error that nobody looked at."""
    yield
    if request.path.name in WATCHED:
        gc.collect()
        complaints = [
            one.getMessage()
            for when in ("setup", "call", "teardown")
            for one in caplog.get_records(when)
            if one.name == "asyncio" and one.levelno >= logging.WARNING
        ]
        assert complaints == []


@pytest.fixture
def cell(redis_url: str) -> Iterator[Cell]:
    """Hand out the scripts over an emptied server."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield Cell(client)


@pytest.fixture
async def world(redis_client: redis.asyncio.Redis, redis_url: str) -> AsyncIterator[World]:
    """Hand out gates over the shared server, emptied."""
    one = World(redis_url)
    yield one
    await one.close()


@pytest.fixture
async def world_at(make_redis: Any) -> AsyncIterator[Callable[..., tuple[World, RedisServer]]]:
    """Make a world over a server of its own, which the test may stop, kill and start."""
    made: list[World] = []

    def make(*options: str) -> tuple[World, RedisServer]:
        server: RedisServer = make_redis(*options)
        one = World(server.url)
        made.append(one)
        return one, server

    yield make
    for one in made:
        await one.close()


@pytest.fixture
async def meddler(redis_server: RedisServer) -> AsyncIterator[Meddler]:
    """Stand between a lane and the shared server, and refuse as told."""
    one = Meddler(redis_server.socket)
    await one.start()
    yield one
    await one.close()


@pytest.fixture
async def durable(
    make_redis: Callable[..., RedisServer],
) -> AsyncIterator[tuple[World, RedisServer]]:
    """Hand out a world on a server of its own that keeps an append-only file."""
    # The file may be cut by the test: what it has not cut must be there, and everysec may put off a write.
    server = make_redis(
        *("--appendonly", "yes", "--appendfsync", "always", "--aof-use-rdb-preamble", "no")
    )
    world = World(server.url)
    yield world, server
    await world.close()
