"""The programs that the bench needs from outside: nginx to compare with, wrk to make the load."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

_ALSO_IN = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin", "/usr/local/bin")


class ToolsMissing(RuntimeError):
    """A program is not installed; the message says how to install it."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Where the programs lie."""

    nginx: str
    wrk: str


def which(name: str) -> str | None:
    """Find a program on PATH or where the system's administrators have theirs."""
    # Debian has nginx in /usr/sbin, which is not on everybody's PATH.
    return shutil.which(name) or shutil.which(name, path=":".join(_ALSO_IN))


def find(where: Callable[[str], str | None] = which) -> Tools:
    """Find both programs; raises `ToolsMissing`."""
    nginx, wrk = where("nginx"), where("wrk")
    missing = [name for name, path in (("nginx", nginx), ("wrk", wrk)) if path is None]
    if nginx is None or wrk is None:
        names = " ".join(missing)
        raise ToolsMissing(
            f"the bench needs {' and '.join(missing)}, and found no such program.\n"
            f"  Debian, Ubuntu:  apt-get install {names}\n"
            f"  macOS:           brew install {names}\n"
            "Nothing else needs them: demo, up and test run without."
        )
    return Tools(nginx, wrk)


def version(program: str) -> str:
    """Give the first line of what `program -v` says, on whichever stream it says it."""
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    lines = (told.stdout + told.stderr).strip().splitlines()
    return lines[0].removeprefix("nginx version: ") if lines else "unknown"
