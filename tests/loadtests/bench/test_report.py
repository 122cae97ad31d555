"""Laws of the table and of the record."""

import json

from loadtests import machine
from loadtests.bench import report, tools
from loadtests.bench.figures import ROWS, Figure

FIGURES = [Figure(row, nginx=[10.0, 10.0], penstock=[30.0, 36.0]) for row in ROWS[:2]]


def test_the_table_has_a_line_per_row_that_was_measured():
    """Rows without runs are left out; each line tells both sides, ratio, marks and verdict."""
    head, rule, first, second = report.table([*FIGURES, Figure(ROWS[-1])]).splitlines()
    assert head.split() == ["what", "nginx", "penstock", "ratio", "target", "stretch", "verdict"]
    assert set(rule) == {"-", " "}
    assert first.split("  ")[0] == ROWS[0].what
    assert "3.3 x (3 to 3.6)" in first
    assert first.endswith("stretch")
    assert second.endswith("missed")


def test_the_record_can_be_judged_by_others():
    """Every run, the method and the machine are in it, and it is JSON."""
    document = report.document(FIGURES, [{"part": "x"}], {"runs": 2}, {"cpu": "a"})
    assert json.loads(json.dumps(document)) == document
    assert document["rows"][0]["judged"] == 3.3
    assert document["runs"] == [{"part": "x"}]


def test_the_machine_is_described_without_names_or_paths(tmp_path, monkeypatch):
    """Programs and packages have versions; nothing tells whose machine it is."""
    program = tmp_path / "nginx"
    program.write_text("#!/bin/sh\necho 'nginx version: nginx/1.22.1' >&2\n")
    program.chmod(0o700)
    about = report.machine(tools.Tools(str(program), str(program)), "valkey-server 9.1.2")
    assert about["nginx"] == "nginx/1.22.1"
    assert about["packages"]["uvloop"]
    assert about["cores"] >= 1
    assert str(machine.ROOT) not in json.dumps(about)
