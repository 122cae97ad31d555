"""Secrets that stand in the file in clear: a warning, because whoever reads the file has them."""

import re
from collections.abc import Iterator

from config.clashes.clash import Clash
from config.node import Node, members, text
from config.outline import keys_in
from config.problems import Path
from config.secrets import is_hashed, is_of_references

_TELLING = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)


def check(root: Node) -> Iterator[Clash]:
    """Warn of every secret that is not a reference."""
    for path, node in _secrets_of_ours(root):
        yield from _in_clear(path, node, "${VARIABLE}")
    for path, key in keys_in(root):
        node = key.node.get("key")
        if node is not None and not is_hashed(node.raw):
            yield from _in_clear((*path, "key"), node, "${VARIABLE} or sha256:<64 hex>")


def _secrets_of_ours(root: Node) -> Iterator[tuple[Path, Node | None]]:
    yield ("admin", "token"), root.get("admin", "token")
    for name, provider in members(root, "providers"):
        path: Path = ("providers", name)
        yield (*path, "api_key"), provider.node.get("api_key")
        for secret in ("secret_access_key", "session_token"):
            yield (*path, "aws", secret), provider.node.get("aws", secret)
        for header, entry in members(provider.node, "headers"):
            if _TELLING.search(header):
                yield (*path, "headers", header), entry.node


def _in_clear(path: Path, node: Node | None, instead: str) -> Iterator[Clash]:
    if node is None or text(node) is None or not node.raw or is_of_references(node.raw):
        return
    remedy = f"write {instead} and keep the secret out of the file"
    yield Clash(path, node, "a secret in clear", remedy, severity="warning")
