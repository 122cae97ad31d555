"""
Which cell holds what: tenants lie whole in one, what all of them use is shared by all.

An organization lies in one cell with all its parts, so that every limit over a caller is seen by one script.
Models, deployments and providers are used from every cell; what they are limited to is divided into shares
(`ratelimit.shares`), which has to leave something for each.
Where nobody says it, an organization's name decides, by the highest random weight (Thaler and Ravishankar, "Using name-based
mappings to increase hit rates", 1998): with one cell more only those organizations move that go there.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

from config.document import compose, expand
from config.models import Config
from config.node import whole
from config.outline import organizations_in
from config.problems import spell
from config.section import MOST_CELLS
from store.cells import Cell, cell

__all__ = [
    "Division",
    "cell_of",
    "cells_of",
    "division_in",
    "division_of",
    "is_shared",
    "moved",
    "tenant_of",
]

SHARED = frozenset({"model", "deployment", "provider"})
"""The kinds of scopes that are used from every cell."""


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
    expand(root, environ)
    count = whole(root.get("store", "cells")) or 1
    return Division(
        min(max(count, 1), MOST_CELLS),
        {
            str(path[1]): whole(entry.node.get("cell"))
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
            where = spell(("organizations", name, "cell"))
            return f"{where}: {here.number} -> {there.number}"
    return ""
