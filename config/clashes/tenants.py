"""What organizations, teams and keys say: how deep they lie, what they refer to, and that a key is one caller's."""

from collections.abc import Iterator

from config.clashes import quotas
from config.clashes.clash import Clash, dangling, references
from config.keys import VARIABLE, KeySecrets
from config.node import Node, is_true, members
from config.outline import caller_key_hash, deployments_in, keys_in, organizations_in
from config.problems import Path, spell
from config.tenants import DEFAULT_MEMBER, MOST_LEVELS


def check(root: Node, secrets: KeySecrets | None) -> Iterator[Clash]:
    """Check every organization with all that is in it; keyed hashes are judged with the `secrets` only."""
    models = dict(members(root, "models"))
    askable = models | dict(members(root, "routes"))
    servers = list(dict.fromkeys([*models, *(name for name, _, _ in deployments_in(root))]))
    keepers = [name for name, each in members(root, "providers") if is_true(each.node.get("files"))]

    def declared(path: Path, node: Node) -> Iterator[Clash]:
        yield from quotas.check(path, node)
        yield from dangling((*path, "pin"), node.get("pin"), servers, "model or deployment")
        keeper = "provider that has `files: true`"
        yield from dangling((*path, "files"), node.get("files"), keepers, keeper)

    for path, organization in organizations_in(root):
        if len(path) == 2 * (MOST_LEVELS + 1):
            yield Clash(
                path,
                organization,
                f"organizations have at most {MOST_LEVELS} levels",
                "make it a team, or a part of one further up",
            )
        yield from declared(path, organization.node)
        yield from _members_of(path, organization.node)
        for team, entry in members(organization.node, "teams"):
            yield from declared((*path, "teams", team), entry.node)
    for path, key in keys_in(root):
        yield from declared(path, key.node)
        yield from references((*path, "models"), key.node.get("models"), askable, "model or route")
    yield from _same_keys(root, secrets)


def _members_of(path: Path, organization: Node) -> Iterator[Clash]:
    for kind in ("users", "applications", "business_lines"):
        for name, member in members(organization, kind):
            here = (*path, kind, name)
            yield from quotas.check(here, member.node)
            if (kind, name) == ("users", DEFAULT_MEMBER):
                yield from quotas.lasting(here, member.node)


def _same_keys(root: Node, secrets: KeySecrets | None) -> Iterator[Clash]:
    owners: dict[str, Path] = {}
    for path, section in keys_in(root):
        here, node = (*path, "key"), section.node.get("key")
        digest = caller_key_hash(node)
        if node is None or digest is None:
            continue
        if secrets is not None:
            other = secrets.unknown(digest)
            if other is not None:
                yield Clash(
                    here,
                    node,
                    f"hashed with a key secret that is not here (id {other})",
                    f"add that secret to {VARIABLE}, or make another key",
                )
            else:
                digest = secrets.keyed(digest)
        if digest in owners:
            yield Clash(
                here,
                node,
                f"the same key as {spell(owners[digest])}",
                "a key belongs to one caller; make another",
            )
        owners.setdefault(digest, here)
