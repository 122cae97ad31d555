"""What models and their deployments say: providers, ids, prices, and how much output they give."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from config.clashes import quotas
from config.clashes.clash import Clash, dangling, repeats
from config.dialects import DIALECTS
from config.node import Entry, Node, is_true, items, members, text, whole
from config.outline import deployments_in
from config.problems import Path, quoted, spell
from config.scalars import moment_of


def check(root: Node) -> Iterator[Clash]:
    """Check every model and every deployment."""
    for name, model in members(root, "models"):
        path: Path = ("models", name)
        yield from repeats((*path, "tags"), model.node.get("tags"))
        yield from _too_much_output(path, model.node)
        yield from _prices(path, model.node)
        yield from quotas.check(path, model.node)
    providers = dict(members(root, "providers"))
    owners: dict[str, Path] = {}
    for deployment, path, node in deployments_in(root):
        yield from dangling((*path, "provider"), node.get("provider"), providers, "provider")
        yield from _only_responses(path, node, providers)
        yield from _prices(path, node)
        yield from quotas.check(path, node)
        if deployment in owners:
            said = node.get("id")
            yield Clash(
                (*path, "id") if said else path,
                said or node,
                f"the deployment id {quoted(deployment)} is taken by {spell(owners[deployment])}",
                "give each deployment an id of its own",
            )
        owners.setdefault(deployment, path)


def _too_much_output(path: Path, model: Node) -> Iterator[Clash]:
    context, most = whole(model.get("context")) or 0, whole(model.get("max_output")) or 0
    if 0 < context < most:
        yield Clash(
            (*path, "max_output"),
            model.get("max_output") or model,
            f"more output than the context of {context} tokens holds",
            "lower it, or raise context",
        )


def _only_responses(path: Path, node: Node, providers: Mapping[str, Entry]) -> Iterator[Clash]:
    """See that what is known to Responses only is served by who has them."""
    said = node.get("responses_only")
    provider = providers.get(text(node.get("provider")) or "")
    if said is None or not is_true(said) or provider is None:
        return
    protocol = text(provider.node.get("protocol"))
    dialect = DIALECTS.get(text(provider.node.get("dialect")) or "")
    if protocol is None:
        return
    if protocol != "openai" or (dialect is not None and "openai.responses" in dialect.missing):
        yield Clash(
            (*path, "responses_only"),
            said,
            "this is for providers that speak openai and have Responses",
            "leave it out",
        )


def _prices(path: Path, priced: Node) -> Iterator[Clash]:
    """Check that of a list of prices each begins at a moment of its own."""
    seen: set[datetime | None] = set()
    for at, price in enumerate(items(priced.get("price"))):
        said = price.get("from")
        begins = text(said)
        if price.kind != "mapping" or (said is not None and said.unset):
            continue
        try:
            since = None if begins is None else moment_of(begins, "UTC")
        except ValueError:
            continue  # no moment: the models report it
        if since in seen:
            yield Clash(
                (*path, "price", at, "from") if said else (*path, "price", at),
                said or price,
                "a second price from then on" if said else "a second price without a beginning",
                "say from when on each of them holds, e.g. from: 2027-01-01",
            )
        seen.add(since)
