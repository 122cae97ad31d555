"""
The journal: settlements that the store has not confirmed, and grants that it does not know of, kept on this machine's disk.

While the store answers, nothing is written here.
When it does not, each batch of settlements is appended as it is made, and sent again, in order, when the store is back.
A batch carries the sequence number of its replica, so that the script applies it once however often it is sent.
A file belongs to the live process that holds its lock; files of the dead are replayed by whoever starts next.
It survives the process, not the machine: a record that was cut short is dropped, and what it would have settled is charged by the reaper.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgpack

from store.cells import FIRST, Cell

Command = tuple[bytes | str | int, ...]
# What a record begins with: a command that settles; GRANTED one that asserts what was granted without the store;
# KNOWN the attempts of which the store knows by now; STREAMED attempts, each with the tokens that it has given so far.
SETTLES = "EVALSHA"
GRANTED = "GRANTED"
KNOWN = "KNOWN"
STREAMED = "STREAMED"
_WORDS = frozenset({SETTLES, GRANTED, KNOWN, STREAMED})


class Journal:
    """An append-only file of commands, locked by its owner."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._opened = 0
        self._path: Path | None = None
        self._file: int | None = None
        self._size = 0

    @property
    def path(self) -> Path | None:
        """Where the file lies while it holds something."""
        return self._path

    def append(self, command: Command) -> None:
        """Write one command behind the others, whole or not at all. Raises `OSError`."""
        if self._file is None:
            self._open()
        assert self._file is not None
        record = msgpack.packb(command, use_bin_type=True)
        try:
            written = 0
            while written < len(record):
                written += os.write(self._file, record[written:])
        except OSError:
            # Half a record would hide all that follow it.
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(record)

    def _open(self) -> None:
        self._opened += 1
        path = self._directory / f"{self._name}.{self._opened}.journal"
        self._file, self._path, self._size = locked(path), path, 0

    def clear(self) -> None:
        """Forget everything: the store has confirmed it."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Give up the lock and leave what is unconfirmed to the next process."""
        if self._file is not None:
            os.close(self._file)
        self._file = self._path = None


class Orphan:
    """The journal of a process that is gone, locked by us while we replay it."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self._file = file

    def records(self) -> Iterator[Command]:
        """Yield its whole records, in order. Raises `ValueError` at one that is none."""
        with os.fdopen(os.dup(self._file), "rb") as stream:
            stream.seek(0)
            for record in msgpack.Unpacker(stream, raw=False, strict_map_key=False):
                if not isinstance(record, list) or not record or record[0] not in _WORDS:
                    raise ValueError("not a record")
                yield tuple(record)

    def remove(self) -> None:
        """Delete it: every command has been confirmed."""
        self.path.unlink(missing_ok=True)
        os.close(self._file)

    def leave(self) -> None:
        """Keep it for a later try."""
        os.close(self._file)


def orphans(directory: Path) -> Iterator[Orphan]:
    """Yield the journals in a directory whose owner is gone, each locked for us."""
    if not directory.is_dir():
        return
    for path in sorted(directory.glob("*.journal")):
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        if is_orphan(path, file):
            yield Orphan(path, file)


def journal_of(directory: Path, cell: Cell) -> Path:
    """Return where what concerns a cell lies, in the directory for all of them."""
    return directory if cell is FIRST else directory / str(cell)


def locked(path: Path) -> int:
    """Make a file to append to, locked before it has the name that others look for. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_suffix(f"{path.suffix}.new")
    file = os.open(hidden, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(path)
    except OSError:
        os.close(file)
        raise
    return file


def is_orphan(path: Path, file: int) -> bool:
    """Lock an opened file, unless its owner lives (it is closed then) or somebody else has just done with it and deleted it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(file).st_ino:
            return True
    except OSError:
        pass
    os.close(file)
    return False
