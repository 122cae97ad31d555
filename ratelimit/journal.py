"""
The journal: settlements that the store has not confirmed, kept on this machine's disk.

While the store answers, nothing is written here.
When it does not, each batch of settlements is appended as it is made, and sent again, in order, when the store is back.
A batch carries the sequence number of its replica, so that the script applies it once however often it is sent.
A file belongs to the live process that holds its lock; files of the dead are replayed by whoever starts next.
A record that was cut short by a crash is the last one, and was never sent: it is dropped.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgpack

Command = tuple[bytes | str | int, ...]


class Journal:
    """An append-only file of commands, locked by its owner."""

    def __init__(self, directory: Path, name: str) -> None:
        self._path = directory / f"{name}.journal"
        self._file: int | None = None
        self.records = 0

    @property
    def path(self) -> Path:
        """Where the file lies while it holds something."""
        return self._path

    def append(self, command: Command) -> None:
        """Write one command behind the others; it survives the process, not the machine."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(self._file, msgpack.packb(command, use_bin_type=True))
        self.records += 1

    def clear(self) -> None:
        """Forget everything: the store has confirmed it."""
        if self._file is None:
            return
        self._path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = None
        self.records = 0

    def close(self) -> None:
        """Give up the lock and leave what is unconfirmed to the next process."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Orphan:
    """The journal of a process that is gone, locked by us while we replay it."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self._file = file

    def commands(self) -> Iterator[Command]:
        """Yield its whole records, in order."""
        with os.fdopen(os.dup(self._file), "rb") as stream:
            stream.seek(0)
            yield from (
                tuple(record)
                for record in msgpack.Unpacker(stream, raw=False, strict_map_key=False)
            )

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
        file = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            continue
        yield Orphan(path, file)
