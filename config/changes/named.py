"""Changes of things with names: providers, models, routes, experiments, organizations, teams and callers' keys."""

from collections.abc import Iterator, Mapping
from typing import Any

from config import document as documents
from config.changes.draft import Draft, Edit, NoSuchPlace, NotEmpty, Taken
from config.node import Node
from config.outline import organizations_in
from config.problems import Path, quoted, there_are

__all__ = [
    "add_key",
    "organizations_of",
    "place_of",
    "present",
    "put",
    "remove",
    "set_key_hash",
]

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


def organizations_of(draft: Draft) -> Iterator[tuple[str, Path]]:
    """Give the name (`acme/emea`) and the path of every organization, each before its parts."""
    for path, _ in organizations_in(draft.root):
        yield "/".join(map(str, path[1::2])), path
