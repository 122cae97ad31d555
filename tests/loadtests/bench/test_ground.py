"""Laws of the bench's processes."""

import os
import signal
import sys
import time
from itertools import count

import pytest

from loadtests.bench import ground as module
from loadtests.bench.ground import Ground, fetch, free_port, wait_for_port, wait_for_ready
from loadtests.bench.wrk import BenchFailed

SLEEPER = "import time; print('ready at 7', flush=True); time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('ready', flush=True); time.sleep(60)"
)


def python(code):
    return [sys.executable, "-c", code]


def test_processes_end_with_the_ground_last_started_first():
    """Leaving the context ends every process, in the opposite order, and removes the folder."""
    ended = []
    with Ground() as ground:
        path = ground.path
        for name in ("first", "second"):
            child = ground.start(name, python(SLEEPER))
            assert child.wait_for_line(r"^ready at (\d+)$")[1] == "7"
            end = child.end

            def note(name=name, end=end):
                ended.append(name)
                end()

            child.end = note
        children = ground.children
    assert ended == ["second", "first"]
    assert all(child.process.returncode is not None for child in children)
    assert not path.exists()


def test_realtime_holds_for_all_that_is_started_and_ends_with_the_ground(monkeypatch):
    """Children run under SCHED_FIFO too, and afterwards we are as we were; where it is not allowed, that is said first."""
    asked = []

    def allowed(pid, policy, param):
        asked.append((pid, policy, param.sched_priority))

    def refused(pid, policy, param):
        raise PermissionError

    monkeypatch.setattr(module.os, "sched_setscheduler", allowed, raising=False)
    monkeypatch.setattr(module.sys, "platform", "linux")
    with Ground(realtime=True):
        assert asked == [(0, os.SCHED_FIFO, 1)]
    assert asked[1:] == [(0, os.SCHED_OTHER, 0)]
    monkeypatch.setattr(module.os, "sched_setscheduler", refused)
    with pytest.raises(BenchFailed, match="as root"), Ground(realtime=True):
        pass


def test_a_process_that_does_not_end_is_killed(monkeypatch):
    """SIGTERM first, and after a while SIGKILL."""
    monkeypatch.setattr(module, "_END_S", 0.05)
    with Ground() as ground:
        child = ground.start("stubborn", python(STUBBORN))
        child.wait_for_line("ready")
        ground.end(child)
        assert child.process.returncode == -9
        assert ground.children == ()


def test_a_process_that_fails_is_told_with_its_last_words():
    """What it printed is in the message."""
    with Ground() as ground:
        child = ground.start("broken", python("import sys; sys.exit('no such luck')"))
        with pytest.raises(BenchFailed, match=r"broken ended at once:\n  \| no such luck"):
            child.wait_for_line("ready")


def test_a_process_that_is_never_ready_is_told(monkeypatch):
    """The wait has an end."""
    monkeypatch.setattr(module, "_START_S", 0.1)
    with Ground() as ground:
        child = ground.start("slow", python(SLEEPER))
        with pytest.raises(BenchFailed, match="slow did not listen on port"):
            wait_for_port(child, free_port())


def test_environment_is_added():
    """A process sees our environment and what was given to it."""
    with Ground() as ground:
        child = ground.start(
            "env",
            python("import os; print(os.environ['PATH'] != '', os.environ['X_Y'])"),
            {"X_Y": "z"},
        )
        child.wait_for_line("^True z$")


def test_the_mock_answers_through_the_helpers():
    """`wait_for_ready` and `fetch` speak to a real server; an error status is a failure with words."""
    with Ground() as ground:
        mock = ground.start(
            "mock", [sys.executable, "-m", "loadtests.mock", "--listen", "127.0.0.1:0", "--fast"]
        )
        url = mock.wait_for_line(r"^listening on (\S+)$")[1]
        wait_for_ready(mock, f"{url}/v1/models")
        headers, books = fetch(f"{url}/__mock/books")
        assert headers["content-type"] == "application/json"
        assert books["totals"]["calls"] == 0
        with pytest.raises(BenchFailed, match="answered 404"):
            fetch(f"{url}/nothing")


def test_a_process_that_ends_in_the_middle_is_told():
    """Figures without it would mean nothing."""
    with Ground() as ground:
        child = ground.start("gone", python("print('out of memory')"))
        child.process.wait()
        with pytest.raises(BenchFailed, match=r"gone ended in the middle:\n  \| out of memory"):
            ground.settle()


def test_settling_waits_for_rest_and_gives_up(monkeypatch):
    """It returns when the processes rest, and in any case after its time."""
    used = count()
    with Ground() as ground:
        ground.settle()
        monkeypatch.setattr(ground, "cpu_by_process", lambda: {"busy": float(next(used))})
        began = time.monotonic()
        ground.settle(give_up_s=0.5)
        assert time.monotonic() - began >= 0.5


def test_cores_are_given_back():
    """Whatever a bench pins, this process may afterwards use every core that it had."""
    before = cores()
    with Ground() as ground:
        child = ground.start("measured", python(SLEEPER))
        child.wait_for_line("ready")
        ground.measure(child.pid)
        if ground.pinned:
            assert not cores() & cores(child.pid)
        with ground.unpinned([child.pid]):
            assert cores() == cores(child.pid) == before
        if ground.pinned:
            assert not cores() & cores(child.pid)
    assert cores() == before


def cores(pid=0):
    return os.sched_getaffinity(pid) if hasattr(os, "sched_getaffinity") else set()


def test_a_closed_terminal_unwinds_like_ctrl_c_unless_it_is_ignored():
    """SIGTERM and SIGHUP raise KeyboardInterrupt within the block, and are as before after it."""
    before = signal.getsignal(signal.SIGHUP)
    for number in (signal.SIGTERM, signal.SIGHUP):
        with pytest.raises(KeyboardInterrupt), module.ending_in_order():
            os.kill(os.getpid(), number)
            time.sleep(5)
    assert signal.getsignal(signal.SIGHUP) == before
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with module.ending_in_order():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_is_for_whoever_measures():
    """What it started is in groups of their own, and ended in good order."""
    with Ground() as ours:
        child = ours.start("sleeper", ["sleep", "30"])
        assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
