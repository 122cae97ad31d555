"""
Who is the primary, as scripted Sentinels and cluster nodes tell it: stale, split, silent, dead, or wrong.

They listen on unix sockets, and an address with port 0 is one; so no port is taken. Real ones are asked in
`tests/ratelimit/test_failover.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from store import finder
from store.finder import Finder, NoPrimary
from store.target import Address, target
from tests.store.peers import SLOT, Scripted

Peer = Callable[..., Awaitable[Scripted]]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give peers the time that a busy machine needs; none is silent unless a test says so."""
    monkeypatch.setattr(finder, "ANSWER_WITHIN_S", 30.0)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """Make scripted peers."""
    made: list[Scripted] = []

    async def make(**answers: Any) -> Scripted:
        made.append(Scripted(**answers))
        await made[-1].start()
        return made[-1]

    yield make
    for one in made:
        await one.close()


def sentinels(*peers: Scripted, login: str = "") -> Finder:
    where = target(f"redis+sentinel://x/main{login}")
    return Finder(replace(where, nodes=tuple(one.at for one in peers)))


def cluster(*peers: Scripted) -> Finder:
    return Finder(replace(target("redis+cluster://x"), nodes=tuple(one.at for one in peers)))


OLD, NEW = Address("/old", 0), Address("/new", 0)


async def test_one_server_is_asked_nothing() -> None:
    """It is where its URL says."""
    where = target("redis://nowhere.invalid:7000")
    assert await Finder(where).primary() == Address("nowhere.invalid", 7000)
    assert not Finder(where).may_be_deceived()


# Sentinels...


async def test_the_sentinel_with_the_highest_epoch_is_right(peer: Peer) -> None:
    """One that was cut off from the others still names the primary of before, and may answer first."""
    stale, dead, late = await peer(), await peer(), await peer()
    stale.knows(OLD, 3)
    dead.shut = True
    late.knows(NEW, 10)
    for order in ((stale, dead, late), (late, stale, dead)):
        ours = sentinels(*order)
        assert await ours.primary() == NEW
        assert ours.latest == NEW


