"""Changes of what is granted: limits, budgets and raises of scopes, and the settings of deployments."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from config import document as documents
from config.changes.checked import SOURCE
from config.changes.draft import Draft, Edit, NoSuchPlace
from config.changes.named import place_of, present
from config.node import Entry, Node, text
from config.outline import deployments_in
from config.problems import ConfigError, Path, Problem, quoted, spell, there_are
from config.scalars import moment_of
from config.tenants import DEFAULT_MEMBER

__all__ = [
    "SCOPES",
    "deployment_place",
    "raise_budget",
    "scope_place",
    "set_deployment",
    "set_quota",
    "time_zone_at",
]

SCOPES = (
    "key:ORG/TEAM/NAME, team:ORG/TEAM, org:ORG, user:ORG#NAME, application:ORG#NAME,"
    " business_line:ORG#NAME, provider:NAME, model:NAME, deployment:ID or shadow:EXPERIMENT"
)
_SCOPED = re.compile(
    r"(key|team|org|user|application|business_line|provider|model|deployment|shadow):(.+)",
    re.DOTALL,
)
_MEMBERS = ("user", "application", "business_line")


def scope_place(draft: Draft, scope: str) -> Path:
    """
    Give the path of what a scope such as `team:acme/support` limits, or raise NoSuchPlace.

    A user, an application or a business line (`user:acme/emea#ann`) need not be there: nobody lists
    them all.
    """
    found = _SCOPED.fullmatch(scope)
    if found is None:
        raise NoSuchPlace(f"{quoted(scope)} is no scope", ("scope",), f"expected {SCOPES}")
    kind, name = found[1], found[2]
    if kind == "deployment":
        return deployment_place(draft, name)
    if kind in _MEMBERS:
        organization, hash_, member = name.partition("#")
        if not hash_ or not member:
            expected = f"expected {kind}:ORG#NAME"
            raise NoSuchPlace(f"{quoted(scope)} is no scope", ("scope",), expected)
        path = place_of(draft, "organization", organization)
        present(draft, "organization", organization, path)
        return (*path, f"{kind}s", member)
    if kind == "shadow":
        path = (*place_of(draft, "experiment", name), "shadow")
        if draft.at(path) is None:
            raise NoSuchPlace(f"there is no experiment {quoted(name)} with a shadow", path)
        return path
    kind = "organization" if kind == "org" else kind
    path = place_of(draft, kind, name)
    present(draft, kind, name, path)
    return path


def deployment_place(draft: Draft, deployment: str) -> Path:
    """Give the path of a deployment by its id, or raise NoSuchPlace."""
    known = {name: path for name, path, _ in deployments_in(draft.root)}
    if deployment in known:
        return known[deployment]
    hint = there_are(deployment, known, "deployment")
    raise NoSuchPlace(f"there is no deployment {quoted(deployment)}", ("models",), hint)


def set_quota(
    scope: str,
    limits: Mapping[str, Any] | None = None,
    budgets: Sequence[Mapping[str, Any]] | None = None,
) -> Edit:
    """
    Set the limits and the budgets of a scope.

    Of the limits only those that are named change, and None takes one away; the budgets are
    replaced as a whole, and none of them is left by an empty list. None for either leaves it.
    Who had what holds for all until now gets an entry of his own, which begins as a copy of that.
    """

    def edit(draft: Draft) -> None:
        path = scope_place(draft, scope)
        common = (*path[:-1], DEFAULT_MEMBER)
        if scope.partition(":")[0] in _MEMBERS and draft.at(path) is None:
            held = draft.at(common)
            draft.set(path, _copy(held) if held is not None else documents.from_data({}))
        _set_limits(draft, (*path, "limits"), limits or {})
        if budgets is None:
            return
        if budgets:
            made = list(budgets) if len(budgets) > 1 else budgets[0]
            draft.set((*path, "budget"), documents.from_data(made))
        else:
            draft.remove((*path, "budget"))

    return edit


def _copy(node: Node) -> Node:
    entries = {name: Entry(0, 0, _copy(entry.node)) for name, entry in node.entries.items()}
    return replace(node, items=[_copy(each) for each in node.items], entries=entries)


def time_zone_at(draft: Draft, path: Path) -> str:
    """Give the time zone of budgets at a place that do not say theirs."""
    zone = "UTC"
    for at in range(2, len(path) + 1, 2):
        if path[at - 2] != "organizations":
            break
        said = draft.at((*path[:at], "time_zone"))
        zone = (said.value if said is not None else None) or zone
    return zone


def raise_budget(scope: str, per: str, usd: Any, until: Any, *, now: datetime) -> Edit:
    """
    Give the budget of a scope for a period another amount until a moment; None for `usd` ends that.

    Raises NoSuchPlace when there is no such budget, ConfigError when the moment has passed. Of two for one period, each is raised.
    """

    def edit(draft: Draft) -> None:
        path = scope_place(draft, scope)
        held = draft.at((*path, "budget"))
        listed = held is not None and held.kind == "list"
        nodes = [] if held is None else held.items if listed else [held]
        found = [at for at, node in enumerate(nodes) if text(node.get("per")) == per]
        if not found:
            raise NoSuchPlace(f"{quoted(scope)} has no budget per {quoted(per)}", (*path, "budget"))
        for at in found:
            place = (*path, "budget", at, "raise") if listed else (*path, "budget", "raise")
            if usd is None:
                draft.remove(place)
                continue
            zone = text(nodes[at].get("time_zone")) or time_zone_at(draft, path)
            if _has_passed(until, zone, now):
                raise ConfigError([_passed((*place, "until"), until)])
            draft.set(place, documents.from_data({"usd": usd, "until": until}))

    return edit


def _has_passed(until: object, zone: str, now: datetime) -> bool:
    try:
        return moment_of(str(until), zone) <= now
    except (KeyError, OSError, ValueError):
        # No moment, or no zone that there is (`ZoneInfo` raises all three): the reader says what is wrong.
        return False


def _passed(path: Path, until: object) -> Problem:
    return Problem(
        source=SOURCE,
        path=spell(path),
        line=0,
        column=0,
        message=f"{until} has passed",
        remedy="say a later moment, or end the raise: none",
    )


def _set_limits(draft: Draft, path: Path, limits: Mapping[str, Any]) -> None:
    for name, value in limits.items():
        if name == "burst" and isinstance(value, Mapping):
            _set_limits(draft, (*path, name), value)
        elif value is None:
            draft.remove((*path, name))
        else:
            draft.set((*path, name), documents.from_data(value))
    held = draft.at(path)
    if held is not None and not held.entries:
        draft.remove(path)


def set_deployment(
    deployment: str, settings: Mapping[str, Any], limits: Mapping[str, Any] | None = None
) -> Edit:
    """Set settings of a deployment (`drained`, `weight`) and its limits; None takes one away."""

    def edit(draft: Draft) -> None:
        path = deployment_place(draft, deployment)
        for name, value in settings.items():
            if value is None:
                draft.remove((*path, name))
            else:
                draft.set((*path, name), documents.from_data(value))
        _set_limits(draft, (*path, "limits"), limits or {})

    return edit
