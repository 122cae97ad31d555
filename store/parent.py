"""
How a child process learns that its parent is gone: a pipe that only the parent can write to, and that nobody writes to.

The parent keeps the writing end and lets its children inherit the reading end, whose number is in `PENSTOCK_PARENT_FD`.
When the parent ends, however it ends, the kernel closes the writing end and the children read the end of the file.
It works wherever there are pipes, for `kill -9` too, and needs neither polling nor a parent that says goodbye.

A role ends itself as on SIGTERM when its parent is gone (`end_with_parent`), so that streams still drain.
`python -m store.parent MODULE …` runs a module that knows nothing of this in the same way.
"""

import asyncio
import os
import runpy
import signal
import sys
import threading
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
    fd = _inherited(environ)
    if fd is None:
        return False
    loop = asyncio.get_running_loop()

    def readable() -> None:
        # Nobody writes: what can be read is the end of the file.
        loop.remove_reader(fd)
        then()

    loop.add_reader(fd, readable)
    return True


def end_with_parent(environ: Mapping[str, str]) -> bool:
    """
    Send this process SIGTERM when the parent is gone; say whether there is a parent to watch.

    A thread waits for it, so that it works before, during and after any event loop.
    """
    fd = _inherited(environ)
    if fd is None:
        return False

    def wait() -> None:
        os.read(fd, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
    return True


def _inherited(environ: Mapping[str, str]) -> int | None:
    """Return the reading end that the parent gave us, None if there is none."""
    given = environ.get(PARENT_FD, "")
    if not given.isdecimal():
        return None
    try:
        # Children of ours have another parent: us.
        os.set_inheritable(int(given), False)
    except OSError:
        # The variable was inherited through a process that closed the pipe.
        return None
    return int(given)


def main() -> None:
    """Run `MODULE ARGUMENTS…` as `python -m MODULE` would, and end it with its parent."""
    end_with_parent(os.environ)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
