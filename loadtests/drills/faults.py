"""
What Redis, and the ledger's database, may do to us: each fault is a coroutine that begins it, bears it and ends it.

A fault returns what it has done: the marks of calls whose entries it has legitimately lost, whether counters went with
them, for how long no progress could be reported, for how long the store was away, for how long it then has to learn, and how far
its clock went ahead.
"""

import asyncio
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
from redis.asyncio import Redis
from redis.exceptions import RedisError

from loadtests.bench.ground import Child, Ground
from loadtests.drills.clock import Clock
from loadtests.drills.holds import STREAM, ask
from loadtests.drills.site import Site, kill

_USER = 7
# Longer than an admission waits (store.admit_timeout_ms).
SLOW_S = 1.5
# A lease's life: for so long after a flush strict budgets are closed.
LEARNING_S = 10.0
# Further than a lease lives, and not so far that what is nearly empty seems full for long when it is taken back.
STEP_S = 30


class Store:
    """A store that the drill has started itself, with the gateway's own command, so that it can do to it what it likes."""

    def __init__(self, ground: Ground, server: str | None = None) -> None:
        self._ground = ground
        self._server = server
        self.socket = ground.path / "st.sock"
        self.data = ground.path / "st"
        # The gateway comes by way of what may be slow; the drill's own clients do not.
        self.way = ground.path / "way.sock"
        self.url = f"unix://{self.way}?db=0"
        self.direct_url = f"unix://{self.socket}?db=0"
        self._delay: Child | None = None
        self.clock = Clock(ground.path)
        self.version = ""
        self.pid = 0
        self._keeper: Child
        self._starts = 0

    def start(self) -> None:
        """Start it on its data, and wait until it answers."""
        self._starts += 1
        self._keeper = self._ground.start(
            f"store-{self._starts}",
            [
                *(sys.executable, "-m", "store.embedded"),
                *("--socket", str(self.socket), "--data", str(self.data)),
                *(() if self._server is None else ("--server", self._server)),
            ],
            self.clock.environment(),
        )
        told = self._keeper.wait_for_line(r"^ready (\S+) pid (\d+) (.+)$")
        self.pid, self.version = int(told[2]), told[3]
        if self._delay is None:
            self._delay = self._ground.start(
                "delay",
                [
                    *(sys.executable, "-m", "loadtests.drills.delay", "--seconds", str(SLOW_S)),
                    *("--listen", str(self.way), "--to", str(self.socket)),
                ],
            )
            self._delay.wait_for_line(r"^listening on ")

    def delay(self, *, slow: bool) -> None:
        """Hold the store's answers to the gateway up, or let them through again."""
        assert self._delay is not None
        os.kill(self._delay.pid, signal.SIGUSR1 if slow else signal.SIGUSR2)

    def kill(self) -> None:
        """Kill the server; its keeper ends with it."""
        os.kill(self.pid, signal.SIGKILL)
        self._keeper.process.wait()
        self._ground.end(self._keeper)

    def log(self) -> Path:
        """Return the append-only file that is written to now."""
        files = sorted(
            self.data.glob("appendonlydir/*.incr.aof"), key=lambda path: path.stat().st_mtime
        )
        return files[-1]

    def client(self) -> Redis:
        """Return a client; the caller closes it."""
        return Redis.from_url(self.direct_url, socket_timeout=5)


@dataclass(slots=True)
class Harm:
    """What a fault has done, and what it may have lost."""

    lost: frozenset[str] = frozenset()
    new_book: bool = False
    lost_tail: bool = False
    mute_s: float = 0.0
    outage_s: float = 0.0
    learning_s: float = 0.0
    stepped_s: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)


Fault = Callable[[Store, float, Site], Awaitable[Harm]]


async def killed(store: Store, _: float, __: Site) -> Harm:
    """SIGKILL the server, and start it again on its append-only file."""
    begun = time.monotonic()
    store.kill()
    await asyncio.sleep(0.5)
    await asyncio.to_thread(store.start)
    return Harm(outage_s=time.monotonic() - begun)


async def lost_tail(store: Store, _: float, __: Site) -> Harm:
    """SIGKILL it and cut what its file got in the last second: a power cut under `appendfsync everysec`."""
    log = store.log()
    size = log.stat().st_size
    await asyncio.sleep(1.0)
    begun = time.monotonic()
    store.kill()
    cut = log.stat().st_size - size
    os.truncate(log, size)
    await asyncio.to_thread(store.start)
    return Harm(lost_tail=True, outage_s=time.monotonic() - begun, notes={"bytes_cut": cut})


