"""
Where the store is: one URL, read once, for redis-py and for the lane alike.

Forms: `redis://[user:password@]host[:port][/db]`, `rediss://...` (TLS; `?ssl_ca_certs=FILE`), `unix:///path[?db=0]`.
"""

from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from store.cancellable import cancellable


class BadStoreUrl(ValueError):
    """The URL of the store cannot be read; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Target:
    """The address of one Redis; its text never shows the password."""

    host: str
    port: int
    path: str | None
    db: int
    tls: bool
    ca_file: str | None
    username: str | None
    password: str | None = field(repr=False)

    def __str__(self) -> str:
        """Return the address alone."""
        return self.path or f"{self.host}:{self.port}"

    def greeting(self) -> list[tuple[str, ...]]:
        """Return the commands with which a fresh connection begins."""
        commands: list[tuple[str, ...]] = []
        if self.password is not None:
            who = (self.username,) if self.username else ()
            commands.append(("AUTH", *who, self.password))
        if self.db:
            commands.append(("SELECT", str(self.db)))
        commands.append(("PING",))
        return commands


def target(url: str) -> Target:
    """Read a store URL. Raises `BadStoreUrl`."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise BadStoreUrl(
            f"store.redis: expected redis://, rediss:// or unix://, found {parts.scheme or 'no scheme'}://"
        )
    try:
        port = parts.port or 6379
        text = query.get("db", [parts.path.strip("/") if parts.scheme != "unix" else ""])[0]
        db = int(text) if text else 0
        if db < 0:
            raise ValueError(f"there is no database {db}")
    except ValueError as error:
        raise BadStoreUrl(f"store.redis: port and database must be numbers: {error}") from None
    known = {"db", "ssl_ca_certs"} if parts.scheme == "rediss" else {"db"}
    if unknown := sorted(query.keys() - known):
        raise BadStoreUrl(
            f"store.redis: expected ?db= (and ?ssl_ca_certs= with rediss://), found {unknown[0]}"
        )
    if parts.scheme == "unix" and (not parts.path or parts.hostname):
        raise BadStoreUrl(
            "store.redis: unix:// needs an absolute path, as in unix:///run/redis.sock"
        )
    return Target(
        host=parts.hostname or "127.0.0.1",
        port=port,
        path=unquote(parts.path) if parts.scheme == "unix" else None,
        db=db,
        tls=parts.scheme == "rediss",
        ca_file=query.get("ssl_ca_certs", [None])[0],
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def client(url: str, *, connections: int = 8, timeout_s: float = 5.0) -> Redis:
    """
    Return a redis-py client for everything that is not the hot path; the caller closes it.

    Its pool waits for a free connection instead of failing, and reconnects by itself.
    """
    target(url)
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), 3),
        health_check_interval=15,
    )
    pool.connection_class = cancellable(pool.connection_class)
    return Redis.from_pool(pool)
