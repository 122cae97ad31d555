"""Laws of the rig: everything that is measured runs, under governance, and ends with its block."""

import os

import pytest

from loadtests import rig
from loadtests.bench import tools
from loadtests.bench.ground import fetch


def test_a_rig_stands_and_falls():
    """Mock, store, control and two edges without nginx; one governed call was found in the ledger."""
    with rig.rig(workers=2, with_nginx=False) as ours:
        direct, through = ours.bases("bench-paced")
        assert (direct["name"], through["name"]) == ("direct", "penstock")
        assert direct["model"].startswith("sim;")
        assert through["model"] == "bench-paced"
        assert len(set(ours.pids["penstock"])) == 2
        assert ours.cpu_s("penstock") > 0
        _, books = fetch(f"{ours.mock_url}/__mock/books")
        assert books["totals"]["calls"] == 1
        pids = [child.pid for child in ours.ground.children]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_nginx_is_looked_for_alone(monkeypatch):
    """The load is ours here, so wrk is not needed; without nginx there are no ratios."""
    monkeypatch.setattr(tools, "which", lambda name: "/bin/nginx" if name == "nginx" else None)
    assert rig.find_nginx() == "/bin/nginx"
    monkeypatch.setattr(tools, "which", lambda _: None)
    assert rig.find_nginx() is None
