"""
A clock of a drill's own for the store's server, so that it can be stepped: `clock.c`, compiled where there is a compiler.

Only the server and its keeper are loaded with it; the gateway, the vendor and the drill go by the machine's clock.
"""

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")
_SECONDS = struct.Struct("=q")


class Clock:
    """The clock of one server, in a folder; it goes right until it is stepped, which takes a compiler (`cc` on PATH)."""

    def __init__(self, folder: Path) -> None:
        self._library = folder / "clock.so"
        self._ahead = folder / "clock"
        compiler = shutil.which("cc")
        self.can_be_stepped = False
        if compiler is not None:
            command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(self._library)]
            made = subprocess.run([*command, str(_SOURCE), "-ldl"], check=False)
            self.can_be_stepped = made.returncode == 0
            self._ahead.write_bytes(_SECONDS.pack(0))

    def environment(self) -> Mapping[str, str]:
        """Return what the server's environment needs; nothing where it cannot be stepped."""
        if not self.can_be_stepped:
            return {}
        return {"LD_PRELOAD": str(self._library), "DRILL_CLOCK": str(self._ahead)}

    def step(self, seconds: int) -> None:
        """Let it be so many seconds ahead of the machine's, or behind."""
        with self._ahead.open("r+b") as file:
            file.write(_SECONDS.pack(seconds))
