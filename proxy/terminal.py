"""
What people see: words on standard error, colour only where it helps.

Colour needs a terminal and no `NO_COLOR` (no-color.org); a file or a pipe gets plain text.
"""

import os
import sys
from collections.abc import Mapping
from typing import TextIO

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Terminal:
    """One output stream that knows whether it is a terminal and whether it may use colour."""

    def __init__(self, out: TextIO, environ: Mapping[str, str]) -> None:
        self._out = out
        self.is_live = out.isatty() and environ.get("TERM") != "dumb"
        self._coloured = self.is_live and not environ.get("NO_COLOR")
        self._has_status = False

    def paint(self, text: str, *styles: str) -> str:
        """Return the text in these styles: bold, dim, red, green, yellow, cyan."""
        if not self._coloured or not styles:
            return text
        return f"\x1b[{';'.join(_CODES[style] for style in styles)}m{text}\x1b[0m"

    def say(self, text: str = "") -> None:
        """Write a line."""
        self.write(f"{text}\n")

    def write(self, text: str) -> None:
        """Write text as it comes and show it at once."""
        self._clear_status()
        self._put(text)

    def status(self, text: str, *styles: str) -> None:
        """Show one line that the next one replaces; nothing where there is no terminal."""
        if self.is_live:
            self._put(f"\r\x1b[K{self.paint(text[: self.width - 1], *styles)}")
            self._has_status = True

    def _clear_status(self) -> None:
        if self._has_status:
            self._put("\r\x1b[K")
            self._has_status = False

    @property
    def width(self) -> int:
        """How many columns it has; 80 where that is unknown."""
        try:
            return os.get_terminal_size(self._out.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def _put(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except (BrokenPipeError, ValueError):
            # Nobody reads any more: what we watch over matters more than what we say.
            pass


def standard_error() -> Terminal:
    """Return the terminal of this process's standard error."""
    return Terminal(sys.stderr, os.environ)


def standard_output() -> Terminal:
    """Return the terminal of this process's standard output."""
    return Terminal(sys.stdout, os.environ)
