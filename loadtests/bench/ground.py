"""
The ground of a bench: a temporary folder, the processes that run in it, and which cores they may use.

On Linux the proxy that is measured has a core of its own, and everything else shares the other cores; elsewhere nothing is pinned.
All processes end with the bench, in the opposite order of their start.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from loadtests.bench import usage
from loadtests.bench.wrk import BenchFailed

ROOT = Path(__file__).parents[2]
_START_S = 30.0
_END_S = 15.0


class Child:
    """A process of the bench; what it prints goes to a file of its own."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def last_words(self, lines: int = 15) -> str:
        """Give the end of what it printed."""
        told = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "".join(f"\n  | {line}" for line in told)

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Wait until it is ready; raises `BenchFailed` with its last words when it ends or takes too long."""
        give_up = time.monotonic() + _START_S
        while not ready():
            if self.process.poll() is not None:
                raise BenchFailed(f"{self.name} ended at once:{self.last_words()}")
            if time.monotonic() > give_up:
                raise BenchFailed(f"{self.name} did not {what}:{self.last_words()}")
            time.sleep(0.05)

    def wait_for_line(self, pattern: str) -> re.Match[str]:
        """Wait until it prints a line that matches."""
        found: list[re.Match[str]] = []

        def ready() -> bool:
            match = re.search(pattern, self.log.read_text(errors="replace"), re.MULTILINE)
            found.extend([match] if match else [])
            return bool(found)

        self.wait_until(ready, f"print {pattern!r}")
        return found[0]

    def end(self) -> None:
        """Ask it to end, and make it end when it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


class Ground:
    """
    A context in which a bench runs.

    With `realtime` everything in it runs until it waits (SCHED_FIFO), so that nothing waits for another's time slice on the
    core that they share; raises `BenchFailed` where that is not allowed.
    """

    def __init__(self, *, realtime: bool = False) -> None:
        self._realtime = realtime
        cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
        self.pinned = len(cores) >= 2
        self._all = set(cores)
        self._measured = set(cores[:1])
        self._others = set(cores[1:])
        self._children: list[Child] = []
        # Short, because socket paths must stay below about 100 bytes.
        self.path = Path(tempfile.mkdtemp(prefix="pstk-"))

    def __enter__(self) -> Self:
        if self._realtime:
            _run_in_turn()
        if self.pinned:
            os.sched_setaffinity(0, self._others)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in reversed(self._children):
            child.end()
        if self.pinned:
            os.sched_setaffinity(0, self._all)
        if self._realtime:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        shutil.rmtree(self.path, ignore_errors=True)

    @property
    def children(self) -> tuple[Child, ...]:
        """All processes that were started, in that order."""
        return tuple(self._children)

    def start(
        self, name: str, command: Iterable[str], environ: Mapping[str, str] | None = None
    ) -> Child:
        """Start a process in the checkout's folder."""
        log = self.path / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                list(command),
                cwd=ROOT,
                env={**os.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C at the terminal is for whoever measures; it ends these in good order.
                process_group=0,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def end(self, child: Child) -> None:
        """End one process before the bench ends."""
        child.end()
        self._children.remove(child)

    def measure(self, pid: int) -> None:
        """Give a process the core that is only for what is measured."""
        if self.pinned:
            _pin(pid, self._measured)

    @contextlib.contextmanager
    def unpinned(self, pids: Iterable[int]) -> Iterator[None]:
        """Let everything run everywhere for a while; `pids` are those on the measured core."""
        if not self.pinned:
            yield
            return
        measured = set(pids)
        everything = {child.pid for child in self._children}
        for pid in list(everything):
            everything.update(usage.children(pid))
        everything.update(measured, {os.getpid()})
        for pid in everything:
            _pin(pid, self._all)
        try:
            yield
        finally:
            for pid in everything:
                _pin(pid, self._measured if pid in measured else self._others)

    def cpu_by_process(self) -> dict[str, float]:
        """Give the CPU seconds of each process so far, its children's with it; raises `BenchFailed` when one is gone."""
        used = {}
        for child in self._children:
            if child.process.poll() is not None:
                raise BenchFailed(f"{child.name} ended in the middle:{child.last_words()}")
            pids = (child.pid, *usage.children(child.pid))
            used[child.name] = sum(usage.cpu_s(pid) for pid in pids)
        return used

    def settle(self, *, below: float = 0.05, give_up_s: float = 60.0) -> None:
        """Wait until the processes rest, so that a run does not pay for what the one before left to do."""
        until = time.monotonic() + give_up_s
        while time.monotonic() < until:
            before = sum(self.cpu_by_process().values())
            time.sleep(0.4)
            if sum(self.cpu_by_process().values()) - before <= below * 0.4:
                return


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM and a closed terminal unwind the block like Ctrl-C, so that all that was started is ended."""
    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Whoever had it ignored (nohup) wants it to go on.
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pin(pid: int, cores: set[int]) -> None:
    if sys.platform == "linux":
        for thread in usage.threads(pid):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, cores)


def _run_in_turn() -> None:
    """Put this process, and so all that it starts, under SCHED_FIFO."""
    if sys.platform != "linux":
        raise BenchFailed("--realtime needs Linux")
    try:
        os.sched_setscheduler(
            0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO))
        )
    except PermissionError:
        raise BenchFailed("--realtime needs the right to use SCHED_FIFO: run it as root") from None


def free_port() -> int:
    """Give a TCP port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for_port(child: Child, port: int) -> None:
    """Wait until a process accepts connections."""

    def accepts() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    child.wait_until(accepts, f"listen on port {port}")


def wait_for_ready(child: Child, url: str) -> None:
    """Wait until a process answers 200."""

    def ready() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  (our own URL)
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    child.wait_until(ready, f"answer {url}")


def fetch(
    url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[dict[str, str], object]:
    """GET or POST JSON; gives headers (names in lower case) and document, raises `BenchFailed` on an error status."""
    request = urllib.request.Request(url, body, {**(headers or {})})  # noqa: S310  (our own URL)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            told = {name.lower(): value for name, value in answer.headers.items()}
            return told, msgspec.json.decode(answer.read())
    except urllib.error.HTTPError as error:
        raise BenchFailed(f"{url} answered {error.code}: {error.read(500)!r}") from error
