"""
The log of one child process: a file that the child writes to itself, and that the supervisor reads along.

A file and not a pipe: whatever becomes of the supervisor, the child can go on writing, and nothing is lost.
The file is kept below `LARGEST_BYTES`; what was before it is kept once, in `<name>.log.1`.
"""

import contextlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

LARGEST_BYTES = 10 * 1024 * 1024
_MOST_LINES = 40
_LONGEST_LINE = 2000


class ChildLog:
    """A log file, and how far it has been read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_to: int | None = None
        self._unfinished = b""

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open it for a child that is about to start; what it held before has been read."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as log:
            log.write(f"--- started {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode())
            self._read_to = log.tell()
            self._unfinished = b""
            yield log

    def new_lines(self) -> list[str]:
        """
        Return the lines that were written since the last call, fit for a terminal; none before the first start.

        Of a flood the last lines are given, and how many came before them.
        """
        if self._read_to is None:
            return []
        try:
            with self.path.open("rb") as log:
                log.seek(self._read_to)
                new = log.read()
        except FileNotFoundError:
            return []
        self._read_to += len(new)
        if self._read_to > LARGEST_BYTES:
            self._begin_anew()
        *lines, unfinished = (self._unfinished + new).split(b"\n")
        # Of a line without end no more is kept than would be shown, whatever its bytes are.
        self._unfinished = unfinished[: 4 * _LONGEST_LINE]
        shown = [_printable(line) for line in lines[-_MOST_LINES:] if line.strip()]
        if len(lines) > _MOST_LINES:
            shown.insert(0, f"({len(lines) - _MOST_LINES} more lines in {self.path})")
        return shown

    def _begin_anew(self) -> None:
        # The child has the file open for appending, so it goes on at the new end.
        shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.1"))
        with self.path.open("ab") as log:
            log.truncate(0)
        self._read_to = 0


def _printable(line: bytes) -> str:
    text = line.decode(errors="replace").rstrip()[:_LONGEST_LINE]
    return "".join(one if one.isprintable() else " " if one == "\t" else "?" for one in text)