async def slow(store: Store, seconds: float, _: Site) -> Harm:
    """Hold every answer up for longer than an admission waits."""
    store.delay(slow=True)
    await asyncio.sleep(seconds)
    store.delay(slow=False)
    return Harm(outage_s=seconds)


async def frozen(store: Store, seconds: float, _: Site) -> Harm:
    """SIGSTOP: connections stay, nothing answers."""
    os.kill(store.pid, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    os.kill(store.pid, signal.SIGCONT)
    return Harm(outage_s=seconds)


async def edge_killed(store: Store, seconds: float, site: Site) -> Harm:
    """SIGSTOP, and one of the edges is killed meanwhile: what it had to settle is in its journal or in its leases."""
    os.kill(store.pid, signal.SIGSTOP)
    await asyncio.sleep(seconds * 0.8)
    pid = site.pid_of("proxy edge --worker 0 ")
    if pid is not None:
        kill(pid)
    await asyncio.sleep(seconds * 0.2)
    os.kill(store.pid, signal.SIGCONT)
    return Harm(mute_s=seconds, outage_s=seconds)


async def scripts_flushed(store: Store, seconds: float, _: Site) -> Harm:
    """SCRIPT FLUSH, again and again."""
    await _again_and_again(store, seconds, 0.25, "SCRIPT", "FLUSH")
    return Harm()


async def flushed(store: Store, seconds: float, _: Site) -> Harm:
    """FLUSHALL; what the stream held at that instant is lost, and is read in the same transaction."""
    client = store.client()
    try:
        together: Any = client.pipeline(transaction=True)
        async with together:
            together.xrange(STREAM)
            together.flushall()
            waiting, _ = await together.execute()
    finally:
        await client.aclose()
    lost = frozenset(
        msgpack.unpackb(fields[b"e"], raw=True)[_USER].decode() for _, fields in waiting
    )
    await asyncio.sleep(seconds)
    return Harm(
        lost=lost, new_book=True, learning_s=LEARNING_S, notes={"entries_lost": len(waiting)}
    )


async def out_of_memory(store: Store, seconds: float, _: Site) -> Harm:
    """Set maxmemory below what is used: nothing can be written."""
    await _do(store, "CONFIG", "SET", "maxmemory", "1mb")
    await asyncio.sleep(seconds)
    await _do(store, "CONFIG", "SET", "maxmemory", "0")
    return Harm(outage_s=seconds)


async def read_only(store: Store, seconds: float, _: Site) -> Harm:
    """Make it a replica of nobody: it can be read and refuses to be written, as after a failover."""
    await _do(store, "REPLICAOF", "127.0.0.1", "1")
    await asyncio.sleep(seconds)
    await _do(store, "REPLICAOF", "NO", "ONE")
    return Harm(outage_s=seconds)


async def disconnected(store: Store, seconds: float, _: Site) -> Harm:
    """CLIENT KILL TYPE normal, five times a second."""
    await _again_and_again(store, seconds, 0.2, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    return Harm()


async def clock_stepped(store: Store, seconds: float, _: Site) -> Harm:
    """Step the server's clock ahead, further than a lease lives, and back again: every edge seems dead, and comes back."""
    store.clock.step(STEP_S)
    await asyncio.sleep(seconds)
    store.clock.step(0)
    return Harm(stepped_s=STEP_S)


async def ledger_locked(_: Store, seconds: float, site: Site) -> Harm:
    """Lock the database against its writer, as a backup or a curious operator may: entries wait in the stream."""
    connection = sqlite3.connect(site.ledger, isolation_level=None, timeout=5)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        await asyncio.sleep(seconds)
        connection.execute("ROLLBACK")
    finally:
        connection.close()
    return Harm()


FAULTS: dict[str, Fault] = {
    "killed": killed,
    "lost_tail": lost_tail,
    "slow": slow,
    "frozen": frozen,
    "edge_killed": edge_killed,
    "scripts_flushed": scripts_flushed,
    "flushed": flushed,
    "out_of_memory": out_of_memory,
    "read_only": read_only,
    "disconnected": disconnected,
    "clock_stepped": clock_stepped,
    "ledger_locked": ledger_locked,
}


async def _do(store: Store, *command: str) -> None:
    client = store.client()
    try:
        await ask(client, *command)
    finally:
        await client.aclose()


async def _again_and_again(store: Store, seconds: float, pause_s: float, *command: str) -> None:
    client = store.client()
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                await ask(client, *command)
            except RedisError:
                pass
            await asyncio.sleep(pause_s)
    finally:
        await client.aclose()
