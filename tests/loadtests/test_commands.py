"""Laws of the verbs that judge: mistakes are told before anything starts, and each leaves its table and its raw results."""

import contextlib
import json
import sys

import pytest

from loadtests import __main__ as main
from loadtests import document
from loadtests.bench import quota
from loadtests.bench.ground import Child, Ground


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["compare"], "FILE"),
        (["compare", "/no/such.yaml"], "No such file"),
        (["capacity", "--workers", "none"], "numbers from 1 to 64"),
        (["capacity", "--workers", "0"], "numbers from 1 to 64"),
        (["capacity", "--start", "0"], "no number from 0.1"),
        (["capacity", "--start", "nan"], "no number from 0.1"),
        (["capacity", "--start", "9", "--most", "5"], "--start 9 is above --most 5"),
        (["capacity", "--seconds", "0"], "no whole number from 1 to 600"),
        (["capacity", "--halvings", "11"], "no whole number from 0 to 10"),
        (["capacity", "--added-p99", "-1"], "no number from 0"),
        (["capacity", "--processes", "0"], "no whole number from 1 to 64"),
        (["capacity", "--worker-cores", "0.05"], "no number from 0.1 to 1"),
        (["capacity", "--scenario", "chats"], "invalid choice: 'chats'"),
        (["guard", "--seconds", "0"], "no whole number from 1 to 600"),
        (["guard", "--ca", "/no/such"], "No such file"),
        (["soak", "--load", "fast"], "no number"),
        (["soak", "--pid", "x"], "no process that can be seen here"),
        (["soak", "--pid", "-1"], "no process that can be seen here"),
        (["soak", "--admin", "nonsense"], "no URL of a gateway"),
        (["soak", "--ca", "/no/such"], "No such file"),
        (["soak", "--duration", "long"], "no duration"),
        (["soak", "--host", "nonsense"], "no URL of a gateway"),
        (["overload", "--slo", "fast"], "is no objective"),
        (["overload", "--capacity", "-5"], "no number from 0.1"),
        (["overload", "--host", "http://h"], "--capacity has to be said"),
        *(
            ([verb, "--out", "/dev/null/x"], "/dev/null/x: Not a directory; name another")
            for verb in ("guard", "capacity", "soak", "overload")
        ),
    ],
)
def test_mistakes_are_told_before_anything_starts(words, told, capsys, monkeypatch):
    """As misuse, with what was expected; no process is started."""
    monkeypatch.setattr(Ground, "start", lambda *_: pytest.fail("something was started"))
    with pytest.raises(SystemExit, match="2"):
        main.main(words)
    assert told in capsys.readouterr().err


def test_two_bases_side_by_side(tmp_path, capsys):
    """The same mock vendor under two names: a table with both, a page with both."""
    with Ground() as ground:
        child: Child = ground.start(
            "mock", [sys.executable, "-m", "loadtests.mock", "--listen", "127.0.0.1:0"]
        )
        url = child.wait_for_line(r"^listening on (\S+)$")[1]
        bases = "\n".join(f"  - {{name: {name}, url: '{url}', model: sim}}" for name in ("a", "b"))
        (tmp_path / "c.yaml").write_text(
            f"scenario: chat\nload: 20\nduration: 1s\nrepeats: 1\nbases:\n{bases}\n"
        )
        words = ["compare", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]
        assert main.main(words) == 0
    said = capsys.readouterr().out
    assert "added p50 ms" in said
    run = document.read(tmp_path / "run")
    assert set(run["by_base"]) == {"a", "b"}
    assert [row["name"] for row in run["side"]] == ["a", "b"]
    assert "added50" in run["side"][1]


def test_a_dead_base_is_told(tmp_path, capfd):
    """Exit code 2, before any base is loaded."""
    (tmp_path / "c.yaml").write_text("bases: [{name: a, url: 'http://127.0.0.1:1', model: m}]")
    assert main.main(["compare", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "r")]) == 2
    assert "not reachable" in capfd.readouterr().err


def test_a_capacity_is_searched(tmp_path, capsys):
    """One probe here: what is tested is the plumbing."""
    words = ["capacity", "--workers", "1", "--start", "10", "--most", "10", "--seconds", "1"]
    words += ["--added-p99", "60000", "--out", str(tmp_path)]
    assert main.main(words) == 0
    assert "1 worker: at least 10 calls/s" in capsys.readouterr().out
    (found,) = json.loads((tmp_path / "capacity.json").read_text())["capacities"]
    assert (found["rate"], found["bounded"]) == (10, False)
    assert found["probes"][0]["cpu_us"] > 0


def test_workers_may_be_held_to_a_part_of_a_core(tmp_path, capsys, monkeypatch):
    """All of them, while their rates are tried."""
    held = []

    @contextlib.contextmanager
    def held_to(cores, pids):
        held.append((cores, len(pids)))
        yield

    monkeypatch.setattr(quota, "held_to", held_to)
    words = ["capacity", "--workers", "2", "--start", "10", "--most", "10", "--seconds", "1"]
    words += ["--worker-cores", "0.25", "--added-p99", "60000", "--out", str(tmp_path)]
    assert main.main(words) == 0
    assert held == [(0.25, 2)]
    assert "2 workers, 0.25 of a core for each" in capsys.readouterr().out
    assert json.loads((tmp_path / "capacity.json").read_text())["worker_cores"] == 0.25


def test_an_overload_is_shed_and_told(tmp_path, capsys):
    """A real edge before a narrow vendor: what it cannot place is refused, what it places is served."""
    words = ["overload", "--duration", "5s", "--capacity", "60", "--out", str(tmp_path)]
    assert main.main(words) == 0
    assert "overload, at five times" in capsys.readouterr().out
    run = document.read(tmp_path)
    before, during, _ = run["phases"]
    assert before["offered"] > 0
    assert during["shed"] > 0
    assert [row["failed"] for row in run["phases"]] == [0, 0, 0]
    assert run["watched"]["memory MB"]
    assert run["recovery_s"] is not None


def test_a_soak_shows_what_grows(tmp_path, capsys):
    """Memory, descriptors, leases; so short a run judges none of them."""
    words = ["soak", "--duration", "2s", "--load", "5", "--scenario", "leaver"]
    assert main.main([*words, "--out", str(tmp_path)]) == 0
    assert "leases" in capsys.readouterr().out
    run = document.read(tmp_path)
    assert {row["verdict"] for row in run["slopes"]} <= {"", "too short"}
    assert {"memory MB", "leases"} <= set(run["watched"])
    assert run["columns"]["slope"] == "per hour", "the page calls them as the terminal does"
    assert "What grew" in (tmp_path / "report.html").read_text()
