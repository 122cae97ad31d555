"""
The supervisor, with scripted children: each is a few lines of Python that say what they do in their logs.

The laws: start stage by stage, replace what dies, end stage by stage in the opposite order, leave nobody behind.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy import supervisor
from proxy.supervisor import Restarts, Role, StartFailed, Supervisor
from store import places

STEADY = "import signal; print('up', flush=True); signal.pause()"
"""Runs until a signal kills it."""

DRAINING = """
import signal, sys, time
def end(number, frame):
    signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], 'a').write(f'{sys.argv[2]} hurried\\n'), sys.exit(0)))
    open(sys.argv[1], 'a').write(f'{sys.argv[2]} told\\n')
    end = time.monotonic() + float(sys.argv[3])
    while time.monotonic() < end:
        time.sleep(0.005)
    open(sys.argv[1], 'a').write(f'{sys.argv[2]} ended\\n')
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print('up', flush=True)
while True:
    signal.pause()
"""
"""Takes so many seconds to end after SIGTERM, and none after a second one; writes down when."""

DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"


class Stage:
    """One supervisor's surroundings: its logs, what it said, and the roles it is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.diary = folder / "diary"
        self.said: list[str] = []
        self.changed = asyncio.Event()

    def say(self, line: str) -> None:
        self.said.append(line)
        self.changed.set()

    async def until_said(self, words: str) -> None:
        async with asyncio.timeout(20):
            while not any(words in line for line in self.said):
                self.changed.clear()
                await self.changed.wait()

    def role(self, name: str, script: str, *arguments: str, stage: int = 0, **more: object) -> Role:
        async def ready() -> str | None:
            log = self.folder / f"{name}.log"
            last = log.read_text().split("--- started")[-1]
            return None if "up\n" in last else "it has not said 'up'"

        command = (sys.executable, "-S", "-E", "-c", script, *arguments)
        return Role(name, command, stage, ready=ready, **more)  # type: ignore[arg-type]

    def draining(self, name: str, takes_s: float, *, stage: int = 0, **more: object) -> Role:
        return self.role(name, DRAINING, str(self.diary), name, str(takes_s), stage=stage, **more)

    def supervisor(self, *roles: Role) -> Supervisor:
        return Supervisor(roles, self.folder, self.say)

    def events(self) -> list[str]:
        return self.diary.read_text().splitlines() if self.diary.exists() else []

    async def until_written(self, words: str) -> None:
        await until(lambda: words in self.events())


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let SIGINT be heard, although whoever runs the tests in the background may have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def started(ours: Supervisor) -> asyncio.Future[int]:
    """Run until everything is ready; what is returned is done when everything has ended."""
    everything_ready = asyncio.Event()

    async def body() -> int:
        everything_ready.set()
        await asyncio.Event().wait()
        return 1

    running = asyncio.ensure_future(ours.run(body))
    await everything_ready.wait()
    return running


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that announces nothing: a file, or a process that is not ours."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def doing(what: Callable[[], Awaitable[None]], code: int = 0) -> Callable[[], Awaitable[int]]:
    async def body() -> int:
        await what()
        return code

    return body


async def nothing() -> None:
    """Do nothing: the body ends at once, and so does everything."""


# When it is started again...


