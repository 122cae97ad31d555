"""
A document that is being changed, as a tree: parts of it are set, moved and taken away, and the rest stays as it was written.

Errors: `NoSuchPlace` for what a change speaks of and is not there, `Taken` for what is there
already, `NotEmpty` for what holds something else.
"""

from collections.abc import Callable, Mapping

from config import document as documents
from config.loader import ConfigError, check_text
from config.node import Entry, Node
from config.problems import Path, spell

__all__ = ["Draft", "Edit", "NoSuchPlace", "NotEmpty", "Taken", "remove_value", "set_value"]


class _Misplaced(Exception):
    def __init__(self, message: str, path: Path = (), remedy: str = "") -> None:
        self.message = message
        self.path = path
        self.remedy = remedy
        super().__init__(f"{message}; {remedy}" if remedy else message)


class NoSuchPlace(_Misplaced, LookupError):
    """What a change speaks of is not in the document; the remedy says what there is, `path` where."""


class Taken(_Misplaced):
    """There is one of this name already, at `path`."""


class NotEmpty(_Misplaced):
    """What is at `path` holds other things that would go with it."""


class Draft:
    """
    A document that is being changed.

    `environ` resolves references where a change has to know names (a deployment's provider).
    """

    def __init__(self, document: str, environ: Mapping[str, str]) -> None:
        root, flaws = documents.compose(document)
        if root is None or flaws:
            raise ConfigError(check_text(document, source="live configuration", environ=environ))
        documents.expand(root, environ)
        self.root = root

    def at(self, path: Path) -> Node | None:
        """Give what stands at a path, None where nothing does."""
        return self.root.at(path)

    def names(self, path: Path) -> list[str]:
        """Give the names in the mapping at a path."""
        node = self.at(path)
        return [] if node is None else list(node.entries)

    def set(self, path: Path, value: Node) -> None:
        """Put a value at a path; mappings on the way there are made."""
        node = self.root
        for step in path[:-1]:
            if isinstance(step, int):
                node = node.items[step]
                continue
            inner = node.get(step)
            if inner is None or inner.is_nothing:
                inner = Node("mapping", 0, 0)
                _enter(node, step, inner)
            node = inner
        last = path[-1]
        if isinstance(last, int):
            items = list(node.items)
            items[last : last + 1] = [value]
            node.items = items
        else:
            _enter(node, last, value)

    def remove(self, path: Path) -> None:
        """Take away what stands at a path; nothing happens where nothing does."""
        holder, last = self.at(path[:-1]), path[-1]
        if holder is None:
            return
        if isinstance(last, int):
            holder.items = [each for at, each in enumerate(holder.items) if at != last]
        else:
            holder.entries = {name: entry for name, entry in holder.entries.items() if name != last}

    def text(self) -> str:
        """Write the document."""
        return documents.write(self.root, {})


Edit = Callable[[Draft], None]


def _enter(mapping: Node, name: str, value: Node) -> None:
    known = mapping.entries.get(name)
    if known is None:
        mapping.entries = {**mapping.entries, name: Entry(0, 0, value)}
    else:
        mapping.entries = {
            each: Entry(0, 0, value) if each == name else entry
            for each, entry in mapping.entries.items()
        }
    mapping.kind = "mapping"


# Any value...


def set_value(path: Path, value: object) -> Edit:
    """Set the value at a path; what is in it is said as data (`config.document.from_data`)."""
    made = documents.from_data(value)

    def edit(draft: Draft) -> None:
        if not path:
            raise NoSuchPlace("the whole is replaced by applying a document")
        for at in range(1, len(path)):
            holder = draft.at(path[:at])
            step = path[at]
            is_list = isinstance(step, int)
            if is_list and (holder is None or not 0 <= int(step) < len(holder.items)):
                raise NoSuchPlace(f"there is no {spell(path[: at + 1])}", path[: at + 1])
            if not is_list and holder is not None and holder.kind == "list":
                raise NoSuchPlace(f"{spell(path[:at])} is a list", path[:at])
            if holder is not None and holder.kind == "scalar" and not holder.is_nothing:
                raise NoSuchPlace(f"{spell(path[:at])} is a value, nothing stands in it", path[:at])
        draft.set(path, made)

    return edit


def remove_value(path: Path) -> Edit:
    """Take away the value at a path."""

    def edit(draft: Draft) -> None:
        if not path or draft.at(path) is None:
            raise NoSuchPlace(f"there is no {spell(path) or 'such place'}", path)
        draft.remove(path)

    return edit
