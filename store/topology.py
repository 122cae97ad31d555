"""
Where the store is: one URL, read once, for redis-py and for the lane alike.

The forms stand in `store.target`, who is the primary is found by `store.finder`.
Behind Sentinels, and in a cluster, a client is an ordinary one whose connections go to the primary: every key that it
touches has one hash tag, so that one node serves them all, scripts, transactions and pub/sub included.
"""

from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import AskError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from store.cells import FIRST, Cell
from store.finder import Finder
from store.following import following
from store.mended import mended
from store.target import BadStoreUrl, Target, target

__all__ = ["BadStoreUrl", "Target", "client", "target"]

_PASSING: tuple[type[RedisError], ...] = (
    # Its own, not the built-in one.
    RedisConnectionError,
    RedisTimeoutError,
    # A slot is on its way to another node; nothing was carried out.
    AskError,
    TryAgainError,
)


def client(url: str, *, cell: Cell = FIRST, connections: int = 8, timeout_s: float = 5.0) -> Redis:
    """
    Return a redis-py client for everything that is not the hot path; the caller closes it.

    It goes to where the cell lies, which matters in a cluster. Its pool waits for a free connection instead of failing, and reconnects by itself, to the primary of then.
    Raises `BadStoreUrl`.
    """
    where = target(url, cell)
    settings: dict[str, Any] = {
        "max_connections": connections,
        "timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "health_check_interval": 15,
    }
    if where.kind == "server":
        retry = Retry(ExponentialBackoff(cap=0.5, base=0.02), 3)
        pool = BlockingConnectionPool.from_url(url, retry=retry, **settings)
        pool.connection_class = mended(pool.connection_class)
        return Redis.from_pool(pool)
    kind: Any = Connection
    if where.tls:
        kind = SSLConnection
        settings["ssl_ca_certs"] = where.ca_file
    return Redis.from_pool(
        BlockingConnectionPool(
            connection_class=following(mended(kind), Finder(where)),
            db=where.db,
            username=where.username,
            password=where.password,
            # Longer than a server takes to be replaced that fell silent without a word.
            socket_timeout=timeout_s,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), 6, _PASSING),
            **settings,
        )
    )
