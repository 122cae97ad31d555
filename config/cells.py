"""
Which cell holds what: tenants lie whole in one, what all of them use is shared by all.

An organization lies in one cell with all its parts, so that every limit over a caller is seen by one script.
Models, deployments and providers are used from every cell; what they are limited to is divided into shares
(`ratelimit.shares`), which has to leave something for each.
Where nobody says it, an organization's name decides, by the highest random weight (Thaler and Ravishankar, "Using name-based
mappings to increase hit rates", 1998): with one cell more only those organizations move that go there.
"""

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import NamedTuple

from config.document import Node, compose, expand
from config.models import Config
from config.problems import Path
from config.references import Clash, organizations_in
from config.section import MOST_CELLS
from store.cells import Cell, cell

__all__ = [
    "Division",
    "cell_of",
    "cells_of",
    "check",
    "division_in",
    "division_of",
    "is_shared",
    "moved",
    "tenant_of",
]

SHARED = frozenset({"model", "deployment", "provider"})
"""The kinds of scopes that are used from every cell."""

_OF_TOKENS = frozenset({"tpm", "tpd", "itpm", "itpd", "otpm", "otpd"})


def is_shared(scope: str) -> bool:
    """Tell whether a scope (`deployment:<id>`) is used from every cell."""
    return scope.partition(":")[0] in SHARED


def tenant_of(scope: str) -> str:
    """
    Return the outermost organization of a scope such as `team:acme/emea/support` or `user:acme#ann`.

    It is empty where a scope belongs to nobody: what is copied to a shadow is paid by its experiment.
    """
    kind, _, name = scope.partition(":")
    return "" if kind == "shadow" else name.partition("#")[0].partition("/")[0]


def cells_of(config: Config) -> tuple[Cell, ...]:
    """Return the cells, the first one first."""
    return tuple(map(cell, range(config.store.cells)))


def cell_of(config: Config, organization: str) -> Cell:
    """Return where an organization lies, or the one that it is a part of (`acme/emea`); the first cell for nobody."""
    outermost = organization.partition("/")[0]
    placed = config.organizations.get(outermost)
    return _lies(config.store.cells, outermost, None if placed is None else placed.cell)


def _lies(count: int, outermost: str, said: int | None) -> Cell:
    if count == 1 or not outermost:
        return cell(0)
    if said is not None:
        return cell(said)
    return cell(
        max(range(count), key=lambda number: sha256(f"{number}:{outermost}".encode()).digest())
    )


class Division(NamedTuple):
    """How tenants are divided: over how many cells, and for each outermost organization the cell that is said, None where its name decides."""

    number: int
    said: Mapping[str, int | None]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells, the first one first."""
        return tuple(map(cell, range(self.number)))


def division_of(config: Config) -> Division:
    """Return how a configuration divides its tenants."""
    return Division(
        config.store.cells, {name: each.cell for name, each in config.organizations.items()}
    )


def division_in(document: str, environ: Mapping[str, str]) -> Division:
    """
    Return how a published document divides its tenants.

    Nothing else of it need be valid here: what ran may refer to variables that are set no longer.
    """
    root, _ = compose(document)
    if root is None:
        return Division(1, {})
    for _flaw in expand(root, environ):
        pass
    count = _whole(root.get("store", "cells")) or 1
    return Division(
        min(max(count, 1), MOST_CELLS),
        {
            str(path[1]): _whole(entry.node.get("cell"))
            for path, entry in organizations_in(root)
            if len(path) == 2
        },
    )


def moved(before: Division, after: Division) -> str:
    """Return what would lie elsewhere, in words; empty when all stays where it is."""
    if before.number != after.number:
        return f"store.cells: {before.number} -> {after.number}"
    for name in before.said:
        if name not in after.said:
            continue
        here = _lies(before.number, name, before.said[name])
        there = _lies(after.number, name, after.said[name])
        if here is not there:
            return f"organizations.{name}.cell: {here.number} -> {there.number}"
    return ""


# What cannot be divided...


def check(root: Node) -> Iterator[Clash]:
    """Give what cannot be kept over as many cells as a document asks for."""
    said = root.get("store", "cells")
    count = 1 if said is None else _whole(said) or 0
    if not 1 <= count <= MOST_CELLS:
        return
    for path, entry in organizations_in(root):
        node = entry.node.get("cell")
        number = _whole(node)
        if node is None or number is None:
            continue
        if len(path) > 2:
            remedy = f"write it at organizations.{path[1]}"
            yield _clash((*path, "cell"), node, "a part lies where the whole does", remedy)
        elif number >= count:
            yield _clash(
                (*path, "cell"),
                node,
                f"there is no cell {number}: store.cells is {count}",
                f"write a number from 0 to {count - 1}, or raise store.cells",
            )
    if count > 1:
        for path, scope, context in _shared_in(root):
            yield from _undividable(path, scope, count)
            yield from _too_small(path, scope, count, context)


def _shared_in(root: Node) -> Iterator[tuple[Path, Node, int]]:
    """Give every section that all cells use, with the context of its model, 0 where it is not said."""
    for kind in ("providers", "models"):
        found = root.get(kind)
        for name, entry in found.entries.items() if found is not None else ():
            context = _whole(entry.node.get("context")) or 0
            yield (kind, name), entry.node, context
            placed = entry.node.get("deployments")
            for at, each in enumerate(placed.items if placed is not None else ()):
                yield (kind, name, "deployments", at), each, context


def _too_small(path: Path, scope: Node, count: int, context: int) -> Iterator[Clash]:
    """Warn where a call that the model can take may not fit into a cell's share of its tokens."""
    limits = scope.get("limits")
    for name, entry in limits.entries.items() if limits is not None else ():
        burst = scope.get("limits", "burst", name)
        amount = _whole(entry.node if burst is None else burst)
        if name in _OF_TOKENS and amount is not None and count <= amount < count * context:
            yield _clash(
                (*path, "limits", name),
                entry.node,
                f"an even share for {count} cells (store.cells) is {amount // count} tokens at once, and the"
                f" context of the model {context}: larger calls are not sent there",
                "raise it, or have the tenants of this model in one cell",
                severity="warning",
            )


def _undividable(path: Path, scope: Node, count: int) -> Iterator[Clash]:
    budget = scope.get("budget")
    if budget is not None:
        yield _clash(
            (*path, "budget"),
            budget,
            f"it is used from {count} cells (store.cells), and a budget lies in one",
            "give budgets to organizations, teams, keys, users, applications or business lines,"
            " or set store.cells to 1",
        )
    limits = scope.get("limits")
    bursts = scope.get("limits", "burst")
    for place, found in (
        ((*path, "limits"), limits),
        ((*path, "limits", "burst"), bursts),
    ):
        for name, entry in found.entries.items() if found is not None else ():
            amount = _whole(entry.node)
            if amount is not None and 0 < amount < count:
                yield _clash(
                    (*place, name),
                    entry.node,
                    f"{amount} cannot be divided over {count} cells (store.cells)",
                    f"make it {count} at least, or set store.cells lower",
                )


def _clash(path: Path, node: Node, message: str, remedy: str, severity: str = "error") -> Clash:
    return Clash(path, node.line, node.column, message, remedy=remedy, severity=severity)


def _whole(node: Node | None) -> int | None:
    text = node.value if node is not None and node.kind == "scalar" and not node.unset else None
    if not isinstance(text, str) or not re.fullmatch(r"[0-9][0-9_]{0,30}", text):
        return None
    return int(text.replace("_", ""))
