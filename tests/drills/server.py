"""A server of a drill's own, as the tests have theirs."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import redis

from tests.conftest import RedisServer


@contextlib.contextmanager
def server() -> Iterator[tuple["redis.Redis[bytes]", str]]:
    """Start a server that keeps nothing; gives a client that answers in bytes, and the server's version."""
    folder = Path(tempfile.mkdtemp(prefix="pst-"))
    ours = RedisServer(folder)
    ours.start()
    client = redis.Redis(unix_socket_path=str(ours.socket))
    try:
        yield client, version_of(client)
    finally:
        client.close()
        ours.kill()
        shutil.rmtree(folder, ignore_errors=True)


def version_of(client: "redis.Redis[bytes]") -> str:
    """Return the server's name and version."""
    found = client.info("server")
    if "valkey_version" in found:
        return f"Valkey {found['valkey_version']}"
    return f"Redis {found['redis_version']}"