def test_pauses_double_from_100_ms_to_5_s_and_a_steady_life_starts_afresh() -> None:
    """A crash loop costs little, and a crash once a day costs 100 ms."""
    restarts = Restarts()
    assert [restarts.died(0.1) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert restarts.is_looping
    assert restarts.died(supervisor.STEADY_AFTER_S) == 0.1
    assert not restarts.is_looping


def test_a_loop_of_years_is_counted() -> None:
    """No number grows out of what a float holds."""
    restarts = Restarts()
    for _ in range(5000):
        assert restarts.died(0) <= supervisor.LONGEST_PAUSE_S


# Starting...


async def test_a_stage_begins_when_the_one_before_is_ready(stage: Stage) -> None:
    """An edge never runs before there is a store to ask."""
    waits = "import time; time.sleep(0.1); open(__import__('sys').argv[1], 'a').write('first\\n')\n"
    notes = "import sys; open(sys.argv[1], 'a').write('second\\n')\n"
    ours = stage.supervisor(
        stage.role("second", notes + STEADY, str(stage.diary), stage=1),
        stage.role("first", waits + STEADY, str(stage.diary)),
    )
    assert await ours.run(doing(nothing, 7)) == 7
    assert stage.events() == ["first", "second"]


async def test_a_role_that_ends_before_it_is_ready_ends_the_start(stage: Stage) -> None:
    """What was started is ended again, and the words hold what the role itself said."""
    ours = stage.supervisor(
        stage.role("first", STEADY),
        stage.role("second", "raise SystemExit('no such thing')", stage=1),
    )
    with pytest.raises(StartFailed, match=r"second ended at once \(exit code 1\)"):
        await ours.run(doing(nothing))
    assert "second | no such thing" in stage.said
    assert ours.pids() == {}


async def test_a_role_that_is_never_ready_is_said_to_wait_for_what_it_waits_for(
    stage: Stage,
) -> None:
    """A timeout alone would tell nobody what to do."""
    ours = stage.supervisor(stage.role("edge", "import signal; signal.pause()"))
    with pytest.raises(StartFailed, match=r"not ready after 0\.2 s: it has not said 'up'"):
        await ours.run(doing(nothing), start_within_s=0.2)


async def test_a_signal_during_the_start_ends_what_was_started(stage: Stage) -> None:
    """Ctrl-C works before anything is ready, too."""
    ours = stage.supervisor(
        stage.role("first", STEADY), stage.role("second", "import signal; signal.pause()", stage=1)
    )
    running = asyncio.ensure_future(ours.run(doing(nothing)))
    await until(lambda: "second" in ours.pids())
    pids = ours.pids()
    os.kill(os.getpid(), signal.SIGINT)
    assert await running == 130
    assert not any(is_there(pid) for pid in pids.values())


# Keeping alive...


async def test_a_killed_role_is_replaced_and_the_others_are_left_alone(stage: Stage) -> None:
    """`kill -9` of a worker costs that worker's streams and nothing else."""
    ours = stage.supervisor(stage.role("edge-0", STEADY), stage.role("edge-1", STEADY))

    async def body() -> None:
        before = ours.pids()
        os.kill(before["edge-1"], signal.SIGKILL)
        await stage.until_said("edge-1 is back")
        after = ours.pids()
        assert after["edge-0"] == before["edge-0"]
        assert after["edge-1"] != before["edge-1"]

    assert await ours.run(doing(body)) == 0
    assert any(
        "edge-1 ended (killed by SIGKILL); starting it again in 100 ms" in line
        for line in stage.said
    )


async def test_a_crash_loop_is_called_one_and_ends_with_the_supervisor(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has to look; until then it is tried again, and it can be ended at any time."""
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.001)
    once = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.exists() and sys.exit(3); p.touch()\n"
    ours = stage.supervisor(stage.role("edge", once + STEADY, str(stage.folder / "was here")))

    async def body() -> None:
        os.kill(ours.pids()["edge"], signal.SIGKILL)
        await stage.until_said("has died 5 times in a row (exit code 3)")

    assert await ours.run(doing(body)) == 0


async def test_what_a_role_writes_to_its_log_is_shown_with_its_name(stage: Stage) -> None:
    """An operator watches one terminal, not eight files; escape sequences do not pass."""
    ours = stage.supervisor(stage.role("edge", "print('\\x1b[2Jwarning', flush=True)\n" + STEADY))

    async def body() -> None:
        await stage.until_said("edge | ?[2Jwarning")

    await ours.run(doing(body))


async def test_what_is_only_news_stays_in_the_log(stage: Stage) -> None:
    """Information is for who looks for it; warnings look for people."""
    lines = "2026-01-02 03:04:05,678 edge-0 INFO all is well\\n2026-01-02 03:04:05,678 edge-0 WARNING it is not"
    ours = stage.supervisor(stage.role("edge", f"print('{lines}', flush=True)\n" + STEADY))

    async def body() -> None:
        await stage.until_said("it is not")

    await ours.run(doing(body))
    assert not any("all is well" in line for line in stage.said)


async def test_a_role_that_falls_silent_is_killed_and_replaced(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is stopped holds its share of the callers for ever, and no signal but one reaches it."""
    monkeypatch.setattr(supervisor, "ASK_EVERY_S", 0.02)
    stopped = 0

    async def alive() -> None:
        if ours.pids()["edge"] == stopped:
            await asyncio.Event().wait()

    edge = replace(stage.role("edge", STEADY), alive=alive, answers_within_s=0.1)
    ours = stage.supervisor(edge, stage.role("other", STEADY))

    async def body() -> None:
        nonlocal stopped
        before = ours.pids()
        stopped = before["edge"]
        os.kill(stopped, signal.SIGSTOP)
        await stage.until_said("edge is back")
        assert ours.pids()["edge"] != stopped
        assert ours.pids()["other"] == before["other"]
        assert not is_there(stopped)

    assert await ours.run(doing(body)) == 0
    assert (
        f"edge runs (pid {stopped}) but has answered nobody for 0.1 s, and is killed" in stage.said
    )


@pytest.mark.parametrize(
    ("answers_within_s", "silent"), [(0.02, False), (0.0, True)], ids=["not asked", "never"]
)
async def test_only_silence_is_held_against_a_role(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, answers_within_s: float, silent: bool
) -> None:
    """A socket that somebody has tidied away is no reason to kill who listens on it; 0 leaves the silent alone."""
    monkeypatch.setattr(supervisor, "ASK_EVERY_S", 0.005)
    asked = 0

    async def alive() -> None:
        nonlocal asked
        asked += 1
        if silent:
            await asyncio.Event().wait()

    edge = replace(stage.role("edge", STEADY), alive=alive, answers_within_s=answers_within_s)
    ours = stage.supervisor(edge)

    async def body() -> None:
        before = ours.pids()
        await until(lambda: asked >= (1 if silent else 20))
        await asyncio.sleep(0.05)
        assert ours.pids() == before

    assert await ours.run(doing(body)) == 0
    assert not any("answered" in line for line in stage.said)


async def test_time_in_which_the_supervisor_itself_slept_is_no_silence(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that was suspended wakes up as it was: nobody is killed for the night."""
    monkeypatch.setattr(supervisor, "ASK_EVERY_S", 0.02)
    asked = asyncio.Event()
    answered = asyncio.Event()

    async def alive() -> None:
        asked.set()
        await answered.wait()

    ours = stage.supervisor(replace(stage.role("edge", STEADY), alive=alive, answers_within_s=0.6))

    async def body() -> None:
        before = ours.pids()
        await asked.wait()
        # It is the loop that sleeps, for longer than the role may be silent.
        time.sleep(0.7)  # noqa: ASYNC251
        await asyncio.sleep(0.01)
        answered.set()
        await asyncio.sleep(0.01)
        assert ours.pids() == before

    assert await ours.run(doing(body)) == 0
    assert not any("answered" in line for line in stage.said)


async def test_a_role_says_how_long_its_end_may_take_from_now_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drain that was made longer while it runs is waited for."""
    monkeypatch.setattr(supervisor, "ASK_EVERY_S", 0.005)
    asked = 0

    async def alive() -> float:
        nonlocal asked
        asked += 1
        return 60.0

    edge = replace(stage.draining("edge", 0.2), alive=alive, stop_within_s=0.01)

    async def body() -> None:
        await until(lambda: asked > 1)

    assert await stage.supervisor(edge).run(doing(body)) == 0
    assert stage.events() == ["edge told", "edge ended"]


# Ending...


async def test_stages_end_in_the_opposite_order_each_after_the_one_above_is_gone(
    stage: Stage,
) -> None:
    """Edges settle while the control and the store are there; the store leaves last."""
    ours = stage.supervisor(
        stage.draining("store", 0),
        stage.draining("control", 0, stage=1),
        stage.draining("edge", 0.1, stage=2),
    )
    running = await started(ours)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
    assert stage.events() == [
        *("edge told", "edge ended", "control told", "control ended", "store told", "store ended")
    ]


async def test_a_role_that_takes_too_long_is_killed(stage: Stage) -> None:
    """A drain is bounded: an operator knows when the machine is free."""
    ours = stage.supervisor(stage.role("deaf", DEAF, stop_within_s=0.1))
    assert await ours.run(doing(nothing)) == 0
    assert "deaf did not end in time and is killed" in stage.said


async def test_a_second_signal_hurries_and_a_third_kills(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C, Ctrl-C is what people type when they do not want to wait."""
    monkeypatch.setattr(supervisor, "HURRY_S", 60)
    ours = stage.supervisor(
        stage.draining("store", 0.1, survives_hurry=True, stop_within_s=60),
        stage.draining("edge", 30, stage=1, stop_within_s=60),
    )
    running = await started(ours)
    os.kill(os.getpid(), signal.SIGINT)
    await stage.until_written("edge told")
    os.kill(os.getpid(), signal.SIGINT)
    await stage.until_written("edge hurried")
    async with asyncio.timeout(10):
        assert await running == 0
    assert stage.events() == ["edge told", "edge hurried", "store told", "store ended"]


async def test_a_third_signal_kills_even_the_one_that_may_take_its_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is always a way out."""
    monkeypatch.setattr(supervisor, "HURRY_S", 0.05)
    ours = stage.supervisor(
        stage.role("store", DEAF, survives_hurry=True, stop_within_s=60),
        stage.role("edge", DEAF, stage=1, stop_within_s=60),
    )
    running = await started(ours)
    for _ in range(3):
        ours.stop()
    async with asyncio.timeout(10):
        await running
    assert "store did not end in time and is killed" in stage.said


async def test_a_terminals_ctrl_c_reaches_the_supervisor_alone(stage: Stage) -> None:
    """Children that got it too would drop their streams before anybody asked them to drain."""
    ours = stage.supervisor(stage.role("edge", STEADY))

    async def body() -> None:
        assert os.getpgid(ours.pids()["edge"]) != os.getpgid(0)

    await ours.run(doing(body))


SUPERVISED = """
import asyncio, sys
from pathlib import Path
from proxy.supervisor import Role, Supervisor

CHILD = '''
import os, signal, time
from store.parent import end_with_parent
end_with_parent(os.environ)
print("up", flush=True)
signal.pause()
'''

async def body():
    print(ours.pids()["edge"], flush=True)
    await asyncio.Event().wait()

folder = Path(sys.argv[1])
async def ready():
    return None if "up" in (folder / "edge.log").read_text() else "nothing"
ours = Supervisor([Role("edge", (sys.executable, "-c", CHILD), 0, ready)], folder, lambda _: None)
asyncio.run(ours.run(body))
"""


async def test_a_killed_supervisor_leaves_nobody_behind(tmp_path: Path) -> None:
    """`kill -9` gives it no chance to end anybody; its children see that it is gone."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SUPERVISED, str(tmp_path)),
        stdout=subprocess.PIPE,
        cwd=places.CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(places.CHECKOUT)},
    )
    assert process.stdout is not None
    child = int(await process.stdout.readline())
    process.kill()
    await process.communicate()
    await until(lambda: not is_there(child))
