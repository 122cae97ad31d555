"""What routes say: their models, and policies that contradict themselves."""

from collections.abc import Iterator
from typing import get_args

from config.clashes.clash import Clash, references
from config.node import Node, amount, members
from config.problems import Path
from config.tenants import BizLevel


def check(root: Node) -> Iterator[Clash]:
    """Check every route."""
    models = dict(members(root, "models"))
    for name, route in members(root, "routes"):
        path: Path = ("routes", name)
        if name in models:
            yield Clash(
                path,
                route,
                f"a model has this name too (line {models[name].line})",
                "callers ask for models and routes by the same field; rename one",
            )
        for part in ("models", "degrade"):
            yield from references((*path, part), route.node.get(part), models, "model")
        for level in get_args(BizLevel):
            yield from _within((*path, "levels", level, "within"), route.node)


def _within(path: Path, route: Node) -> Iterator[Clash]:
    """Check that a preference for low cost gives up no less quality than one for high cost."""
    within = route.at(path[2:])
    low, high = (None, None) if within is None else (within.get("low"), within.get("high"))
    less, more = amount(low), amount(high)
    if low is None or high is None or less is None or more is None or less >= more:
        return
    yield Clash(
        (*path, "low"),
        low,
        f"less than what calls with a preference for high cost give up ({high.raw})",
        "a preference for low cost gives up more quality; turn the two round",
    )
