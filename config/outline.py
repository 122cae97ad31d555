"""
The outline of a document as it was written: where its organizations, callers' keys and deployments stand.

What has the wrong shape is passed over here: the models report it (`config.models`).
"""

from collections.abc import Iterator

from pydantic_core import PydanticCustomError

from config.models import deployment_ids
from config.node import Entry, Node, items, members, text
from config.problems import Path
from config.secrets import read_caller_key

__all__ = ["caller_key_hash", "deployments_in", "keys_in", "organizations_in"]


def organizations_in(node: Node, above: Path = ()) -> Iterator[tuple[Path, Entry]]:
    """Give every organization of a document, each before its parts, with its path."""
    for name, entry in members(node, "organizations"):
        path = (*above, "organizations", name)
        yield path, entry
        yield from organizations_in(entry.node, path)


def keys_in(root: Node) -> Iterator[tuple[Path, Entry]]:
    """Give every caller's key of a document with the path of its section."""
    for path, organization in organizations_in(root):
        for team, entry in members(organization.node, "teams"):
            for name, key in members(entry.node, "keys"):
                yield (*path, "teams", team, "keys", name), key


def caller_key_hash(node: Node | None) -> str | None:
    """Give the hash of a caller key as written, or None where it cannot be read."""
    written = text(node)
    if written is None:
        return None
    try:
        return read_caller_key(written).reveal()
    except PydanticCustomError:
        # Two keys that are both too short may still be the same mistake; they are not compared
        return None


def deployments_in(root: Node) -> Iterator[tuple[str, Path, Node]]:
    """Give every deployment of a document: its id, its path and its section."""
    for model, entry in members(root, "models"):
        sections = items(entry.node.get("deployments"))
        said = [(text(each.get("provider")) or "", text(each.get("id"))) for each in sections]
        for at, name in enumerate(deployment_ids(model, said)):
            yield name, ("models", model, "deployments", at), sections[at]
