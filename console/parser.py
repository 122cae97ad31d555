"""How commands read what is typed: argparse, and the word that a misspelt one most likely meant."""

import argparse
import difflib
from pathlib import Path
from typing import Any

__all__ = ["Parser", "unreadable"]


class Parser(argparse.ArgumentParser):
    """
    A parser that takes no abbreviations, and answers a word that is none of its choices with the nearest.

    The parsers of its verbs are of this class, too.
    """

    def __init__(self, **said: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **said})

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse what is none of the choices; argparse calls this for words that have some."""
        if action.choices is None or value in action.choices:
            return
        known = [str(each) for each in action.choices]
        close = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
        meant = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
        # A verb needs no name beside it, and has the list of all of them for one
        named = None if action.dest == "verb" else action
        raise argparse.ArgumentError(named, f"there is no {str(value)!r}; {meant}")


def unreadable(file: str | Path, error: OSError | ValueError) -> str:
    """Return why a file that was named cannot be read, in the system's own words."""
    why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
    return f"cannot read {file}: {getattr(error, 'strerror', None) or why}"
