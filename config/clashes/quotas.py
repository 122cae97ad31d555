"""What the limits and budgets of a scope say: bursts without a rate, and budgets that cannot hold beside each other."""

from collections.abc import Iterator

from config.clashes.clash import Clash
from config.node import Node, amount, given, members, text, whole
from config.problems import Path
from config.section import DAY_S

# Longer than this no bucket may take to refill: its arithmetic stays exact, and nobody waits for more.
_LONGEST_REFILL_S = 31 * DAY_S
_WINDOWS_S = {"s": 1, "m": 60, "h": 3600, "d": DAY_S}


def check(path: Path, scope: Node) -> Iterator[Clash]:
    """Check the limits and the budgets of a scope."""
    yield from _bursts(path, scope)
    budgets = list(_each_budget(path, scope))
    for place, budget in budgets:
        yield from _budget(place, budget)
    yield from _beside_each_other(budgets)


def lasting(path: Path, scope: Node) -> Iterator[Clash]:
    """Check that what holds for each user without an entry of his own has budgets with a period."""
    for place, budget in _each_budget(path, scope):
        per = budget.get("per")
        if per is not None and text(per) == "total":
            yield Clash(
                (*place, "per"),
                per,
                "what users without an entry of their own have spent is not kept for ever",
                "name the user, or choose a period",
            )


def _bursts(path: Path, scope: Node) -> Iterator[Clash]:
    for rate, entry in members(scope, "limits", "burst"):
        if given(entry.node) is None:
            continue
        place = (*path, "limits", "burst", rate)
        limit = given(scope.get("limits", rate))
        if limit is None:
            message = f"there is no {rate} whose burst this could be"
            yield Clash(place, entry, message, f"add {rate}, or take this out")
            continue
        per_window, burst = whole(limit) or 0, whole(entry.node) or 0
        window_s = _WINDOWS_S.get(rate[-1:], 0)
        if per_window > 0 and burst * window_s > _LONGEST_REFILL_S * per_window:
            yield Clash(
                place,
                entry,
                f"at {per_window} a bucket of {burst} would take longer than 31 days to refill",
                "make it smaller",
            )


def _each_budget(path: Path, scope: Node) -> Iterator[tuple[Path, Node]]:
    written = scope.get("budget")
    if written is not None and written.kind == "list":
        for at, budget in enumerate(written.items):
            yield (*path, "budget", at), budget
    elif written is not None:
        yield (*path, "budget"), written


def _budget(path: Path, budget: Node) -> Iterator[Clash]:
    down = budget.get("when_store_is_down")
    if down is not None and text(down) == "share" and text(budget.get("mode")) == "strict":
        yield Clash(
            (*path, "when_store_is_down"),
            down,
            "a strict budget is always closed while the store is down",
            "leave it out, or make the budget soft",
        )
    node = budget.get("raise", "usd")
    usd, raised = amount(budget.get("usd")), amount(node)
    if node is not None and usd is not None and raised is not None and raised <= usd:
        yield Clash(
            (*path, "raise", "usd"),
            node,
            f"a raise to no more than the {usd:f} USD of the budget",
            "write the amount that holds until then, not what is added",
        )


def _beside_each_other(budgets: list[tuple[Path, Node]]) -> Iterator[Clash]:
    seen: set[tuple[str, str]] = set()
    zones: dict[str, str | None] = {}
    for path, budget in budgets:
        per, mode = text(budget.get("per")), text(budget.get("mode")) or "soft"
        if per is None:
            continue
        if (per, mode) in seen:
            yield Clash(path, budget, f"a second {mode} budget per {per}", "keep the smaller one")
        seen.add((per, mode))
        zone = budget.get("time_zone")
        if zones.setdefault(per, text(zone)) != text(zone):
            message = f"two budgets per {per} in different time zones"
            yield Clash(path, zone or budget, message, "give both the same time_zone")
