"""
The supervisor: starts the roles in order, keeps them alive, and ends them in the opposite order.

The rules:

- A role is one child process in a session of its own, so that a terminal's Ctrl-C reaches the supervisor alone.
- Roles start stage by stage; a stage begins when every role of the one before is ready.
  A role that dies before it was first ready ends the whole start: what is wrong then is wrong every time.
- Afterwards a role that dies is started again: after 100 ms, then twice as long each time, 5 s at most.
  A life of ten seconds makes it start afresh.
- A role that runs and answers nobody is worse than a dead one: it holds its share of the callers.
  One that leaves a question for its life unanswered for `Role.answers_within_s` is killed, and started again like any other.
  Only silence counts: who refuses, or cannot be asked, is left alone.
- The end goes by stages too, last started first: SIGTERM, as long as that role may take, then SIGKILL.
  A second signal hurries (a second SIGTERM, and SIGKILL soon after), a third one kills.
- Nobody is left behind: children hold a pipe that closes when the supervisor dies, however it dies (`store.parent`).

`Restarts` decides and is plain; `Supervisor` does.
"""

import asyncio
import contextlib
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from proxy.childlog import ChildLog
from store.embedded import ending
from store.parent import ParentPipe

_T = TypeVar("_T")

Say = Callable[[str], None]
Ready = Callable[[], Awaitable[str | None]]
"""Answers None when the role is ready, else what it still waits for, in words."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
STEADY_AFTER_S = 10.0
LOOPS_AFTER = 5
ASK_EVERY_S = 1.0
HURRY_S = 1.0
_NEWS = re.compile(r"^(?:\S+ \S+ \S+ (?:INFO|DEBUG)|ready|listening) ")  # date, time, name, level
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StartFailed(Exception):
    """The installation did not come up; the message says which role and why."""


Alive = Callable[[], Awaitable[float | None]]
"""
Waits for as long as the role has been asked and is silent; returns when it has answered, or cannot be asked.

Answers how long the role may take to end from now on, in seconds, or None where it does not say.
"""


async def at_once() -> str | None:
    """Call a role ready as soon as its process runs."""
    return None


@dataclass(frozen=True, slots=True)
class Role:
    """
    One child process, as the supervisor is told to run it.

    `stage` orders start and end; `stop_within_s` is how long it may take to end after SIGTERM.
    `alive` is asked every second once the role has been ready; after `answers_within_s` of silence it is killed (0: never).
    `survives_hurry` marks the one whose data would suffer: a second signal does not shorten its time.
    """

    name: str
    command: tuple[str, ...]
    stage: int
    ready: Ready = at_once
    alive: Alive | None = None
    answers_within_s: float = 10.0
    stop_within_s: float = 10.0
    environment: Mapping[str, str] = field(default_factory=dict)
    inherits_stdout: bool = False
    survives_hurry: bool = False


class Restarts:
    """When a role that died is started again; durations in seconds."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def died(self, lived_s: float) -> float:
        """Count a death after a life of so many seconds and return the pause before the next start."""
        if lived_s >= STEADY_AFTER_S:
            self.in_a_row = 0
        self.in_a_row += 1
        doubled = 2.0 ** min(self.in_a_row - 1, 16)
        return min(FIRST_PAUSE_S * doubled, LONGEST_PAUSE_S)

    @property
    def is_looping(self) -> bool:
        """Whether it dies again and again, so that somebody should look."""
        return self.in_a_row >= LOOPS_AFTER


class _Child:
    """What is happening to a role: its process now, and its past."""

    def __init__(self, role: Role, log: ChildLog) -> None:
        self.role = role
        self.log = log
        self.restarts = Restarts()
        self.process: asyncio.subprocess.Process | None = None
        self.started_at = 0.0
        self.stop_within_s = role.stop_within_s

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def send(self, number: signal.Signals) -> None:
        if self.is_running:
            assert self.process is not None
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


