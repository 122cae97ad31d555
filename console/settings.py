"""
Single settings of a configuration file, for commands that have to know where things are.

Only what is asked for has to be right in it, and its other secrets need not be set where a command runs.
"""

from collections.abc import Mapping
from pathlib import Path

from console.parser import unreadable
from store.places import CHECKOUT, CONFIG_NAME

__all__ = ["Settings", "Unreadable", "usual_file"]


class Unreadable(Exception):
    """The file cannot be read; the message says which and why."""


def usual_file(here: Path) -> Path | None:
    """Return the configuration of a folder, or else of the checkout; None where neither has one."""
    candidates = (here / CONFIG_NAME, CHECKOUT / CONFIG_NAME)
    return next((path for path in candidates if path.exists()), None)


class Settings:
    """The settings of one file, its references resolved. Raises `Unreadable`."""

    def __init__(self, file: Path, environ: Mapping[str, str]) -> None:
        # Only now: to read YAML takes longer than all the rest.
        from config import document  # noqa: PLC0415

        try:
            root, flaws = document.compose(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise Unreadable(unreadable(file, error)) from error
        if root is None:
            raise Unreadable(f"cannot read {file}: line {flaws[0].line}: {flaws[0].message}")
        self._root = root
        self._wrong = {id(node): message for node, message, _ in document.expand(root, environ)}

    def get(self, *names: str) -> str | None:
        """Return the text of a setting, None where it is not said, or refers to what is not set here."""
        node = self._root.get(*names)
        return None if node is None or node.unset or node.value is None else str(node.value)

    def why_unset(self, *names: str) -> str | None:
        """Say why a setting that is written has no value here, None where it has, or is not written."""
        return self._wrong.get(id(self._root.get(*names)))
