"""Laws of the bench of protocols that pass: what it asks, of whom, and how it tells."""

import json

import pytest
import yaml

from loadtests.bench import __main__ as bench
from loadtests.bench import protocols, tools
from loadtests.bench.figures import ROWS, Figure
from loadtests.bench.measure import Contestant
from loadtests.bench.protocols import CALLS, PROTOCOLS
from loadtests.mock.behaviour import read_behaviour

DOCUMENT = yaml.safe_load(protocols.CONFIG.read_text())
NATIVE = Contestant("nginx", "http://127.0.0.1:1")
OURS = Contestant("penstock", "http://127.0.0.1:2", own_names=True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_both_proxies_get_the_same_answers(protocol):
    """The gateway's model is the vendor's that nginx passes on, before all of the governance, and in its own protocol."""
    model = DOCUMENT["models"][f"bench-{protocol}"]
    [name] = {one["name"] for one in model["deployments"]}
    assert len(model["deployments"]) == 4
    assert set(model["limits"]) == {"rpm", "tpm", "concurrency"}
    assert read_behaviour(name).tokens == 32
    for call in (one for one in CALLS if one.protocol == protocol):
        path, body = call.post(NATIVE)
        assert name in path or json.loads(body)["model"] == name
        path, body = call.post(OURS)
        assert f"bench-{protocol}" in path or json.loads(body)["model"] == f"bench-{protocol}"


def test_rows_have_the_marks_of_the_main_bench():
    """Whole answers and streams, each by the ratio to nginx."""
    marks = {row.name: (row.target, row.stretch) for row in ROWS}
    for call in CALLS:
        row = call.row
        assert row.ratio
        assert (row.target, row.stretch) == marks["burst" if call.streams else "nonstream"]
    assert len({call.row.name for call in CALLS}) == len(CALLS)


@pytest.fixture
def measured(monkeypatch):
    """Give what would be measured; the gateway costs four times as much."""
    asked = []

    def measure(ground, programs, calls, given):
        asked.append((given.runs, given.seconds, [call.row.name for call in calls]))
        return [Figure(call.row, [10.0], [40.0]) for call in calls], {"cores": 2}

    monkeypatch.setattr(protocols, "_measure", measure)
    monkeypatch.setattr(tools, "find", lambda: tools.Tools("nginx", "wrk"))
    return asked


def test_it_is_a_word_of_the_bench(measured, capsys, tmp_path):
    """All protocols, or those that are named; raw figures and the machine go into a file."""
    assert bench.main(["protocols"]) == 0
    assert measured[0] == (3, 2, [call.row.name for call in CALLS])
    assert capsys.readouterr().out.count("4 x") == len(CALLS)
    file = tmp_path / "told.json"
    assert bench.main(["protocols", "--only", "gemini,messages", "--json", str(file)]) == 0
    told = json.loads(file.read_text())
    assert told["machine"] == {"cores": 2}
    verdicts = {row["name"]: (row["judged"], row["verdict"]) for row in told["rows"]}
    assert verdicts == {
        "messages-nonstream": (4.0, "target"),
        "messages-burst": (4.0, "missed"),
        "gemini-nonstream": (4.0, "target"),
        "gemini-burst": (4.0, "missed"),
    }


def test_a_protocol_that_is_not_measured_is_told_with_those_that_are(capsys):
    """As misuse."""
    with pytest.raises(SystemExit, match="2"):
        bench.main(["protocols", "--only", "smoke-signals"])
    assert "responses" in capsys.readouterr().err
