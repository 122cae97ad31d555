"""Servers in company: they come up knowing each other, and are brought back whatever was done to them."""

from collections.abc import Callable
from pathlib import Path

import hiredis
import pytest

from loadtests.bench.wrk import BenchFailed
from loadtests.drills.company import (
    SLOT,
    Cluster,
    Member,
    SentinelSet,
    Server,
    free_ports,
    version,
    wait_until,
)
from tests.servers import server_binary


def test_a_server_that_does_not_start_says_why(make_folder: Callable[[], Path]):
    """With the last words of its log."""
    odd = Server(server_binary(), make_folder(), "--no-such-setting", "x")
    with pytest.raises(BenchFailed, match="no-such-setting"):
        odd.start()
    assert not odd.runs()


def test_a_member_is_asked_over_its_socket(make_folder: Callable[[], Path]):
    """Also after it was killed and started again; its refusals are raised."""
    one = Member(server_binary(), make_folder(), next(free_ports()))
    one.start()
    try:
        assert one.ask("SET", "x", 1) == b"OK"
        one.kill()
        one.start()
        assert one.ask("GET", "x") is None
        with pytest.raises(hiredis.ReplyError):
            one.ask("NOSUCHCOMMAND")
        assert not one.follows()
    finally:
        one.kill()


def test_a_server_says_its_version():
    """As it stands in the record of a drill."""
    assert "v=" in version(server_binary())


def test_a_set_is_whole_again_after_a_death(sentinels: SentinelSet):
    """The dead one comes back as a replica of the next, and what is stored can be forgotten."""
    former = sentinels.primary()
    former.ask("SET", "x", 1)
    former.kill()
    wait_until(lambda: sentinels.primary() is not former, "there is another primary")
    sentinels.heal()
    primary = sentinels.primary()
    assert primary is not former
    assert primary.replicas() == 2
    assert former.follows()
    sentinels.empty()
    assert primary.ask("GET", "x") is None


def test_a_cluster_is_whole_again_after_a_death(cluster: Cluster):
    """Three owners with a replica each, as before."""
    owner = cluster.owner()
    assert owner is not None
    replica = cluster.replica_of(owner)
    replica.lose_primary()
    owner.ask("SET", "{c0}:x", "unheard")
    replica.find_primary()
    replica.kill()
    cluster.heal()
    assert len(cluster.owners()) == 3
    assert [one.replicas() for one in cluster.owners()] == [1, 1, 1]
    assert cluster.owner() is owner
    assert owner.ask("CLUSTER", "COUNTKEYSINSLOT", SLOT) == 1
