"""
Whether a server is set up so that what it was told stays: what it evicts, what it writes to disk, and when it stops by itself.

A limit whose counter was evicted is no limit, and a primary that was replaced and does not know goes on taking
writes that nobody will ever see, unless it has to hear of its replicas.
A server that shows its settings to nobody, as managed ones do, is believed.
"""

from collections.abc import Mapping
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

__all__ = ["misgivings", "misgivings_about"]

_ASKED: Final = (
    "maxmemory",
    "maxmemory-policy",
    "appendonly",
    "min-replicas-to-write",
    "min-replicas-max-lag",
)
# With 2 a primary that is cut off stops after three to four seconds, and edges can tell the last five again.
_MOST_LAG_S: Final = 2


def misgivings(settings: Mapping[str, str], *, has_replicas: bool) -> list[str]:
    """Return what is wrong with settings, each in words that name the setting and its remedy."""
    found = []
    policy = settings.get("maxmemory-policy", "noeviction")
    if policy != "noeviction":
        found.append(
            f"maxmemory-policy is {policy}, so that counters of limits and budgets may be evicted: set noeviction"
        )
    if settings.get("appendonly") == "no" and not has_replicas:
        found.append(
            "appendonly is no and there is no replica, so that a restart forgets what was spent"
            " since the last snapshot: set yes, with appendfsync everysec"
        )
    if has_replicas:
        least, lag = (
            int(settings.get(f"min-replicas-{name}", 0)) for name in ("to-write", "max-lag")
        )
        if least < 1 or not 0 < lag <= _MOST_LAG_S:
            found.append(
                f"min-replicas-to-write is {least} and min-replicas-max-lag {lag}, so that a primary which"
                " was replaced without knowing may go on to admit calls that its successor never hears of:"
                f" set 1 and {_MOST_LAG_S}"
            )
    return found


async def misgivings_about(client: Redis) -> list[str]:
    """Return what is wrong with the settings of the server behind a client. Raises what redis-py raises."""
    try:
        found: Any = await client.config_get(*_ASKED)
        replicas = (await client.info("replication")).get("connected_slaves", 0)
    except ResponseError:
        return []
    return misgivings(found, has_replicas=replicas > 0)
