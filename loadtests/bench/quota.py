"""
A bound on the CPU of processes, by Linux's control groups of either version.

On a machine whose cores are all needed by generator, vendor and store, a gateway that may use a fifth of a core comes to its end first, and so
shows what more workers make of it.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from loadtests.bench.wrk import BenchFailed

# The kernel gives out no less than a millisecond at a time; a period much above ten would show as latency.
_PERIOD_US = 10_000
LEAST_CORES = 0.1
_MOUNT = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def held_to(
    cores: float, pids: Iterable[int], *, mount: Path = _MOUNT, proc: Path = Path("/proc")
) -> Iterator[None]:
    """
    Hold each of these processes to so many cores, `LEAST_CORES` or more, until the block ends.

    Raises `BenchFailed` where there are no control groups, or where this user may not make any.
    """
    top = _top(mount)  # version 2 has one hierarchy, version 1 one for each resource
    quota_us = round(cores * _PERIOD_US)
    with contextlib.ExitStack() as stack:
        for pid in pids:
            group = top / f"penstock-{os.getpid()}-{pid}"
            try:
                home = top / _own_group(proc / str(pid) / "cgroup").lstrip("/")
                group.mkdir()
                stack.callback(_remove, group, home, pid)
                if top == mount:
                    (group / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")
                else:
                    (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
                    (group / "cpu.cfs_quota_us").write_text(str(quota_us))
                (group / "cgroup.procs").write_text(str(pid))
            except OSError as mistake:
                raise BenchFailed(
                    f"no control group could be made in {top} ({mistake.strerror}): run it as root, on Linux"
                ) from mistake
        yield


def _top(mount: Path) -> Path:
    """Give the folder below which groups with a bound on CPU can be made."""
    try:
        if "cpu" in (mount / "cgroup.subtree_control").read_text().split():
            return mount
    except OSError:
        if (mount / "cpu").is_dir():
            return mount / "cpu"
    raise BenchFailed(f"{mount} has no control groups that bound CPU: this needs Linux, and root")


def _own_group(listing: Path) -> str:
    """Give the path of the group that a process is in: `4:cpu,cpuacct:/path`, or `0::/path` where there is one hierarchy."""
    rows = [line.split(":", 2) for line in listing.read_text().splitlines()]
    found = {name: path for _, names, path in rows for name in names.split(",")}
    return found.get("cpu", found.get("", "/"))


def _remove(group: Path, home: Path, pid: int) -> None:
    """Let the process go back to where it was, if it still is, and remove its group."""
    with contextlib.suppress(OSError):
        (home / "cgroup.procs").write_text(str(pid))
    with contextlib.suppress(OSError):
        group.rmdir()
