"""
Changes of a published document: each gives a new document, checked whole, or every mistake at once.

A change is an `Edit`: it moves, sets or takes away parts of a `Draft`, which is the document as a
tree. What it did not touch stays as it was written, references unexpanded. `checked` sends the
result the way every configuration goes (`config.loader`), so that nothing is published that a file
could not say; the document that was begun with is never changed.

A value that is shown as `***` (`config.differences.exported`) and given back stands for the live one.

Errors: `NoSuchPlace` for what a change speaks of and is not there, `Taken` for what is there
already, `NotEmpty` for what holds something else, `ConfigError` for everything that is wrong with
the result.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from config import document as documents
from config.differences import is_mask, scalars, shown
from config.loader import ConfigError, Loaded, Problem, check_text, load_text
from config.node import Entry, Node, text
from config.outline import deployments_in, organizations_in
from config.problems import Path, quoted, spell, there_are
from config.secrets import MASK
from config.tenants import DEFAULT_MEMBER

__all__ = [
    "Draft",
    "Edit",
    "NoSuchPlace",
    "NotEmpty",
    "Taken",
    "add_key",
    "checked",
    "organizations_of",
    "place_of",
    "present",
    "put",
    "raise_budget",
    "remove",
    "remove_value",
    "set_deployment",
    "set_key_hash",
    "set_quota",
    "set_value",
    "taken_over",
    "time_zone_at",
]

SOURCE = "request"


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


# The validated path...


def checked(document: str, edit: Edit, environ: Mapping[str, str]) -> Loaded:
    """
    Give the configuration that a published document becomes by an edit.

    Raises ConfigError with every mistake, and what the edit raises.
    """
    draft = Draft(document, environ)
    edit(draft)
    try:
        return taken_over(draft.text(), document, environ, source=SOURCE)
    except ConfigError as error:
        # Whoever asks for a change has no text in front of him: the path is the place
        raise ConfigError([replace(each, line=0, column=0) for each in error.problems]) from None


def taken_over(text: str, live: str | None, environ: Mapping[str, str], *, source: str) -> Loaded:
    """
    Read a whole configuration that is to take the place of the live one.

    What is masked in it keeps the value that it has there. Raises ConfigError with every mistake.
    """
    if MASK not in text:
        return load_text(text, source=source, environ=environ)
    root, flaws = documents.compose(text)
    if root is None or flaws:
        raise ConfigError(check_text(text, source=source, environ=environ))
    before = None if live is None else documents.compose(live)[0]
    unknown = list(_unmask(root, before, source))
    written = documents.write(root, {})
    if unknown:
        others = check_text(written, source=source, environ=environ)
        places = {problem.path for problem in unknown}
        raise ConfigError([*unknown, *(each for each in others if each.path not in places)])
    return load_text(written, source=source, environ=environ)


def _unmask(root: Node, live: Node | None, source: str) -> Iterator[Problem]:
    """Put back what was masked; yields a problem for each mask that stands for nothing."""
    for path, node in scalars(root):
        if not is_mask(path, node.raw):
            continue
        known = None if live is None else live.at(path)
        if known is not None and known.kind == "scalar" and shown(path, known.raw) == node.raw:
            node.raw, node.plain = known.raw, known.plain
        else:
            yield Problem(
                source=source,
                path=spell(path),
                line=node.line,
                column=node.column,
                message=f"{MASK} stands for a value that is not shown, and there is none to keep",
                expected="a value",
                remedy="write ${VARIABLE}",
            )


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


# Things with names...


_KINDS: Mapping[str, tuple[str, ...]] = {
    "provider": ("providers",),
    "model": ("models",),
    "route": ("routes",),
    "experiment": ("experiments",),
    "organization": ("organizations",),
    "team": ("organizations", "teams"),
    "key": ("organizations", "teams", "keys"),
}
_INSIDE: Mapping[str, tuple[str, ...]] = {
    "organization": ("teams", "organizations"),
    "team": ("keys",),
}


def place_of(draft: Draft, kind: str, name: str) -> Path:
    """
    Give the path of a provider, model, route, experiment, organization, team or key, be it there or not.

    A team is `acme/support`, a key `acme/support/helpdesk`, a part of an organization `acme/emea`;
    what they are in must be there, or NoSuchPlace is raised.
    """
    folders = _KINDS[kind]
    names = name.split("/") if folders[0] == "organizations" else [name]
    if folders[0] == "organizations":
        folders = ("organizations",) * (len(names) - len(folders)) + folders
    if len(names) != len(folders):
        shape = "/".join(folder.removesuffix("s") for folder in folders)
        raise NoSuchPlace(f"{quoted(name)} is no {kind}", folders[:1], f"expected {shape}")
    path: Path = ()
    for at, (folder, each) in enumerate(zip(folders, names, strict=True)):
        if at:
            present(draft, folders[at - 1].removesuffix("s"), "/".join(names[:at]), path)
        path = (*path, folder, each)
    return path


def present(draft: Draft, kind: str, name: str, path: Path) -> Node:
    """Give what is at the path of a thing with a name; raise NoSuchPlace, which says what there is, where nothing is."""
    found = draft.at(path)
    if found is None:
        *_, last = path
        hint = there_are(str(last), draft.names(path[:-1]), kind)
        raise NoSuchPlace(f"there is no {kind} {quoted(name)}", path, hint)
    return found


def put(kind: str, name: str, section: Mapping[str, Any]) -> Edit:
    """
    Make a provider, model, route, experiment, organization or team what `section` says, be it there or not.

    An organization keeps its teams and its parts, and a team its keys, unless the section says others.
    """

    def edit(draft: Draft) -> None:
        made = documents.from_data(section)
        path = place_of(draft, kind, name)
        known = draft.at(path)
        for inside in _INSIDE.get(kind, ()):
            if known is not None and inside in known.entries and inside not in section:
                made.entries = {**made.entries, inside: known.entries[inside]}
        draft.set(path, made)

    return edit


def remove(kind: str, name: str) -> Edit:
    """Take away a thing with a name; an organization with teams or a team with keys is NotEmpty."""

    def edit(draft: Draft) -> None:
        path = place_of(draft, kind, name)
        found = present(draft, kind, name, path)
        for inside in _INSIDE.get(kind, ()):
            held = found.get(inside)
            if held is not None and held.entries:
                raise NotEmpty(
                    f"{kind} {quoted(name)} still has {inside}: {', '.join(held.entries)}",
                    (*path, inside),
                )
        draft.remove(path)

    return edit


def add_key(name: str, section: Mapping[str, Any]) -> Edit:
    """Add a caller's key, `section` with its hash; one of this name is Taken."""
    made = documents.from_data(section)

    def edit(draft: Draft) -> None:
        path = place_of(draft, "key", name)
        if draft.at(path) is not None:
            raise Taken(
                f"there is a key {quoted(name)} already", path, "rotate it, or choose another name"
            )
        draft.set(path, made)

    return edit


