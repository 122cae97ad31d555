"""Laws of judging deaths, and a few of them for real."""

import pytest

from loadtests.drills import kill9
from loadtests.drills.books import Comparison
from loadtests.drills.holds import Holds
from loadtests.drills.kill9 import Death, Findings, judge, lies
from loadtests.drills.load import Call


def findings(**said) -> Findings:
    """Return findings in which every law holds."""
    base = {
        "deaths": [Death("edge-1", 1.0, {"l": 3}, 11.0), Death("control", 2.0)],
        "calls": [Call("k-1", "k", "", 0.0, status=200, ended="whole")],
        "compared": Comparison(),
        "verdict": {"equal": True, "rejected": 0},
        "holds": Holds(),
        "quiet_after_s": 9.0,
    }
    return Findings(**base | said)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, None),
        ({"holds": Holds(leases={"h/1.a": 1})}, "still held"),
        ({"deaths": [Death("edge-1", 1.0, {"l": 3}, 15.1)]}, "was held for 15.1 s"),
        ({"deaths": [Death("edge-1", 1.0, {"l": 3})]}, "was held for None s"),
        ({"verdict": {"equal": False}}, "do not agree"),
        ({"verdict": {"equal": True, "rejected": 1}}, "do not agree"),
        ({"calls": [Call("k-1", "k", "", 0.0, status=500, ended="refused")]}, "status 500"),
        ({"calls": [Call("k-1", "k", "", 0.0, status=200, ended="short")]}, "short"),
    ],
)
def test_each_law_is_judged(said, words):
    """What is broken is said in words, and nothing else is."""
    found = findings(**said)
    judge(found)
    assert (words in found.broken[0]) if words else found.broken == []


def test_what_a_caller_may_see():
    """Cut, refused and lost are the truth about a dead edge; a hang is not."""
    calls = [
        Call(str(n), "k", "", 0.0, ended=ended) for n, ended in enumerate(("cut", "lost", "hung"))
    ]
    assert len(lies(calls)) == 1


@pytest.mark.timeout(120)
def test_a_few_deaths_for_real(capsys: pytest.CaptureFixture[str], tmp_path):
    """The whole way, small: load, kills, reaping, books; every law holds."""
    record = tmp_path / "kill9.json"
    code = kill9.main(
        [
            *("--kills", "2", "--pause", "0.8", "--rate", "30", "--edges", "2"),
            *("--freeze", "0", "--no-everything", "--json", str(record)),
        ]
    )
    said = capsys.readouterr().out
    assert code == 0, said
    assert "2 kills" in said
    assert "verify: equal" in said
    assert record.exists()
