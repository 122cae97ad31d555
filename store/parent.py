"""
How a child process learns that its parent is gone: a pipe that only the parent can write to, and that nobody writes to.

The parent keeps the writing end and lets its children inherit the reading end, whose number is in `PENSTOCK_PARENT_FD`.
When the parent ends, however it ends, the kernel closes the writing end and the children read the end of the file.
It works wherever there are pipes, for `kill -9` too, and needs neither polling nor a parent that says goodbye.
"""

import asyncio
import os
from collections.abc import Callable, Mapping

PARENT_FD = "PENSTOCK_PARENT_FD"


class ParentPipe:
    """The parent's side: keeps the writing end open for as long as it lives."""

    def __init__(self) -> None:
        self.read_fd, self._write_fd = os.pipe()
        os.set_inheritable(self.read_fd, True)

    def environment(self) -> dict[str, str]:
        """Return what a child's environment needs; `read_fd` goes into its `pass_fds`."""
        return {PARENT_FD: str(self.read_fd)}

    def close(self) -> None:
        """Close both ends; children that are still there take it as the parent's end."""
        for fd in (self.read_fd, self._write_fd):
            os.close(fd)


def on_parent_gone(then: Callable[[], None], environ: Mapping[str, str]) -> bool:
    """
    Call `then` once, from the running loop, when the parent is gone; say whether there is a parent to watch.

    A process that nobody supervises has no such parent, and nothing happens.
    """
    given = environ.get(PARENT_FD, "")
    if not given.isdecimal():
        return False
    fd = int(given)
    loop = asyncio.get_running_loop()
    try:
        # Children of ours have another parent: us.
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
    except OSError:
        # The variable was inherited through a process that closed the pipe.
        return False

    def readable() -> None:
        try:
            if os.read(fd, 1):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        loop.remove_reader(fd)
        then()

    loop.add_reader(fd, readable)
    return True
