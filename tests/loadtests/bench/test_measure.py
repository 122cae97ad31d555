"""Laws of the measurements: what is run, and what is divided by what. No law speaks of times."""

import itertools
import json
import sys

import pytest

from loadtests.bench import measure, usage
from loadtests.bench.figures import PARTS, ROWS
from loadtests.bench.ground import Ground, fetch
from loadtests.bench.measure import Bench, Contestant, Effort

# Stands in for wrk: one real call, a fifth of a second at most, then a line with fixed counts.
FAKE_WRK = """#!{python}
import sys, time, urllib.request
url = sys.argv[sys.argv.index("-s") + 2]
body, key = sys.argv[sys.argv.index("--") + 1 :][:2]
call = urllib.request.Request(url, open(body, "rb").readline(), {{"authorization": "Bearer " + key}})
begin = time.monotonic()
with urllib.request.urlopen(call) as answer:
    while time.monotonic() < begin + 0.2 and answer.read1(65536):
        pass
print('penstock-bench {{"requests":100,"duration_us":1000000,"bytes":1,"p50_us":900,"p90_us":1,'
      '"p99_us":2500,"max_us":1,"errors":{{"connect":0,"read":0,"write":0,"status":0,"timeout":0}}}}')
"""


class StillGround(Ground):
    """A ground whose processes rest as soon as the mock has nothing in flight."""

    mock_url = ""

    def settle(self, **_):
        while fetch(f"{self.mock_url}/__mock/books")[1]["totals"]["in_flight"]:
            pass


@pytest.fixture
def bench(tmp_path):
    """Measure one mock as if it were all three contestants."""
    program = tmp_path / "wrk"
    program.write_text(FAKE_WRK.format(python=sys.executable))
    program.chmod(0o700)
    with StillGround() as ground:
        mock = ground.start(
            "mock", [sys.executable, "-m", "loadtests.mock", "--listen", "127.0.0.1:0"]
        )
        ground.mock_url = url = mock.wait_for_line(r"^listening on (\S+)$")[1]
        yield Bench(
            ground,
            str(program),
            Effort(seconds=1, paced_s=1, runs=2, held=10),
            contestants=(
                Contestant("direct", url),
                Contestant("nginx", url, pid=mock.pid),
                Contestant("penstock", url, key="sk-ours", pid=mock.pid),
            ),
            store_pid=mock.pid,
            say=lambda words: None,
        )


def test_every_part_fills_its_rows(bench, monkeypatch):
    """Each row has one value per run and contestant; pairs alternate; only the latency asks without a proxy."""
    clock = itertools.count()
    monkeypatch.setattr(usage, "cpu_s", lambda pid: next(clock))
    for part in PARTS:
        bench.run(part)
    for row in ROWS:
        figure = bench.figures[row.name]
        runs = 1 if row.name == "memory" else 2
        assert len(figure.penstock) == runs
        assert len(figure.nginx) == (0 if row.name == "store" else runs)
        assert figure.verdict() in {"stretch", "target", "missed"}
    assert bench.figures["scored_burst"].penstock == [3 / 100 * 1e6] * 2
    loads = [(one["stream"], one["connections"]) for one in bench.raw if one["part"] == "scored"]
    assert loads == [(False, 64)] * 2 + [(True, 64)] * 2 + [(False, 10)] * 2 + loads[:6]
    assert all(one["others_cores"] >= 0 for one in bench.raw)
    assert all(set(one["cpu_by_process_s"]) == {"mock"} for one in bench.raw)
    # A second passes at each look; both are looked at around the look at all processes.
    assert bench.figures["burst"].penstock == [3 / 100 * 1e6] * 2
    assert bench.figures["store"].penstock == [5 / 100 * 1e6] * 2
    order = [one["contestant"] for one in bench.raw if one["part"] == "burst"]
    assert order == ["nginx", "penstock"] * 2
    order = [one["contestant"] for one in bench.raw if one["part"] == "latency"]
    assert order == ["direct", "nginx", "penstock"] * 2
    assert {one["contestant"] for one in bench.raw if one["part"] != "latency"} == {
        "nginx",
        "penstock",
    }


def test_half_of_the_highest_rate_sets_the_connections(bench):
    """The latency part finds the rate by itself when nothing measured it before."""
    bench.run("latency")
    first, *rest = [one["connections"] for one in bench.raw]
    assert first == 64
    assert set(rest) == {measure.connections_for(100 / 2, measure.SLOW_S)}
    assert bench.figures["added_p50"].penstock == [0, 0]


def test_memory_is_measured_before_any_load():
    """Memory that an earlier load left to the allocator would be counted as none."""
    assert measure.in_turn(PARTS)[0] == "memory"
    assert sorted(measure.in_turn(PARTS)) == sorted(PARTS)
    assert measure.in_turn(("burst", "paced")) == ("burst", "paced")


def test_littles_law():
    """10,000 answers a second of 10 ms each keep 100 connections busy; there is always one."""
    assert measure.connections_for(10_000, 0.010) == 100
    assert measure.connections_for(1, 0.010) == 1


def test_the_gateway_gets_its_own_names():
    """Through the gateway a model is asked for by its name there, elsewhere by what the mock shall do."""
    ours = json.loads(measure.body_of("bench", Contestant("p", "u", own_names=True), stream=True))
    theirs = json.loads(measure.body_of("bench", Contestant("n", "u"), stream=False))
    assert (ours["model"], ours["stream"]) == ("bench", True)
    assert (theirs["model"], "stream" in theirs) == ("sim;tokens=32", False)
    assert ours["messages"] == theirs["messages"]


def test_no_two_calls_of_the_route_are_alike(bench, monkeypatch):
    """What a route chooses by differs from call to call; nginx gets the same calls, and other loads one call only."""
    monkeypatch.setattr(measure, "VARIED", 50)
    bench.run("scored")
    files = {
        path.name: path.read_bytes().split(b"\n") for path in bench._ground.path.glob("*.json")
    }
    calls = [[json.loads(line)["messages"] for line in lines] for lines in files.values()]
    assert {len(each) for each in calls} == {50}
    assert calls[0] == calls[1]
    assert len({each[0]["content"] for each in calls[0]}) == 50
    bench.run("nonstream")
    assert b"\n" not in (bench._ground.path / "bench-False-False.json").read_bytes()
