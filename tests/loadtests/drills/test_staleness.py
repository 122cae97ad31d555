"""Laws of judging by which quota a call was judged, and a few changes for real."""

import json

import pytest

from loadtests.drills import staleness
from loadtests.drills.staleness import Findings, Judge, judge_all


@pytest.mark.parametrize(
    ("quota", "floor", "counted"),
    [(5, 5, (0, 0)), (7, 5, (0, 0)), (4, 5, (1, 0)), (8, 5, (0, 1))],
)
def test_a_call_may_be_judged_by_what_stood_when_it_began_or_by_newer(quota, floor, counted):
    """Not by older, and not by what nobody has asked for."""
    found = Findings()
    judge = Judge(found)
    judge.asked = 7
    judge.note("edge", 200, quota, floor)
    assert (found.old, found.ahead) == counted
    assert (found.judged, found.by_edge) == (1, {"edge": 1})


def test_what_is_no_answer_is_counted_apart():
    """It says nothing of quotas, and breaks the drill."""
    found = Findings()
    Judge(found).note("edge", 503, 0, 5)
    assert (found.judged, found.other) == (0, {"503": 1})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, None),
        ({"old": 1}, "old when they began"),
        ({"ahead": 1}, "nobody had set"),
        ({"other": {"503": 1}}, "another kind"),
        ({"by_edge": {"a": 5}}, "1 of 2 edges"),
        ({"accepted_after_everywhere": 1}, "after `everywhere`"),
        ({"refused_after_s": [0.1, 0.21]}, "longer than 200 ms"),
    ],
)
def test_each_law_is_judged(said, words):
    """What is broken is said in words, and nothing else is."""
    found = Findings(**{"by_edge": {"a": 1, "b": 1}, "refused_after_s": [0.2], **said})
    judge_all(found, edges=2)
    assert (words in found.broken[0]) if words else found.broken == []


@pytest.mark.timeout(120)
def test_a_few_changes_for_real(capsys, tmp_path):
    """The whole way, small: two edges, changes and rotations under load; every law holds."""
    record = tmp_path / "staleness.json"
    code = staleness.main(
        [
            *("--edges", "2", "--changes", "8", "--rotations", "4", "--rate", "20"),
            *("--json", str(record)),
        ]
    )
    said = capsys.readouterr().out
    assert code == 0, said
    found = json.loads(record.read_text())["found"]
    assert (found["changes"], found["rotations"], found["old"]) == (8, 4, 0)
    assert len(found["by_edge"]) == 2
    assert min(found["by_edge"]) >= 8
