"""Laws of the failovers: each leaves a store that works, at another node, and says what it may have lost."""

import pytest

from loadtests.drills.company import Cluster, SentinelSet, means_to_move
from loadtests.drills.failover import InCluster, UnderSentinels
from tests.servers import server_binary


async def kept(store: UnderSentinels | InCluster, name: str, value: str = "") -> bytes | None:
    """Write or read."""
    client = store.client()
    try:
        if value:
            await client.set(name, value)
        found = await client.get(name)
        return None if found is None else bytes(found)
    finally:
        await client.aclose()


async def test_another_primary_takes_over_from_one_that_was_killed(sentinels: SentinelSet):
    """What its replicas had heard is there, what they had not is gone, and it is said that this may be."""
    store = UnderSentinels(sentinels)
    primary = sentinels.primary()
    await kept(store, "{c0}:old", "1")
    harm = await store.faults["sentinel_lost_tail"]()
    assert harm.lost_tail
    assert sentinels.primary() is not primary
    assert await kept(store, "{c0}:old") == b"1"
    assert await kept(store, "{c0}:new", "2") == b"2"
    assert store.url == sentinels.url
    store.heal()
    assert primary.follows()


async def test_a_replica_takes_over_from_an_owner_that_was_killed(cluster: Cluster):
    """The same in a cluster."""
    store = InCluster(cluster, server_binary())
    owner = cluster.owner()
    await kept(store, "{c0}:old", "1")
    assert (await store.faults["cluster_killed"]()).lost_tail
    assert cluster.owner() not in {None, owner}
    assert await kept(store, "{c0}:old") == b"1"
    assert await kept(store, "{c0}:new", "2") == b"2"


@pytest.mark.parametrize("means", means_to_move(server_binary()))
async def test_a_slot_that_was_moved_has_all_of_its_keys(cluster: Cluster, means: str):
    """However it was moved; nothing may be lost."""
    store = InCluster(cluster, server_binary())
    owner = cluster.owner()
    await kept(store, "{c0}:old", "1")
    assert not (await store.faults[f"cluster_slot_moved_{means}"]()).lost_tail
    assert cluster.owner() not in {None, owner}
    assert await kept(store, "{c0}:old") == b"1"
