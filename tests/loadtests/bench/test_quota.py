"""Laws of the bound on CPU: it is written as each version of control groups has it, ends with its block, and says where it cannot be."""

import pytest

from loadtests.bench.quota import held_to
from loadtests.bench.wrk import BenchFailed

PID = 4711


@pytest.fixture
def proc(tmp_path):
    """Have a process in a group of its own, in either version."""
    (tmp_path / "proc" / str(PID)).mkdir(parents=True)
    listing = "5:memory:/other\n4:cpu,cpuacct:/home\n0::/home\n"
    (tmp_path / "proc" / str(PID) / "cgroup").write_text(listing)
    return tmp_path / "proc"


def group_in(top):
    """Give the one group that was made."""
    (group,) = top.glob("penstock-*")
    return group


def test_one_hierarchy_bounds_by_one_file(tmp_path, proc):
    """Version 2; the process is back where it was afterwards."""
    mount = tmp_path / "cgroup"
    (mount / "home").mkdir(parents=True)
    (mount / "cgroup.subtree_control").write_text("cpu memory\n")
    with held_to(0.25, [PID], mount=mount, proc=proc):
        group = group_in(mount)
        assert (group / "cpu.max").read_text() == "2500 10000"
        assert (group / "cgroup.procs").read_text() == str(PID)
        assert not (mount / "home" / "cgroup.procs").exists()
    assert (mount / "home" / "cgroup.procs").read_text() == str(PID)


def test_a_hierarchy_for_each_resource_bounds_by_two(tmp_path, proc):
    """Version 1."""
    mount = tmp_path / "cgroup"
    (mount / "cpu" / "home").mkdir(parents=True)
    with held_to(0.1, [PID], mount=mount, proc=proc):
        group = group_in(mount / "cpu")
        assert (group / "cpu.cfs_quota_us").read_text() == "1000"
        assert (group / "cpu.cfs_period_us").read_text() == "10000"
        assert (group / "cgroup.procs").read_text() == str(PID)
    assert (mount / "cpu" / "home" / "cgroup.procs").read_text() == str(PID)


def test_where_it_cannot_be_it_says_so(tmp_path, proc):
    """No control groups, none that bound CPU, a process that is not there."""
    mount = tmp_path / "cgroup"
    with (
        pytest.raises(BenchFailed, match="no control groups that bound CPU"),
        held_to(1, [PID], mount=mount),
    ):
        pass
    mount.mkdir()
    (mount / "cgroup.subtree_control").write_text("memory\n")
    with (
        pytest.raises(BenchFailed, match="this needs Linux, and root"),
        held_to(1, [PID], mount=mount),
    ):
        pass
    (mount / "cgroup.subtree_control").write_text("cpu\n")
    with (
        pytest.raises(BenchFailed, match=r"no control group could be made .*No such file"),
        held_to(1, [PID + 1], mount=mount, proc=proc),
    ):
        pass
    assert not list(mount.glob("penstock-*"))
