"""The journal: what is appended is there for the next process, whole and in order; a file has one owner."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit.journal import Command, Journal, orphans
from store.places import CHECKOUT

words = st.one_of(st.binary(max_size=40), st.text(max_size=20), st.integers(-(2**63), 2**64 - 1))
commands = st.lists(words, max_size=8).map(lambda rest: ("EVALSHA", *rest))


def kept(folder: Path) -> list[list[Command]]:
    """Return the commands of every orphan, and leave them where they are."""
    found = []
    for orphan in orphans(folder):
        found.append(list(orphan.records()))
        orphan.leave()
    return found


def command(n: int) -> Command:
    return ("EVALSHA", "f" * 40, n, b"\xff\x00", "ü")


@given(written=st.lists(commands, min_size=1, max_size=20))
def test_the_next_process_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, written: list[Command]
) -> None:
    """Bytes, text and integers of any size, in the order in which they were appended."""
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder, "r_0")
    for one in written:
        journal.append(one)
    assert kept(folder) == []
    journal.close()
    assert kept(folder) == [written]


def test_a_journal_makes_no_file_before_it_is_needed(tmp_path: Path) -> None:
    """Nor a directory; and cleared, it leaves none."""
    folder = tmp_path / "not" / "yet"
    journal = Journal(folder, "r_0")
    assert journal.path is None
    journal.close()
    journal.clear()
    assert not folder.exists()
    assert list(orphans(folder)) == []
    journal.append(command(1))
    path = journal.path
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o600
    journal.clear()
    assert list(folder.iterdir()) == []
    journal.append(command(2))
    journal.close()
    assert kept(folder) == [[command(2)]]


def test_what_is_written_after_the_end_is_kept_beside_what_was_before(tmp_path: Path) -> None:
    """Once given up, a file may be another's: the next record begins a new one."""
    journal = Journal(tmp_path, "r_0")
    journal.append(command(1))
    journal.close()
    journal.append(command(2))
    assert kept(tmp_path) == [[command(1)]]
    journal.close()
    assert kept(tmp_path) == [[command(1)], [command(2)]]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_tail_that_was_cut_is_dropped(tmp_path: Path, cut: int) -> None:
    """What stands whole before it counts."""
    journal = Journal(tmp_path, "r_0")
    for n in range(3):
        journal.append(command(n))
    path = journal.path
    assert path is not None
    journal.close()
    os.truncate(path, path.stat().st_size - cut)
    assert kept(tmp_path) == [[command(0), command(1)]]


def test_a_record_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up in the middle of one leaves no half of it in front of the next."""
    journal = Journal(tmp_path, "r_0")
    journal.append(command(1))
    write, room = os.write, [5, 9]

    def scarce(file: int, data: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "no space")
        return write(file, data[: room.pop()])

    monkeypatch.setattr(os, "write", scarce)
    with pytest.raises(OSError, match="no space"):
        journal.append(command(2))
    monkeypatch.setattr(os, "write", write)
    journal.append(command(3))
    journal.close()
    assert kept(tmp_path) == [[command(1), command(3)]]


def test_an_orphan_has_one_heir(tmp_path: Path) -> None:
    """Whoever locks it first replays it; the others pass it by, also when it is gone before they look."""
    for n in range(2):
        journal = Journal(tmp_path, f"r_{n}")
        journal.append(command(n))
        journal.close()
    first = orphans(tmp_path)
    mine = next(first)
    [other] = orphans(tmp_path)
    assert other.path != mine.path
    other.remove()
    mine.remove()
    assert list(first) == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_replayed_while_we_opened_it_is_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We hold a lock on what has no name any more: there is nothing to replay, and nothing to delete."""
    journal = Journal(tmp_path, "r_0")
    journal.append(command(1))
    journal.close()
    opened = os.open

    def slow(path: Path, flags: int) -> int:
        file = opened(path, flags)
        path.unlink()
        return file

    monkeypatch.setattr(os, "open", slow)
    assert list(orphans(tmp_path)) == []


def test_something_else_in_the_directory_is_left_alone(tmp_path: Path) -> None:
    """Journals end in `.journal`, and those that are being made do not yet."""
    (tmp_path / "notes.txt").write_text("keep")
    (tmp_path / "r_0.1.new").write_bytes(b"")
    assert list(orphans(tmp_path)) == []


@pytest.mark.parametrize("nonsense", [b"\xc1", b"\x01", b"\x92\xa4EVAL\x01", b"\x90", b"\xa1\xff"])
def test_nonsense_is_said_after_what_stands_before_it(tmp_path: Path, nonsense: bytes) -> None:
    """Half a file is not taken for a whole one."""
    journal = Journal(tmp_path, "r_0")
    journal.append(command(1))
    path = journal.path
    assert path is not None
    journal.close()
    with path.open("ab") as file:
        file.write(nonsense)
    [orphan] = orphans(tmp_path)
    found = orphan.records()
    assert next(found) == command(1)
    with pytest.raises(ValueError):
        next(found)
    orphan.leave()


def test_what_a_killed_process_has_appended_survives_it(tmp_path: Path) -> None:
    """SIGKILL ends the owner and its lock, not its records."""
    program = (
        "import sys, time; from pathlib import Path; from ratelimit.journal import Journal\n"
        "j = Journal(Path(sys.argv[1]), 'r_9')\n"
        "for n in range(50): j.append(('EVALSHA', 'x', n))\n"
        "print('written', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, cwd=CHECKOUT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        assert kept(tmp_path) == []
        process.send_signal(signal.SIGKILL)
    assert kept(tmp_path) == [[("EVALSHA", "x", n) for n in range(50)]]
