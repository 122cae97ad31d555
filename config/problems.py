"""
What is wrong with a configuration, said so that it can be mended at first reading.

A `Problem` names the place (path, line, column), what was found there, what was expected, and
what to do. It never holds a secret, nor anything that came from the environment.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_/@:+-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    One mistake in one document.

    `line` and `column` count from 1; 0 means that there is no such place (a file that is not there).
    `severity` is `error` (nothing is applied) or `warning` (works, but think again).
    """

    source: str
    path: str
    line: int
    column: int
    message: str
    found: str = ""
    expected: str = ""
    nearest: str = ""
    remedy: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        """Give one line: `penstock.yaml:31: a.b.rmp: unknown field; did you mean 'rpm'?`."""
        place = f"{self.source}:{self.line}" if self.line else self.source
        parts = [place, *([self.path] if self.path else []), self.message]
        said = ": ".join(parts)
        if self.severity != "error":
            said = said.replace(f"{self.message}", f"{self.severity}: {self.message}", 1)
        if self.nearest:
            said += f"; did you mean '{self.nearest}'?"
        if self.remedy:
            said += f"; {self.remedy}"
        return said

    def as_dict(self) -> dict[str, str | int]:
        """Give the fields by name, for `--json`."""
        return {name: getattr(self, name) for name in self.__slots__}


class ConfigError(Exception):
    """A configuration that is not applied; `problems` says everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def mistake(expected: str, *, remedy: str = "", choices: Iterable[str] = ()) -> PydanticCustomError:
    """
    Make the error that a field's reader raises.

    It says what was `expected` and how to mend it; what was found is added by the loader, which
    knows how the value was written. `choices` are the valid words, to find the nearest among.
    """
    context: dict[str, Any] = {"expected": expected, "remedy": remedy, "choices": tuple(choices)}
    return PydanticCustomError("mistake", "expected {expected}", context)


def nearest(word: str, known: Iterable[str]) -> str:
    """Give the known name that `word` most likely meant, or an empty text."""
    names = list(known)
    for name in names:
        # Two letters that changed places are the likeliest slip of all.
        if name != word and sorted(name) == sorted(word):
            return name
    folded = {name.casefold(): name for name in reversed(names)}
    close = difflib.get_close_matches(word.casefold()[:200], list(folded), n=1, cutoff=0.6)
    return folded[close[0]] if close else ""


def there_are(word: str, known: Iterable[str], kind: str) -> str:
    """Say what `word` most likely meant, else which names of a kind there are, the first five of them."""
    names = list(known)
    meant = nearest(word, names)
    if meant:
        return f"did you mean {quoted(meant)}?"
    if not names:
        return f"no {kind} is defined"
    more = ", …" if len(names) > 5 else ""
    return f"there are: {', '.join(quoted(each) for each in names[:5])}{more}"


def spell(path: Path) -> str:
    """
    Write a path as people read it: `models."gpt-4.1".deployments[0].provider`.

    Names with a dot or anything unusual stand in quotes, so that a path never holds a control
    character and never has two readings.
    """
    said = ""
    for step in path:
        if isinstance(step, int):
            said += f"[{step}]"
        else:
            said += ("." if said else "") + (step if _BARE.fullmatch(step) else quoted(step))
    return said


def quoted(text: str, longest: int = 80) -> str:
    """Put text in double quotes, cut to `longest`, with everything unprintable escaped."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    inner = "".join(
        character
        if character.isprintable() and character not in '"\\'
        else character.encode("unicode_escape").decode().replace('"', '\\"')
        if character != "\\"
        else "\\\\"
        for character in cut
    )
    return f'"{inner}"'
