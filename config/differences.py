"""
What differs between two published documents, and how a document is shown.

Nothing here shows a secret: a provider's key that was written in clear is `***`, a caller's key is
the beginning of its hash, and what a URL may carry is masked. References such as `${OPENAI_API_KEY}`
are shown, because a name is no secret; a reference with a default is not.

Compared is what is written, not what it expands to: a replica's environment is its own.
An empty value (`null`) is the same as no value, and one budget the same as a list of one.
The order of names does not count, that of lists does.
"""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Union, get_args, get_origin

from config import document as documents
from config.models import deployment_ids
from config.node import Node
from config.offers import Quality
from config.problems import Path, spell
from config.scalars import Plain, decimal_of, flag_of, whole_of
from config.secrets import MASK, is_hashed, is_of_references, masked_url
from config.tree import annotation_at, bare, is_private

__all__ = [
    "Difference",
    "as_data",
    "diff",
    "exported",
    "is_mask",
    "is_shown_whole",
    "scalars",
    "shown",
    "typed",
]

FINGERPRINT_DIGITS = 8

_MAY_HOLD_A_PASSWORD = frozenset({("store", "redis"), ("store", "ledger")})


@dataclass(frozen=True, slots=True)
class Difference:
    """One change: where, and what stood and stands there (None: nothing)."""

    path: str
    before: Any
    after: Any

    def as_dict(self) -> dict[str, Any]:
        """Give the fields by name."""
        return {"path": self.path, "before": self.before, "after": self.after}

    def __str__(self) -> str:
        """Give one line: `organizations.acme.limits.rpm: 100 -> 200`."""
        before, after = ("nothing" if each is None else each for each in (self.before, self.after))
        return f"{self.path}: {before} -> {after}"


def shown(path: Path, raw: str, *, short: bool = True) -> str:
    """
    Give the text of a scalar as it may be shown; `short` cuts the hash of a caller's key.

    `path` is where it stands.
    """
    if path in _MAY_HOLD_A_PASSWORD:
        return masked_url(raw)
    if not is_private(path) or is_of_references(raw):
        return raw
    if path[-1] == "key" and is_hashed(raw):
        kind, colon, digits = raw.rpartition(":")
        return f"{kind}{colon}{digits[:FINGERPRINT_DIGITS]}…" if short else raw
    return MASK


def is_shown_whole(path: Path, raw: str) -> bool:
    """Say whether an export shows this scalar as it is written."""
    return shown(path, raw, short=False) == raw


def is_mask(path: Path, raw: str) -> bool:
    """Say whether a scalar, as given back by whoever was shown a document, stands for what is not shown."""
    return MASK in raw and (path in _MAY_HOLD_A_PASSWORD or (raw == MASK and is_private(path)))


def exported(document: str) -> str:
    """
    Give a document for people to keep and edit: secrets that it holds in clear are masked.

    Callers' keys are there as their hashes. Given back, a mask stands for the value that is live.
    """
    root, _ = documents.compose(document)
    assert root is not None  # what was published was read before
    instead = {
        id(node): shown(path, node.raw, short=False)
        for path, node in scalars(root)
        if not is_shown_whole(path, node.raw)
    }
    return documents.write(root, instead)


