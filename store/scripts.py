"""
Lua bundles: one script, its included pieces, and the names that its header declares.

A script lives in `<package>/lua/<name>.lua` beside the Python that calls it.
`--- @include name` brings in a piece of the same package, `--- @include package:name` one of another; each piece comes in once, where it is first named.
The SHA-1 of the bundle is its version: during a deploy, old and new processes each call their own text.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_HEADER = re.compile(r"^-- (KEYS|ARGV)\[([^\]]+)\]\s+(\w+)", re.MULTILINE)
_INCLUDE = re.compile(r"^--- @include (?:(\w+):)?(\w+)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """A bundle as the server gets it, with the argument names of its header."""

    name: str
    text: str
    sha: str
    keys: tuple[str, ...]
    args: tuple[str, ...]


def read(package: str, name: str) -> str:
    """Return the text of one Lua file as it lies in its package."""
    return files(package).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def bundle(package: str, name: str) -> str:
    """
    Return the script with its includes expanded, each piece once.

    Raises `FileNotFoundError` for a piece that does not exist.
    """
    seen: set[tuple[str, str]] = {(package, name)}

    def expand(text: str, home: str) -> str:
        def piece(found: re.Match[str]) -> str:
            where, what = found.group(1) or home, found.group(2)
            if (where, what) in seen:
                return ""
            seen.add((where, what))
            return expand(read(where, what), where)

        return _INCLUDE.sub(piece, text)

    return expand(read(package, name), package)


@cache
def load(package: str, name: str) -> Script:
    """Return the bundle `<package>/lua/<name>.lua`, ready for EVALSHA."""
    header = _HEADER.findall(read(package, name))
    text = bundle(package, name)
    return Script(
        name=f"{package}:{name}",
        text=text,
        sha=hashlib.sha1(text.encode()).hexdigest(),  # noqa: S324 - Redis names scripts by SHA-1
        keys=tuple(label for kind, _, label in header if kind == "KEYS"),
        args=tuple(label for kind, _, label in header if kind == "ARGV"),
    )
