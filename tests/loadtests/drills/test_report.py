"""Laws of telling: tables line up, calls are counted, the record names no place."""

import json
from pathlib import Path

from loadtests.drills import report
from loadtests.drills.books import Comparison, Error
from loadtests.drills.load import Call


def test_calls_are_counted_by_their_end():
    """Refusals by status and code, most first."""
    calls = [
        Call("1", "k", "", 0.0, ended="whole"),
        Call("2", "k", "", 0.0, ended="refused", status=503, code="store_unavailable"),
        Call("3", "k", "", 0.0, ended="whole"),
    ]
    assert report.counts(calls) == {"whole": 2, "503 store_unavailable": 1}


def test_errors_are_grouped():
    """Paced streams apart from whole answers, and from what never arrived."""
    errors = [
        Error("a.1", "reaped", "d", True, True, 50, -3, -20, -40_000, 0.4),
        Error("b.1", "reaped", "d", False, True, 0, 2, 0, 2000, 0.0),
        Error("c.1", "reaped", "d", False, False, 0, 10, 0, 10_000, 0.0),
    ]
    rows = report.error_rows(errors)
    assert [row[0] for row in rows[1:]] == [
        "paced streams",
        "whole answers",
        "the vendor never heard of",
    ]
    assert rows[1] == ("paced streams", 1, "-3 / -3", "-20 / -20", "0.4 / 0.4", "-0.000040")
    assert "reaped: charged minus served" in report.books_table(Comparison(reaped=errors))


def test_a_record_names_machine_and_commit_but_no_place(tmp_path: Path):
    """Cores, kernel, versions; nothing of the host or its folders."""
    path = tmp_path / "deep" / "record.json"
    report.write(path, {"machine": report.machine("server 1")})
    text = path.read_text()
    assert json.loads(text)["machine"]["store"] == "server 1"
    assert str(Path.cwd()) not in text
    assert report.spread([]) == "-"
