"""
What a process used: CPU time and resident memory.

On Linux from `/proc` (proc(5)), where CPU time counts in clock ticks and covers all threads; elsewhere from `ps`.
"""

import os
import re
import subprocess
from pathlib import Path

_PS_TIME = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")


def read_stat(text: str, ticks_per_s: int) -> float:
    """
    Give user plus system seconds from the text of `/proc/PID/stat`.

    The command's name stands in parentheses and may hold anything, so the fields count from the last one.
    """
    fields = text[text.rindex(")") + 1 :].split()
    return (int(fields[11]) + int(fields[12])) / ticks_per_s


def read_ps_time(text: str) -> float:
    """Give seconds from ps's `[[DD-]HH:]MM:SS[.ss]`."""
    found = _PS_TIME.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no CPU time")
    days, hours, minutes, seconds = found.groups()
    return int(days or 0) * 86400 + int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)


def read_status_rss(text: str) -> int:
    """Give resident bytes from the text of `/proc/PID/status`."""
    found = re.search(r"^VmRSS:\s*(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise ValueError("the process has no resident memory: it has ended")
    return int(found[1]) * 1024


def read_machine_stat(text: str, ticks_per_s: int) -> float:
    """Give the seconds that all cores together worked, or were withheld, from the text of `/proc/stat`; no interrupts."""
    user, nice, system, _idle, _iowait, _irq, _softirq, steal = map(int, text.split()[1:9])
    return (user + nice + system + steal) / ticks_per_s


def machine_s() -> float:
    """Give the seconds that the machine's cores have worked so far, 0 where nobody tells."""
    try:
        text = Path("/proc/stat").read_text()
    except OSError:
        return 0.0
    return read_machine_stat(text, os.sysconf("SC_CLK_TCK"))


def own_s() -> float:
    """Give the seconds that this process and those of its children that have ended worked."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def cpu_s(pid: int) -> float:
    """Give the CPU seconds, user and system, that a process has used so far."""
    if _has_proc(pid):
        return read_stat(Path(f"/proc/{pid}/stat").read_text(), os.sysconf("SC_CLK_TCK"))
    return read_ps_time(_ps(pid, "time"))


def precise_cpu_s(pid: int) -> float:
    """
    Give the CPU seconds of a process's threads to the nanosecond where the kernel keeps them (`schedstat`), else as `cpu_s` does.

    Clock ticks are ten milliseconds, too coarse for a run of a few calls.
    """
    try:
        texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        return sum(int(text.split()[0]) for text in texts) / 1e9 if texts else cpu_s(pid)
    except (OSError, ValueError, IndexError):
        return cpu_s(pid)


def rss_bytes(pid: int) -> int:
    """Give the resident memory of a process."""
    if _has_proc(pid):
        return read_status_rss(Path(f"/proc/{pid}/status").read_text())
    return int(_ps(pid, "rss")) * 1024


def _has_proc(pid: int) -> bool:
    return Path(f"/proc/{pid}/task").exists()


def _ps(pid: int, column: str) -> str:
    told = subprocess.run(
        ["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return told.stdout


def children(pid: int) -> list[int]:
    """Give the process ids of a process's children."""
    if _has_proc(pid):
        told = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    else:
        told = subprocess.run(
            ["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False
        ).stdout
    return [int(child) for child in told.split()]


def threads(pid: int) -> list[int]:
    """Give the ids of a process's threads, where there is `/proc`."""
    return [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
