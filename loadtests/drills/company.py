"""
Real servers in company: a primary with its replicas and Sentinels, and a cluster of six.

They listen on unix sockets for whoever drives them, and on ports of 127.0.0.1 for each other, taken from below those
that the kernel gives to clients. The timers of failovers are as short as they may be.
"""

import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hiredis
from redis.crc import key_slot

from loadtests.bench.wrk import BenchFailed
from loadtests.drills.holds import CELL

START_WITHIN_S = 20.0
SERVICE = "main"
DOWN_AFTER_MS = 1000
NODE_TIMEOUT_MS = 1000
SLOT = key_slot(CELL.encode())
SETTLES_WITHIN_S = 60.0


class Server:
    """
    One real server on a unix socket, which may be stopped, killed, suspended and started again.

    `program` is a Valkey or Redis; `options` are added to its command line, e.g. `"--appendonly", "yes"`; by default it
    keeps nothing.
    """

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self.folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}?db=0"
        self._command = [
            program,
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
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise BenchFailed(f"the server did not start: {log.read_text()[-2000:]}")
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

    def _is_up(self) -> bool:
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
        except (OSError, hiredis.ReplyError):
            pass
        if time.monotonic() > give_up:
            raise BenchFailed(f"the servers did not come to this: {what}")
        time.sleep(0.02)


class Member(Server):
    """A server that listens on a port as well, and whoever asks it."""

    def __init__(self, program: str, folder: Path, port: int, *options: str) -> None:
        super().__init__(program, folder, *options, "--port", str(port), "--bind", "127.0.0.1")
        self.port = port
        self._line: socket.socket | None = None
        self._answers = hiredis.Reader()

    def ask(self, *command: str | int | bytes) -> Any:
        """Send one command over the unix socket, and return its answer as it comes."""
        try:
            return self._ask(command)
        except ConnectionError:
            # A server whose role changes breaks with its clients.
            self._hang_up()
            return self._ask(command)

    def _ask(self, command: tuple[str | int | bytes, ...]) -> Any:
        if self._line is None:
            self._line = socket.socket(socket.AF_UNIX)
            self._line.settimeout(5)
            self._line.connect(str(self.socket))
            self._answers = hiredis.Reader()
        self._line.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub says a tuple of one
        while (answer := self._answers.gets()) is False:
            data = self._line.recv(65536)
            if not data:
                raise ConnectionResetError(f"{self.socket} hung up")
            self._answers.feed(data)
        if isinstance(answer, hiredis.ReplyError):
            raise answer
        return answer

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def kill(self) -> None:
        """End it as a power cut does; nobody keeps a connection."""
        self._hang_up()
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

    def __init__(self, program: str, folder: Path, port: int, primary: int) -> None:
        super().__init__(program, folder, port)
        settings = folder / "sentinel.conf"
        settings.write_text(
            f"port {port}\nbind 127.0.0.1\nunixsocket {self.socket}\ndir {folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {SERVICE} 4000\n"
        )
        self._command = [program, str(settings), "--sentinel"]


def _pairs(said: list[bytes]) -> dict[str, str]:
    words = [one.decode() for one in said]
    return dict(zip(words[::2], words[1::2], strict=True))


class SentinelSet:
    """One primary, two replicas, and three Sentinels that watch them."""

    def __init__(self, program: str, folder: Callable[[], Path]) -> None:
        ports = free_ports()
        first, *others = (next(ports) for _ in range(3))
        durable = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
        self.servers = [Member(program, folder(), first, *durable)]
        self.servers += [
            Member(program, folder(), port, *durable, "--replicaof", f"127.0.0.1 {first}")
            for port in others
        ]
        self.sentinels = [_Sentinel(program, folder(), next(ports), first) for _ in range(3)]

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
            # Two pings fit into the time after which somebody is dead, or the living are taken for it. What a Sentinel
            # knows of a replica must be younger than five pings, and of a dead primary's it asks once a second.
            # On a busy machine it takes its own lateness for a clock that jumped, and does nothing for half a minute (TILT).
            timers = {"ping-period": 400, "publish-period": 100, "info-period": 200}
            for name, value in {**timers, "tilt-trigger": 60_000, "tilt-period": 500}.items():
                one.ask("SENTINEL", "DEBUG", name, value)
        self.heal()

    def kill(self) -> None:
        """End all of it at once."""
        for one in (*self.sentinels, *self.servers):
            one.kill()

    def heal(self) -> None:
        """Start who is dead, and return when everybody knows and follows whom they should."""
        for one in self.servers:
            one.resume()
            if not one.runs():
                one.start()
            one.find_primary()
        wait_until(self._knows_itself, "three Sentinels know each other and two replicas")
        wait_until(lambda: self.primary().replicas() == 2, "two replicas follow")
        # One that follows may still be waiting for its first copy: promoted then, it would know nothing at all.
        wait_until(lambda: self.primary().ask("WAIT", 2, 100) == 2, "two replicas have a copy")
        wait_until(
            lambda: all(self._trusts_replicas(one) for one in self.sentinels),
            "three Sentinels know that both replicas are fit",
        )

    def empty(self) -> None:
        """Forget everything that is stored."""
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


def version(program: str) -> str:
    """Return what a server says that it is."""
    said = subprocess.run([program, "--version"], capture_output=True, check=True, text=True)
    return said.stdout.strip()


def means_to_move(program: str) -> tuple[str, ...]:
    """Return how slots can be moved by a server: key by key, and all at once since Valkey 9."""
    return ("keys", "atomic") if "Valkey" in version(program) else ("keys",)


class Cluster:
    """Six nodes: three that own a third of the slots each, and a replica of each."""

    def __init__(self, program: str, folder: Callable[[], Path]) -> None:
        ports = free_ports()
        self.nodes = [
            Member(
                program,
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
        """Start who is dead, and return when each owner has a replica and all agree on it."""
        for node in self.nodes:
            node.resume()
            if not node.runs():
                node.start()
            node.find_primary()
        wait_until(lambda: all(self._is_whole(node) for node in self.nodes), "six nodes are up")
        wait_until(lambda: all(self._has_replicas(node) for node in self.nodes), "all know it")
        wait_until(lambda: all(node.replicas() for node in self.owners()), "replicas follow")

    def gather(self) -> None:
        """Give our slot back to the owner of the slots around it."""
        here = self.owner()
        around = next(
            primary[1]
            for first, last, primary, *_ in self.nodes[0].ask("CLUSTER", "SLOTS")
            if first <= SLOT - 1 <= last
        )
        there = next(node for node in self.nodes if node.port == around)
        if here is not None and here is not there:
            self.move_slot(here, there, "keys")

    def empty(self) -> None:
        """Forget everything that is stored."""
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

    def owner(self) -> Member | None:
        """Return the node that owns our slot, as most see it; None while they name none."""
        seen = [port for port in map(_owner, filter(Member.runs, self.nodes)) if port]
        most = max(seen, key=seen.count, default=0)
        return next((node for node in self.nodes if node.port == most), None)


def _owner(node: Member) -> int:
    """Return the port of the node that owns our slot, as this one sees it."""
    for first, last, primary, *_ in node.ask("CLUSTER", "SLOTS"):
        if first <= SLOT <= last:
            return int(primary[1])
    return 0
