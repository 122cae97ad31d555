"""A lock is held as long as somebody lives who has it, and not a moment longer."""

import os
import subprocess
import sys
from pathlib import Path

from store.filelock import FileLock


def test_a_second_taker_is_refused_and_reads_who_holds_it(tmp_path: Path) -> None:
    """The words of a refusal can name a process."""
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.take()
    assert not second.take()
    assert second.holder() is None
    first.sign(123456)
    first.sign(12)
    assert second.holder() == 12
    first.close()
    assert second.take()
    second.close()


def test_a_child_that_inherited_it_holds_it_until_it_is_killed(tmp_path: Path) -> None:
    """This is how a store's server guards its data without knowing of it."""
    ours = FileLock(tmp_path / "lock")
    assert ours.take()
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", "input()"], pass_fds=[ours.fd], stdin=subprocess.PIPE
    )
    ours.close()
    later = FileLock(tmp_path / "lock")
    assert not later.take()
    child.kill()
    child.communicate()
    assert later.take()
    later.close()


def test_a_child_that_was_given_nothing_does_not_hold_it(tmp_path: Path) -> None:
    """The file is closed on exec: only who is meant to inherit it does."""
    ours = FileLock(tmp_path / "lock")
    assert ours.take()
    assert not os.get_inheritable(ours.fd)
    ours.close()
