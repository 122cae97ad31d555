"""What cannot be kept over as many cells as a document asks for."""

from collections.abc import Iterator

from config.clashes.clash import Clash
from config.node import Node, given, items, members, whole
from config.outline import organizations_in
from config.problems import Path
from config.section import MOST_CELLS

_OF_TOKENS = frozenset({"tpm", "tpd", "itpm", "itpd", "otpm", "otpd"})


def check(root: Node) -> Iterator[Clash]:
    """Check where tenants lie, and that what all of them use can be divided."""
    said = given(root.get("store", "cells"))
    count = 1 if said is None else whole(said) or 0
    if not 1 <= count <= MOST_CELLS:
        return
    for path, entry in organizations_in(root):
        node = entry.node.get("cell")
        number = whole(node)
        if node is None or number is None:
            continue
        if len(path) > 2:
            remedy = f"write it at organizations.{path[1]}"
            yield Clash((*path, "cell"), node, "a part lies where the whole does", remedy)
        elif number >= count:
            yield Clash(
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
        for name, entry in members(root, kind):
            context = whole(entry.node.get("context")) or 0
            yield (kind, name), entry.node, context
            for at, each in enumerate(items(entry.node.get("deployments"))):
                yield (kind, name, "deployments", at), each, context


def _too_small(path: Path, scope: Node, count: int, context: int) -> Iterator[Clash]:
    """Warn where a call that the model can take may not fit into a cell's share of its tokens."""
    for name, entry in members(scope, "limits"):
        amount = whole(given(scope.get("limits", "burst", name)) or entry.node)
        if name in _OF_TOKENS and amount is not None and count <= amount < count * context:
            yield Clash(
                (*path, "limits", name),
                entry.node,
                f"an even share for {count} cells (store.cells) is {amount // count} tokens at once, and the"
                f" context of the model {context}: larger calls are not sent there",
                "raise it, or have the tenants of this model in one cell",
                severity="warning",
            )


def _undividable(path: Path, scope: Node, count: int) -> Iterator[Clash]:
    budget = given(scope.get("budget"))
    if budget is not None:
        yield Clash(
            (*path, "budget"),
            budget,
            f"it is used from {count} cells (store.cells), and a budget lies in one",
            "give budgets to organizations, teams, keys, users, applications or business lines,"
            " or set store.cells to 1",
        )
    for place in (("limits",), ("limits", "burst")):
        for name, entry in members(scope, *place):
            amount = whole(entry.node)
            if amount is not None and 0 < amount < count:
                yield Clash(
                    (*path, *place, name),
                    entry.node,
                    f"{amount} cannot be divided over {count} cells (store.cells)",
                    f"make it {count} at least, or set store.cells lower",
                )
