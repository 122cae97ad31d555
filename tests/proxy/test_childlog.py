"""A child's log: the child writes, the supervisor reads along, and the file stays bounded."""

from pathlib import Path

import pytest

from proxy import childlog
from proxy.childlog import ChildLog


def test_lines_are_given_once_and_only_when_they_are_whole(tmp_path: Path) -> None:
    """Half a line is not shown as one."""
    log = ChildLog(tmp_path / "edge.log")
    with log.opened() as out:
        out.write(b"first\nsec")
        assert log.new_lines() == ["first"]
        out.write(b"ond\n\n")
        assert log.new_lines() == ["second"]
        assert log.new_lines() == []


def test_a_new_start_begins_behind_what_was_there(tmp_path: Path) -> None:
    """The past of a log is not news; it stays in the file."""
    path = tmp_path / "edge.log"
    path.write_text("from yesterday\n")
    log = ChildLog(path)
    assert log.new_lines() == []
    with log.opened() as out:
        out.write(b"from today\n")
    assert log.new_lines() == ["from today"]
    assert "from yesterday" in path.read_text()


def test_a_file_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    """Somebody may have cleaned up."""
    log = ChildLog(tmp_path / "edge.log")
    with log.opened():
        log.path.unlink()
        assert log.new_lines() == []


def test_a_flood_is_cut_and_counted(tmp_path: Path) -> None:
    """The terminal keeps the end, which says why; the file keeps all."""
    log = ChildLog(tmp_path / "edge.log")
    with log.opened() as out:
        out.write(b"".join(b"line %d\n" % number for number in range(1000)))
    lines = log.new_lines()
    assert lines[0] == f"(960 more lines in {log.path})"
    assert lines[-1] == "line 999"


def test_a_line_without_end_is_not_gathered(tmp_path: Path) -> None:
    """A child that never ends its line costs the supervisor no memory; what is shown of it is its beginning."""
    log = ChildLog(tmp_path / "edge.log")
    with log.opened() as out:
        for _ in range(10):
            out.write(b"x" * childlog._LONGEST_LINE)
            assert log.new_lines() == []
        assert len(log._unfinished) == 4 * childlog._LONGEST_LINE
        out.write(b"\nnext\n")
        assert log.new_lines() == ["x" * childlog._LONGEST_LINE, "next"]


def test_what_could_steer_a_terminal_does_not_reach_it(tmp_path: Path) -> None:
    """A provider's error text may hold anything."""
    log = ChildLog(tmp_path / "edge.log")
    with log.opened() as out:
        out.write(b"a\x1b[2Jb\tc\x07 \xff\n")
    assert log.new_lines() == ["a?[2Jb c? \N{REPLACEMENT CHARACTER}"]


def test_a_log_that_grew_too_large_begins_anew_and_is_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child goes on writing to the same open file; no line is shown twice."""
    monkeypatch.setattr(childlog, "LARGEST_BYTES", 100)
    log = ChildLog(tmp_path / "edge.log")
    with log.opened() as out:
        out.write(b"x" * 100 + b"\n")
        assert len(log.new_lines()) == 1
        out.write(b"after\n")
        assert log.new_lines() == ["after"]
    assert log.path.read_bytes() == b"after\n"
    assert b"x" * 100 in (tmp_path / "edge.log.1").read_bytes()
