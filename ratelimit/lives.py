"""
Whether a process that fell silent is dead: it keeps a file locked for as long as it lives.

A replica whose beats stay away may be dead, suspended or cut off, and the store cannot tell which (`lua/lives.lua`).
The kernel can: it gives up a process's locks when that process ends, however it ends, and never before.
So each gate writes its boots into a file beside the journal and holds its lock; whoever finds the file unlocked tells the
store that these boots are dead, and deletes it: the next gate that starts there, the control of that machine, or the witness
of an edge that runs alone.

A life whose journal still lies there has something to settle yet, and is left alone.
One that was written on another machine, in a directory that machines share, is not believed: their locks need not meet.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from ratelimit.journal import is_orphan, locked
from store.cells import FIRST, Cell

# How a life ended, as in `lua/lives.lua`.
DEAD: Final = -1
SILENT: Final = -2
# A boot takes some fifty bytes, and a process has few.
_MOST: Final = 1 << 20
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Life:
    """The file that says which boots are this process's, for as long as it lives."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._path: Path | None = None
        self._file: int | None = None
        self.members: list[str] = []

    def begin(self, member: str) -> None:
        """Write a boot down before the store hears of it. Raises `OSError`; that it is over can be said all the same."""
        self.members.append(member)
        if self._file is None:
            path = self._directory / f"{self._name}.life"
            self._file, self._path = locked(path), path
            os.write(self._file, f"{_machine()}\n".encode())
        os.write(self._file, f"{member}\n".encode())

    def end(self) -> None:
        """Forget it: everything that was to be said of its boots has been said."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Leave it to others to say that its boots are dead."""
        if self._file is not None:
            os.close(self._file)
        self._file = self._path = None


def members_of(journal: Path) -> list[str]:
    """Return the boots of the process that left a journal."""
    path = journal.with_name(f"{journal.name.rsplit('.', 2)[0]}.life")
    try:
        return path.read_text(errors="replace").splitlines()[1:]
    except FileNotFoundError:
        return []


async def tell_of_the_dead(client: Redis, directory: Path, cell: Cell = FIRST) -> int:
    """Tell the store which boots have no process any more. Returns how many; raises what redis-py raises."""
    told = 0
    for path, file, members in _dead(directory):
        try:
            if members:
                await client.zadd(cell.beats, dict.fromkeys(members, DEAD), xx=True)
            path.unlink(missing_ok=True)
            told += len(members)
        finally:
            os.close(file)
    return told


def _dead(directory: Path) -> Iterator[tuple[Path, int, list[str]]]:
    """Yield the files of processes that have ended, each locked for us, and what they say."""
    if not directory.is_dir():
        return
    for path in sorted(directory.glob("*.life")):
        if any(one.name.startswith(f"{path.stem}.") for one in directory.glob("*.journal")):
            continue
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        if is_orphan(path, file):
            where, *members = os.read(file, _MOST).decode(errors="replace").splitlines() or [""]
            if not where or _is_here(where):
                yield path, file, members
            else:
                os.close(file)


def _machine() -> str:
    """Return the name of this machine, and of its kernel's life."""
    return f"{os.uname().nodename} {_boot_id()}"


def _boot_id() -> str:
    with suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""


def _is_here(where: str) -> bool:
    """Whether a file was written under this kernel, or by this machine before it started anew."""
    node, _, boot_id = where.partition(" ")
    return node == os.uname().nodename or (boot_id != "" and boot_id == _boot_id())