def scalars(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Give every scalar of a tree with its path."""
    if node.kind == "scalar":
        yield path, node
    for at, item in enumerate(node.items):
        yield from scalars(item, (*path, at))
    for name, entry in node.entries.items():
        yield from scalars(entry.node, (*path, name))


def as_data(node: Node | None, path: Path, *, resolved: bool = False) -> Any:
    """
    Give what stands at a path as dictionaries, lists and scalars, secrets masked.

    Where `resolved`, the tree was expanded, and a number or a switch is what its reference stands
    for. A text stays a reference: what the environment holds is shown to nobody.
    """
    if node is None:
        return None
    if node.kind == "mapping":
        inner = {
            name: as_data(entry.node, (*path, name), resolved=resolved)
            for name, entry in node.entries.items()
        }
        return {name: value for name, value in inner.items() if value is not None}
    if node.kind == "list":
        return [as_data(each, (*path, at), resolved=resolved) for at, each in enumerate(node.items)]
    if resolved and node.has_reference and not _is_secret(path):
        found = typed(node.value, path)
        return node.raw if isinstance(found, str) else found
    return _scalar(node, path)


def _is_secret(path: Path) -> bool:
    return is_private(path) or path in _MAY_HOLD_A_PASSWORD


def _scalar(node: Node, path: Path) -> Any:
    if _is_nothing(node):
        return None
    if node.plain and "$" not in node.raw and not _is_secret(path):
        return typed(Plain(node.raw), path)
    return shown(path, node.raw)


def typed(value: str | None, path: Path) -> Any:
    """Give what a text without quotes means to the field at a path; a text, where it means nothing there."""
    if not isinstance(value, Plain):
        return value
    kinds = _kinds_at(path)
    switch, whole, number = flag_of(value), whole_of(value), decimal_of(value)
    if bool in kinds and switch is not None:
        return switch
    if kinds & {int, float, Decimal} and whole is not None:
        return whole
    if kinds & {float, Decimal} and number is not None:
        return float(number)
    return str(value)


def _kinds_at(path: Path) -> set[Any]:
    """Give the types that a scalar at a path may have, short forms of sections and mappings included."""
    annotation = annotation_at(path)
    if isinstance(annotation, type) and issubclass(annotation, Quality):
        annotation = annotation_at((*path, annotation.alone))
    if get_origin(annotation) is dict:
        annotation = bare(get_args(annotation)[1])
    if get_origin(annotation) in {Union, types.UnionType}:
        return {bare(each) for each in get_args(annotation)}
    return {annotation}


def _is_nothing(node: Node | None) -> bool:
    return node is None or node.is_nothing


# Comparing...


def diff(old: str, new: str) -> list[Difference]:
    """Give what changes from one published document to another, in the order of the new one."""
    before, _ = documents.compose(old)
    after, _ = documents.compose(new)
    assert before is not None
    assert after is not None
    return list(_mappings(before, after, ()))


def _changes(before: Node | None, after: Node | None, path: Path) -> Iterator[Difference]:
    before = None if _is_nothing(before) else before
    after = None if _is_nothing(after) else after
    if before is None and after is None:
        return
    if before is None or after is None:
        yield _difference(before, after, path)
    elif before.kind == "scalar" == after.kind and before.raw == after.raw:
        return  # what is written alike means the same, and most of a document is
    elif before.kind == after.kind == "mapping" and path[-1] != "budget":
        yield from _mappings(before, after, path)
    elif len(path) == 3 and path[0] == "models" and path[2] == "deployments":
        yield from _deployments(before, after, path)
    elif _form(before, path) != _form(after, path):
        yield _difference(before, after, path)


def _mappings(before: Node, after: Node, path: Path) -> Iterator[Difference]:
    for name in {**after.entries, **before.entries}:
        yield from _changes(before.get(name), after.get(name), (*path, name))


def _deployments(before: Node, after: Node, path: Path) -> Iterator[Difference]:
    """Compare deployments by their ids, so that one more or less is one change."""
    model = str(path[1])
    old, new = _by_id(model, before), _by_id(model, after)
    for name, (at, node) in new.items():
        place = (*path, at)
        yield from _changes(old[name][1] if name in old else None, node, place)
    for name, (at, node) in old.items():
        if name not in new:
            yield _difference(node, None, (*path, at))
    kept_before = [name for name in old if name in new]
    kept_after = [name for name in new if name in old]
    if kept_before != kept_after:
        yield Difference(spell((*path, "order")), kept_before, kept_after)


def _by_id(model: str, deployments: Node) -> dict[str, tuple[int, Node]]:
    said = [(_raw(each.get("provider")) or "", _raw(each.get("id"))) for each in deployments.items]
    return {
        name: (at, node)
        for at, (name, node) in enumerate(
            zip(deployment_ids(model, said), deployments.items, strict=True)
        )
    }


def _raw(node: Node | None) -> str | None:
    return None if node is None or _is_nothing(node) else node.raw


def _form(node: Node, path: Path) -> Any:
    """Give what two values are compared by; secrets in full, which are shown nowhere."""
    if path[-1:] == ("budget",) and node.kind == "mapping":
        return [_form(node, (*path, 0))]
    if node.kind == "mapping":
        return {
            name: _form(entry.node, (*path, name))
            for name, entry in node.entries.items()
            if not _is_nothing(entry.node)
        }
    if node.kind == "list":
        return [_form(item, (*path, at)) for at, item in enumerate(node.items)]
    return node.raw if _is_secret(path) else _scalar(node, path)


def _difference(before: Node | None, after: Node | None, path: Path) -> Difference:
    return Difference(spell(path), as_data(before, path), as_data(after, path))
