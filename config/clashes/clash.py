"""A mistake between places of a document, and those that names make everywhere: they lead nowhere, or come twice."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from config.node import Entry, Node, items, text
from config.problems import Path, nearest, quoted, there_are
from config.scalars import NAME

__all__ = ["Clash", "dangling", "references", "repeats"]


@dataclass(frozen=True, slots=True)
class Clash:
    """One mistake: its path, the place in the text, what is wrong and how to mend it."""

    path: Path
    where: Node | Entry
    message: str
    remedy: str = ""
    nearest: str = ""
    severity: str = "error"


def references(
    path: Path, written: Node | None, known: Collection[str], kind: str
) -> Iterator[Clash]:
    """Check a list of names of one kind of thing."""
    for at, node in enumerate(items(written)):
        yield from dangling((*path, at), node, known, kind)
    yield from repeats(path, written)


def dangling(
    path: Path, node: Node | None, known: Collection[str], kind: str, *, shape: str = NAME
) -> Iterator[Clash]:
    """Check the name of a thing; what has not the `shape` of a name is passed over."""
    name = text(node)
    if node is None or name is None or name in known or not re.fullmatch(shape, name):
        return
    meant = nearest(name, known)
    remedy = "" if meant else there_are(name, known, kind)
    message = f"no {kind} named {quoted(node.raw)}"
    yield Clash(path, node, message, remedy, nearest=meant)


def repeats(path: Path, written: Node | None) -> Iterator[Clash]:
    """Check that nothing is listed twice."""
    seen: set[str] = set()
    for at, node in enumerate(items(written)):
        said = text(node)
        if said is None:
            continue
        if said in seen:
            yield Clash((*path, at), node, f"{quoted(node.raw)} is listed twice", "keep one")
        seen.add(said)