class Supervisor:
    """
    Runs roles until it is told to end; `say` gets every line that people should read.

    `logs` is the directory of the roles' logs, `<name>.log` each.
    """

    def __init__(self, roles: Sequence[Role], logs: Path, say: Say) -> None:
        self._children = [_Child(role, ChildLog(logs / f"{role.name}.log")) for role in roles]
        self._say = say
        self._pipe = ParentPipe()
        self._stopping = asyncio.Event()
        self._hurrying = asyncio.Event()
        self._killing = asyncio.Event()
        self._keepers: list[asyncio.Task[None]] = []

    async def run(
        self,
        body: Callable[[], Awaitable[int]],
        *,
        start_within_s: float = 60.0,
        when_stopped: int = 0,
    ) -> int:
        """
        Start everything, run `body` while everything is kept alive, and end everything.

        Returns what `body` returned, `when_stopped` when a signal came first, 130 when it came during the start.
        Raises `StartFailed` after ending whatever had been started.
        """
        async with self._signals(), self._following():
            try:
                started = await self._unless_stopping(self._start(start_within_s))
                if started is None:
                    return 130
                code = await self._unless_stopping(body())
                return when_stopped if code is None else code
            finally:
                await self._stop()
                self._pipe.close()

    def stop(self) -> None:
        """Begin the end; called again: hurry, then kill."""
        if not self._stopping.is_set():
            self._stopping.set()
        elif not self._hurrying.is_set():
            self._hurrying.set()
            self._say("hurrying: what is open now is ended")
        else:
            self._killing.set()

    @property
    def stopping(self) -> asyncio.Event:
        """Set when the end has begun."""
        return self._stopping

    def pids(self) -> dict[str, int]:
        """Return the process ids of the roles that run now, by name."""
        return {
            child.role.name: child.process.pid
            for child in self._children
            if child.process is not None and child.process.returncode is None
        }

    # Starting...

    async def _start(self, within_s: float) -> bool:
        for stage in self._stages():
            for child in stage:
                await self._spawn(child)
            try:
                async with asyncio.TaskGroup() as tasks:
                    for child in stage:
                        tasks.create_task(self._first_ready(child, within_s))
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None
        self._keepers = [asyncio.ensure_future(self._keep(child)) for child in self._children]
        return True

    def _stages(self) -> list[list[_Child]]:
        numbers = sorted({child.role.stage for child in self._children})
        return [[one for one in self._children if one.role.stage == number] for number in numbers]

    async def _spawn(self, child: _Child) -> None:
        role = child.role
        child.started_at = asyncio.get_running_loop().time()
        with child.log.opened() as log:
            out: IO[bytes] | int = sys.stdout.fileno() if role.inherits_stdout else log
            child.process = await asyncio.create_subprocess_exec(
                *role.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,
                pass_fds=(self._pipe.read_fd,),
                env={**os.environ, **role.environment, **self._pipe.environment()},
            )

    async def _first_ready(self, child: _Child, within_s: float) -> None:
        waiting = await self._ready_or_gone(child, within_s)
        assert child.process is not None
        if child.process.returncode is not None:
            # Its own words have been shown as it wrote them; see _following.
            self._show(child)
            raise StartFailed(
                f"{child.role.name} ended at once ({ending(child.process.returncode)});"
                f" its log is {child.log.path}"
            )
        if waiting is not None:
            raise StartFailed(
                f"{child.role.name} was not ready after {within_s:g} s: {waiting};"
                f" its log is {child.log.path}"
            )

    async def _ready_or_gone(self, child: _Child, within_s: float) -> str | None:
        """Ask until the role is ready, gone, or out of time; return what it still waits for."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        told = False
        waiting: str | None = "it has just been started"
        while child.is_running and loop.time() - begun < within_s:
            waiting = await child.role.ready()
            if waiting is None:
                return None
            if not told and loop.time() - begun > 5:
                self._say(f"waiting for {child.role.name}: {waiting}")
                told = True
            await asyncio.sleep(0.02)
        return waiting

    # Keeping alive...

    async def _keep(self, child: _Child) -> None:
        """Start the role again whenever it dies, until the end begins."""
        loop = asyncio.get_running_loop()
        while True:
            code = await self._ended(child)
            if self._stopping.is_set():
                return
            self._show(child)
            lived_s = loop.time() - child.started_at
            pause_s = child.restarts.died(lived_s)
            self._say(self._obituary(child, code, pause_s))
            if await self._stopping_within(pause_s):
                return
            try:
                await self._spawn(child)
            except OSError as error:
                # Out of processes or memory, most likely: the pause grows and it is tried again.
                self._say(f"{child.role.name} cannot be started: {error}")
                continue
            waiting = await self._ready_or_gone(child, 30.0)
            if self._stopping.is_set():
                return
            assert child.process is not None
            if waiting is None:
                took_ms = (loop.time() - child.started_at) * 1000
                self._say(
                    f"{child.role.name} is back (pid {child.process.pid}, after {took_ms:.0f} ms)"
                )
            elif child.is_running:
                self._say(f"{child.role.name} runs again but is not ready yet: {waiting}")

    async def _ended(self, child: _Child) -> int:
        """Wait until the role is gone, see to it if it has fallen silent, and return its exit code."""
        process = child.process
        assert process is not None
        gone = asyncio.ensure_future(process.wait())
        silent = asyncio.ensure_future(self._silent(child))
        either: list[asyncio.Future[Any]] = [gone, silent]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not gone.done() and not self._stopping.is_set():
                silent.result()
                self._say(
                    f"{child.role.name} runs (pid {process.pid}) but has answered nobody"
                    f" for {child.role.answers_within_s:g} s, and is killed"
                )
                # Nothing milder reaches a process that does not run its loop.
                child.send(signal.SIGKILL)
            return await gone
        finally:
            for future in either:
                future.cancel()
            await asyncio.gather(*either, return_exceptions=True)

    async def _silent(self, child: _Child) -> None:
        """Return when the role has left one question unanswered for as long as it may; until then ask on and on."""
        role = child.role
        if role.alive is None:
            await asyncio.Event().wait()
            return
        while True:
            await asyncio.sleep(ASK_EVERY_S)
            asked = asyncio.ensure_future(role.alive())
            try:
                left_s = role.answers_within_s or math.inf
                while left_s > 0 and not asked.done():
                    # In short steps: time in which we ourselves were suspended is no silence of others.
                    step_s = min(left_s, ASK_EVERY_S)
                    await asyncio.wait([asked], timeout=step_s)
                    left_s -= step_s
                if not asked.done():
                    return
                child.stop_within_s = asked.result() or child.stop_within_s
            finally:
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)

    def _obituary(self, child: _Child, code: int, pause_s: float) -> str:
        name = child.role.name
        if child.restarts.is_looping:
            return (
                f"{name} has died {child.restarts.in_a_row} times in a row ({ending(code)}),"
                f" see {child.log.path}; trying again every {pause_s:g} s"
            )
        return f"{name} ended ({ending(code)}); starting it again in {pause_s * 1000:.0f} ms"

    # Ending...

    async def _stop(self) -> None:
        self._stopping.set()
        for task in self._keepers:
            task.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for stage in reversed(self._stages()):
            ends = [asyncio.ensure_future(self._end(child)) for child in stage]
            _, late = await asyncio.wait(ends, timeout=1)
            if late and not self._hurrying.is_set():
                longest_s = max(child.stop_within_s for child in stage)
                names = ", ".join(child.role.name for child in stage if child.is_running)
                self._say(
                    f"waiting up to {longest_s:g} s for {names} to finish what is open; Ctrl-C again hurries"
                )
            await asyncio.gather(*ends)

    async def _end(self, child: _Child) -> None:
        """End one role: SIGTERM, as long as it may take, SIGKILL; sooner when hurried or killed."""
        if not child.is_running:
            return
        assert child.process is not None
        gone = asyncio.ensure_future(child.process.wait())
        child.send(signal.SIGTERM)
        was_told_before = not self._hurrying.is_set()
        hurried = await self._gone_within(gone, child.stop_within_s, self._hurrying)
        if not gone.done() and hurried:
            if was_told_before:
                child.send(signal.SIGTERM)
            patience_s = child.stop_within_s if child.role.survives_hurry else HURRY_S
            await self._gone_within(gone, patience_s, self._killing)
        if not gone.done():
            self._say(f"{child.role.name} did not end in time and is killed")
            child.send(signal.SIGKILL)
        await gone
        self._show(child)

    async def _gone_within(
        self, gone: asyncio.Future[int], within_s: float, unless: asyncio.Event
    ) -> bool:
        """Wait until the process is gone, time is up or the event comes; say whether it was the event."""
        called = asyncio.ensure_future(unless.wait())
        either: list[asyncio.Future[Any]] = [gone, called]
        try:
            await asyncio.wait(either, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            return unless.is_set()
        finally:
            called.cancel()

    # Signals, and what children say...

    @contextlib.asynccontextmanager
    async def _signals(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        # Started with nohup: hanging up is not meant for us.
        heard = [one for one in _SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
        for number in heard:
            loop.add_signal_handler(number, self.stop)
        try:
            yield
        finally:
            for number in heard:
                loop.remove_signal_handler(number)

    @contextlib.asynccontextmanager
    async def _following(self) -> AsyncIterator[None]:
        """Show what children write to their logs while they write it."""

        async def follow() -> None:
            while True:
                await asyncio.sleep(0.25)
                for child in self._children:
                    self._show(child)

        following = asyncio.ensure_future(follow())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    def _show(self, child: _Child) -> None:
        for line in child.log.new_lines():
            # What is only news stays in the log.
            if not _NEWS.search(line):
                self._say(f"{child.role.name} | {line}")

    async def _unless_stopping(self, work: Awaitable[_T]) -> _T | None:
        """Return what the work returned, or None after cancelling it because the end has begun."""
        working: asyncio.Future[_T] = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopping.wait())
        either: list[asyncio.Future[Any]] = [working, stopping]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            for future in either:
                future.cancel()
            await asyncio.gather(*either, return_exceptions=True)

    async def _stopping_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()
