"""
A lock that is free exactly when nobody lives who holds it: flock(2) on an open file, with the holder's pid in it.

The lock belongs to the open file, not to the process: a child that inherits the file holds the lock too.
There is no stale lock to clean up, whatever happened to the holder.
"""

import fcntl
import os
from pathlib import Path


class FileLock:
    """A lock file, opened; `take()` it, `sign()` it, and keep it open for as long as it is to be held."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self) -> bool:
        """Take the lock if it is free."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def holder(self) -> int | None:
        """Return the process id that the holder signed with, None while it has not."""
        text = os.pread(self.fd, 32, 0).strip()
        return int(text) if text.isdigit() else None

    def sign(self, pid: int) -> None:
        """Write down whose lock it is."""
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{pid}\n".encode(), 0)

    def close(self) -> None:
        """Let go of this handle; a child that inherited the file keeps its own."""
        os.close(self.fd)