async def test_sentinels_are_asked_for_the_service_under_their_own_user(peer: Peer) -> None:
    """Never under that of the servers."""
    one = await peer()
    one.knows(NEW)
    await sentinels(one, login="?sentinel_username=w&sentinel_password=q").primary()
    assert one.asked == [
        [b"AUTH", b"w", b"q"],
        [b"SENTINEL", b"MASTER", b"main"],
        [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", b"main"],
    ]


async def test_silent_sentinels_keep_nobody_waiting(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are asked at once, and each has its time."""
    monkeypatch.setattr(finder, "ANSWER_WITHIN_S", 0.5)
    silent = await peer(SENTINEL=asyncio.Event())
    other = await peer()
    other.knows(NEW)
    async with asyncio.timeout(20):
        assert await sentinels(silent, other).primary() == NEW


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Exception("ERR No such master with that name"), "No such master"),
        (Exception("NOAUTH Authentication required."), "NOAUTH"),
        (["ip", "h"], "config-epoch"),
        ({b"MASTER": ["config-epoch", "1"], b"GET-MASTER-ADDR-BY-NAME": None}, "cannot unpack"),
        ({b"MASTER": 7, b"GET-MASTER-ADDR-BY-NAME": ["h", "1"]}, "not subscriptable"),
        (
            {b"MASTER": ["config-epoch", "1"], b"GET-MASTER-ADDR-BY-NAME": ["h", "x"]},
            "invalid literal",
        ),
        (b"", "closed the connection"),
        (b"nonsense\r\n", "closed the connection"),
    ],
)
async def test_without_a_sentinel_that_knows_there_is_no_primary(
    peer: Peer, answer: Any, words: str
) -> None:
    """The error says who was asked for what, and what each said."""
    one, two = await peer(SENTINEL=answer), await peer(SENTINEL=answer)
    ours = sentinels(one, two)
    ours.latest = OLD
    with pytest.raises(NoPrimary, match=words) as told:
        await ours.primary()
    assert "no Sentinel knows where main is" in str(told.value)
    assert f"{one.at}" in str(told.value)
    assert f"{two.at}" in str(told.value)
    assert ours.latest is None


async def test_those_who_ask_at_once_share_a_search(peer: Peer) -> None:
    """And the next one who asks begins another; a search that was given up spoils nothing."""
    gate = asyncio.Event()
    one = await peer(SENTINEL=gate)
    ours = sentinels(one)
    asking = [asyncio.ensure_future(ours.primary()) for _ in range(5)]
    async with asyncio.timeout(30):
        await one.begun.wait()
    asking[0].cancel()
    one.knows(NEW)
    gate.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [NEW] * 4
    assert one.was_asked(b"SENTINEL") == 3
    one.knows(OLD)
    assert await ours.primary() == OLD


# A cluster...


async def test_the_owner_of_the_slot_is_the_primary(peer: Peer) -> None:
    """Most nodes name it, and it serves a key of ours."""
    first, owner, old = await peer(), await peer(), await peer()
    first.maps(owner, first, owner)
    owner.maps(owner, first, owner)
    old.maps(old, first, owner)
    owner.answers["EXISTS"] = 0
    ours = cluster(old, first, owner)
    assert await ours.primary() == owner.at
    assert owner.asked[-1] == [b"EXISTS", b"{c0}"]
    assert not old.was_asked(b"EXISTS")


@pytest.mark.parametrize("code", ["ASK 10282 h:1", "TRYAGAIN Multiple keys"])
async def test_a_slot_on_its_way_is_served_by_the_one_that_it_leaves(peer: Peer, code: str) -> None:
    """Until it has left."""
    owner = await peer(EXISTS=Exception(code))
    owner.maps(owner)
    assert await cluster(owner).primary() == owner.at


async def test_nodes_that_have_not_heard_yet_are_corrected_by_the_former_owner(peer: Peer) -> None:
    """It knows who has the slot now, and is believed when that one serves it."""
    new = await peer(EXISTS=0)
    old = await peer(EXISTS=Exception(f"MOVED {SLOT} {new.path}:0"))
    old.maps(old)
    assert await cluster(old).primary() == new.at


async def test_a_correction_that_cannot_be_read_is_none(peer: Peer) -> None:
    """It leads nowhere, and nobody fails over it."""
    odd = await peer(EXISTS=Exception("MOVED nonsense"))
    odd.maps(odd)
    with pytest.raises(NoPrimary, match="MOVED nonsense"):
        await cluster(odd).primary()


async def test_a_node_that_is_cut_off_is_passed_over(peer: Peer) -> None:
    """It says that the cluster is down; another one owns the slot."""
    lone = await peer(EXISTS=Exception("CLUSTERDOWN The cluster is down"))
    new = await peer(EXISTS=0)
    lone.maps(lone)
    new.maps(new)
    for order in ((lone, new), (new, lone)):
        assert await cluster(*order).primary() == new.at


async def test_a_node_without_a_name_means_the_one_that_was_asked(peer: Peer) -> None:
    """In its map and in its MOVED (https://redis.io/docs/latest/commands/cluster-slots/)."""
    one = await peer(EXISTS=0, CLUSTER=[[0, 16383, [None, 0, "id"]]])
    assert await cluster(one).primary() == one.at
    one.answers = {"EXISTS": 0, "CLUSTER": [[0, 16383, ["", 0, "id"]]]}
    assert await cluster(one).primary() == one.at


async def test_nodes_that_the_url_does_not_name_are_known_once_one_has_told(peer: Peer) -> None:
    """The nodes of the URL may all be gone by the time there is another owner."""
    seed, old, new = await peer(), await peer(EXISTS=0), await peer(EXISTS=0)
    seed.maps(old, seed, old, new)
    old.maps(old, seed, old, new)
    ours = cluster(seed)
    assert await ours.primary() == old.at
    new.maps(new, seed, old, new)
    seed.shut = old.shut = True
    for _ in range(2):
        try:
            assert await ours.primary() == new.at
            break
        except NoPrimary:
            pass


async def test_a_large_cluster_is_asked_in_turns(peer: Peer) -> None:
    """Five nodes at a time, others the next time, and those of the URL again and again."""
    nodes, dead = [await peer() for _ in range(12)], await peer()
    dead.shut = True
    for one in nodes:
        one.maps(dead, *nodes)
    ours = cluster(nodes[0])
    for _ in range(5):
        before = [one.was_asked(b"CLUSTER") for one in nodes]
        with pytest.raises(NoPrimary, match=f"no node serves slot {SLOT}"):
            await ours.primary()
        after = [one.was_asked(b"CLUSTER") for one in nodes]
        assert sum(after) - sum(before) <= 5
    assert min(after) > 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Exception("ERR This instance has cluster support disabled"), "cluster support disabled"),
        ([], f"knows no owner of slot {SLOT}"),
        ([[0, 16383]], "not enough values"),
        (b"", "closed the connection"),
    ],
)
async def test_without_an_owner_there_is_no_primary(peer: Peer, answer: Any, words: str) -> None:
    """The error says which slot, and what each node said."""
    one = await peer(CLUSTER=answer)
    with pytest.raises(NoPrimary, match=words) as told:
        await cluster(one).primary()
    assert f"slot {SLOT}" in str(told.value)
