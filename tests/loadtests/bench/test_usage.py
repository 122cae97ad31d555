"""Laws of reading what a process used."""

import os
import subprocess
import sys

import pytest

from loadtests.bench import usage

STAT = (
    "4711 (a (very) odd) name 3) S 1 4711 4711 0 -1 4194560 5000 0 0 0 1234 66 7 8 20 0 1 0 100 "
    "123456 789 18446744073709551615"
)


def test_cpu_time_is_user_plus_system_of_the_process():
    """Fields 14 and 15 of stat, whatever the command's name holds; children's time is not in it."""
    assert usage.read_stat(STAT, ticks_per_s=100) == pytest.approx(13.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0:00.07", 0.07), ("12:34.50\n", 754.5), ("01:00:02", 3602), ("2-03:04:05", 183845)],
)
def test_times_of_ps_on_any_system(text, seconds):
    """Both the BSD and the Linux form of ps's time are read."""
    assert usage.read_ps_time(text) == pytest.approx(seconds)


def test_the_machine_works_where_it_is_not_idle():
    """Idle, waiting for disks and interrupts are nobody's work; time that a hypervisor withheld is."""
    text = "cpu  100 20 30 99999 999 7 8 50 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n"
    assert usage.read_machine_stat(text, ticks_per_s=100) == pytest.approx(2.0)


def test_what_is_no_time_raises():
    """An empty answer, as of a process that is gone, is an error and not zero."""
    with pytest.raises(ValueError, match="no CPU time"):
        usage.read_ps_time("\n")


def test_resident_memory_is_in_bytes():
    """VmRSS counts KiB; a process without it has ended."""
    assert usage.read_status_rss("VmPeak:\t  99 kB\nVmRSS:\t  2048 kB\n") == 2 * 1024 * 1024
    with pytest.raises(ValueError, match="ended"):
        usage.read_status_rss("State:\tZ (zombie)\n")


def test_a_process_can_be_asked():
    """Our own process has used some of both, and knows its children."""
    assert usage.cpu_s(os.getpid()) > 0
    assert usage.rss_bytes(os.getpid()) > 1_000_000
    assert usage.own_s() > 0
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        assert child.pid in usage.children(os.getpid())
        child.communicate(b"\n")


def test_precise_seconds_are_those_of_the_process():
    """About what the ticks say of a process without threads that have ended, and the same question of nobody is an error."""
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(); input()"
    command = [sys.executable, "-c", busy]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert usage.precise_cpu_s(child.pid) > 0.29
        assert abs(usage.precise_cpu_s(child.pid) - usage.cpu_s(child.pid)) < 0.1
        child.communicate(b"\n")
    with pytest.raises((OSError, subprocess.CalledProcessError)):
        usage.precise_cpu_s(2**22 + 1)
