"""Settings of a server: what is wrong is named with its remedy, and what cannot be seen is believed."""

import pytest
import redis.asyncio
from redis.exceptions import NoPermissionError

from store.settings import misgivings, misgivings_about

GOOD = {
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "appendonly": "yes",
    "min-replicas-to-write": "1",
    "min-replicas-max-lag": "2",
}


@pytest.mark.parametrize("has_replicas", [False, True])
def test_a_server_that_is_well_set_up_is_no_matter(has_replicas: bool) -> None:
    """With replicas and without."""
    assert misgivings(GOOD, has_replicas=has_replicas) == []
    assert misgivings({}, has_replicas=False) == []


@pytest.mark.parametrize(
    ("settings", "has_replicas", "words"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, False, "set noeviction"),
        ({"appendonly": "no"}, False, "set yes, with appendfsync everysec"),
        ({"min-replicas-to-write": "0"}, True, "min-replicas-to-write is 0"),
        ({"min-replicas-max-lag": "10"}, True, "min-replicas-max-lag 10"),
        ({"min-replicas-max-lag": "0"}, True, "set 1 and 2"),
    ],
)
def test_what_is_wrong_is_named(settings: dict[str, str], has_replicas: bool, words: str) -> None:
    """One sentence each, with what follows from it and what to set."""
    (found,) = misgivings(GOOD | settings, has_replicas=has_replicas)
    assert words in found


def test_who_has_no_replica_needs_none_and_replicas_are_a_memory() -> None:
    """A primary that is alone would stop for good; one that is not forgets nothing by itself."""
    assert misgivings(GOOD | {"min-replicas-to-write": "0"}, has_replicas=False) == []
    assert misgivings(GOOD | {"appendonly": "no"}, has_replicas=True) == []


async def test_a_real_server_is_asked(redis_client: redis.asyncio.Redis) -> None:
    """By the names that it knows."""
    before = await redis_client.config_get("maxmemory-policy")
    await redis_client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        found = await misgivings_about(redis_client)
    finally:
        await redis_client.config_set("maxmemory-policy", before["maxmemory-policy"])
    assert any(one.startswith("maxmemory-policy is allkeys-lru") for one in found)


async def test_a_server_that_shows_nothing_is_believed(
    redis_client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As managed ones are, where nobody may ask."""

    async def refuse(*_: str) -> None:
        raise NoPermissionError("this user has no permissions to run the 'config|get' command")

    monkeypatch.setattr(redis_client, "config_get", refuse)
    assert await misgivings_about(redis_client) == []
