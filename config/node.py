"""
The values of a YAML document, each of which knows where it was written, and small questions about them.

The questions take what may be absent, and what has the wrong shape has no answer: the models report it (`config.models`).
They are of a tree whose scalars have their values (`config.document.expand`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Literal

from config.problems import Path
from config.scalars import decimal_of, flag_of, whole_of

__all__ = [
    "NULLS",
    "REFERENCE",
    "Entry",
    "Node",
    "amount",
    "describe",
    "given",
    "is_true",
    "items",
    "members",
    "text",
    "whole",
]

NULLS = frozenset({"", "~", "null", "Null", "NULL"})
REFERENCE = re.compile(r"\$\$|\$\{(?P<body>[^}\n]*)\}|(?P<open>\$\{)")

Kind = Literal["scalar", "list", "mapping"]


@dataclass(slots=True)
class Entry:
    """One `key: value` of a mapping; line and column are the key's, from 1."""

    line: int
    column: int
    node: "Node"


# Most nodes are scalars, so that a list and a dictionary for each would cost more than all the rest
_NO_ENTRIES: Mapping[str, Entry] = MappingProxyType({})


@dataclass(slots=True)
class Node:
    """
    One value of the document; line and column are where it begins, from 1.

    A scalar has `raw` (its text, references unexpanded), `plain` (it was not quoted) and, after
    `expand`, `value`: None, `Plain` or `str`. `unset` says that a reference in it could not be
    resolved, so that nothing more is said about it.
    Aliases make this a graph without cycles; nodes are shared, never copied.
    """

    kind: Kind
    line: int
    column: int
    raw: str = ""
    plain: bool = False
    value: str | None = None
    unset: bool = False
    items: Sequence["Node"] = ()
    entries: Mapping[str, Entry] = field(default_factory=lambda: _NO_ENTRIES)
    size: int = 1  # values in it, itself included, as if every alias were written out
    height: int = 1  # levels in it, itself included

    @property
    def has_reference(self) -> bool:
        """Say whether a scalar holds anything from the environment."""
        return "$" in self.raw and any(
            found["body"] is not None for found in REFERENCE.finditer(self.raw)
        )

    @property
    def is_one_reference(self) -> bool:
        """Say whether a scalar is exactly one reference."""
        whole = REFERENCE.fullmatch(self.raw)
        return whole is not None and whole["body"] is not None

    @property
    def is_nothing(self) -> bool:
        """Say whether nothing is written there, or a word for nothing."""
        return self.kind == "scalar" and self.plain and self.raw in NULLS

    def get(self, *names: str) -> "Node | None":
        """Go down mappings by name; None where there is no such place."""
        return self.at(names)

    def at(self, path: Path) -> "Node | None":
        """Go down mappings by name and lists by index from 0; None where there is no such place."""
        node: Node | None = self
        for step in path:
            if node is None:
                return None
            if isinstance(step, int):
                node = node.items[step] if 0 <= step < len(node.items) else None
            else:
                entry = node.entries.get(step)
                node = entry.node if entry is not None else None
        return node

    def children(self) -> Iterator["Node"]:
        """Give what is directly in it."""
        yield from self.items
        for entry in self.entries.values():
            yield entry.node


def describe(node: Node) -> str:
    """Say what kind of value it is, without saying what it holds."""
    if node.kind == "mapping":
        return "a mapping" if node.entries else "an empty mapping"
    if node.kind == "list":
        return "a list" if node.items else "an empty list"
    if node.is_nothing:
        return "nothing"
    return "a text" if node.raw or node.plain else "an empty text"


# Small questions...


def members(node: Node, *names: str) -> Iterator[tuple[str, Entry]]:
    """Give the entries of the mapping that one comes to by names."""
    found = node.get(*names)
    if found is not None:
        yield from found.entries.items()


def items(node: Node | None) -> Sequence[Node]:
    """Give what a list holds."""
    return () if node is None else node.items


def given(node: Node | None) -> Node | None:
    """Give a node that is not empty: an empty value means the default."""
    empty = node is None or (node.kind == "scalar" and not node.unset and node.value is None)
    return None if empty else node


def text(node: Node | None) -> str | None:
    """Give the text of a scalar that has one."""
    return node.value if node is not None and node.kind == "scalar" and not node.unset else None


def whole(node: Node | None) -> int | None:
    """Give the whole number that a scalar says."""
    return whole_of(text(node))


def amount(node: Node | None) -> Decimal | None:
    """Give the finite number that a scalar says."""
    return decimal_of(text(node))


def is_true(node: Node | None) -> bool:
    """Say whether a scalar is a switch that is on."""
    return flag_of(text(node)) is True
