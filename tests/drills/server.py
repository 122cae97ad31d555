"""A server of a drill's own, as the tests have theirs."""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import redis

from store import scripts
from tests.servers import RedisServer

# The fields of a scope's hash, limits and state, as `ratelimit/lua/scope.lua` names them.
FIELDS = ("l2", "s2")


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


def scripts_of() -> dict[str, str]:
    """Return the SHA-1 of the scripts as the server knows them: what a record was made with."""
    names = ("admit", "settle", "reap", "fence", "beat", "progress", "seed")
    texts = {name: scripts.load("ratelimit", name).text for name in names}
    return {name: hashlib.sha1(text.encode()).hexdigest()[:12] for name, text in texts.items()}


def version_of(client: "redis.Redis[bytes]") -> str:
    """Return the server's name and version."""
    found = client.info("server")
    if "valkey_version" in found:
        return f"Valkey {found['valkey_version']}"
    return f"Redis {found['redis_version']}"