def set_key_hash(name: str, digest: str) -> Edit:
    """Give a key another hash (`sha256:<64 hex>`): the old key is refused from then on."""
    made = documents.from_data(digest)

    def edit(draft: Draft) -> None:
        path = place_of(draft, "key", name)
        present(draft, "key", name, path)
        draft.set((*path, "key"), made)

    return edit


# Scopes...


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


def organizations_of(draft: Draft) -> Iterator[tuple[str, Path]]:
    """Give the name (`acme/emea`) and the path of every organization, each before its parts."""
    for path, _ in organizations_in(draft.root):
        yield "/".join(map(str, path[1::2])), path


def time_zone_at(draft: Draft, path: Path) -> str:
    """Give the time zone of budgets at a place that do not say theirs."""
    zone = "UTC"
    for at in range(2, len(path) + 1, 2):
        if path[at - 2] != "organizations":
            break
        said = draft.at((*path[:at], "time_zone"))
        zone = (said.value if said is not None else None) or zone
    return zone


def raise_budget(scope: str, per: str, usd: Any, until: Any) -> Edit:
    """
    Give the budget of a scope for a period another amount until a moment; None for `usd` ends that.

    Raises NoSuchPlace when there is no such budget. Of two for one period, each is raised.
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
            else:
                draft.set(place, documents.from_data({"usd": usd, "until": until}))

    return edit


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
